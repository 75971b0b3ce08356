"""Training batches of the nano SAM: images, prompts of a kind and their masks; a pure function of an index.

Shapes in this file: ``B`` images, ``M`` prompts, ``S`` side of the square input in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset

from nnunet_semisam.sam.base import PromptBatch
from nnunet_semisam.sam.frame import stretch_percentiles
from nnunet_semisam.sam.nano.synthetic import SMALLEST_AREA, object_masks, random_scene, render
from nnunet_semisam.sam.preprocessing import NANO
from nnunet_semisam.sam.simulate_prompts import (
    degraded_logits,
    drop_points,
    jittered_boxes,
    random_points,
    tight_boxes,
    uniform,
)

# How often each kind of prompt is used, at the start of the curriculum and at its end.
KIND_SHARES = {
    "box": (0.40, 0.14),
    "points": (0.00, 0.14),
    "box+points": (0.30, 0.22),
    "box+mask": (0.10, 0.15),
    "mask": (0.00, 0.05),
    "points+mask": (0.00, 0.07),
    "box+points+mask": (0.20, 0.23),
}


@dataclass(frozen=True)
class TrainingBatch:
    """Images and, in groups of one prompt kind each, what is prompted in them.

    Attributes:
        images: ``(B, S, S)``, uint8, with zeros where ``valid`` ends.
        valid: Height and width of the part of each image that is not padding, ``(B, 2)``, int64.
        kinds: Name of each group's prompt kind.
        prompts: One batch of prompts per group, in pixels of the input; masks at ``S / 2``.
        targets: Coverage of the true masks per group, ``(M, S / 2, S / 2)``, in [0, 1].
        edges: Where a region of the scene ends, prompted or not, ``(B, S / 2, S / 2)``, 0 or 1.
    """

    images: Tensor
    valid: Tensor
    kinds: list[str]
    prompts: list[PromptBatch]
    targets: list[Tensor]
    edges: Tensor


Source = Callable[[np.random.Generator, int, int, float, int], tuple[Tensor, Tensor, Tensor]]
"""``(rng, size, count, easy, frame) -> image (H, W) float, masks (count, H, W) bool, regions (H, W) int16``, with
``H, W <= size``."""


def synthetic_source(
    rng: np.random.Generator, size: int, count: int, easy: float, frame: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a procedural image, often cropped to a rectangle, masks of things in it, regions; see :data:`Source`."""
    for _ in range(50):
        scene = random_scene(rng, size, easy, frame)
        height, width = (int(size * rng.uniform(0.65, 1.0)) if rng.random() < 0.4 else size for _ in range(2))
        if rng.random() < 0.8:
            height, width = (size, width) if height > width else (height, size)
        image = render(rng, scene)[:height, :width]
        scene.regions = scene.regions[:height, :width]
        try:
            masks = object_masks(scene, count, rng, int(SMALLEST_AREA * (1 + 15 * easy)))
        except LookupError:
            continue
        regions = torch.from_numpy(np.ascontiguousarray(scene.regions))
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(masks), regions
    raise RuntimeError("50 procedural scenes in a row held nothing to prompt for; the recipe of scenes is broken.")


class SyntheticBatches(Dataset):
    """Batch number ``i`` of a training run, the same for the same seed and curriculum.

    Args:
        steps: Length of the run.
        seed: Seed of the run.
        curriculum: Steps until every batch is as hard as the last; 0 skips the curriculum.
        windows: Steps at the start whose images are windows of half the frame's side; they hold twice as many.
        size: ``S``.
        images: Images in a batch, ``B``.
        prompts: Prompts per image in each group.
        groups: Groups of one prompt kind each.
        source: Where images and masks come from.
        kinds: Kinds of prompts of the groups; drawn by :data:`KIND_SHARES` if not given.
    """

    def __init__(
        self,
        steps: int,
        seed: int,
        curriculum: int = 0,
        windows: int = 0,
        size: int = 224,
        images: int = 4,
        prompts: int = 2,
        groups: int = 2,
        source: Source = synthetic_source,
        kinds: tuple[str, ...] = (),
    ) -> None:
        self.steps, self.seed, self.size, self.windows = steps, seed, size, windows
        self.images, self.prompts, self.groups = images, prompts, groups
        self.source, self.curriculum, self.kinds = source, curriculum, kinds

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> TrainingBatch:
        rng = np.random.default_rng([self.seed, index])
        generator = Generator().manual_seed(int(rng.integers(2**62)))
        progress = min(1.0, index / self.curriculum) if self.curriculum else 1.0
        window = index < self.windows
        size, count = (self.size // 2, 2 * self.images) if window else (self.size, self.images)
        images = torch.zeros((count, size, size), dtype=torch.uint8)
        valid = torch.zeros((count, 2), dtype=torch.int64)
        masks = torch.zeros((self.groups, count * self.prompts, size, size), dtype=torch.bool)
        edges = torch.zeros((count, size, size), dtype=torch.bool)
        for i in range(count):
            image, things, regions = self.source(rng, size, self.groups * self.prompts, 1.0 - progress, self.size)
            image, things, regions = random_symmetry(rng, image, things, regions)
            height, width = image.shape
            edges[i, :height, :width] = region_edges(regions)
            valid[i] = torch.tensor([height, width])
            images[i, :height, :width] = stretch_percentiles(image[None], NANO)[0].round().to(torch.uint8)
            grouped = things.unflatten(0, (self.prompts, self.groups)).transpose(0, 1)
            masks[:, i * self.prompts : (i + 1) * self.prompts, :height, :width] = grouped
        about = torch.arange(count).repeat_interleave(self.prompts)
        kinds = list(self.kinds) or self._kinds(rng, progress)
        prompts = [self._ask(kind, about, m, progress, generator) for kind, m in zip(kinds, masks, strict=True)]
        targets = [F.avg_pool2d(m.float()[:, None], 2)[:, 0] for m in masks]
        return TrainingBatch(images, valid, kinds, prompts, targets, F.max_pool2d(edges.float(), 2))

    def _kinds(self, rng: np.random.Generator, progress: float) -> list[str]:
        shares = np.array([(1 - progress) * first + progress * last for first, last in KIND_SHARES.values()])
        return [str(kind) for kind in rng.choice(list(KIND_SHARES), self.groups, p=shares / shares.sum())]

    def _ask(self, kind: str, about: Tensor, masks: Tensor, progress: float, generator: Generator) -> PromptBatch:
        boxes = tight_boxes(masks)
        kinds: dict[str, Tensor] = {"image": about, "label": torch.ones_like(about)}
        if "box" in kind:
            kinds["boxes"] = jittered_boxes(boxes, masks.shape[1:], 0.02 + 0.08 * progress, generator)
        if "points" in kind:
            counts = (1, 0) if kind == "points" and torch.rand((), generator=generator) < 0.4 else (3, 2)
            depth = float(uniform((), 0.5, 6.0, generator))
            kinds["points"], labels = random_points(masks, boxes, counts, generator, depth)
            kinds["point_labels"] = drop_points(labels, 0.6, generator)
        if "mask" in kind:
            severity = uniform((len(masks),), 0.1, 0.5 + 0.5 * progress, generator)
            coverage = F.avg_pool2d(masks.float()[:, None], 2)[:, 0]
            kinds["mask_logits"] = degraded_logits(coverage, severity, generator)
        return PromptBatch(**kinds)


def random_symmetry(rng: np.random.Generator, *maps: Tensor) -> list[Tensor]:
    """Flip and turn maps ``(..., H, W)`` alike by one of the eight symmetries of the square."""
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    turned = [torch.rot90(t, turns, (-2, -1)) for t in maps]
    return [t.flip(-1) for t in turned] if flip else turned


def region_edges(regions: Tensor) -> Tensor:
    """Return which pixels of ``regions (H, W)`` have a right or lower neighbour of another region, bool."""
    edges = torch.zeros_like(regions, dtype=torch.bool)
    edges[:-1] |= regions[:-1] != regions[1:]
    edges[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    return edges

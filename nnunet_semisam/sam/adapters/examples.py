"""Examples to adapt a SAM with: labeled images, objects in them, and prompts that are wrong as a network's are.

Example ``i`` of a run depends on its seed and ``i`` alone, so that a run that was killed goes on exactly.

Shapes in this file: ``N`` images of a case, ``B`` images of a step, ``M`` objects, ``*S`` the axes that the SAM sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Generator, Tensor

from nnunet_semisam.errors import UserError
from nnunet_semisam.labels import Labels
from nnunet_semisam.sam.adapters.settings import AdaptationSettings
from nnunet_semisam.sam.base import PromptBatch
from nnunet_semisam.sam.labeled_cases import touches_unknown
from nnunet_semisam.sam.simulate_prompts import KINDS, degraded_logits, jittered_boxes, random_points, tight_boxes

HOLDOUT_SEED = 987_654


@dataclass(frozen=True)
class LabeledImages:
    """Images of one labeled case that show a class.

    Attributes:
        case: Name of the case.
        group: Its patient.
        images: ``(N, 1, *S)``, float32, as nnU-Net normalised them.
        labels: Label maps, ``(N, *S)``, int16; numbers above all classes are the ignore label.
        positions: Which image of the case each one is, ``(N,)``, int64.
    """

    case: str
    group: str
    images: np.ndarray
    labels: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def select(self, index: slice | np.ndarray) -> LabeledImages:
        """Return some of the images."""
        return replace(self, images=self.images[index], labels=self.labels[index], positions=self.positions[index])


@dataclass(frozen=True)
class Objects:
    """Objects in images, to be prompted for.

    Attributes:
        images: ``(B, 1, *S)``, float32.
        image: Which image each object is in, ``(M,)``, int64.
        channel: Its foreground class or region, counted from 0, ``(M,)``, int64.
        masks: ``(M, *S)``, bool, none empty.
        valid: Voxels whose label is known, ``(M, *S)``, bool.
    """

    images: Tensor
    image: Tensor
    channel: Tensor
    masks: Tensor
    valid: Tensor


def with_classes(case: LabeledImages, labels: Labels, smallest: int) -> LabeledImages:
    """Return the images of a case that show at least one object of ``smallest`` voxels, each annotated to its edge.

    Where an object touches voxels that nobody annotated, what is known of it, a scribble for example, would be taken
    for all of it, and its box and points would lie wrong.
    """
    found = [
        any(mask.sum() >= smallest for _, mask in _classes(label, labels))
        and not touches_unknown(label > 0, label > max(labels.foreground_labels))
        for label in case.labels
    ]
    return case.select(np.flatnonzero(found))


def _classes(label: np.ndarray, labels: Labels) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each foreground channel with its mask ``(*S)``."""
    for channel in range(labels.channels):
        yield channel, labels.members(label, channel)


def data_digest(cases: Sequence[LabeledImages]) -> str:
    """Return the digest of names, images and labels."""
    total = hashlib.sha256()
    for case in cases:
        total.update(f"{case.case} {case.images.shape}".encode())
        for array in (case.images, case.labels):
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def split_holdout(
    cases: Sequence[LabeledImages], settings: AdaptationSettings
) -> tuple[list[LabeledImages], list[LabeledImages], str]:
    """Return what is learned from, what judges the steps, and the latter in words.

    Patients are held out as a whole. Of a single patient, neighbouring slices are held out, the same of all its cases:
    they are alike, and one of two neighbours that is learned from would tell of the other.

    Raises:
        UserError: If only one slice, the same of each case, shows a class.
    """
    groups = sorted({case.group for case in cases})
    if len(groups) > 1:
        order = np.random.default_rng(settings.seed).permutation(len(groups))
        held = {groups[i] for i in order[: _held_out_of(len(groups), settings)]}
        learned = [case for case in cases if case.group not in held]
        judged = [case for case in cases if case.group in held]
        names = ", ".join(case.case for case in judged)
        return learned, judged, f"{len(held)} of {len(groups)} patients ({names})"
    positions = np.unique(np.concatenate([case.positions for case in cases]))  # cases of a patient may be two times
    if len(positions) < 2:
        raise UserError(
            "The labeled cases of the fold show their classes in a single image: one is needed to learn from, another "
            "one to judge what was learned. Label another case, or another slice."
        )
    count = _held_out_of(len(positions), settings)
    first = int(np.random.default_rng(settings.seed).integers(0, len(positions) - count + 1))
    held = positions[first : first + count]
    parts = [(case, np.isin(case.positions, held)) for case in cases]
    learned = [case.select(np.flatnonzero(~inside)) for case, inside in parts if not inside.all()]
    judged = [case.select(np.flatnonzero(inside)) for case, inside in parts if inside.any()]
    held_out = sum(len(case) for case in judged)
    return learned, judged, f"{held_out} of {held_out + sum(map(len, learned))} slices of the only labeled patient"


def _held_out_of(count: int, settings: AdaptationSettings) -> int:
    """Return how many of ``count`` patients or slices are held out: at least one, and one is left to learn from."""
    return min(count - 1, max(1, round(settings.holdout * count)))


def draw(cases: Sequence[LabeledImages], labels: Labels, settings: AdaptationSettings, step: int) -> Objects:
    """Return the objects of a training step: some images of one case, mirrored and with another contrast."""
    rng = np.random.default_rng([settings.seed, step])
    shares = np.array([len(case) for case in cases], dtype=float)
    case = cases[rng.choice(len(cases), p=shares / shares.sum())]
    chosen = rng.choice(len(case), size=min(settings.images, len(case)), replace=False)
    images, maps = case.images[chosen], case.labels[chosen]
    axes = [axis for axis in range(1, maps.ndim) if rng.random() < settings.mirror]
    images, maps = np.flip(images, [axis + 1 for axis in axes]), np.flip(maps, axes)
    images = np.stack([_with_contrast(image, rng, settings.gamma) for image in images])
    found = [(b, *each) for b, label in enumerate(maps) for each in _random_objects(label, labels, settings, rng)]
    return _objects(images, maps, labels, found)


def _with_contrast(image: np.ndarray, rng: np.random.Generator, largest: float) -> np.ndarray:
    """Return an image in [0, 1] with a random gamma; what its unit was does not matter to a SAM."""
    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / (high - low) if high > low else np.zeros_like(image)
    return (scaled ** np.exp(rng.uniform(-largest, largest))).astype(np.float32)


def _random_objects(
    label: np.ndarray, labels: Labels, settings: AdaptationSettings, rng: np.random.Generator
) -> list[tuple[int, np.ndarray]]:
    """Return channel and mask ``(*S)`` of some objects of an image: classes, or components of them."""
    shown = [(f, mask) for f, mask in _classes(label, labels) if mask.sum() >= settings.smallest]
    found = []
    for _ in range(settings.prompts):
        channel, mask = shown[rng.integers(len(shown))]
        if rng.random() < settings.component_share:
            mask = _one_component(mask, settings.smallest, rng)
        found.append((channel, mask))
    return found


def _one_component(mask: np.ndarray, smallest: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random component of a mask; all of it if none is large enough."""
    numbered, count = ndimage.label(mask)
    large = 1 + np.flatnonzero(np.bincount(numbered.ravel(), minlength=count + 1)[1:] >= smallest)
    return numbered == rng.choice(large) if len(large) else mask


def whole_classes(case: LabeledImages, labels: Labels, smallest: int) -> Objects:
    """Return every class of every image of a case as an object, images as they are."""
    found = [
        (b, f, mask)
        for b, label in enumerate(case.labels)
        for f, mask in _classes(label, labels)
        if mask.sum() >= smallest
    ]
    return _objects(case.images, case.labels, labels, found)


def _objects(
    images: np.ndarray, maps: np.ndarray, labels: Labels, found: Sequence[tuple[int, int, np.ndarray]]
) -> Objects:
    image = torch.tensor([b for b, _, _ in found], dtype=torch.int64)
    valid = torch.from_numpy(np.ascontiguousarray(maps <= max(labels.foreground_labels)))
    return Objects(
        images=torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)),
        image=image,
        channel=torch.tensor([f for _, f, _ in found], dtype=torch.int64),
        masks=torch.from_numpy(np.stack([mask for _, _, mask in found])),
        valid=valid[image],
    )


def kinds_for(understood: frozenset[str]) -> tuple[str, ...]:
    """Return the kinds of prompts, alone and together, that a SAM understands.

    Example:
        >>> kinds_for(frozenset({"box", "mask"}))
        ('box', 'box+mask', 'mask')
    """
    return tuple(kind for kind in KINDS if set(kind.split("+")) <= understood)


def simulated_prompts(objects: Objects, kind: str, settings: AdaptationSettings, generator: Generator) -> PromptBatch:
    """Return prompts of one kind for objects: jittered boxes, random points, masks with errors.

    Args:
        objects: ``M`` objects.
        kind: Kinds joined by ``+``, see :data:`~nnunet_semisam.sam.simulate_prompts.KINDS`.
        settings: How wrong they are.
        generator: Source of randomness.
    """
    masks, shape = objects.masks, tuple(objects.masks.shape[1:])
    tight = tight_boxes(masks)
    boxes = jittered_boxes(tight, shape, settings.box_jitter, generator)
    inside = int(torch.randint(1, settings.foreground_points + 1, (), generator=generator))
    beside = int(torch.randint(0, settings.background_points + 1, (), generator=generator))
    points, point_labels = random_points(masks, tight, (inside, beside), generator, known=objects.valid)
    severity = settings.mask_errors * torch.rand(len(masks), generator=generator)
    kinds = kind.split("+")
    return PromptBatch(
        image=objects.image,
        label=objects.channel,
        boxes=boxes if "box" in kinds else None,
        points=points if "points" in kinds else None,
        point_labels=point_labels if "points" in kinds else None,
        mask_logits=degraded_logits(masks, severity, generator) if "mask" in kinds else None,
    )

"""How well a SAM follows prompts that come from the ground truth, beside what needs no SAM at all.

Every class is prompted once in every slice that shows it; the masks of a volume are put together and compared with the
label. Three controls are reported beside the SAM: the ellipse that fills the box; the degraded ground truth that serves
as mask prompt, by itself; and the SAM with all prompts on a blank image, because a model that merges box and mask well
can score high without using the image.
Shapes in this file: ``N`` slices, ``C`` channels, ``H, W`` of a slice, ``M`` prompts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam.base import Embedding, PromptBatch, SAMBackend
from nnunet_semisam.sam.simulate_prompts import degraded_logits, random_points, tight_boxes

KINDS = ("box", "points", "box+points", "box+mask", "box+points+mask")
CONTROLS = ("ellipse in the box", "mask prompt alone")
BLANK = "blank image"
POINTS = (3, 2)  # foreground and background points of a prompt
SEVERITY = 0.5  # of the degraded mask, see degraded_logits


def prompts_from_masks(masks: Tensor, generator: Generator) -> PromptBatch:
    """Return prompts of all kinds for ground-truth masks.

    Args:
        masks: ``(M, H, W)``, bool, none empty; prompt ``i`` belongs to image ``i``.
        generator: Source of randomness for points and for the degraded mask; boxes are tight.
    """
    boxes, index = tight_boxes(masks), torch.arange(len(masks))
    points, labels = random_points(masks, boxes, POINTS, generator)
    guesses = degraded_logits(masks, torch.full((len(masks),), SEVERITY), generator)
    return PromptBatch(index, torch.ones_like(index), boxes, points, labels, guesses)


def keep_kinds(prompts: PromptBatch, kind: str) -> PromptBatch:
    """Return the prompts with only the kinds that ``kind`` names, joined by ``+``."""
    kept = kind.split("+")
    return PromptBatch(
        prompts.image,
        prompts.label,
        prompts.boxes if "box" in kept else None,
        prompts.points if "points" in kept else None,
        prompts.point_labels if "points" in kept else None,
        prompts.mask_logits if "mask" in kept else None,
    )


def understood_kinds(backend: SAMBackend) -> list[str]:
    """Return the entries of :data:`KINDS` whose prompts a SAM was trained with."""
    return [kind for kind in KINDS if set(kind.split("+")) <= backend.prompt_kinds]


def ellipses(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the ellipses that fill boxes ``(M, 2, 2)``, ``(M, H, W)``, bool."""
    centre = boxes.mean(2)
    radius = ((boxes[:, :, 1] - boxes[:, :, 0]) / 2).clamp_min(0.5)
    rows, columns = (
        ((torch.arange(size) + 0.5 - centre[:, axis : axis + 1]) / radius[:, axis : axis + 1]) ** 2
        for axis, size in enumerate(shape)
    )
    return rows[:, :, None] + columns[:, None, :] <= 1


def predictions_for_class(
    backend: SAMBackend,
    embeddings: tuple[Embedding, Embedding],
    slices: Tensor,
    masks: Tensor,
    generator: Generator,
    kinds: Sequence[str] = KINDS,
) -> Iterator[tuple[str, Tensor]]:
    """Yield each kind's name, controls included, and the predicted masks ``(M, H, W)``, bool.

    Args:
        backend: A 2D SAM.
        embeddings: Encoded slices, and one encoded slice with nothing in it.
        slices: Which of the slices the masks lie in, ``(M,)``, int64.
        masks: Ground-truth masks ``(M, H, W)``, bool, none empty.
        generator: Source of randomness of the prompts.
        kinds: Kinds of prompts to use.
    """
    prompts = replace(prompts_from_masks(masks, generator), image=slices)
    yield CONTROLS[0], ellipses(prompts.boxes, (masks.shape[1], masks.shape[2]))
    yield CONTROLS[1], prompts.mask_logits > 0
    embedding, blank = embeddings
    for kind in kinds:
        yield kind, backend.decode(embedding, keep_kinds(prompts, kind)).logits.cpu() > 0
    blank_prompts = replace(keep_kinds(prompts, kinds[-1]), image=torch.zeros_like(slices))
    yield f"{kinds[-1]}, {BLANK}", backend.decode(blank, blank_prompts).logits.cpu() > 0


@torch.no_grad()
def evaluate_volume(
    backend: SAMBackend,
    images: NDArray[np.float32],
    labels: NDArray[np.integer],
    classes: Iterable[int],
    seed: int = 0,
    kinds: Sequence[str] | None = None,
) -> dict[tuple[str, int], float]:
    """Return the Dice of a volume for every kind of prompt and class that occurs in it.

    Args:
        backend: A 2D SAM.
        images: Slices, ``(N, C, H, W)``, any intensity unit.
        labels: ``(N, H, W)``.
        classes: Labels to prompt for.
        seed: Seed of the prompts.
        kinds: Kinds of prompts to use; ``None``: those of :data:`KINDS` that the SAM understands. The controls are
            always added, the blank image with the last kind.

    Returns:
        ``{(kind, class): Dice}``, Dice in [0, 1] over all voxels of the volume.

    Raises:
        UserError: If the SAM is not 2D.
    """
    if backend.spatial_dims != 2:
        raise UserError("Slices are evaluated, and this SAM takes volumes. Evaluate a 2D model.")
    kinds = understood_kinds(backend) if kinds is None else kinds
    label_map, classes = torch.from_numpy(np.ascontiguousarray(labels)), list(classes)
    used = torch.stack([(label_map == label).flatten(1).any(1) for label in classes]).any(0)
    scores: dict[tuple[str, int], float] = {}
    if not used.any():
        return scores
    label_map = label_map[used]
    shown = torch.from_numpy(np.ascontiguousarray(images))[used].float()
    embeddings = backend.encode(shown), backend.encode(torch.zeros_like(shown[:1]))
    for label in classes:
        slices = (label_map == label).flatten(1).any(1).nonzero()[:, 0]
        if len(slices) == 0:
            continue
        masks = label_map[slices] == label
        generator = Generator().manual_seed(seed + int(label))
        for kind, guess in predictions_for_class(backend, embeddings, slices, masks, generator, kinds):
            scores[kind, label] = float(2 * (guess & masks).sum() / (guess.sum() + masks.sum()))
    return scores


def summarise(
    volumes: Iterable[Mapping[tuple[str, int], float]], names: Mapping[int, str]
) -> dict[str, dict[str, float]]:
    """Return the mean Dice over volumes as ``{kind: {class name: Dice, ..., "mean": Dice}}``, kinds in order.

    Args:
        volumes: What :func:`evaluate_volume` returned for each volume.
        names: Name of each class.
    """
    gathered: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scores in volumes:
        for (kind, label), dice in scores.items():
            gathered[kind][label].append(dice)
    table = {}
    for kind, by_class in gathered.items():
        row = {names[label]: float(np.mean(by_class[label])) for label in names if label in by_class}
        table[kind] = row | {"mean": float(np.mean(list(row.values())))}
    return table


def as_text(table: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table as Markdown, Dice with three decimals."""
    columns = list(next(iter(table.values()))) if table else []
    lines = [f"| prompt | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for kind, row in table.items():
        lines.append(f"| {kind} | {' | '.join(f'{row[c]:.3f}' if c in row else '-' for c in columns)} |")
    return "\n".join(lines)

"""A picture of one case of a round: image, specialist, prompts, generalist, pseudo-label and its confidence.

Shapes in this file: ``F`` foreground classes or regions, ``M`` prompts, ``H, W`` the axes of the shown slice. Volumes
are ``(Z, Y, X)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.io.atomic import replaced_file
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.fusion import FusedLabel
from nnunet_semisam.sam.base import FOREGROUND, PADDING, PromptBatch

COLORS = matplotlib.colormaps["tab10"].colors
ZOOM_MARGIN = 8  # voxels
MARKERS = {True: "+", False: "x"}  # inside, outside


@dataclass(frozen=True)
class Preview:
    """What a picture shows of one case; volumes are ``(Z, Y, X)``.

    Attributes:
        title: Line above the picture.
        image: The image channel that the generalist saw.
        specialist: The specialist's label map.
        prediction: The generalist's, arrays ``(F, Z, Y, X)``.
        prompts: The prompts in the shown slice, or in the volume.
        fused: The pseudo-label.
        axis: Axis along which slices are taken.
        index: Which slice is shown.
        spacing: Voxel size in mm, three axes; two are those within a slice.
    """

    title: str
    image: np.ndarray
    specialist: np.ndarray
    prediction: CasePrediction
    prompts: PromptBatch
    fused: FusedLabel
    axis: int
    index: int
    spacing: Sequence[float]

    def slice_of(self, volume: np.ndarray) -> np.ndarray:
        """Return the shown slice of a volume."""
        return np.take(volume, self.index, self.axis)

    @property
    def aspect(self) -> float:
        """Return how much longer a pixel is along the first axis of the slice than along the second."""
        within = list(self.spacing)
        if len(within) == 3:
            del within[self.axis]
        return within[0] / within[1]


@matplotlib.style.context("default")  # nnU-Net changes the style of the whole process
def write_preview(file: str | Path, preview: Preview, labels: Labels) -> None:
    """Write a PNG of one slice: the first panel shows all of it, the others what the generalist was prompted with.

    Args:
        file: Where to; the folder is made.
        preview: What to show.
        labels: What the channels mean.
    """
    image, specialist = preview.slice_of(preview.image), preview.slice_of(preview.specialist)
    label, confidence = preview.slice_of(preview.fused.label), preview.slice_of(preview.fused.confidence)
    generalist = [preview.slice_of(probs) > 0.5 for probs in preview.prediction.probs]

    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(f"{preview.title}, slice {preview.index} along axis {preview.axis}")
    axes = figure.subplots(2, 3).ravel()
    panels = ("image", "specialist", "prompts", "generalist", "pseudo-label", "confidence (white 1, black 0)")
    for ax, name in zip(axes, panels, strict=True):
        ax.imshow(image, cmap="gray", aspect=preview.aspect)
        ax.set_title(name)
        ax.set_axis_off()
    _overlay(axes[1], [labels.members(specialist, f) for f in range(labels.channels)])
    _draw_prompts(axes[2], preview.prompts, labels, preview.index, preview.axis)
    _overlay(axes[3], generalist)
    _overlay(axes[4], [labels.members(label, f) for f in range(labels.channels)])
    axes[5].imshow(confidence, cmap="gray", vmin=0, vmax=1, aspect=preview.aspect)
    predicted = np.take(preview.prediction.predicted, preview.index, preview.axis + 1).any(axis=0)
    _zoom(axes[1:], (specialist > 0) | (label > 0) | predicted)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(Path(file)) as temporary:
        figure.savefig(temporary, dpi=80)


def informative_slice(label: np.ndarray, axis: int) -> int:
    """Return the middle one of the slices that show the largest number of labels; the middle slice if all are empty."""
    slices = np.moveaxis(label, axis, 0)
    variety = np.array([len(np.unique(each[each > 0])) for each in slices])
    best = np.flatnonzero(variety == variety.max())
    return int(best[len(best) // 2])


def _zoom(axes: Sequence[Axes], interesting: np.ndarray) -> None:
    """Show the part of the slice around ``interesting`` ``(H, W)``, if there is any."""
    if not interesting.any():
        return
    places = np.argwhere(interesting)
    (top, left), (bottom, right) = places.min(axis=0) - ZOOM_MARGIN, places.max(axis=0) + ZOOM_MARGIN
    for ax in axes:
        ax.set_xlim(max(left, -0.5), min(right, interesting.shape[1] - 0.5))
        ax.set_ylim(min(bottom, interesting.shape[0] - 0.5), max(top, -0.5))


def color(f: int) -> tuple[float, float, float]:
    """Return the color of a foreground channel."""
    return COLORS[f % len(COLORS)]


def _overlay(ax: Axes, masks: Sequence[np.ndarray]) -> None:
    """Lay masks ``(H, W)``, one per channel, over the image; nested regions stay visible through each other."""
    for f, mask in enumerate(masks):
        aspect = ax.get_aspect()
        layer = np.ma.masked_where(~mask, mask.astype(float))
        ax.imshow(layer, cmap=ListedColormap([color(f)]), alpha=0.45, interpolation="nearest", aspect=aspect)


def _draw_prompts(ax: Axes, prompts: PromptBatch, labels: Labels, index: int, axis: int) -> None:
    """Draw boxes, points (+ inside, x outside) and first guesses that touch the slice."""
    for m in range(len(prompts)):
        hue = color(labels.prompt_labels.index(int(prompts.label[m])))
        if prompts.boxes is not None:
            _draw_box(ax, prompts.boxes[m].cpu().numpy(), hue, index, axis)
        if prompts.points is not None:
            _draw_points(ax, prompts.points[m].cpu().numpy(), prompts.point_labels[m].cpu().numpy(), hue, index, axis)
        if prompts.mask_logits is not None:
            guess = prompts.mask_logits[m].cpu().numpy()
            guess = np.take(guess, index, axis) if guess.ndim == 3 else guess
            if guess.max() > 0 > guess.min():
                ax.contour(guess, levels=[0.0], colors=[hue], linewidths=0.8, linestyles="dotted")


def _draw_box(ax: Axes, box: np.ndarray, hue: tuple[float, float, float], index: int, axis: int) -> None:
    """Draw one box ``(D, 2)``; one of a volume only where it crosses the slice."""
    if len(box) == 3:
        if not box[axis, 0] <= index < box[axis, 1]:
            return
        box = np.delete(box, axis, axis=0)
    (top, bottom), (left, right) = box - 0.5  # voxel i reaches from i - 0.5 to i + 0.5 in the picture
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=hue, linewidth=1.2))


def _draw_points(
    ax: Axes, points: np.ndarray, meanings: np.ndarray, hue: tuple[float, float, float], index: int, axis: int
) -> None:
    """Draw points ``(P, D)``; those of a volume only where they lie in the slice."""
    for point, meaning in zip(points, meanings, strict=True):
        if meaning == PADDING or (len(point) == 3 and round(float(point[axis])) != index):
            continue
        row, column = np.delete(point, axis) if len(point) == 3 else point
        ax.plot(column, row, MARKERS[bool(meaning == FOREGROUND)], color=hue, markersize=7, markeredgewidth=1.5)

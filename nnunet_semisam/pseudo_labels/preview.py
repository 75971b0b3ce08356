"""A picture of what the stage did with a case: image, network, prompts, SAM, pseudo-label and its trust.

Shapes in this file: ``F`` foreground classes or regions, ``M`` prompts, ``H, W`` the axes of the shown slice. Volumes
are ``(Z, Y, X)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nnunet_semisam.generalists.prediction import SAMOpinion
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.fusion import FusedLabel
from nnunet_semisam.sam.base import FOREGROUND, PADDING, PromptBatch

COLORS = matplotlib.colormaps["tab10"].colors
ZOOM_MARGIN = 8  # voxels
MARKERS = {True: "+", False: "x"}  # inside, outside


def write_preview(
    file: str | Path,
    *,
    title: str,
    shown: np.ndarray,
    network_label: np.ndarray,
    opinion: SAMOpinion,
    prompts: PromptBatch,
    fused: FusedLabel,
    layout: Labels,
    axis: int,
    index: int,
    spacing: Sequence[float],
) -> None:
    """Write a PNG of one slice: the first panel shows all of it, the others what SAM was asked about.

    Args:
        file: Where to; the folder is made.
        title: Line above the picture.
        shown: The image channel that SAM saw, ``(Z, Y, X)``.
        network_label: The network's label map, ``(Z, Y, X)``.
        opinion: SAM's, arrays ``(F, Z, Y, X)``.
        prompts: What SAM was asked about this slice, or about the volume.
        fused: The pseudo-label.
        layout: Which channel means what.
        axis: Axis along which slices are taken.
        index: Which slice.
        spacing: Voxel size in mm, three axes; two are those within a slice.
    """
    within = [mm for i, mm in enumerate(spacing) if i != axis] if len(spacing) == 3 else list(spacing)
    background, network = (np.take(volume, index, axis) for volume in (shown, network_label))
    sam = [np.take(probs, index, axis) > 0.5 for probs in opinion.probs]
    label, trust = np.take(fused.label, index, axis), np.take(fused.trust, index, axis)

    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(f"{title}, slice {index} along axis {axis}")
    axes = figure.subplots(2, 3).ravel()
    panels = ("image", "network", "prompts", "SAM", "pseudo-label", "trust (white 1, black 0)")
    for ax, name in zip(axes, panels, strict=True):
        ax.imshow(background, cmap="gray", aspect=within[0] / within[1])
        ax.set_title(name)
        ax.set_axis_off()
    _overlay(axes[1], [layout.members(network, f) for f in range(layout.channels)])
    _draw_prompts(axes[2], prompts, layout, index, axis)
    _overlay(axes[3], sam)
    _overlay(axes[4], [layout.members(label, f) for f in range(layout.channels)])
    axes[5].imshow(trust, cmap="gray", vmin=0, vmax=1, aspect=within[0] / within[1])
    _zoom(axes[1:], (network > 0) | (label > 0) | np.take(opinion.asked, index, axis + 1).any(axis=0))
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)


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


def _draw_prompts(ax: Axes, prompts: PromptBatch, layout: Labels, index: int, axis: int) -> None:
    """Draw boxes, points (+ inside, x outside) and first guesses that touch the slice."""
    for m in range(len(prompts)):
        hue = color(layout.prompt_labels.index(int(prompts.label[m])))
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

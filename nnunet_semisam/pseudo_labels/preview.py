"""A picture of one case of a round: image, specialist, prompts, generalist, pseudo-label and its confidence.

Shapes in this file: ``F`` foreground classes or regions, ``M`` prompts, ``H, W`` the axes of the shown slice. Volumes
are ``(Z, Y, X)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from nnunet_semisam.figures import MUTED, class_color, figure_style, new_figure, save_figure
from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.case_outcome import dice
from nnunet_semisam.pseudo_labels.fusion import FusedLabel
from nnunet_semisam.sam.base import FOREGROUND, PADDING, PromptBatch

MARGIN = 0.3  # of the side of what is shown
SMALLEST_CROP = 48  # voxels
MARKERS = {True: "+", False: "x"}  # inside, outside
PANEL = 3.4  # inches


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
        threshold: Confidence below which a voxel is not learned, in [0, 1].
        generalist: Name of the generalist.
        weights: Its share in the fused probability of each foreground channel; 0: inactive.
        label: The label of a labeled case; ``None`` for an unlabeled one, whose label is never read.
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
    threshold: float
    generalist: str
    weights: Sequence[float]
    label: np.ndarray | None = None

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


def write_preview(file: str | Path, preview: Preview, labels: Labels) -> None:
    """Write a PNG of one slice: six panels with the same crop, a legend, and a bar for the confidence.

    Args:
        file: Where to; the folder is made.
        preview: What to show.
        labels: What the channels mean.
    """
    with figure_style():
        save_figure(preview_figure(preview, labels), file, dpi=90)


def preview_figure(preview: Preview, labels: Labels) -> Figure:
    """Return the figure of :func:`write_preview`; call it inside ``figure_style``."""
    masks = _masks(preview, labels)
    rows, columns = crop(_interesting(preview, masks), SMALLEST_CROP)
    height = preview.aspect * (rows.stop - rows.start) / (columns.stop - columns.start)
    figure = new_figure(3 * PANEL, 2 * PANEL * min(max(height, 0.5), 1.6) + 1.1)
    count = preview.image.shape[preview.axis]
    title = f"{preview.title}\nslice {preview.index + 1} of {count}, as nnU-Net preprocessed it"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    axes = figure.subplots(2, 3).ravel()
    for ax in axes:
        ax.set_axis_off()
        ax.imshow(preview.slice_of(preview.image), cmap="gray", aspect=preview.aspect)
    _draw_masks(axes, preview, masks)
    _draw_confidence(figure, axes[5], preview)
    kinds = draw_prompts(axes[2], preview.prompts, labels, preview.index, preview.axis)
    for ax in axes:
        ax.set_xlim(columns.start - 0.5, columns.stop - 0.5)
        ax.set_ylim(rows.stop - 0.5, rows.start - 0.5)
    handles = _class_handles(preview, labels) + kinds
    figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 6))
    return figure


def informative_slice(label: np.ndarray, axis: int) -> int:
    """Return the middle one of the slices that show the largest number of labels; the middle slice if all are empty."""
    slices = np.moveaxis(label, axis, 0)
    variety = np.array([len(np.unique(each[each > 0])) for each in slices])
    best = np.flatnonzero(variety == variety.max())
    return int(best[len(best) // 2])


def crop(interesting: np.ndarray, smallest: int) -> tuple[slice, slice]:
    """Return the rows and columns to show of a slice: what is interesting with a margin, or all if nothing is.

    Args:
        interesting: ``(H, W)``, bool.
        smallest: Fewest rows and columns, as far as the slice has so many.

    Example:
        >>> mask = np.zeros((100, 100), dtype=bool)
        >>> mask[40:60, 10:20] = True
        >>> crop(mask, smallest=8)  # 20 rows and 6 above and below; 10 columns and 3 on both sides
        (slice(34, 66, None), slice(7, 23, None))
    """
    if not interesting.any():
        return slice(0, interesting.shape[0]), slice(0, interesting.shape[1])
    found = []
    for axis, length in enumerate(interesting.shape):
        places = np.flatnonzero(interesting.any(axis=1 - axis))
        first, last = int(places[0]), int(places[-1]) + 1
        margin = round(MARGIN * (last - first))
        margin = max(margin, -(-(smallest - (last - first)) // 2))
        found.append(slice(max(first - margin, 0), min(last + margin, length)))
    return found[0], found[1]


def _masks(preview: Preview, labels: Labels) -> dict[str, list[np.ndarray]]:
    """Return whose mask -> one volume per foreground channel, bool."""
    masks = {
        "specialist": [labels.members(preview.specialist, f) for f in range(labels.channels)],
        "generalist": [probs > 0.5 for probs in preview.prediction.probs],
        "pseudo-label": [labels.members(preview.fused.label, f) for f in range(labels.channels)],
    }
    if preview.label is not None:
        masks["label"] = [labels.members(preview.label, f) for f in range(labels.channels)]
    return masks


def _interesting(preview: Preview, masks: dict[str, list[np.ndarray]]) -> np.ndarray:
    """Return where any mask of the slice is, ``(H, W)``, bool."""
    return np.any([preview.slice_of(mask) for each in masks.values() for mask in each], axis=0)


def _draw_masks(axes: Sequence[Axes], preview: Preview, masks: dict[str, list[np.ndarray]]) -> None:
    names = {"label": "label", "specialist": "specialist", "generalist": f"generalist ({preview.generalist})"}
    panels = {"label": 0, "specialist": 1, "generalist": 3, "pseudo-label": 4}
    axes[0].set_title("image")
    axes[2].set_title("prompts")
    for name, panel in panels.items():
        if name not in masks:
            continue
        _overlay(axes[panel], [preview.slice_of(mask) for mask in masks[name]])
        title = names.get(name, name)
        if preview.label is not None and name != "label":
            title += f", {dice_text(masks[name], masks['label'])}"
        axes[panel].set_title(title)


def dice_text(masks: Sequence[np.ndarray], label: Sequence[np.ndarray]) -> str:
    """Return the mean Dice of a case, over the classes that the label or the masks show, in words.

    Example:
        >>> full, half, none = np.ones(4, bool), np.array([1, 1, 0, 0], bool), np.zeros(4, bool)
        >>> dice_text([half, none], [full, none])  # 2 * 2 / (2 + 4); the second class is nowhere
        'Dice 0.67'
    """
    found = [dice(mask, true) for mask, true in zip(masks, label, strict=True)]
    known = [value for value in found if value is not None]
    return f"Dice {np.mean(known):.2f}" if known else "no foreground"


def _draw_confidence(figure: Figure, ax: Axes, preview: Preview) -> None:
    ax.set_title("confidence of the pseudo-label")
    shown = ax.imshow(preview.slice_of(preview.fused.confidence), cmap="cividis", vmin=0, vmax=1, aspect=preview.aspect)
    bar = figure.colorbar(shown, ax=ax, shrink=0.85, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.axhline(preview.threshold, color="white", linewidth=2)
    bar.ax.set_ylabel(f"learned from {preview.threshold:g}", fontsize=8, color=MUTED)


def _class_handles(preview: Preview, labels: Labels) -> list[Artist]:
    handles = []
    for f, (name, weight) in enumerate(zip(labels.class_names, preview.weights, strict=True)):
        share = f"share of the generalist {weight:.2g}" if weight > 0 else "generalist inactive"
        handles.append(Patch(color=class_color(f), label=f"{name} ({share})"))
    return handles


def _overlay(ax: Axes, masks: Sequence[np.ndarray]) -> None:
    """Lay masks ``(H, W)``, one per channel, over the image; nested regions stay visible through each other."""
    for f, mask in enumerate(masks):
        if not mask.any():
            continue
        aspect = ax.get_aspect()
        layer = np.ma.masked_where(~mask, mask.astype(float))
        ax.imshow(layer, cmap=ListedColormap([class_color(f)]), alpha=0.35, aspect=aspect)
        if not mask.all():
            ax.contour(mask.astype(float), levels=[0.5], colors=[class_color(f)], linewidths=1.3)


def draw_prompts(ax: Axes, prompts: PromptBatch, labels: Labels, index: int, axis: int) -> list[Artist]:
    """Draw boxes, points and first guesses that touch the slice; return one entry of the legend for each kind."""
    kinds: dict[str, Artist] = {}
    for m in range(len(prompts)):
        hue = class_color(labels.prompt_labels.index(int(prompts.label[m])))
        if prompts.boxes is not None and _draw_box(ax, prompts.boxes[m].cpu().numpy(), hue, index, axis):
            kinds["box"] = Patch(fill=False, edgecolor=MUTED, label="box")
        if prompts.points is not None:
            points, meanings = prompts.points[m].cpu().numpy(), prompts.point_labels[m].cpu().numpy()
            for inside in sorted(_draw_points(ax, points, meanings, hue, index, axis), reverse=True):
                name = "point inside" if inside else "point outside"
                kinds[name] = Line2D([], [], linestyle="", marker=MARKERS[inside], color=MUTED, label=name)
        if prompts.mask_logits is not None:
            guess = prompts.mask_logits[m].cpu().numpy()
            guess = np.take(guess, index, axis) if guess.ndim == 3 else guess
            if guess.max() > 0 > guess.min():
                ax.contour(guess, levels=[0.0], colors=[hue], linewidths=0.9, linestyles="dotted")
                kinds["mask"] = Line2D([], [], linestyle="dotted", color=MUTED, label="mask prompt")
    return list(kinds.values())


def _draw_box(ax: Axes, box: np.ndarray, hue: str, index: int, axis: int) -> bool:
    """Draw one box ``(D, 2)``; one of a volume only where it crosses the slice. Return whether it was drawn."""
    if len(box) == 3:
        if not box[axis, 0] <= index < box[axis, 1]:
            return False
        box = np.delete(box, axis, axis=0)
    (top, bottom), (left, right) = box - 0.5  # voxel i reaches from i - 0.5 to i + 0.5 in the picture
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=hue, linewidth=1.4))
    return True


def _draw_points(ax: Axes, points: np.ndarray, meanings: np.ndarray, hue: str, index: int, axis: int) -> set[bool]:
    """Draw points ``(P, D)``, those of a volume only where they lie in the slice; return the kinds that were drawn."""
    drawn = set()
    for point, meaning in zip(points, meanings, strict=True):
        if meaning == PADDING or (len(point) == 3 and round(float(point[axis])) != index):
            continue
        row, column = np.delete(point, axis) if len(point) == 3 else point
        inside = bool(meaning == FOREGROUND)
        ax.plot(column, row, MARKERS[inside], color=hue, markersize=8, markeredgewidth=1.8)
        drawn.add(inside)
    return drawn

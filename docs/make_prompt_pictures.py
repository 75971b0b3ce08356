"""Draw the pictures of docs/prompts.md on an invented heart: ``python docs/make_prompt_pictures.py``.

Everything is drawn from what the package itself makes: components, prompts, and the masks of the nano SAM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nnunet_semisam.demo.phantom import SPACING_MM, Heart, draw_image, draw_labels
from nnunet_semisam.generalists.augmented import versions
from nnunet_semisam.generalists.base import CaseInput
from nnunet_semisam.generalists.build import build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts import FILTERS, PROMPTS, REFINEMENTS
from nnunet_semisam.prompts.components import Component, find_components
from nnunet_semisam.pseudo_labels.generalisation_error import simulate_generalisation_error
from nnunet_semisam.pseudo_labels.settings import SAMSettings  # noqa: F401  registers the blocks
from nnunet_semisam.report.drawing.sprites import LABEL_COLORS
from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.base import BACKGROUND, FOREGROUND, Embedding, MaskPrediction, PromptBatch, SAMBackend
from nnunet_semisam.settings import Settings

IMAGES = Path(__file__).parent / "images"
COLOURS = tuple(
    f"#{r:02x}{g:02x}{b:02x}" for r, g, b in LABEL_COLORS[:3]
)  # right ventricle, myocardium, left ventricle
LABELS = Labels.of_classes(4)
SLICE = 3
PALETTE_COLOURS = 256  # of a picture: a third of the size of full colour


@dataclass(frozen=True)
class Example:
    """An invented case: image ``(Z, Y, X)``, specialist ``(K, Z, Y, X)``, its components, and an encoded SAM."""

    image: np.ndarray
    specialist: np.ndarray
    components: Sequence[Component]
    backend: SAMBackend
    embedding: Embedding

    def of_slice(self, index: int) -> list[Component]:
        """Return the components of a slice."""
        return [component for component in self.components if component.image == index]

    def largest(self, index: int) -> list[Component]:
        """Return the largest component of each class in a slice."""
        found: dict[int, Component] = {}
        for component in self.of_slice(index):
            found.setdefault(component.channel, component)
        return list(found.values())

    def decode(self, prompts: PromptBatch) -> MaskPrediction:
        """Return the SAM's masks."""
        with torch.no_grad():
            return self.backend.decode(self.embedding, prompts)


def make_example() -> Example:
    """Invent a heart, and a specialist that is wrong: too far to one side, and with a stray component in one slice."""
    rng = np.random.default_rng(4)
    heart = Heart.draw(rng)
    label = draw_labels(heart, systole=False)
    image = draw_image(heart, label, rng).astype(np.float32)
    one_hot = torch.stack([torch.from_numpy(label == k) for k in range(4)]).float()
    smooth = torch.nn.functional.avg_pool2d(one_hot, 5, 1, 2, count_include_pad=False)
    specialist = (smooth / smooth.sum(0)).numpy()
    specialist = simulate_generalisation_error(specialist, label, LABELS, 0.72, SPACING_MM, "picture").copy()
    specialist[:, SLICE, 74:82, 14:26] = np.array([0.1, 0.9, 0.0, 0.0])[:, None, None]
    slices = torch.from_numpy(specialist[1:].copy()).transpose(0, 1)  # (Z, F, Y, X)
    components = find_components(slices, overlapping=False)
    backend = build_backend("nano", BackendOptions(torch.device("cpu")))
    with torch.no_grad():
        embedding = backend.encode(torch.from_numpy(image[:, None]))
    return Example(image, specialist, components, backend, embedding)


# ----------------------------------------------------------------------------------------------------------- drawing


def show(ax: Axes, image: np.ndarray, title: str, **options: object) -> None:
    """Show an image without axes."""
    ax.imshow(image, cmap=options.pop("cmap", "gray"), interpolation="nearest", **options)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()


def outline(ax: Axes, mask: np.ndarray, colour: str, style: str = "solid", width: float = 1.6) -> None:
    """Draw the border of a mask ``(H, W)``, bool or logits."""
    values = mask.astype(np.float32) - (0.5 if mask.dtype == bool else 0.0)
    if values.max() > 0 > values.min():
        ax.contour(values, levels=[0.0], colors=[colour], linestyles=style, linewidths=width)


def draw_prompts(ax: Axes, prompts: PromptBatch, components: Sequence[Component]) -> None:
    """Draw boxes, points (+ inside, x outside) and first guesses (dotted)."""
    for m, component in enumerate(components):
        colour = COLOURS[component.channel]
        if prompts.boxes is not None:
            (top, bottom), (left, right) = (prompts.boxes[m] - 0.5).tolist()
            corner, width, height = (left, top), right - left, bottom - top
            ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=1.4))
        if prompts.mask_logits is not None:
            outline(ax, prompts.mask_logits[m].numpy(), colour, "dotted", 1.4)
        if prompts.points is not None:
            points, meanings = prompts.points[m].tolist(), prompts.point_labels[m].tolist()
            for (row, column), meaning in zip(points, meanings, strict=True):
                if meaning in (FOREGROUND, BACKGROUND):
                    marker = "+" if meaning == FOREGROUND else "x"
                    ax.plot(column, row, marker, color="black", markersize=8, markeredgewidth=3.2)
                    ax.plot(column, row, marker, color=colour, markersize=7, markeredgewidth=1.6)


def zoom(axes: Sequence[Axes], components: Sequence[Component], margin: int = 7) -> None:
    """Show the part of the slice around components."""
    boxes = np.stack([component.box for component in components])
    (top, left), (bottom, right) = boxes[..., 0].min(axis=0) - margin, boxes[..., 1].max(axis=0) + margin
    for ax in axes:
        ax.set_xlim(left, right)
        ax.set_ylim(bottom, top)


def save(figure: Figure, name: str) -> None:
    """Write a picture with few colours, which is small."""
    from PIL import Image

    figure.canvas.draw_idle()
    path = IMAGES / f"{name}.png"
    figure.savefig(path, dpi=100)
    Image.open(path).convert("RGB").quantize(PALETTE_COLOURS).save(path, optimize=True)


# ---------------------------------------------------------------------------------------------------------- pictures


def strategies(example: Example) -> Figure:
    """Draw every strategy: above prompts, below the SAM's masks."""
    names = ("box", "points", "mask", "box_points", "box_mask", "box_points_mask")
    components = example.largest(SLICE)
    figure = Figure(figsize=(12, 4.0), layout="constrained")
    axes = figure.subplots(2, len(names))
    for column, name in enumerate(names):
        prompts = PROMPTS.get(name)()(components, example.image.shape[1:], LABELS.prompt_labels)
        show(axes[0, column], example.image[SLICE], name)
        show(axes[1, column], example.image[SLICE], "masks of nano")
        draw_prompts(axes[0, column], prompts, components)
        for component, logits in zip(components, example.decode(prompts).logits.numpy(), strict=True):
            outline(axes[1, column], logits, COLOURS[component.channel])
    zoom(axes.ravel(), components)
    return figure


def filters(example: Example) -> Figure:
    """Draw the boxes that each filter keeps, in consecutive slices."""
    slices = range(SLICE - 1, SLICE + 3)
    figure = Figure(figsize=(9.2, 4.5), layout="constrained")
    axes = figure.subplots(2, len(slices))
    for row, name in enumerate(("all", "chains")):
        kept = FILTERS.get(name)()(example.components)
        for ax, index in zip(axes[row], slices, strict=True):
            mine = [component for component in kept if component.image == index]
            prompts = PROMPTS.get("box")()(mine, example.image.shape[1:], LABELS.prompt_labels)
            show(ax, example.image[index], f"{name}: slice {index}")
            draw_prompts(ax, prompts, mine)
            for component in mine:
                outline(ax, _whole(component, example.image.shape[1:]), COLOURS[component.channel], "dotted", 1.0)
    zoom(axes.ravel(), example.of_slice(SLICE), 4)
    return figure


def _whole(component: Component, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[component.window] = component.inside
    return mask


def refinements(example: Example) -> Figure:
    """Draw the steps of each refinement: prompts and masks of one component, and how alike the masks of jitter are."""
    component = next(each for each in example.of_slice(SLICE) if each.channel == 0)
    prompts = PROMPTS.get("box_points_mask")()([component], example.image.shape[1:], LABELS.prompt_labels)
    box_only = PROMPTS.get("box")()([component], example.image.shape[1:], LABELS.prompt_labels)
    panels: list[tuple[str, PromptBatch | None, np.ndarray]] = []
    jitter, previous, probs = REFINEMENTS.get("jitter")(), None, []
    for step, name in enumerate(("jitter 1: as they are", "jitter 2: generous", "jitter 3: strict")):
        made = jitter(prompts, example.image.shape[1:], step, previous)
        previous = example.decode(made)
        probs.append(previous.logits[0].sigmoid().numpy())
        panels.append((name, made, previous.logits[0].numpy()))
    again, previous = REFINEMENTS.get("second_pass")(), None
    for step, name in enumerate(("second_pass 1: box", "second_pass 2: and mask 1")):
        made = again(box_only, example.image.shape[1:], step, previous)
        previous = example.decode(made)
        panels.append((name, made, previous.logits[0].numpy()))
    figure = Figure(figsize=(12, 3.0), layout="constrained")
    axes = figure.subplots(1, len(panels) + 1)
    for ax, (name, made, logits) in zip(axes, panels, strict=False):
        show(ax, example.image[SLICE], name)
        draw_prompts(ax, made, [component])
        outline(ax, logits, "white", width=1.2)
    show(axes[-1], 1 - 4 * np.var(probs, axis=0), "jitter: how alike", vmin=0, vmax=1, cmap="viridis")
    zoom(axes, [component], 9)
    return figure


def augmented(example: Example) -> Figure:
    """Draw versions of the image, the mean mask, and its reliability."""
    import tempfile

    case = CaseInput("example", example.image[None], example.specialist, SPACING_MM)
    shown = versions(3, axis=0, noise=0.1)
    settings = Settings.of(use_sam=True, nano={"augmented_images": 3, "refinement": "none"})
    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(folder, "example", 1.0)
        generalist = build_generalist("nano", example.backend, settings, LABELS, cache, SPACING_MM)
        prediction = generalist.predict_case(case).prediction
    figure = Figure(figsize=(12, 2.3), layout="constrained")
    axes = figure.subplots(1, len(shown) + 2)
    for ax, version in zip(axes, shown, strict=False):
        mirrored = ", ".join(("", "up-down", "left-right")[axis] for axis in version.axes)
        show(ax, version.change(case).image[0, SLICE], mirrored or "the image itself")
    show(axes[-2], example.image[SLICE], "mean of the masks")
    for f, colour in enumerate(COLOURS):
        outline(axes[-2], prediction.probs[f, SLICE] > 0.5, colour)
    reliability = np.where(prediction.predicted, prediction.reliability, np.nan)[:, SLICE]
    lowest = np.nanmin(np.where(np.isnan(reliability), 1.0, reliability), axis=0)
    nowhere = np.isnan(reliability).all(axis=0)
    show(axes[-1], np.where(nowhere, np.nan, lowest), "reliability", vmin=0, vmax=1, cmap="viridis")
    return figure


PICTURES: dict[str, Callable[[Example], Figure]] = {
    "prompts_strategies": strategies,
    "prompts_filters": filters,
    "prompts_refinements": refinements,
    "prompts_augmented": augmented,
}


def main() -> None:
    """Draw all pictures."""
    example = make_example()
    for name, draw in PICTURES.items():
        save(draw(example), name)


if __name__ == "__main__":
    main()

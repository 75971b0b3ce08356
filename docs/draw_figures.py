"""Draw the two pictures of the README: what the package does, on an invented heart, and what was measured.

    python docs/draw_figures.py

The first runs the package's own parts on a phantom of the demo: nano SAM is prompted and its masks are fused. Only the
network is replaced, by the label with a simulated error. The second reads its numbers from ``docs/results.md``.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from nnunet_semisam.demo import phantom
from nnunet_semisam.figures import BASELINE, MUTED, OURS, class_color, figure_style, new_figure, save_figure
from nnunet_semisam.generalists.base import CaseInput
from nnunet_semisam.generalists.build import backend_of_settings, build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels import preview
from nnunet_semisam.pseudo_labels.fusion import CasePriors, fuse
from nnunet_semisam.pseudo_labels.generalisation_error import simulate_generalisation_error
from nnunet_semisam.pseudo_labels.settings import SAMSettings  # noqa: F401  registers the blocks
from nnunet_semisam.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).resolve().parent
LABELS = Labels((1, 2, 3), False, (), lambda probs: probs.argmax(axis=0), ("RV", "MYO", "LV"))
SEEDS = (3, 5)  # of the labeled and the unlabeled heart
SLICE = 1
ROW = re.compile(r"^\| (\d+) \| (.+?) \((\d)\) \| \**([\d.]+)\** \|.*\|(.*)\|[^|]*\|$")
INTERVAL = re.compile(r"([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]")
DEVELOPMENT = re.compile(r"^\| (plain nnU-Net|`nnUNetTrainerSemiSAM`) \| \**([\d.]+)\** \|.*\|(.*)\|$")


# ---------------------------------------------------------------------------------------------- what the package does


def draw_overview(path: Path) -> None:
    """Draw the way of labeled and unlabeled images to the training."""
    labeled, unlabeled = _heart(SEEDS[0]), _heart(SEEDS[1])
    shown = pseudo_label(*unlabeled)
    with figure_style():
        figure = new_figure(12.0, 3.4)  # each panel has 2.1 inches: placed by hand, since arrows would move them
        axes = [figure.add_axes((0.0125 + 0.2 * panel, 0.2, 0.175, 0.175 * 12.0 / 3.4)) for panel in range(5)]
        titles = ("a few labeled cases\ntrain the network", "network predicts\nan unlabeled case", "prediction\nbecomes prompts")
        titles += ("SAM draws\nits masks", "pseudo-label, as sure\nas both agree")
        for ax, title in zip(axes, titles, strict=True):
            ax.set_axis_off()
            ax.set_title(title, loc="center", fontsize=10)
        _show(axes[0], *labeled, labeled[1])
        _show(axes[1], *unlabeled, shown.specialist)
        axes[2].imshow(unlabeled[0][SLICE], cmap="gray")
        preview._draw_prompts(axes[2], shown.prompts, LABELS, SLICE, 0)
        _show(axes[3], *unlabeled, LABELS.label_map(shown.prediction.probs))
        _show(axes[4], *unlabeled, shown.fused.label, shown.fused.confidence[SLICE])
        _arrows(axes)
        figure.set_layout_engine("none")
        save_figure(figure, path, dpi=100)


def pseudo_label(image: np.ndarray, label: np.ndarray) -> preview.Preview:
    """Return what becomes of an invented case: nano SAM is prompted with the label after a simulated error.

    Args:
        image: ``(Z, Y, X)``.
        label: ``(Z, Y, X)``, labels 0 to 3.
    """
    settings = Settings.of(use_sam=True)
    exact = np.eye(4, dtype=np.float32)[label].transpose(3, 0, 1, 2)
    specialist = simulate_generalisation_error(
        exact, label, LABELS, 0.75, phantom.SPACING_MM, "invented", settings.block("generalisation_error")
    )
    backend = backend_of_settings("nano", settings, torch.device("cpu"))
    scaled = ((image - image.mean()) / image.std()).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(folder, "invented", 0.0)
        generalist = build_generalist("nano", backend, settings, LABELS, cache, phantom.SPACING_MM)
        result = generalist.predict_case(CaseInput("invented", scaled[None], specialist, phantom.SPACING_MM))
    weights = GeneralistWeights.unmeasured(LABELS.channels)
    fused = fuse(specialist, result.prediction, LABELS, weights, settings.block("fusion"), CasePriors())
    return preview.Preview(
        title="invented heart",
        image=scaled,
        specialist=LABELS.label_map(LABELS.foreground(specialist)),
        prediction=result.prediction,
        prompts=generalist.prompts_in_slice(result, SLICE),
        fused=fused,
        axis=0,
        index=SLICE,
        spacing=phantom.SPACING_MM,
        threshold=settings.block("sam").confidence_threshold,
        generalist=generalist.name,
        weights=weights.weight,
    )


def _heart(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    heart = phantom.Heart.draw(rng)
    label = phantom.draw_labels(heart, systole=False)
    return phantom.draw_image(heart, label, rng), label


def _show(
    ax: Axes, image: np.ndarray, label: np.ndarray, shown: np.ndarray, confidence: np.ndarray | None = None
) -> None:
    """Draw a slice with a label map; less confident voxels are paler."""
    ax.imshow(image[SLICE], cmap="gray")
    for f in range(LABELS.channels):
        mask = LABELS.members(shown[SLICE], f)
        color = np.array([int(class_color(f)[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        layer = np.zeros((*mask.shape, 4))
        layer[..., :3] = color
        layer[..., 3] = 0.75 * mask * (1.0 if confidence is None else confidence)
        ax.imshow(layer)


def _arrows(axes: list[Axes]) -> None:
    """Draw the arrows between panels, and the way back to the network."""
    style = {"arrowstyle": "-|>", "color": OURS, "linewidth": 1.8}
    for left, right in zip(axes[:-1], axes[1:], strict=True):
        place = {"xycoords": right.transAxes, "textcoords": left.transAxes}
        right.annotate("", (-0.01, 0.5), xytext=(1.01, 0.5), arrowprops=style, **place)
    axes[1].annotate(
        "",
        (0.5, -0.02),
        xytext=(0.5, -0.02),
        xycoords=axes[1].transAxes,
        textcoords=axes[4].transAxes,
        arrowprops={**style, "connectionstyle": "arc3,rad=-0.08"},
    )
    text = "confident voxels train the network, and it labels again every few epochs"
    place = {"xycoords": axes[2].transAxes, "annotation_clip": False}
    axes[2].annotate(text, (1.08, -0.17), ha="center", va="top", fontsize=10, color=OURS, **place)


# ------------------------------------------------------------------------------------------------- what was measured


@dataclass(frozen=True)
class Point:
    """One row of a table: Dice in percent, and the difference to plain nnU-Net with its 95 % interval."""

    draw: str
    labeled: int
    plain: float
    semisam: float
    difference: tuple[float, float, float]


def measured(text: str) -> list[Point]:
    """Return what ``docs/results.md`` says of today's defaults on ACDC.

    Args:
        text: The page.

    Raises:
        ValueError: If the tables are not where they were.
    """
    section = text.split("## Today's defaults, ACDC")[1].split("\n## ")[0]
    development, published = section.split("**The published order**")
    rows = [match.groups() for match in map(DEVELOPMENT.match, development.splitlines()) if match]
    if [name for name, *_ in rows] != ["plain nnU-Net", "`nnUNetTrainerSemiSAM`"]:
        raise ValueError("docs/results.md: the table of the development draws has changed; adapt docs/draw_figures.py")
    points = [Point("development draws", 1, float(rows[0][1]), float(rows[1][1]), _interval(rows[1][2]))]
    found: dict[tuple[int, str], tuple[float, str]] = {}
    for match in filter(None, map(ROW.match, published.splitlines())):
        found[int(match.group(1)), match.group(2).strip("`")] = float(match.group(4)), match.group(5)
    for labeled in sorted({key[0] for key in found}):
        plain, (ours, against) = found[labeled, "plain nnU-Net"], found[labeled, "nnUNetTrainerSemiSAM"]
        points.append(Point("published order", labeled, plain[0], ours, _interval(against)))
    return points


def _interval(text: str) -> tuple[float, float, float]:
    match = INTERVAL.search(text)
    if match is None:
        raise ValueError(f"docs/results.md: no interval in {text!r}; adapt docs/draw_figures.py")
    return tuple(float(group) for group in match.groups())


def draw_label_efficiency(path: Path, points: list[Point]) -> None:
    """Draw Dice by the number of labeled patients, and the differences with their intervals."""
    with figure_style():
        figure = new_figure(9.0, 3.2)
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
        for column, (name, color) in enumerate((("plain nnU-Net", BASELINE), ("SemiSAM", OURS))):
            series = [(p.labeled, (p.plain, p.semisam)[column]) for p in points if p.draw == "published order"]
            left.plot(*zip(*series, strict=True), "o-", color=color, label=f"{name}, published order")
            others = [(p.labeled, (p.plain, p.semisam)[column]) for p in points if p.draw != "published order"]
            left.plot(*zip(*others, strict=True), "s", color=color, fillstyle="none", label=f"{name}, development draws")
        left.set(xlabel="labeled patients", ylabel="Dice (%)", xticks=sorted({p.labeled for p in points}), ylim=(0, 100))
        left.set_xlim(0.6, max(p.labeled for p in points) + 0.4)
        left.set_title("ACDC, 2D, 2,000 steps")
        left.legend(loc="upper left")
        _draw_differences(right, points)
        save_figure(figure, path)
    _note(path, points)


def _draw_differences(ax: Axes, points: list[Point]) -> None:
    ax.axvline(0, color=MUTED, linewidth=1)
    for y, point in enumerate(points):
        middle, low, high = point.difference
        ax.plot([low, high], [y, y], color=OURS)
        ax.plot([middle], [y], "o", color=OURS)
        ax.annotate(f"{middle:+.1f}", (middle, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    ax.set_yticks(range(len(points)), [f"{p.labeled} labeled, {p.draw}" for p in points])
    ax.set_ylim(-0.6, len(points) - 0.4)
    ax.set_xlabel("Dice of SemiSAM minus plain nnU-Net, 95 % interval")
    ax.set_title("What unlabeled cases gain")
    ax.grid(axis="y", visible=False)


def _note(path: Path, points: list[Point]) -> None:
    """Keep the numbers in the file, so that a test sees a picture that is older than the table."""
    text = path.read_text(encoding="utf-8")
    numbers = json.dumps([asdict(point) for point in points])
    path.write_text(text.replace("</svg>", f"<!-- {numbers} -->\n</svg>"), encoding="utf-8")


if __name__ == "__main__":
    draw_overview(DOCS / "images" / "overview.png")
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    draw_label_efficiency(DOCS / "images" / "label_efficiency.svg", measured(results))

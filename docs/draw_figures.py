"""Draw pictures of the documentation: what the package does, on an invented heart, and what was measured.

    python docs/draw_figures.py

The first ones run the package's own parts on a phantom of the demo: nano SAM is prompted and its masks are fused. Only
the network is replaced, by the label with a simulated error. The last reads its numbers from ``docs/results.md``.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_semisam.demo import one_case
from nnunet_semisam.figures import BASELINE, MUTED, OURS, class_color, figure_style, new_figure, save_figure
from nnunet_semisam.pseudo_labels.preview import draw_prompts, write_preview

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).resolve().parent
LABELS = one_case.labels()
UNSEEN, PUBLISHED = "unseen patients", "published order"
SEEDS = (3, 5)  # of the labeled and the unlabeled heart
TITLES = (
    "a few labeled cases\ntrain the network",
    "network predicts\nan unlabeled case",
    "prediction\nbecomes prompts",
    "SAM draws\nits masks",
    "pseudo-label, as sure\nas both agree",
)
ROW = re.compile(r"^\| (\d+) \| (.+?) \((\d)\) \| \**([\d.]+)\** \|.*\|(.*)\|[^|]*\|$")
INTERVAL = re.compile(r"([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]")


# ---------------------------------------------------------------------------------------------- what the package does


def draw_overview(path: Path) -> None:
    """Draw the way of labeled and unlabeled images to the training."""
    labeled, (image, hidden) = one_case.draw_case(SEEDS[0]), one_case.draw_case(SEEDS[1])
    shown = one_case.pseudo_label(image, one_case.simulated_prediction(hidden, dice=0.75))
    index = shown.index
    with figure_style():
        figure = new_figure(12.0, 3.4)  # each panel has 2.1 inches: placed by hand, since arrows would move them
        axes = [figure.add_axes((0.0125 + 0.2 * panel, 0.2, 0.175, 0.175 * 12.0 / 3.4)) for panel in range(5)]
        for ax, title in zip(axes, TITLES, strict=True):
            ax.set_axis_off()
            ax.set_title(title, loc="center", fontsize=10)
        _show(axes[0], labeled[0][index], labeled[1][index])
        _show(axes[1], image[index], shown.specialist[index])
        axes[2].imshow(image[index], cmap="gray")
        draw_prompts(axes[2], shown.prompts, LABELS, index, shown.axis)
        _show(axes[3], image[index], LABELS.label_map(shown.prediction.probs)[index])
        _show(axes[4], image[index], shown.fused.label[index], shown.fused.confidence[index])
        _arrows(axes)
        figure.set_layout_engine("none")
        save_figure(figure, path, dpi=100)


def _show(ax: Axes, image: np.ndarray, label: np.ndarray, confidence: float | np.ndarray = 1.0) -> None:
    """Draw a slice ``(Y, X)`` under a label map; less confident voxels are paler."""
    ax.imshow(image, cmap="gray")
    for f in range(LABELS.channels):
        layer = np.zeros((*label.shape, 4))
        layer[..., :3] = [int(class_color(f)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        layer[..., 3] = 0.75 * LABELS.members(label, f) * confidence
        ax.imshow(layer)


def _arrows(axes: list[Axes]) -> None:
    """Draw the arrows between panels, and the way back to the network."""
    style = {"arrowstyle": "-|>", "color": OURS, "linewidth": 1.8}
    for left, right in pairwise(axes):
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


def draw_preview(path: Path) -> None:
    """Draw a preview of a labeled case, as a calibration writes it."""
    image, label = one_case.draw_case(SEEDS[1])
    shown = one_case.pseudo_label(image, one_case.simulated_prediction(label, dice=0.7))
    write_preview(
        path, replace(shown, title="invented heart (labeled; generalisation error simulated)", label=label), LABELS
    )


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
    unseen, rest = section.split("**The published order**")
    return _points(UNSEEN, unseen) + _points(PUBLISHED, rest.split("**Development draws**")[0])


def _points(draw: str, section: str) -> list[Point]:
    found: dict[tuple[int, str], tuple[float, str]] = {}
    for match in filter(None, map(ROW.match, section.splitlines())):
        found[int(match.group(1)), match.group(2).strip("`")] = float(match.group(4)), match.group(5)
    points = []
    for labeled in sorted({key[0] for key in found}):
        rows = [found.get((labeled, name)) for name in ("plain nnU-Net", "nnUNetTrainerSemiSAM")]
        if None in rows:
            raise ValueError(f"docs/results.md: the table of the {draw} has changed; adapt docs/draw_figures.py")
        (plain, _), (ours, against) = rows
        points.append(Point(draw, labeled, plain, ours, _interval(against)))
    return points


def _interval(text: str) -> tuple[float, float, float]:
    match = INTERVAL.match(text.strip())
    if match is None:
        raise ValueError(f"docs/results.md: no interval in {text!r}; adapt docs/draw_figures.py")
    return tuple(float(group) for group in match.groups())


def draw_label_efficiency(path: Path, points: list[Point]) -> None:
    """Draw Dice by the number of labeled patients, and the differences with their intervals."""
    with figure_style():
        figure = new_figure(9.0, 3.2)
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
        for draw, style, fill, shift in ((UNSEEN, "o-", "full", -0.06), (PUBLISHED, "s--", "none", 0.06)):
            of_draw = [point for point in points if point.draw == draw]
            labeled = [point.labeled + shift for point in of_draw]  # beside each other where they are alike
            for name, field, color in (("SemiSAM", "semisam", OURS), ("plain nnU-Net", "plain", BASELINE)):
                values = [getattr(point, field) for point in of_draw]
                left.plot(labeled, values, style, color=color, fillstyle=fill, label=f"{name}, {draw}")
        left.set(
            xlabel="labeled patients", ylabel="Dice (%)", xticks=sorted({p.labeled for p in points}), ylim=(0, 100)
        )
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
        ax.plot([middle], [y], "o", color=OURS, fillstyle="none" if point.draw == PUBLISHED else "full")
        ax.annotate(f"{middle:+.1f}", (middle, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    ax.set_yticks(range(len(points)), [f"{p.labeled} labeled,\n{p.draw}" for p in points])
    ax.set_ylim(-0.6, len(points) - 0.4)
    ax.set_xlabel("difference in Dice, 95 % interval")
    ax.set_title("What unlabeled cases gain")
    ax.grid(axis="y", visible=False)


def _note(path: Path, points: list[Point]) -> None:
    """Keep the numbers in the file, so that a test sees a picture that is older than the table."""
    text = path.read_text(encoding="utf-8")
    numbers = json.dumps([asdict(point) for point in points])
    path.write_text(text.replace("</svg>", f"<!-- {numbers} -->\n</svg>"), encoding="utf-8")


if __name__ == "__main__":
    draw_overview(DOCS / "images" / "overview.png")
    draw_preview(DOCS / "images" / "preview.png")
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    draw_label_efficiency(DOCS / "images" / "label_efficiency.svg", measured(results))

"""The picture of a training's progress: what the gate measured, when rounds were made, and what is learned of them.

All panels share the epochs. Triangles below the first panel are rounds of pseudo-labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.figures import BASELINE, MARK, MUTED, OURS, class_color, figure_style, new_figure, save_figure
from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.status import needed_dice
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.round_log import CaseRecord, RoundLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, float]
LEGEND_BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
LOSSES = "Weighted loss terms"
TERMS = {"unlabeled_weighted": "unlabeled images", "pseudo_label_weighted": "pseudo-labels"}
SHARES = {
    "unlabeled_confidence": "target of the method (mean confidence)",
    "pseudo_label_confident": "pseudo-labels (share above the threshold)",
}


@dataclass(frozen=True)
class PictureSetup:
    """What a picture of a training shows beside the rows of its log.

    Attributes:
        names: Output channel of each foreground class or region -> its name.
        gate_dice: Dice on labeled patches from which a class is active, in [0, 1]; ``None`` draws no line.
        active_from: Class weight from which a class is active, in [0, 1]; ``None`` draws no line.
        rounds: The records of rounds.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    gate_dice: float | None = None
    active_from: float | None = None
    rounds: RoundLog = field(default_factory=RoundLog)

    @classmethod
    def of(cls, gate: ClassGate, folder: Path) -> PictureSetup:
        """Return the setup of a training.

        Args:
            gate: Knows the classes and what they need.
            folder: The training's output folder, with the records of rounds if there are any.
        """
        names = dict(enumerate(gate.labels.class_names, start=gate.labels.first_foreground))
        return cls(names, needed_dice(gate), gate.settings.active_from, round_log.read(folder))


def write_progress_picture(path: Path, rows: Sequence[Row], setup: PictureSetup) -> None:
    """Draw the rows of :class:`~nnunet_semisam.training.training_log.TrainingLog` to a file.

    Args:
        path: Where to; the ending names the format.
        rows: One per epoch, with the names of the log as keys.
        setup: Names, lines and rounds.
    """
    with figure_style():
        save_figure(progress_figure(rows, setup), path)


def progress_figure(rows: Sequence[Row], setup: PictureSetup) -> Figure:
    """Return the figure of :func:`write_progress_picture`; call it inside ``figure_style``."""
    panels: list[tuple[str, Callable[[Axes], None]]] = [
        ("Dice on labeled patches", lambda ax: _draw_dice(ax, rows, setup)),
        ("Weight of each class in unlabeled terms", lambda ax: _draw_weights(ax, rows, setup)),
        ("Agreement on unlabeled cases (Dice)", lambda ax: _draw_agreement(ax, rows, setup)),
        ("Trusted share of unlabeled voxels", lambda ax: _draw_lines(ax, rows, SHARES)),
        (LOSSES, lambda ax: _draw_lines(ax, rows, TERMS)),
    ]
    figure = new_figure(9.0, 11.0)
    axes = figure.subplots(len(panels), 1, sharex=True)
    _mark_start(axes, rows)
    for ax, (title, draw) in zip(axes, panels, strict=True):
        ax.set_title(title)
        if title != LOSSES:
            ax.set_ylim(-0.02, 1.02)
        draw(ax)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(**LEGEND_BESIDE)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _draw_dice(ax: Axes, rows: Sequence[Row], setup: PictureSetup) -> None:
    _draw_channels(ax, rows, "labeled_dice", setup.names)
    if setup.gate_dice is not None:
        ax.axhline(setup.gate_dice, color=MARK, linewidth=1.0, linestyle="--", label=f"active from {setup.gate_dice:g}")
    epochs = [record.epoch for record in setup.rounds.rounds]
    if epochs:
        at = [0.0] * len(epochs)
        ax.plot(epochs, at, "^", color=MUTED, markersize=5, clip_on=False, label="round of pseudo-labels", zorder=3)


def _draw_weights(ax: Axes, rows: Sequence[Row], setup: PictureSetup) -> None:
    _draw_channels(ax, rows, "class_weight", setup.names)
    if setup.active_from is not None:
        label = f"active ({setup.active_from:g})"
        ax.axhline(setup.active_from, color=MARK, linewidth=1.0, linestyle="--", label=label)


def _draw_agreement(ax: Axes, rows: Sequence[Row], setup: PictureSetup) -> None:
    """Student and teacher by epoch; specialist and generalist by round and class, as the mean over cases."""
    begun = _first_active_epoch(rows)
    compared = [] if begun is None else [row for row in rows if row["epoch"] >= begun]  # before: no agreement yet
    _draw_lines(ax, compared, {"estimated_dice": "student, target (mean)"}, [BASELINE])
    names = list(setup.names.values())
    for f, points in enumerate(mean_agreement(setup.rounds.cases, len(names))):
        if points:
            x, y = zip(*points, strict=True)
            ax.plot(x, y, "o-", color=class_color(f), markersize=4, linewidth=1.0, label=f"network, SAM: {names[f]}")


def mean_agreement(records: Iterable[CaseRecord], channels: int) -> list[list[tuple[int, float]]]:
    """Return (epoch, mean over the cases of that epoch's round) for each foreground channel.

    Cases in which the generalist never answered, and records of other channels, do not count.
    """
    found: list[dict[int, list[float]]] = [{} for _ in range(channels)]
    for record in records:
        if len(record.agreement) != channels:
            continue
        for f, value in enumerate(record.agreement):
            if value is not None:
                found[f].setdefault(record.epoch, []).append(value)
    return [[(epoch, sum(values) / len(values)) for epoch, values in sorted(each.items())] for each in found]


def _draw_channels(ax: Axes, rows: Sequence[Row], prefix: str, names: Mapping[int, str]) -> None:
    """Draw ``<prefix>_<channel>`` of all foreground channels, named, or of all channels there are."""
    there = [int(name.removeprefix(f"{prefix}_")) for name in _columns(rows) if name.startswith(f"{prefix}_")]
    channels = [k for k in there if k in names] or there
    for f, k in enumerate(channels):
        color = class_color(list(names).index(k) if k in names else f)
        ax.plot(*_series(rows, f"{prefix}_{k}"), color=color, label=names.get(k, str(k)))


def _draw_lines(
    ax: Axes, rows: Sequence[Row], lines: Mapping[str, str], colors: Sequence[str] = (BASELINE, OURS)
) -> None:
    for (column, label), color in zip(lines.items(), colors, strict=False):
        if column in _columns(rows):
            ax.plot(*_series(rows, column), color=color, label=label)


def _mark_start(axes: Sequence[Axes], rows: Sequence[Row]) -> None:
    """Draw a line through all panels where unlabeled terms began."""
    begun = _first_active_epoch(rows)
    if begun is None:
        axes[0].set_title("no unlabeled term so far", loc="right", color=MUTED, fontweight="normal", fontsize=9)
        return
    for ax in axes:
        label = f"unlabeled terms from epoch {begun:g}" if ax is axes[0] else None
        ax.axvline(begun, color=MARK, linewidth=1.0, alpha=0.5, zorder=1, label=label)


def _first_active_epoch(rows: Sequence[Row]) -> float | None:
    return next((row["epoch"] for row in rows if row.get("unlabeled_weight", 0.0) > 0), None)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _series(rows: Sequence[Row], column: str) -> tuple[list[float], list[float]]:
    return [row["epoch"] for row in rows], [row.get(column, math.nan) for row in rows]

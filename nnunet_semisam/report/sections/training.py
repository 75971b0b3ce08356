"""Curves of every training: nnU-Net's own, and all terms that this package adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nnunet_semisam.benchmark.records import RunRecord
from nnunet_semisam.report.drawing.charts import COLORS, Axes, Line, Point, line_chart
from nnunet_semisam.report.drawing.html_parts import details, escape, paragraph
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.training_logs import Series, TrainingRecord

PANEL_WIDTH = 460
PANEL_HEIGHT = 260
NOTE = (
    "Online validation: nnU-Net's pseudo Dice on patches of the validation cases during training, mean over classes. "
    "It shows how trainings went. It is no result: results are those of held-out cases above."
)


@dataclass(frozen=True)
class Panel:
    """A chart of some columns of ``semisam_log.csv``.

    Attributes:
        title: What it shows.
        holds: Whether a column of this name is in it.
    """

    title: str
    holds: Callable[[str], bool]


# A column is in the first panel that holds it.
PANELS = (
    Panel("weighted terms of the loss", lambda name: name.endswith("_weighted")),
    Panel("weights of the terms", lambda name: name.endswith("_weight")),
    Panel(
        "Dice on labeled patches",
        lambda name: name.startswith("labeled_dice_") or name == "estimated_dice",
    ),
    Panel(
        "weight of each class (0: merged into the background, 1: full)",
        lambda name: name.startswith("class_weight_"),
    ),
    Panel("share of unlabeled voxels that count", lambda name: name.endswith(("_confidence", "_confident"))),
    Panel("raw terms", lambda name: True),
)


def training_section(benchmark: Benchmark, records: Mapping[str, TrainingRecord]) -> str:
    """Return an overview per cell of the grid, then the curves of every run, closed."""
    parts = [paragraph(NOTE), '<div class="grid2">']
    for configuration in benchmark.study.configurations:
        for budget in benchmark.budgets:
            parts.append(_overview(benchmark, records, configuration, budget))
    parts.append("</div>")
    for run in benchmark.runs:
        if run.name in records:
            parts.append(_curves_of_run(benchmark, run, records[run.name]))
    return "".join(parts)


def _overview(benchmark: Benchmark, records: Mapping[str, TrainingRecord], configuration: str, budget: int) -> str:
    """Return the online validation of all runs of a configuration and budget."""
    lines = []
    named = set()
    for run in benchmark.runs:
        if run.name not in records or (run.configuration, run.budget) != (configuration, budget):
            continue
        values = records[run.name].nnunet.get("pseudo_dice")
        if not values:
            continue
        index = benchmark.trainers.index(run.trainer)
        name = "" if run.trainer in named else benchmark.short(run.trainer)  # a line per fold and seed, one entry
        named.add(run.trainer)
        lines.append(Line(name, _points(values), index, dashed=index == 0))
    axes = _axes(f"Online validation, {configuration}, {budget} labeled", "pseudo Dice", (0, 1))
    return _titled(axes.title, line_chart(lines, axes))


def _curves_of_run(benchmark: Benchmark, run: RunRecord, record: TrainingRecord) -> str:
    losses = {name: record.nnunet.get(name, []) for name in ("train_loss", "val_loss")}
    charts = [_panel("nnU-Net's loss (train_loss holds all terms)", losses), *panels_of_terms(record.terms)]
    content = "".join(charts) or paragraph("No log was found in the training's folder.", "dim")
    title = f"{benchmark.short(run.trainer)}, {run.configuration}, {run.budget} labeled"
    return details(title, f'<div class="grid2">{content}</div>', note=f"fold {run.fold}, seed {run.seed}")


def panels_of_terms(terms: Series) -> list[str]:
    """Return a chart per kind of column; every column of the log is in exactly one."""
    columns: dict[str, Series] = {panel.title: {} for panel in PANELS}
    for name, values in terms.items():
        panel = next(panel for panel in PANELS if panel.holds(name))
        columns[panel.title][name] = values
    charts = [_panel(title, series) for title, series in columns.items()]
    return [chart for chart in charts if chart]


def _panel(title: str, series: Series) -> str:
    lines = []
    for i, (name, values) in enumerate(series.items()):
        lines.append(Line(name, _points(values), i, dashed=i >= COLORS))
    return _titled(title, line_chart(lines, _axes(title, "")))


def _titled(title: str, chart: str) -> str:
    return f"<div><h4>{escape(title)}</h4>{chart}</div>" if chart else ""


def _points(values: Sequence[tuple[int, float]]) -> list[Point]:
    return [Point(epoch, value) for epoch, value in values]


def _axes(title: str, y: str, y_range: tuple[float, ...] = ()) -> Axes:
    return Axes(title, "epoch", y, y_range=y_range, width=PANEL_WIDTH, height=PANEL_HEIGHT)

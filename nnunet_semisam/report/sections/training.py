"""Curves of every training: nnU-Net's own, and all terms that this package adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nnunet_semisam.report.drawing.charts import Axes, Line, Point, line_chart
from nnunet_semisam.report.drawing.html_parts import details, escape, paragraph
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.training_logs import Series, TrainingRecord

PANEL_WIDTH, PANEL_HEIGHT = 460, 260
PANELS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("weighted terms of the loss", lambda name: name.endswith("_weighted")),
    ("weights of the terms", lambda name: name.endswith("_weight")),
    ("teacher's Dice on labeled patches", lambda name: name.startswith("teacher_dice") or name == "expected_dice"),
    ("trust in each class (0: rest only, 1: full)", lambda name: name.startswith("class_trust")),
    ("share of unlabeled voxels that count", lambda name: name.endswith("_trusted")),
    ("raw terms", lambda name: True),
)


def training_section(benchmark: Benchmark, records: Mapping[str, TrainingRecord]) -> str:
    """Return an overview per cell of the grid, then the curves of every run, closed."""
    parts = [
        paragraph(
            "Online validation: nnU-Net's pseudo Dice on patches of the validation cases during training, mean over "
            "classes. It shows how trainings went. It is no result: results are those of held-out cases above."
        ),
        '<div class="grid2">',
    ]
    for configuration in benchmark.study["configurations"]:
        for budget in benchmark.budgets:
            parts.append(_overview(benchmark, records, configuration, budget))
    parts.append("</div>")
    for run in benchmark.runs:
        if record := records.get(run["run"]):
            parts.append(_run(benchmark, run, record))
    return "".join(parts)


def _overview(benchmark: Benchmark, records: Mapping[str, TrainingRecord], configuration: str, budget: int) -> str:
    lines = []
    for run in benchmark.runs:
        values = records[run["run"]].nnunet.get("pseudo_dice") if run["run"] in records else None
        if (run["configuration"], run["budget"]) == (configuration, budget) and values:
            index = benchmark.trainers.index(run["trainer"])
            name = benchmark.short(run["trainer"])
            name = "" if any(line.name == name for line in lines) else name  # a line per fold and seed, one entry
            lines.append(Line(name, _points(values), index, dashed=index == 0))
    axes = _axes(f"Online validation, {configuration}, {budget} labeled", "pseudo Dice", (0, 1))
    chart = line_chart(lines, axes)
    return f"<div><h4>{escape(axes.title)}</h4>{chart}</div>" if chart else ""


def _run(benchmark: Benchmark, run: Mapping[str, Any], record: TrainingRecord) -> str:
    losses = {name: record.nnunet.get(name, []) for name in ("train_loss", "val_loss")}
    charts = [_panel("nnU-Net's loss (train_loss holds all terms)", losses), *panels_of_terms(record.terms)]
    content = "".join(charts) or paragraph("No log was found in the training's folder.", "dim")
    title = f"{benchmark.short(run['trainer'])}, {run['configuration']}, {run['budget']} labeled"
    return details(title, f'<div class="grid2">{content}</div>', note=f"fold {run['fold']}, seed {run['seed']}")


def panels_of_terms(terms: Series) -> list[str]:
    """Return a chart per kind of column; every column of the log is in exactly one."""
    left, charts = dict(terms), []
    for title, belongs in PANELS:
        mine = {name: left.pop(name) for name in list(left) if belongs(name)}
        charts.append(_panel(title, mine))
    return [chart for chart in charts if chart]


def _panel(title: str, series: Series) -> str:
    lines = [Line(name, _points(values), i, dashed=i >= 8) for i, (name, values) in enumerate(series.items())]
    chart = line_chart(lines, _axes(title, ""))
    return f"<div><h4>{escape(title)}</h4>{chart}</div>" if chart else ""


def _points(values: list[tuple[int, float]]) -> list[Point]:
    return [Point(epoch, value) for epoch, value in values]


def _axes(title: str, y: str, y_range: tuple[float, ...] = ()) -> Axes:
    return Axes(title, "epoch", y, y_range=y_range, width=PANEL_WIDTH, height=PANEL_HEIGHT)

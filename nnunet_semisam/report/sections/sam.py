"""What SAM did in the trainings that asked one: agreement with the network over time, and its calibration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nnunet_semisam.report.drawing.charts import Axes, Line, Point, line_chart
from nnunet_semisam.report.drawing.html_parts import Cell, details, number_cell, paragraph, table, text_cell
from nnunet_semisam.report.drawing.number_formats import NONE, number
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.dataset_labels import label_names
from nnunet_semisam.report.reading.training_logs import TrainingRecord

CHARTS = {"agreement": "Dice between network and SAM", "trust": "mean trust in pseudo-labels"}
FIGURES = re.compile(r"Dice ([\d.]+) \(network\), ([\d.]+) \(SAM\), ([\d.]+) \(chosen fusion\) over (\d+) cases")
HEAD = (
    *("trainer", "configuration", "labeled", "fold", "seed", "class", "measured before epoch", "share of SAM"),
    *("Dice network, %", "Dice SAM, %", "Dice fused, %", "cases", "verdict"),
)


def sam_section(benchmark: Benchmark, records: Mapping[str, TrainingRecord]) -> str:
    """Return charts over the rounds and the calibration table; a sentence if no training asked a SAM."""
    asked = [
        run
        for run in benchmark.runs
        if run["run"] in records and (records[run["run"]].rounds or records[run["run"]].calibrations)
    ]
    if not asked:
        return paragraph("No training of this benchmark asked a SAM, or none has come so far.", "dim")
    names = label_names(benchmark)
    parts = [
        paragraph(
            "Agreement is no accuracy: network and SAM can agree on the same mistake. SAM's prompts come from the "
            "network, so the two are never independent."
        )
    ]
    for run in asked:
        charts = [chart_of_rounds(records[run["run"]], key, title, names) for key, title in CHARTS.items()]
        if any(charts):
            content = f'<div class="grid2">{"".join(charts)}</div>'
            parts.append(details(_name(benchmark, run), content, opened=run is asked[0]))
    rows = [row for run in asked for row in calibration_rows(benchmark, run, records[run["run"]])]
    if rows:
        parts.append(
            paragraph(
                "Calibration: before SAM may speak, it is measured on labeled training cases, class by class, with the "
                "network degraded to its expected level on unseen cases. A class that it does not improve by 0.5 Dice "
                "is switched off. It is an estimate of a gain at borders on a handful of cases, not a result."
            )
        )
        parts.append(table("SAM calibration on labeled cases", HEAD, rows))
    return "".join(parts)


def chart_of_rounds(record: TrainingRecord, key: str, title: str, names: Mapping[str, str]) -> str:
    """Return a line per class over the epochs of the rounds."""
    classes = list(dict.fromkeys(name for one in record.rounds for name in one.classes))
    lines = []
    for i, name in enumerate(classes):
        values = [(one.epoch, one.classes[name][key]) for one in record.rounds if name in one.classes]
        points = [Point(epoch, value) for epoch, value in values if value is not None]
        lines.append(Line(names.get(name, f"labels {name}"), points, i, markers=True))
    chart = line_chart(lines, Axes(title, "epoch of the network", title, y_range=(0, 1), width=460, height=260))
    return f"<div>{chart}</div>" if chart else ""


def calibration_rows(benchmark: Benchmark, run: Mapping[str, Any], record: TrainingRecord) -> list[list[Cell]]:
    """Return a row per calibration and class."""
    names = label_names(benchmark)
    rows = []
    for epoch, classes in record.calibrations:
        for name, verdict in classes.items():
            *numbers, cases = figures_of(verdict["reason"])
            weight = verdict["weight"]
            rows.append(
                [
                    text_cell(benchmark.short(run["trainer"])),
                    text_cell(run["configuration"]),
                    *(number_cell(str(run[key]), run[key]) for key in ("budget", "fold", "seed")),
                    text_cell(names.get(name, name)),
                    number_cell(str(epoch), epoch),
                    number_cell("off" if weight == 0 else f"{weight:g}", weight, kind="bad" if weight == 0 else ""),
                    *(number_cell(number(value, "dice"), value) for value in numbers),
                    number_cell(NONE if cases is None else str(int(cases)), cases),
                    text_cell(verdict["reason"]),
                ]
            )
    return rows


def figures_of(reason: str) -> list[float | None]:
    """Return Dice of network, SAM and fusion, and the number of cases; ``None`` for a class that no case shows."""
    match = FIGURES.search(reason)
    return [float(text) for text in match.groups()] if match else [None] * 4


def _name(benchmark: Benchmark, run: Mapping[str, Any]) -> str:
    return (
        f"{benchmark.short(run['trainer'])}, {run['configuration']}, {run['budget']} labeled, fold {run['fold']}, "
        f"seed {run['seed']}"
    )

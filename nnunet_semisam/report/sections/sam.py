"""What SAM did in the trainings that used one: its rounds of pseudo-labels, and its calibrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nnunet_semisam.benchmark.records import RunRecord
from nnunet_semisam.pseudo_labels.round_log import CalibrationRecord, ClassRecord
from nnunet_semisam.pseudo_labels.round_summary import ClassSummary
from nnunet_semisam.report.drawing.charts import Axes, Line, Point, line_chart
from nnunet_semisam.report.drawing.html_parts import (
    Cell,
    details,
    integer_cell,
    number_cell,
    paragraph,
    table,
    text_cell,
)
from nnunet_semisam.report.drawing.number_formats import NONE, number, quantity
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.dataset_labels import label_names
from nnunet_semisam.report.reading.sam_rounds import SamRecord, SamRound

CHART_WIDTH = 460
CHART_HEIGHT = 260

AGREEMENT_NOTE = (
    "Agreement is no accuracy: network and SAM can agree on the same mistake. SAM's prompts come from the network, so "
    "the two are never independent."
)
CALIBRATION_NOTE = (
    "Calibration: before SAM contributes, it is measured on labeled training cases, class by class, with a simulated "
    "generalisation error that gives the network its expected level on unseen cases. A class that SAM does not improve "
    "by 0.5 Dice, and in most cases, is switched off. It is an estimate of a gain at borders on a handful of cases, no "
    "result."
)
ROUNDS_HEAD = (
    "trainer",
    "configuration",
    "labeled",
    "fold",
    "seed",
    "round",
    "class",
    "epoch of the network",
    "cases",
    "in use",
    "seconds",
    "confident voxels of all, %",
    "share of SAM",
    "prompts",
    "rejected",
    "empty",
    "Dice network/SAM, %",
    "mean confidence, %",
    "confident voxels of the class, %",
)
NUM_CLASS_NUMBERS = 7  # of these: the last ones, of the class that the column after the round names
CALIBRATIONS_HEAD = (
    "trainer",
    "configuration",
    "labeled",
    "fold",
    "seed",
    "class",
    "SAM",
    "epoch of the network",
    "share of SAM",
    "Dice network, %",
    "Dice SAM, %",
    "Dice fused, %",
    "cases",
    "seconds",
    "verdict",
)


def sam_section(benchmark: Benchmark, records: Mapping[str, SamRecord]) -> str:
    """Return charts and tables of the rounds and calibrations; a sentence if no training used a SAM.

    Args:
        benchmark: The results.
        records: Run -> what SAM did in it.
    """
    runs = [run for run in benchmark.runs if run.name in records and not records[run.name].is_empty]
    if not runs:
        return paragraph("No training of this benchmark used a SAM, or none has come so far.", "dim")
    names = label_names(benchmark)
    parts = [paragraph(AGREEMENT_NOTE)]
    round_rows = []
    calibration_rows = []
    for run in runs:
        record = records[run.name]
        charts = charts_of_rounds(record, names)
        if charts:
            content = f'<div class="grid2">{charts}</div>'
            parts.append(details(_name(benchmark, run), content, opened=run is runs[0]))
        for one in record.rounds:
            round_rows += _rows_of_round(benchmark, run, one, names)
        for calibration in record.calibrations:
            for verdict in calibration.classes:
                calibration_rows.append(_calibration_row(benchmark, run, calibration, verdict, names))
    if round_rows:
        parts.append(table("SAM rounds", ROUNDS_HEAD, round_rows, filtered=True))
    if calibration_rows:
        parts.append(paragraph(CALIBRATION_NOTE))
        parts.append(table("SAM calibration on labeled cases", CALIBRATIONS_HEAD, calibration_rows))
    return "".join(parts)


def charts_of_rounds(record: SamRecord, names: Mapping[str, str]) -> str:
    """Return agreement and confidence over the rounds, and the confidence in the last one.

    Args:
        record: What SAM did in a training.
        names: What the record calls a class -> its name.
    """
    return (
        _chart_over_rounds(record, "Dice between network and SAM", lambda one: one.agreement, names)
        + _chart_over_rounds(record, "mean confidence in pseudo-labels", lambda one: one.confidence, names)
        + _chart_of_confidence(record, names)
    )


def _chart_over_rounds(
    record: SamRecord, title: str, value_of: Callable[[ClassSummary], float | None], names: Mapping[str, str]
) -> str:
    """Return a line per class over the epochs of the rounds."""
    points: dict[str, list[Point]] = {}
    for one in record.rounds:
        for figures in one.classes:
            value = value_of(figures)
            of_class = points.setdefault(figures.name, [])
            if value is not None:
                of_class.append(Point(one.epoch, value))
    lines = []
    for i, (name, of_class) in enumerate(points.items()):
        lines.append(Line(_class_name(name, names), of_class, _color(name, i), markers=True, of_class=True))
    return _chart(lines, title, "epoch of the network", title, (0, 1))


def _chart_of_confidence(record: SamRecord, names: Mapping[str, str]) -> str:
    """Return how the confidence of each class's voxels was distributed in the last round that has cases."""
    with_cases = [one for one in record.rounds if one.classes]
    if not with_cases:
        return ""
    last = with_cases[-1]
    lines = []
    for i, figures in enumerate(last.classes):
        voxels = sum(figures.histogram)
        if not voxels:
            continue
        bins = len(figures.histogram)
        points = [Point((b + 0.5) / bins, 100 * found / voxels) for b, found in enumerate(figures.histogram)]
        name, color = _class_name(figures.name, names), _color(figures.name, i)
        lines.append(Line(name, points, color, markers=True, of_class=True))
    return _chart(lines, f"confidence of pseudo-labels in round {last.number}", "confidence", "voxels, %", (0,))


def _color(name: str, index: int) -> int:
    """Return the colour of a class, which viewers choose by its label; regions follow their order."""
    return int(name) - 1 if name.isdecimal() else index


def _chart(lines: list[Line], title: str, x: str, y: str, y_range: tuple[float, ...]) -> str:
    axes = Axes(title, x, y, y_range=y_range, width=CHART_WIDTH, height=CHART_HEIGHT)
    chart = line_chart(lines, axes)
    return f"<div>{chart}</div>" if chart else ""


def _rows_of_round(benchmark: Benchmark, run: RunRecord, one: SamRound, names: Mapping[str, str]) -> list[list[Cell]]:
    """Return a row per class; one without figures if the round has no case."""
    start = [*_run_cells(benchmark, run), integer_cell(one.number)]
    of_all = [
        integer_cell(one.epoch),
        integer_cell(one.cases),
        _in_use_cell(one),
        number_cell(quantity(one.seconds, 1), one.seconds, title=_seconds_by_part(one)),
        _percent_cell(one.confident_share),
    ]
    if not one.classes:
        missing = number_cell(NONE, None)
        return [[*start, text_cell("all"), *of_all, *[missing] * NUM_CLASS_NUMBERS]]
    return [
        [*start, text_cell(_class_name(figures.name, names)), *of_all, *_class_cells(figures)]
        for figures in one.classes
    ]


def _seconds_by_part(one: SamRound) -> str:
    """Return what took how long, and how many embeddings were cached, in words."""
    parts = [f"{part} {seconds:.1f}" for part, seconds in one.seconds_by_part.items()]
    parts += [f"of these {name} {seconds:.1f}" for name, seconds in one.seconds_by_generalist.items()]
    if one.cache_hit_rate is not None:
        parts.append(f"{100 * one.cache_hit_rate:.0f} % of the embeddings were cached")
    return ", ".join(parts)


def _in_use_cell(one: SamRound) -> Cell:
    if one.active is None:
        return text_cell("not finished", kind="dim")
    if one.active:
        return text_cell("yes")
    return text_cell("no", kind="bad", title="the calibration found no class in which SAM helps")


def _class_cells(figures: ClassSummary) -> list[Cell]:
    return [
        _weight_cell(figures.weight),
        integer_cell(figures.prompts),
        integer_cell(figures.rejected),
        integer_cell(figures.empty),
        _percent_cell(figures.agreement),
        _percent_cell(figures.confidence),
        _percent_cell(figures.confident_share),
    ]


def _calibration_row(
    benchmark: Benchmark, run: RunRecord, calibration: CalibrationRecord, verdict: ClassRecord, names: Mapping[str, str]
) -> list[Cell]:
    return [
        *_run_cells(benchmark, run),
        text_cell(_class_name(verdict.name, names)),
        text_cell(verdict.generalist),
        integer_cell(calibration.epoch),
        _weight_cell(verdict.weight),
        _percent_cell(verdict.dice_specialist),
        _percent_cell(verdict.dice_generalist),
        _percent_cell(verdict.dice_fused),
        integer_cell(verdict.cases),
        number_cell(quantity(calibration.seconds, 1), calibration.seconds),
        text_cell(verdict.reason),
    ]


def _run_cells(benchmark: Benchmark, run: RunRecord) -> list[Cell]:
    return [
        text_cell(benchmark.short(run.trainer)),
        text_cell(run.configuration),
        integer_cell(run.budget),
        integer_cell(run.fold),
        integer_cell(run.seed),
    ]


def _weight_cell(weight: float) -> Cell:
    if weight == 0:
        return number_cell("off", weight, kind="bad")
    return number_cell(f"{weight:g}", weight)


def _percent_cell(share: float | None) -> Cell:
    return number_cell(number(share, "dice"), share)


def _class_name(name: str, names: Mapping[str, str]) -> str:
    return names.get(name, f"labels {name}")


def _name(benchmark: Benchmark, run: RunRecord) -> str:
    return (
        f"{benchmark.short(run.trainer)}, {run.configuration}, {run.budget} labeled, fold {run.fold}, seed {run.seed}"
    )

"""What the runs cost, per trainer and one by one."""

from __future__ import annotations

from nnunet_semisam.benchmark.records import RunRecord
from nnunet_semisam.errors import printable
from nnunet_semisam.report.drawing.html_parts import (
    Cell,
    details,
    integer_cell,
    number_cell,
    paragraph,
    pre,
    table,
    text_cell,
)
from nnunet_semisam.report.drawing.number_formats import NONE, gigabytes, quantity
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.damage import without_folders

MOST_CHARACTERS = 20_000  # of an error
NOTE = (
    "Hours by the clock, of all starts, killed ones included; GPU hours are those with a GPU, one for each run. "
    "Validation is in them. Peak memory is of the main process, without nnU-Net's workers; peak GPU is what torch "
    "reserved."
)
TOTALS_HEAD = ("trainer", "runs that began", "train, h", "predict, h", "GPU hours")
RUNS_HEAD = (
    "trainer",
    "configuration",
    "labeled",
    "fold",
    "seed",
    "status",
    "steps",
    "train, h",
    "predict, h",
    "starts of either",
    "peak memory, GB",
    "peak GPU, GB",
    "GPU",
    "host",
)


def cost_section(benchmark: Benchmark) -> str:
    """Return sums per trainer and what every run cost."""
    return paragraph(NOTE, "dim") + totals_table(benchmark) + f'<div class="more">{run_table(benchmark)}</div>'


def totals_table(benchmark: Benchmark) -> str:
    """Return the hours of every trainer."""
    rows = []
    for one in benchmark.costs:
        rows.append(
            [
                text_cell(benchmark.short(one.trainer), title=one.trainer),
                integer_cell(one.runs),
                number_cell(quantity(one.train_hours), one.train_hours),
                number_cell(quantity(one.predict_hours), one.predict_hours),
                number_cell(quantity(one.gpu_hours), one.gpu_hours),
            ]
        )
    return table("Hours per trainer", TOTALS_HEAD, rows) if rows else ""


def run_table(benchmark: Benchmark) -> str:
    """Return what every run cost, and the errors of those that broke."""
    rows = [_run_row(benchmark, run) for run in benchmark.runs]
    errors = []
    for run in benchmark.runs:
        if run.error:
            errors.append(details(f"Error of {run.name}", pre(_error_text(benchmark, run.error)), opened=True))
    return table("Runs and what they cost", RUNS_HEAD, rows) + "".join(errors)


def _error_text(benchmark: Benchmark, text: str) -> str:
    return printable(without_folders(text, benchmark.folder), MOST_CHARACTERS)


def _run_row(benchmark: Benchmark, run: RunRecord) -> list[Cell]:
    return [
        text_cell(benchmark.short(run.trainer), title=run.trainer),
        text_cell(run.configuration),
        integer_cell(run.budget),
        integer_cell(run.fold),
        integer_cell(run.seed),
        text_cell(run.status.value, kind="" if run.is_done else "bad"),
        integer_cell(run.steps),
        number_cell(quantity(run.cost.train_hours), run.cost.train_hours),
        number_cell(quantity(run.cost.predict_hours), run.cost.predict_hours),
        integer_cell(run.cost.attempts),
        number_cell(gigabytes(run.cost.peak_memory_bytes), run.cost.peak_memory_bytes),
        number_cell(gigabytes(run.cost.peak_gpu_bytes), run.cost.peak_gpu_bytes),
        text_cell(run.gpu or NONE),
        text_cell(run.host or NONE),
    ]

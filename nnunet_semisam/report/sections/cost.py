"""What the runs cost, per trainer and one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_semisam.benchmark.tasks import DONE
from nnunet_semisam.report.drawing.html_parts import Cell, details, number_cell, paragraph, pre, table, text_cell
from nnunet_semisam.report.drawing.number_formats import NONE, gigabytes, quantity
from nnunet_semisam.report.reading.benchmark_folder import Benchmark

NOTE = (
    "Hours by the clock, of all starts, killed ones included; GPU hours are those with a GPU, one for each run. "
    "Validation is in them. Peak memory is of the main process, without nnU-Net's workers; peak GPU is what torch "
    "reserved."
)


def cost_section(benchmark: Benchmark) -> str:
    """Return sums per trainer and what every run cost."""
    return paragraph(NOTE, "dim") + totals_table(benchmark) + run_table(benchmark)


def totals_table(benchmark: Benchmark) -> str:
    """Return the hours of every trainer."""
    head = ("trainer", "runs that began", "train, h", "predict, h", "GPU hours")
    rows = [
        [
            text_cell(benchmark.short(one["trainer"]), title=one["trainer"]),
            number_cell(str(one["runs"]), one["runs"]),
            *(number_cell(quantity(one[key]), one[key]) for key in ("train_hours", "predict_hours", "gpu_hours")),
        ]
        for one in benchmark.content.get("cost", [])
    ]
    return table("Hours per trainer", head, rows) if rows else ""


def run_table(benchmark: Benchmark) -> str:
    """Return what every run cost, and the errors of those that broke."""
    head = (
        *("trainer", "configuration", "labeled", "fold", "seed", "status", "steps", "train, h", "predict, h"),
        *("starts of either", "peak memory, GB", "peak GPU, GB", "GPU", "host"),
    )
    rows = [_run_row(benchmark, run) for run in benchmark.runs]
    errors = "".join(
        details(f"Error of {run['run']}", pre(run["error"]), opened=True) for run in benchmark.runs if run["error"]
    )
    return table("Runs and what they cost", head, rows) + errors


def _run_row(benchmark: Benchmark, run: Mapping[str, Any]) -> list[Cell]:
    return [
        text_cell(benchmark.short(run["trainer"]), title=run["trainer"]),
        text_cell(run["configuration"]),
        *(number_cell(str(run[key]), run[key]) for key in ("budget", "fold", "seed")),
        text_cell(run["status"], kind="" if run["status"] == DONE else "bad"),
        number_cell(NONE if run["steps"] is None else f"{run['steps']}", run["steps"]),
        *(number_cell(quantity(run[key]), run[key]) for key in ("train_hours", "predict_hours")),
        number_cell(str(run["attempts"]), run["attempts"]),
        *(number_cell(gigabytes(run[key]), run[key]) for key in ("peak_memory_bytes", "peak_gpu_bytes")),
        *(text_cell(run[key] or NONE) for key in ("gpu", "host")),
    ]

"""Tables of numbers: per class and per case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_semisam.benchmark.metrics import FAILURES, MEAN
from nnunet_semisam.report.drawing.html_parts import Cell, number_cell, table, text_cell
from nnunet_semisam.report.drawing.number_formats import NONE, count, interval, number, p_value, title
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.sections.comparison import BETTER, WORSE, unmatched, verdict

METRICS = ("dice", "hd95", "assd", "volume_error")
MOST_ROWS = 6000  # of the table of cases: more make a page slow


def class_table(benchmark: Benchmark) -> str:
    """Return means with intervals and differences to the baseline, a row per class, trainer and budget."""
    head = [
        *("configuration", "labeled", "label", "trainer"),
        *("Dice, % [95 %]", "against nnU-Net [95 %]", "p"),
        *(f"{title(metric, benchmark.units)} [95 %]" for metric in METRICS[1:]),
        *("cases", "patients", "runs", "pairs", "failures"),
    ]
    rows = [
        _class_row(benchmark, configuration, budget, trainer, label)
        for configuration, budget, trainer in benchmark.grid()
        for label in (MEAN, *benchmark.labels)
        if benchmark.cell(configuration, budget, trainer, label, "dice")
    ]
    return table("Results per class", head, rows, filtered=True)


def _class_row(benchmark: Benchmark, configuration: str, budget: int, trainer: str, label: str) -> list[Cell]:
    cells = {metric: benchmark.cell(configuration, budget, trainer, label, metric) for metric in METRICS}
    dice = cells["dice"]
    difference = dice["difference"]
    pairs = difference and difference["pairs"]
    return [
        text_cell(configuration),
        number_cell(str(budget), budget),
        text_cell(label),
        text_cell(benchmark.short(trainer), title=trainer),
        number_cell(interval(dice, "dice"), dice["mean"]),
        difference_cell(dice, benchmark.cell(configuration, budget, benchmark.baseline, label, "dice")),
        number_cell(p_value(difference and difference["p"]), difference and difference["p"]),
        *(
            number_cell(interval(cells[metric], metric), cells[metric] and cells[metric]["mean"])
            for metric in METRICS[1:]
        ),
        *(number_cell(str(dice[key]), dice[key]) for key in ("cases", "groups", "runs")),
        number_cell(NONE if pairs is None else str(pairs), pairs),
        number_cell(str(dice["failures"]), dice["failures"], kind="bad" if dice["failures"] else ""),
    ]


def difference_cell(dice: Mapping[str, Any], base: Mapping[str, Any] | None) -> Cell:
    """Return the difference in Dice, coloured by its verdict, and with its pairs where the means rest on other runs."""
    difference = dice["difference"]
    said = verdict(difference)
    text = interval(difference, "dice", "+")
    why = said
    if unmatched(dice, base):
        text += f" ({count(difference['pairs'], 'pair')})"
        why = f"{said}; rests on {count(difference['pairs'], 'pair')} of runs, the means on more"
    kind = {BETTER: "good", WORSE: "bad"}.get(said, "")
    return number_cell(text, difference and difference["mean"], kind=kind, title=why)


def case_table(benchmark: Benchmark) -> str:
    """Return a row per run and held-out case: Dice of every label, mean distances, what failed."""
    head = [
        *("case", "patient", "configuration", "labeled", "trainer", "fold", "seed", "Dice mean, %"),
        *(f"Dice {label}, %" for label in benchmark.labels),
        *(title(metric, benchmark.units).replace(",", " mean,") for metric in ("hd95", "assd")),
        "failures",
    ]
    rows = [
        _case_row(benchmark, run, case, found)
        for run in benchmark.runs
        for case, found in benchmark.scores.get(run["run"], {}).items()
    ]
    note = ""
    if len(rows) > MOST_ROWS:
        note = f"<p>The first {MOST_ROWS} of {len(rows)} rows; results.csv holds all.</p>"
    return note + table("Results per held-out case", head, rows[:MOST_ROWS], filtered=True)


def _case_row(benchmark: Benchmark, run: Mapping[str, Any], case: str, found: Mapping[tuple, dict]) -> list[Cell]:
    failed = [
        f"{label} {found[label, 'dice']['status']}"
        for label in benchmark.labels
        if (label, "dice") in found and found[label, "dice"]["status"] in FAILURES
    ]
    mean = found[MEAN, "dice"]
    return [
        text_cell(case),
        text_cell(mean["group"]),
        text_cell(run["configuration"]),
        number_cell(str(run["budget"]), run["budget"]),
        text_cell(benchmark.short(run["trainer"])),
        *(number_cell(str(run[key]), run[key]) for key in ("fold", "seed")),
        *(_score_cell(found.get((label, "dice")), "dice") for label in (MEAN, *benchmark.labels)),
        *(_score_cell(found.get((MEAN, metric)), metric) for metric in ("hd95", "assd")),
        Cell(", ".join(failed) or "none", len(failed), kind="bad" if failed else "dim"),
    ]


def _score_cell(row: Mapping[str, Any] | None, metric: str) -> Cell:
    if row is None or row["scored"] is None:
        return Cell(NONE, None, title="neither in the truth nor predicted: nothing to judge")
    text = number(row["scored"], metric)
    if row["value"] is None:
        return number_cell(f"{text}*", row["scored"], kind="bad", title="undefined: scored as the worst case")
    return number_cell(text, row["scored"])

"""Trainer against trainer: what one adds to another, such as SAM to the method below it."""

from __future__ import annotations

from nnunet_semisam.benchmark.pairwise import PairComparison, compare_trainers
from nnunet_semisam.benchmark.records import Run, Score
from nnunet_semisam.report.drawing.html_parts import Cell, integer_cell, number_cell, paragraph, table, text_cell
from nnunet_semisam.report.drawing.number_formats import interval, p_value
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.sections.comparison import ALPHA, FEWEST_GROUPS

HEAD = (
    "trainer",
    "against",
    "configuration",
    "labeled",
    "verdict",
    "Dice difference [95 %]",
    "p",
    "p, Holm",
    "patients",
    "pairs",
)
NOTE = (
    "Every pair of trainers, mean Dice over labels, on runs of the same folds and seeds. The last p is corrected by "
    "Holm's method for all pairs with the same configuration and budget; better and worse ask for an interval that "
    f"leaves 0 out, a corrected p below {ALPHA}, and {FEWEST_GROUPS} patients."
)


def pairwise_section(benchmark: Benchmark) -> str:
    """Return the table; empty with fewer than two trainers."""
    scores = _scores(benchmark)
    found = [
        pair
        for configuration in benchmark.study.configurations
        for budget in benchmark.budgets
        for pair in compare_trainers(scores, benchmark.held_out.groups, configuration, budget, benchmark.trainers)
    ]
    if not found:
        return ""
    rows = [_row(benchmark, pair) for pair in found]
    return "<h3>Trainer against trainer</h3>" + paragraph(NOTE, "dim") + table("Trainer against trainer", HEAD, rows)


def _scores(benchmark: Benchmark) -> dict[Run, dict[str, list[Score]]]:
    """Return the scores of the runs that are done; cases of which a damaged file lacks a label are left out."""
    done = {run.name for run in benchmark.runs if run.is_done}
    found: dict[Run, dict[str, list[Score]]] = {}
    for row in benchmark.rows:
        if row.run.name in done:
            found.setdefault(row.run, {}).setdefault(row.case, []).append(row.score)
    return {run: {case: of for case, of in cases.items() if _is_whole(benchmark, of)} for run, cases in found.items()}


def _is_whole(benchmark: Benchmark, scores: list[Score]) -> bool:
    return {score.label for score in scores if score.metric == "dice"}.issuperset(benchmark.labels)


def _row(benchmark: Benchmark, pair: PairComparison) -> list[Cell]:
    difference = pair.difference
    word, kind = _verdict(pair)
    return [
        text_cell(benchmark.short(pair.trainer), title=pair.trainer),
        text_cell(benchmark.short(pair.other), title=pair.other),
        text_cell(pair.configuration),
        integer_cell(pair.budget),
        text_cell(word, kind=kind),
        number_cell(interval(difference, "dice", "+"), difference.mean),
        number_cell(p_value(difference.p), difference.p),
        number_cell(p_value(pair.corrected_p), pair.corrected_p),
        integer_cell(difference.groups),
        integer_cell(difference.pairs),
    ]


def _verdict(pair: PairComparison) -> tuple[str, str]:
    difference = pair.difference
    if difference.mean is None:
        return "nothing to compare", "dim"
    if difference.groups < FEWEST_GROUPS:
        return "too few patients", "dim"
    if pair.corrected_p is None or pair.corrected_p >= ALPHA or difference.low <= 0 <= difference.high:
        return "open", "dim"
    return ("better", "good") if difference.low > 0 else ("worse", "bad")

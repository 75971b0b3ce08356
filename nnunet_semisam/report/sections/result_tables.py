"""Tables of numbers: per class and per case."""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.records import RunRecord, Score, Summary
from nnunet_semisam.report.drawing.html_parts import Cell, integer_cell, link_cell, number_cell, table, text_cell
from nnunet_semisam.report.drawing.number_formats import NONE, count, interval, number, p_value, title
from nnunet_semisam.report.reading.benchmark_folder import Benchmark, CaseScores, GridCell
from nnunet_semisam.report.sections.comparison import Verdict, unmatched, verdict

FURTHER_METRICS = ("hd95", "assd", "volume_error")  # beside Dice
MOST_ROWS = 6000  # of the table of cases: more make a page slow
COLORS = {Verdict.BETTER: "good", Verdict.WORSE: "bad"}


def class_table(benchmark: Benchmark) -> str:
    """Return means with intervals and differences to the baseline, a row per class, trainer and budget."""
    head = [
        "configuration",
        "labeled",
        "label",
        "trainer",
        "Dice, % [95 %]",
        "against nnU-Net [95 %]",
        "p",
    ]
    head += [f"{title(metric, benchmark.units)} [95 %]" for metric in FURTHER_METRICS]
    head += ["cases", "patients", "runs", "pairs", "failures"]
    rows = []
    for cell in benchmark.grid():
        for label in (MEAN, *benchmark.labels):
            if benchmark.summary(cell, label):
                rows.append(_class_row(benchmark, cell, label))
    return table("Results per class", head, rows, filtered=True, details_from=lambda row: row[2].text != MEAN)


def _class_row(benchmark: Benchmark, cell: GridCell, label: str) -> list[Cell]:
    dice = benchmark.summary(cell, label)
    difference = dice.difference
    p = difference.p if difference else None
    row = [
        text_cell(cell.configuration),
        integer_cell(cell.budget),
        text_cell(label),
        text_cell(benchmark.short(cell.trainer), title=cell.trainer),
        number_cell(interval(dice, "dice"), dice.mean),
        difference_cell(dice, benchmark.baseline_summary(cell, label)),
        number_cell(p_value(p), p),
    ]
    for metric in FURTHER_METRICS:
        found = benchmark.summary(cell, label, metric)
        row.append(number_cell(interval(found, metric), found.mean if found else None))
    row += [
        integer_cell(dice.cases),
        integer_cell(dice.groups),
        integer_cell(dice.runs),
        integer_cell(difference.pairs if difference else None),
        integer_cell(dice.failures, kind="bad" if dice.failures else ""),
    ]
    return row


def difference_cell(dice: Summary, baseline: Summary | None) -> Cell:
    """Return the difference in Dice, coloured by its verdict, and with its pairs where the means rest on other runs."""
    difference = dice.difference
    if difference is None:
        return number_cell(NONE, None)
    found = verdict(difference)
    text = interval(difference, "dice", "+")
    why = found.value if found else ""
    if unmatched(dice, baseline):
        pairs = count(difference.pairs, "pair")
        text += f" ({pairs})"
        why = f"{why}; rests on {pairs} of runs, the means on more"
    return number_cell(text, difference.mean, kind=COLORS.get(found, ""), title=why)


def case_table(benchmark: Benchmark, viewers: Mapping[tuple[str, int, str], str] | None = None) -> str:
    """Return a row per run and held-out case: Dice of every label, mean distances, what failed.

    Args:
        benchmark: The results.
        viewers: Configuration, budget and case -> identifier of the viewer that shows it.
    """
    head = ["case", "patient", "configuration", "labeled", "trainer", "fold", "seed", "Dice mean, %"]
    head += [f"Dice {label}, %" for label in benchmark.labels]
    head += [title(metric, benchmark.units).replace(",", " mean,") for metric in ("hd95", "assd")]
    head.append("failures")
    rows = []
    for run in benchmark.runs:
        for case, scores in benchmark.scores_by_run.get(run.name, {}).items():
            viewer = (viewers or {}).get((run.configuration, run.budget, case), "")
            rows.append(_case_row(benchmark, run, case, scores, viewer))
    note = ""
    if len(rows) > MOST_ROWS:
        note = f"<p>The first {MOST_ROWS} of {len(rows)} rows; results.csv holds all.</p>"
    return note + table("Results per held-out case", head, rows[:MOST_ROWS], filtered=True)


def _case_row(benchmark: Benchmark, run: RunRecord, case: str, scores: CaseScores, viewer: str) -> list[Cell]:
    row = [
        link_cell(case, viewer) if viewer else text_cell(case),
        text_cell(benchmark.held_out.groups[case]),
        text_cell(run.configuration),
        integer_cell(run.budget),
        text_cell(benchmark.short(run.trainer)),
        integer_cell(run.fold),
        integer_cell(run.seed),
    ]
    row += [_score_cell(scores.get((label, "dice")), "dice") for label in (MEAN, *benchmark.labels)]
    row += [_score_cell(scores.get((MEAN, metric)), metric) for metric in ("hd95", "assd")]
    row.append(_failures_cell(benchmark, scores))
    return row


def _failures_cell(benchmark: Benchmark, scores: CaseScores) -> Cell:
    failed = []
    for label in benchmark.labels:
        score = scores.get((label, "dice"))
        if score is not None and score.status.is_failure:
            failed.append(f"{label} {score.status.value}")
    if not failed:
        return Cell("none", 0, kind="dim")
    return Cell(", ".join(failed), len(failed), kind="bad")


def _score_cell(score: Score | None, metric: str) -> Cell:
    if score is None or score.scored is None:
        return Cell(NONE, None, title="neither in the ground truth nor predicted: nothing to judge")
    text = number(score.scored, metric)
    if score.value is None:
        return number_cell(f"{text}*", score.scored, kind="bad", title="undefined: scored as the worst case")
    return number_cell(text, score.scored)

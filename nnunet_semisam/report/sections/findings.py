"""What the numbers say, in sentences that claim no more than they can."""

from __future__ import annotations

from nnunet_semisam.benchmark.records import Difference, Summary
from nnunet_semisam.report.drawing.number_formats import count, interval, p_value
from nnunet_semisam.report.reading.benchmark_folder import Benchmark, GridCell
from nnunet_semisam.report.sections.comparison import ALPHA, FEWEST_GROUPS, Verdict, unmatched, verdict


def findings(benchmark: Benchmark) -> list[str]:
    """Return a sentence per trainer, budget and configuration that was compared with the baseline."""
    sentences = []
    for cell in benchmark.grid():
        summary = benchmark.summary(cell)
        if cell.trainer != benchmark.baseline and summary.mean is not None:
            sentences.append(_sentence(benchmark, cell, summary))
    return sentences


def _sentence(benchmark: Benchmark, cell: GridCell, summary: Summary) -> str:
    baseline = benchmark.baseline_summary(cell)
    text = (
        f"{cell.configuration}, {count(cell.budget, 'labeled patient')}: {benchmark.short(cell.trainer)} reaches a "
        f"mean Dice of {interval(summary, 'dice')}"
    )
    difference = summary.difference
    if baseline is None or difference is None or difference.mean is None:
        return f"{text}; nnU-Net has no finished run to compare with."
    pairs = f"{count(difference.pairs, 'pair')} of runs"
    value = interval(difference, "dice", "+")
    if unmatched(summary, baseline):
        text += (
            f" ({count(summary.runs, 'run')}), nnU-Net {interval(baseline, 'dice')} ({count(baseline.runs, 'run')}). "
            f"These are not the same folds and seeds, so the means do not compare. In {pairs} that do, the difference "
            f"is {value}"
        )
    else:
        text += f", nnU-Net {interval(baseline, 'dice')}, a difference of {value}"
    judged = f"{count(difference.cases, 'case')} of {count(difference.groups, 'patient')}"
    return f"{text} (p {p_value(difference.p)}, {judged}, {pairs}): {_claim(difference)}."


def _claim(difference: Difference) -> str:
    found = verdict(difference)
    if found is Verdict.TOO_FEW:
        return f"no verdict, since there are too few patients ({difference.groups}; it takes {FEWEST_GROUPS})"
    if found is not None and found.is_claim:
        return f"{found.value} than nnU-Net on these cases, with these trainings"
    if difference.low <= 0 <= difference.high:
        return "no difference can be claimed: the interval holds 0"
    return f"no difference can be claimed: the interval leaves 0 out, but p is not below {ALPHA}"

"""The forest plot: every trainer against nnU-Net, with the verdict in words."""

from __future__ import annotations

from nnunet_semisam.benchmark.pairwise import holm
from nnunet_semisam.report.drawing.charts import Marker
from nnunet_semisam.report.drawing.forest import ForestRow, forest_plot
from nnunet_semisam.report.drawing.number_formats import FACTORS, count, interval, p_value
from nnunet_semisam.report.reading.benchmark_folder import Benchmark, GridCell
from nnunet_semisam.report.sections.comparison import ALPHA, Verdict, verdict

WORDS = {
    Verdict.BETTER: ("better", "good"),
    Verdict.WORSE: ("worse", "bad"),
    Verdict.OPEN: ("open", ""),
    Verdict.TOO_FEW: ("too few patients", ""),
}
AXIS = "difference in mean Dice against nnU-Net, percentage points, with 95 % interval"


def forest_section(benchmark: Benchmark) -> str:
    """Return the plot of all comparisons with the baseline; empty where there is none."""
    rows: list[ForestRow] = []
    for configuration in benchmark.study.configurations:
        for budget in benchmark.budgets:
            cells = [cell for cell in benchmark.grid() if (cell.configuration, cell.budget) == (configuration, budget)]
            compared = [row for cell in cells if (row := _row(benchmark, cell)) is not None]
            if compared:
                rows += [ForestRow(f"{configuration}, {count(budget, 'labeled patient')}"), *compared]
    return forest_plot(rows, "Every trainer against nnU-Net", AXIS)


def _row(benchmark: Benchmark, cell: GridCell) -> ForestRow | None:
    summary = benchmark.summary(cell)
    difference = summary.difference if summary is not None else None
    found = verdict(difference)
    if found is None:
        return None
    word, kind = WORDS[found]
    factor = FACTORS["dice"]
    value = interval(difference, "dice", "+")
    return ForestRow(
        name=benchmark.short(cell.trainer),
        verdict=word,
        value=value,
        kind=kind,
        mark=Marker(benchmark.trainers.index(cell.trainer)),
        mean=difference.mean * factor,
        low=None if difference.low is None else difference.low * factor,
        high=None if difference.high is None else difference.high * factor,
        title=f"{benchmark.short(cell.trainer)}: {value}, p {p_value(difference.p)}; {found.value}",
    )


def headline(benchmark: Benchmark) -> str:
    """Return how often there was which verdict, as a sentence; empty where nothing was compared."""
    differences = [summary.difference for cell in benchmark.grid() if (summary := benchmark.summary(cell))]
    found = [verdict(difference) for difference in differences]
    counts = {word: found.count(kind) for kind, (word, _) in WORDS.items()}
    total = sum(counts.values())
    if not total:
        return ""
    parts = ", ".join(f"{number} {word}" for word, number in counts.items() if number).replace(
        "too few", "with too few"
    )
    meaning = " Open: no difference can be claimed." if counts["open"] else ""
    claimed = [kind is not None and kind.is_claim for kind in found]
    if total > 1 and any(claimed):
        corrected = holm([None if difference is None else difference.p for difference in differences])
        left = sum(claim and p is not None and p < ALPHA for claim, p in zip(claimed, corrected, strict=True))
        meaning += (
            f" Each is looked at alone; corrected for their number (Holm), {left} of the {sum(claimed)} that are "
            f"better or worse remain{'s' if left == 1 else ''} so."
        )
    return f"Of {count(total, 'comparison')} with nnU-Net: {parts}.{meaning}"

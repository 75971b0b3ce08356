"""What the numbers say, in sentences that claim no more than they can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.tasks import DONE
from nnunet_semisam.report.drawing.number_formats import count, interval, p_value
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.training_cases import DatasetRecord
from nnunet_semisam.report.sections.comparison import (
    ALPHA,
    BETTER,
    FEWEST_GROUPS,
    TOO_FEW,
    WORSE,
    least_p,
    unmatched,
    verdict,
)
from nnunet_semisam.report.sections.equal_hours import uneven_hours

FEW_GROUPS = 15  # below, intervals leave out the truth in 7 % and more of cases, not in 5 % (normal differences)

ABSENT_LABELS = (
    "Where the truth lacks a label and none is predicted, there is nothing to judge, and the case is in no mean of "
    "that label. In a difference it counts as perfect (Dice 1, distance 0 mm) if the other trainer invents the label, "
    "and between the seeds of one trainer, too: an invention costs in every comparison. A difference can therefore "
    "rest on more cases than a mean, and is not the difference of two means."
)


def findings(benchmark: Benchmark) -> list[str]:
    """Return a sentence per trainer, budget and configuration that was compared with the baseline."""
    sentences = []
    for configuration, budget, trainer in benchmark.grid():
        cell = benchmark.cell(configuration, budget, trainer, MEAN, "dice")
        if trainer != benchmark.baseline and cell["mean"] is not None:
            sentences.append(_sentence(benchmark, configuration, budget, trainer, cell))
    return sentences


def _sentence(benchmark: Benchmark, configuration: str, budget: int, trainer: str, cell: Mapping[str, Any]) -> str:
    base = benchmark.cell(configuration, budget, benchmark.baseline, MEAN, "dice")
    text = (
        f"{configuration}, {count(budget, 'labeled patient')}: {benchmark.short(trainer)} reaches a mean Dice of "
        f"{interval(cell, 'dice')}"
    )
    difference = cell["difference"]
    if base is None or difference is None or difference["mean"] is None:
        return f"{text}; nnU-Net has no finished run to compare with."
    pairs = f"{count(difference['pairs'], 'pair')} of runs"
    value = interval(difference, "dice", "+")
    if unmatched(cell, base):
        text += (
            f" ({count(cell['runs'], 'run')}), nnU-Net {interval(base, 'dice')} ({count(base['runs'], 'run')}). These "
            f"are not the same folds and seeds, so the means do not compare. In {pairs} that do, the difference is "
            f"{value}"
        )
    else:
        text += f", nnU-Net {interval(base, 'dice')}, a difference of {value}"
    n = f"{count(difference['cases'], 'case')} of {count(difference['groups'], 'patient')}"
    return f"{text} (p {p_value(difference['p'])}, {n}, {pairs}): {_claim(difference)}."


def _claim(difference: Mapping[str, Any]) -> str:
    said = verdict(difference)
    if said == TOO_FEW:
        return f"no verdict, since there are too few patients ({difference['groups']}; it takes {FEWEST_GROUPS})"
    if said in (BETTER, WORSE):
        return f"{said} than nnU-Net on these cases"
    if difference["low"] <= 0 <= difference["high"]:
        return "no difference can be claimed: the interval holds 0"
    return f"no difference can be claimed: the interval leaves 0 out, but p is not below {ALPHA}"


def cautions(benchmark: Benchmark) -> list[str]:
    """Return what a reader must know before believing a number."""
    found = [
        "Intervals are 95 % bootstrap intervals over patients. They hold the chance of which patients were tested, not "
        "the chance of a training; that is seen in the spread of single runs.",
    ]
    cells = [c for c in benchmark.content["summary"] if (c["label"], c["metric"]) == (MEAN, "dice")]
    if cells and min(c["runs"] for c in cells) == 1:
        found.append(
            "Some means rest on one training (one seed). Its luck is in the number and cannot be seen. Trainings "
            "differ from seed to seed, most of all with few labels: run several --seeds before you believe a gain."
        )
    tests = sum(1 for c in benchmark.content["summary"] if c["difference"] and c["difference"]["p"] is not None)
    if tests > 1:
        found.append(f"{tests} comparisons were tested; p values are not corrected for their number.")
    groups = [c["groups"] for c in cells]
    if groups and min(groups) < FEW_GROUPS:
        found.append(f"Only {count(min(groups), 'patient')} judged some means: intervals of so few are too narrow.")
    found += _too_few(cells) + _unpaired(benchmark, cells) + uneven_hours(benchmark)
    failures = sum(c["failures"] for c in cells)
    if failures:
        found.append(
            f"{count(failures, 'score')} of whole cases hold a failure: a label that was missed, invented, or a case "
            "without prediction. Failures count in every mean: Dice as 0, distances as the image's diagonal."
        )
    if any(c["absent"] for c in benchmark.content["summary"]):
        found.append(ABSENT_LABELS)
    if benchmark.study["cases"] == "val":
        found.append("Validation cases judged. Nothing of a training depends on them, but the plans may.")
    return found + _unfinished(benchmark)


def data_notes(dataset: DatasetRecord) -> list[str]:
    """Return what the converter noted about the data, such as scans that are there twice, as one caution."""
    notes = [str(note).rstrip(".") for note in dataset.manifest.get("notes", [])]
    return [f"About the data, the converter noted: {'. '.join(notes)}."] if notes else []


def _too_few(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    groups = [c["difference"]["groups"] for c in cells if verdict(c["difference"]) == TOO_FEW]
    if not groups:
        return []
    most = max(groups)
    return [
        f"Too few patients for a verdict: differences that rest on fewer than {FEWEST_GROUPS} are neither called "
        f"better nor worse, nor coloured. With {count(most, 'patient')}, the Wilcoxon test cannot go below p "
        f"{p_value(least_p(most))}, even if all differ the same way."
    ]


def _unpaired(benchmark: Benchmark, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    bases = [benchmark.cell(c["configuration"], c["budget"], benchmark.baseline, MEAN, "dice") for c in cells]
    if not any(unmatched(cell, base) for cell, base in zip(cells, bases, strict=True)):
        return []
    return [
        "Some means rest on other runs than the difference beside them, because runs are missing. A difference pairs "
        "runs of the same fold and seed alone; the column of pairs tells how many there are."
    ]


def _unfinished(benchmark: Benchmark) -> list[str]:
    states: dict[str, int] = {}
    for run in benchmark.runs:
        states[run["status"]] = states.get(run["status"], 0) + 1
    done = states.pop(DONE, 0)
    if not states:
        return []
    rest = ", ".join(f"{number} {state}" for state, number in states.items())
    return [f"Not complete: {done} of {len(benchmark.runs)} runs are done ({rest}). Unfinished runs are in no mean."]

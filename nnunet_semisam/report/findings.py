"""What the numbers say, in sentences that claim no more than they can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.tasks import DONE
from nnunet_semisam.report.benchmark_folder import Benchmark
from nnunet_semisam.report.formats import count, interval, p_value

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
    text += f", nnU-Net {interval(base, 'dice')}, a difference of {interval(difference, 'dice', '+')}"
    if difference["low"] is None:
        return f"{text}. One patient allows no interval."
    if difference["low"] > 0:
        verdict = "better than nnU-Net on these cases"
    elif difference["high"] < 0:
        verdict = "worse than nnU-Net on these cases"
    else:
        verdict = "no difference can be claimed: the interval holds 0"
    n = f"{count(difference['cases'], 'case')} of {count(difference['groups'], 'patient')}"
    return f"{text} (p {p_value(difference['p'])}, {n}, {count(cell['runs'], 'run')}): {verdict}."


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
    if groups and min(groups) < 10:
        found.append(f"Only {count(min(groups), 'patient')} judged some means: intervals of so few are too narrow.")
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


def _unfinished(benchmark: Benchmark) -> list[str]:
    states: dict[str, int] = {}
    for run in benchmark.runs:
        states[run["status"]] = states.get(run["status"], 0) + 1
    done = states.pop(DONE, 0)
    if not states:
        return []
    rest = ", ".join(f"{number} {state}" for state, number in states.items())
    return [f"Not complete: {done} of {len(benchmark.runs)} runs are done ({rest}). Unfinished runs are in no mean."]

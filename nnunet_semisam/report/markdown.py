"""Tables for a README: what was found, with n and intervals, and published results where they compare."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nnunet_semisam.report.drawing.html_parts import one_text
from nnunet_semisam.report.drawing.number_formats import NONE, count, integer, interval, p_value, title
from nnunet_semisam.report.reading.benchmark_folder import Benchmark, GridCell
from nnunet_semisam.report.reading.published import Anchors, find_anchors
from nnunet_semisam.report.reading.training_cases import read_dataset
from nnunet_semisam.report.reading.training_logs import read_trainings
from nnunet_semisam.report.sections.cautions import all_cautions
from nnunet_semisam.report.sections.published import caution, notes

TAG = re.compile(r"<(?=[A-Za-z/!?])")
LEFT = "---"  # columns of words
RIGHT = "---:"  # columns of numbers
PUBLISHED_HEAD = ("labeled", "published method", "Dice, %", "remark", "from")
PUBLISHED_ALIGNMENT = (RIGHT, LEFT, RIGHT, LEFT, LEFT)


def markdown(benchmark: Benchmark) -> str:
    """Return the table with a caption and the cautions, and then the published results."""
    dataset = read_dataset(benchmark)
    anchors = find_anchors(benchmark, dataset)
    cautions = all_cautions(benchmark, dataset, read_trainings(benchmark))
    head = [
        "configuration",
        "labeled",
        "trainer",
        "Dice, %",
        "against nnU-Net",
        "p",
        title("hd95", benchmark.units),
        "failures",
        "runs",
        "pairs",
    ]
    alignment = [LEFT] * 3 + [RIGHT] * (len(head) - 3)
    lines = [_caption(benchmark), "", _row(head), _row(alignment)]
    lines += [_row(_values(benchmark, cell)) for cell in benchmark.grid()]
    lines.append("")
    lines += [f"- {plain(text)}" for text in cautions]
    lines.append("")
    lines += published_lines(anchors)
    return "\n".join(lines) + "\n"


def _caption(benchmark: Benchmark) -> str:
    cases = f"{count(benchmark.num_cases, 'held-out case')} of {count(benchmark.num_patients, 'patient')}"
    return (
        f"{plain(benchmark.study.dataset)}: mean over labels on {cases} ({benchmark.study.cases.value}), with 95 % "
        "bootstrap intervals over patients; p: Wilcoxon test over patients; pairs: runs with the same fold and seed, "
        "which differences rest on."
    )


def _values(benchmark: Benchmark, cell: GridCell) -> list[object]:
    dice = benchmark.summary(cell)
    hd95 = benchmark.summary(cell, metric="hd95")
    difference = dice.difference
    return [
        cell.configuration,
        cell.budget,
        "nnU-Net" if cell.trainer == benchmark.baseline else f"`{cell.trainer}`",
        interval(dice, "dice"),
        interval(difference, "dice", "+"),
        p_value(difference.p if difference else None),
        interval(hd95, "hd95"),
        dice.failures,
        dice.runs,
        integer(difference.pairs if difference else None),
    ]


def published_lines(anchors: Anchors) -> list[str]:
    """Return the published results with their sources, or why there are none."""
    lines = []
    if anchors.limits:
        lines += [caution(anchors), ""]
    lines.append("\n\n".join(notes(anchors)))
    found = []
    for results in anchors.results.values():
        found += sorted(results, key=lambda one: one.dice)
    found += anchors.bounds
    if found:
        lines += ["", _row(PUBLISHED_HEAD), _row(PUBLISHED_ALIGNMENT)]
    for one in found:
        lines.append(_row([one.budget, one.method, f"{one.dice:g}", one.note or NONE, one.source]))
    return lines


def _row(values: Iterable[object]) -> str:
    return "| " + " | ".join(plain(value).replace("|", "\\|") for value in values) + " |"


def plain(text: object) -> str:
    """Return a text in one line that markdown takes for text: no HTML, no link, no picture that would be fetched."""
    text = " ".join(one_text(text).split()).replace("\\", "\\\\")
    text = TAG.sub("&lt;", text)
    return text.replace("](", "]\\(").replace("![", "!\\[").replace("][", "]\\[")

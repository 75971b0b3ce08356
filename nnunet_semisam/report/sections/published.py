"""Our numbers among the published ones of the same split."""

from __future__ import annotations

from nnunet_semisam.report.drawing.html_parts import (
    Cell,
    escape,
    integer_cell,
    number_cell,
    paragraph,
    table,
    text_cell,
)
from nnunet_semisam.report.drawing.number_formats import count, interval
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.published import Anchors, PublishedResult

HEAD = ("labeled", "method", "Dice, %", "remark", "from")


def published_section(benchmark: Benchmark, anchors: Anchors) -> str:
    """Return a table of all methods, or why there is none."""
    parts = []
    if anchors.limits:
        parts.append(paragraph(caution(anchors), "cautions"))
    parts += [paragraph(note) for note in notes(anchors)]
    if anchors.reason:
        return "".join(parts)
    rows = []
    for budget in anchors.results:
        rows += _rows_of_budget(benchmark, anchors, budget)
    rows += [_published_row(one) for one in anchors.bounds]
    parts.append(table(f"This benchmark and publications, {anchors.name}", HEAD, rows, filtered=True))
    return "".join(parts)


def notes(anchors: Anchors) -> list[str]:
    """Return what to know of the published numbers, or why there are none."""
    if anchors.reason:
        return [
            f"No published result is shown: {anchors.reason}. Numbers on other splits or test cases would not compare."
        ]
    found = [
        f"{anchors.name}: this benchmark trains and tests on the split that these publications name; where their "
        f"labeled cases could not be verified, the remark says so. {anchors.remark} "
        "Publications differ in network, training length and in what chose their checkpoint; few give the spread "
        "of several seeds. Distances are left out, since the field gives them in voxels."
    ]
    for budget, pools in anchors.pools.items():
        if pools.here != pools.published:
            found.append(
                f"Unlabeled patients or scans beside {budget} labeled: {pools.here} here, {pools.published} published."
            )
    return found


def caution(anchors: Anchors) -> str:
    """Return why our numbers must not be compared with the published ones."""
    return (
        f"Do not compare these numbers with the published ones: {'; '.join(anchors.limits)}. They rank the trainers of "
        "this benchmark side by side, and the published ones only show how far away full trainings are."
    )


def _rows_of_budget(benchmark: Benchmark, anchors: Anchors, budget: int) -> list[list[Cell]]:
    """Return our rows and the published ones, by Dice."""
    rows: list[tuple[float, list[Cell]]] = []
    for cell in benchmark.grid():
        summary = benchmark.summary(cell)
        if cell.budget != budget or summary.mean is None:
            continue
        dice = 100 * summary.mean
        remark = f"{summary.cases} cases, {count(summary.runs, 'run')}"
        row = [
            integer_cell(budget),
            text_cell(f"{benchmark.short(cell.trainer)}, {cell.configuration}", kind="mine"),
            number_cell(interval(summary, "dice"), dice, kind="mine"),
            text_cell(remark),
            text_cell("this benchmark", kind="mine"),
        ]
        rows.append((dice, row))
    rows += [(one.dice, _published_row(one)) for one in anchors.results[budget]]
    rows.sort(key=lambda pair: pair[0])
    return [row for _, row in rows]


def _published_row(one: PublishedResult) -> list[Cell]:
    return [
        integer_cell(one.budget),
        text_cell(one.method),
        number_cell(f"{one.dice:g}", one.dice),
        text_cell(one.note),
        _source_cell(one.source),
    ]


def _source_cell(text: str) -> Cell:
    before, found, address = text.partition("https://")
    if not found:
        return text_cell(text)
    link = f'{escape(before)}<a href="https://{escape(address)}" rel="noreferrer">{escape(address)}</a>'
    return Cell(link, text, markup=True)

"""Our numbers among the published ones of the same split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.report.drawing.html_parts import Cell, escape, number_cell, paragraph, table, text_cell
from nnunet_semisam.report.drawing.number_formats import interval
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.published import Anchors

HEAD = ("labeled", "method", "Dice, %", "remark", "from")


def published_section(benchmark: Benchmark, anchors: Anchors) -> str:
    """Return a table of all methods, or why there is none."""
    parts = [paragraph(caution(anchors), "cautions")] if anchors.limits else []
    parts += map(paragraph, notes(anchors))
    if anchors.reason:
        return "".join(parts)
    rows = [row for budget in anchors.results for row in _rows(benchmark, anchors, budget)]
    rows += [[number_cell(str(one["budget"]), one["budget"]), *_published(one)] for one in anchors.bounds]
    return "".join(parts) + table(f"This benchmark and publications, {anchors.name}", HEAD, rows, filtered=True)


def notes(anchors: Anchors) -> list[str]:
    """Return what to know of the published numbers, or why there are none."""
    if anchors.reason:
        return [
            f"No published result is shown: {anchors.reason}. Numbers on other splits or test cases would not compare."
        ]
    pools = [
        f"Unlabeled patients or scans beside {budget} labeled: {here} here, {there} published."
        for budget, (here, there) in anchors.pools.items()
        if here != there
    ]
    return [
        f"{anchors.name}: this benchmark trains and tests on the split that these publications name; where their "
        f"labeled cases could not be verified, the remark says so. {anchors.remark} "
        "Publications differ in network, training length and in what chose their checkpoint; few give the spread "
        "of several seeds. Distances are left out, since the field gives them in voxels.",
        *pools,
    ]


def caution(anchors: Anchors) -> str:
    """Return why our numbers must not be held against the published ones."""
    return (
        f"Do not hold these numbers against the published ones: {'; '.join(anchors.limits)}. They rank the trainers of "
        "this benchmark side by side, and the published ones only show how far away full trainings are."
    )


def _rows(benchmark: Benchmark, anchors: Anchors, budget: int) -> list[list[Cell]]:
    rows: list[tuple[float, list[Cell]]] = []
    for configuration, wanted, trainer in benchmark.grid():
        cell = benchmark.cell(configuration, wanted, trainer, MEAN, "dice")
        if wanted == budget and cell["mean"] is not None:
            name = f"{benchmark.short(trainer)}, {configuration}"
            mine = [text_cell(name, kind="mine"), number_cell(interval(cell, "dice"), cell["mean"] * 100, kind="mine")]
            remark = f"{cell['cases']} cases, {cell['runs']} run" + ("" if cell["runs"] == 1 else "s")
            rows.append((cell["mean"] * 100, [*mine, text_cell(remark), text_cell("this benchmark", kind="mine")]))
    for one in anchors.results[budget]:
        rows.append((one["dice"], _published(one)))
    rows.sort(key=lambda pair: pair[0])
    return [[number_cell(str(budget), budget), *cells] for _, cells in rows]


def _published(one: Mapping[str, Any]) -> list[Cell]:
    dice = number_cell(f"{one['dice']:g}", one["dice"])
    return [text_cell(one["method"]), dice, text_cell(one["note"]), _source(one["source"])]


def _source(text: str) -> Cell:
    before, found, address = text.partition("https://")
    if not found:
        return text_cell(text)
    link = f'{escape(before)}<a href="https://{escape(address)}" rel="noreferrer">{escape(address)}</a>'
    return Cell(link, text, markup=True)

"""Tables for a README."""

from dataclasses import replace

import pytest
from invented import OURS

from nnunet_semisam.report import markdown as markdown_module
from nnunet_semisam.report import page
from nnunet_semisam.report.drawing.number_formats import interval
from nnunet_semisam.report.markdown import markdown
from nnunet_semisam.report.reading.benchmark_folder import GridCell
from nnunet_semisam.report.reading.training_cases import DatasetRecord, Manifest


def test_markdown_is_a_table_of_the_means(benchmark_result):
    lines = markdown(benchmark_result).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 6
    assert len({row.count("|") for row in rows}) == 1
    summary = benchmark_result.summary(GridCell("2d", 3, OURS))
    assert f"| `{OURS}` | {interval(summary, 'dice')} |" in rows[-1]
    assert "8 held-out cases of 4 patients" in lines[0]


@pytest.mark.parametrize(("module", "make"), [(markdown_module, markdown), (page, page.render)])
def test_what_the_converter_noted_stands_beside_the_numbers(module, make, benchmark_result, monkeypatch):
    notes = ("the files were cropped around the ground truth", "a scan is there twice.")
    record = DatasetRecord(manifest=Manifest(notes=notes))
    wanted = "the converter noted: the files were cropped around the ground truth. a scan is there twice."
    assert wanted not in make(benchmark_result)
    monkeypatch.setattr(module, "read_dataset", lambda benchmark: record)
    assert wanted in make(benchmark_result)


def test_distances_of_planes_stand_with_their_units(benchmark_result):
    rows = []
    for row in benchmark_result.rows:
        score = replace(row.score, unit="px") if row.score.metric == "hd95" else row.score
        rows.append(replace(row, score=score))
    assert "| HD95, px |" in markdown(replace(benchmark_result, rows=tuple(rows)))

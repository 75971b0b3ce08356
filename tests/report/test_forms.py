"""Numbers, sentences, markdown, csv, and the command."""

import csv
import io
import json
from dataclasses import replace

import pytest

from nnunet_semisam import cli
from nnunet_semisam.report import markdown as markdown_module
from nnunet_semisam.report import page
from nnunet_semisam.report.drawing import charts, html_parts
from nnunet_semisam.report.drawing import number_formats as formats
from nnunet_semisam.report.long_csv import COLUMNS, long_csv
from nnunet_semisam.report.markdown import markdown
from nnunet_semisam.report.reading.training_cases import DatasetRecord
from nnunet_semisam.report.sections import findings, result_tables


@pytest.mark.parametrize(
    ("value", "metric", "sign", "text"),
    [
        (0.8214, "dice", "", "82.1"),
        (-0.0004, "dice", "+", "-0.04"),
        (0.0, "dice", "", "0.0"),
        (3.456, "hd95", "", "3.46"),
        (34.56, "hd95", "", "34.6"),
        (None, "dice", "", formats.NONE),
    ],
)
def test_numbers(value, metric, sign, text):
    assert formats.number(value, metric, sign) == text


def test_intervals_and_p_values():
    assert formats.interval({"mean": 0.5, "low": 0.4, "high": 0.65}, "dice") == "50.0 [40.0, 65.0]"
    assert formats.interval({"mean": 0.5, "low": None, "high": None}, "dice", "+") == "+50.0"
    assert [formats.p_value(p) for p in (0.0001, 0.0421, 1.0, None)] == ["< 0.001", "0.042", "1", formats.NONE]


def test_sentences_stand_with_their_numbers_and_claim_nothing_of_four_patients(benchmark_result):
    said = findings.findings(benchmark_result)
    assert len(said) == 4
    for text in said:
        assert "8 cases of 4 patients, 2 pairs of runs): no verdict" in text


def test_a_reader_is_warned(benchmark_result):
    text = " ".join(findings.cautions(benchmark_result))
    assert "p values are not corrected" in text
    assert "Only 4 patients" in text
    assert "Failures count in every mean" in text
    assert "one training" not in text  # two seeds


def test_what_the_converter_noted_stands_beside_the_numbers(benchmark_result, monkeypatch):
    record = DatasetRecord(manifest={"notes": ["the files were cropped around the truth", "a scan is there twice."]})
    wanted = "the converter noted: the files were cropped around the truth. a scan is there twice."
    for module, make in ((markdown_module, markdown), (page, page.render)):
        assert wanted not in make(benchmark_result)
        monkeypatch.setattr(module, "read_dataset", lambda benchmark: record)
        assert wanted in make(benchmark_result)


def test_markdown_is_a_table_of_the_means(benchmark_result):
    lines = markdown(benchmark_result).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 6
    assert len({row.count("|") for row in rows}) == 1
    cell = benchmark_result.cell("2d", 3, "nnUNetTrainerSemiSAM", "mean", "dice")
    assert f"| `nnUNetTrainerSemiSAM` | {formats.interval(cell, 'dice')} |" in rows[-1]
    assert "8 held-out cases of 4 patients" in lines[0]


def test_distances_of_planes_stand_with_their_units(benchmark_result):
    plane = {"hd95": "px", "assd": "px", "volume_error": "px2", "volume_bias": "px2"}
    rows = [row | {"unit": plane.get(row["metric"], "1")} for row in benchmark_result.rows]
    found = replace(benchmark_result, rows=rows)
    table = result_tables.class_table(found) + result_tables.case_table(found)
    assert all(text in table for text in ("HD95, px [95 %]", "area error, px\u00b2 [95 %]", "ASSD mean, px"))
    assert ", mm" not in table
    assert "| HD95, px |" in markdown(found)
    assert {row["unit"] for row in csv.DictReader(io.StringIO(long_csv(found)))} == {"1", "px", "px2"}


def test_csv_is_the_summary_in_long_format(benchmark_result):
    rows = list(csv.DictReader(io.StringIO(long_csv(benchmark_result))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(benchmark_result.content["summary"])
    (row,) = [r for r in rows if (r["budget"], r["trainer"], r["label"], r["metric"]) == ("3", *OURS_MEAN_DICE)]
    cell = benchmark_result.cell("2d", 3, *OURS_MEAN_DICE)
    assert float(row["mean"]) == cell["mean"]
    assert (float(row["difference"]), float(row["p"])) == (cell["difference"]["mean"], cell["difference"]["p"])


OURS_MEAN_DICE = ("nnUNetTrainerSemiSAM", "mean", "dice")


@pytest.mark.parametrize(("option", "name"), [([], "r.html"), (["--markdown"], "r.md"), (["--csv"], "r.csv")])
def test_command_writes_one_file(option, name, folder, tmp_path, capsys):
    assert cli.main(["report", "-i", str(folder), "-o", str(tmp_path / "new" / name), *option]) == 0
    assert (tmp_path / "new" / name).stat().st_size > 500
    assert capsys.readouterr().out.startswith("Wrote ")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no results.json"),
        ({"results.json": "{"}, "cannot be read"),
        ({"results.json": json.dumps({"format": 9})}, "has format 9"),
        ({"results.json": json.dumps({"format": 1, "study": {}})}, "cannot be read"),
    ],
)
def test_what_is_no_benchmark_is_refused(files, message, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cli.main(["report", "-i", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (53, 87, [50, 60, 70, 80, 90]), (5, 5, [5, 6]), (-0.9, 0.1, None)],
)
def test_ticks_are_round_and_span_the_values(low, high, ticks):
    found = charts.round_ticks(low, high)
    assert found[0] <= low <= high <= found[-1]
    assert ticks is None or found == pytest.approx(ticks)


def test_points_lie_where_their_values_say():
    points = [charts.Point(1, 0, 0, 0.5), charts.Point(10, 1)]
    text = charts.line_chart([charts.Line("a", points, 0)], charts.Axes("t", "x", "y", width=640, height=320))
    assert f'points="{charts.LEFT:.1f},{320 - charts.BOTTOM:.1f} {640 - charts.RIGHT:.1f},{charts.TOP:.1f}"' in text
    assert charts.line_chart([charts.Line("a", [], 0)], charts.Axes("t", "x", "y")) == ""


def test_long_lines_are_thinned_but_keep_their_end():
    points = [charts.Point(i, i) for i in range(1001)]
    text = charts.line_chart([charts.Line("a", points, 0)], charts.Axes("t", "x", "y"))
    coordinates = text.split('points="')[1].split('"')[0].split()
    assert len(coordinates) <= charts.MOST_POINTS + 1
    assert coordinates[-1] == f"{charts.WIDTH - charts.RIGHT:.1f},{charts.TOP:.1f}"


def test_cells_sort_by_value_and_escape_text():
    text = html_parts.table("t", ["a"], [[html_parts.number_cell("1.0 [0, 2]", 1.0)], [html_parts.Cell("<b>", None)]])
    assert '<td class="n" data-v="1.0">1.0 [0, 2]</td>' in text
    assert '<td data-v="">&lt;b&gt;</td>' in text

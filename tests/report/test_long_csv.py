"""The summary in long format."""

import csv
import io

from invented import OURS

from nnunet_semisam.report.long_csv import COLUMNS, long_csv
from nnunet_semisam.report.reading.benchmark_folder import GridCell


def test_csv_is_the_summary_in_long_format(benchmark_result):
    rows = list(csv.DictReader(io.StringIO(long_csv(benchmark_result))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(benchmark_result.summaries)
    wanted = ("3", OURS, "mean", "dice")
    (row,) = [r for r in rows if (r["budget"], r["trainer"], r["label"], r["metric"]) == wanted]
    summary = benchmark_result.summary(GridCell("2d", 3, OURS))
    assert float(row["mean"]) == summary.mean
    assert (float(row["difference"]), float(row["p"])) == (summary.difference.mean, summary.difference.p)


def test_what_does_not_exist_is_empty(benchmark_result):
    rows = list(csv.DictReader(io.StringIO(long_csv(benchmark_result))))
    baseline = [row for row in rows if row["trainer"] == benchmark_result.baseline]
    assert {row["difference"] for row in baseline} == {row["p"] for row in baseline} == {""}

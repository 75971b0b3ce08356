"""Tables name the unit in which they show a number."""

from dataclasses import replace

from nnunet_semisam.report.sections import result_tables


def test_distances_of_planes_stand_with_their_units(benchmark_result):
    units = {"hd95": "px", "assd": "px", "volume_error": "px2", "volume_bias": "px2"}
    rows = []
    for row in benchmark_result.rows:
        score = replace(row.score, unit=units.get(row.score.metric, "1"))
        rows.append(replace(row, score=score))
    found = replace(benchmark_result, rows=tuple(rows))
    table = result_tables.class_table(found) + result_tables.case_table(found)
    assert all(text in table for text in ("HD95, px [95 %]", "area error, px\u00b2 [95 %]", "ASSD mean, px"))
    assert ", mm" not in table

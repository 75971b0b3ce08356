"""Numbers are written the same way everywhere."""

import pytest

from nnunet_semisam.benchmark.records import Interval
from nnunet_semisam.report.drawing import number_formats


@pytest.mark.parametrize(
    ("value", "metric", "sign", "text"),
    [
        (0.8214, "dice", "", "82.1"),
        (-0.0004, "dice", "+", "-0.04"),
        (0.0, "dice", "", "0.0"),
        (3.456, "hd95", "", "3.46"),
        (34.56, "hd95", "", "34.6"),
        (None, "dice", "", number_formats.NONE),
    ],
)
def test_numbers(value, metric, sign, text):
    assert number_formats.number(value, metric, sign) == text


def test_intervals_and_p_values():
    assert number_formats.interval(Interval(0.5, 0.4, 0.65, 9, 9), "dice") == "50.0 [40.0, 65.0]"
    assert number_formats.interval(Interval(0.5, None, None, 1, 1), "dice", "+") == "+50.0"
    p_values = [number_formats.p_value(p) for p in (0.0001, 0.0421, 1.0, None)]
    assert p_values == ["< 0.001", "0.042", "1", number_formats.NONE]


def test_one_is_no_plural():
    assert [number_formats.count(n, "case") for n in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]

"""Charts show values where they are."""

import pytest

from nnunet_semisam.report.drawing import charts


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


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.3, 0.30000000000000004),
        (0.0, 5e-324),
        (-1e30, 1e30),
        (1e-300, 2e-300),
        (1e20, 1e20 + 1e5),
        (0.0, 0.0),
        (-7e-20, -7e-20),
        (0.0, 1e-12),
    ],
)
def test_ticks_of_any_range_span_something(low, high):
    ticks = charts.round_ticks(low, high)
    assert len(ticks) >= 2
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= low + 1e-9 * max(abs(low), 1e-20)
    assert ticks[-1] >= high - 1e-9 * max(abs(high), 1e-20)


def test_lines_whose_colours_begin_again_are_dotted():
    points = [charts.Point(0, 0), charts.Point(1, 1)]
    drawn = charts.line_chart(
        [charts.Line("first", points, 0), charts.Line("ninth", points, 8)], charts.Axes("t", "x", "y")
    )
    assert drawn.count('class="line"') == drawn.count('class="line dotted"') == 2  # in the chart and in its legend

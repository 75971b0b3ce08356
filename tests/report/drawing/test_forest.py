"""The forest plot shows differences where they are, and says the verdict."""

from __future__ import annotations

import re

from nnunet_semisam.report.drawing.charts import Marker
from nnunet_semisam.report.drawing.forest import LEFT, RIGHT, ForestRow, forest_plot


def test_intervals_lie_where_their_numbers_say():
    row = ForestRow("A", "better", "+5 [+2, +10]", "good", Marker(1), 5.0, 2.0, 10.0)
    text = forest_plot([ForestRow("2d"), row], "title", "axis")
    low, high = map(float, re.search(r'class="whisker" d="M([\d.]+) [\d.]+H([\d.]+)', text).groups())
    width = RIGHT - LEFT - 20  # of the axis, which goes from 0 to 10
    assert (low, high) == (LEFT + 10 + 0.2 * width, LEFT + 10 + width)
    assert '<tspan class="word good">better</tspan>' in text
    assert 'class="s1"' in text


def test_without_a_number_there_is_no_plot_and_a_single_patient_has_no_interval():
    assert forest_plot([ForestRow("2d")], "title", "axis") == ""
    text = forest_plot([ForestRow("A", mark=Marker(0), mean=-3.0)], "title", "axis")
    assert "whisker" not in text
    assert "marker" in text


def test_names_are_escaped():
    text = forest_plot([ForestRow("<b>", mark=Marker(0), mean=1.0, title="<i>")], "title", "axis")
    assert "<b>" not in text
    assert "<i>" not in text

"""Tables sort by values, and text from files cannot become markup."""

from nnunet_semisam.report.drawing import html_parts


def test_cells_sort_by_value_and_escape_text():
    text = html_parts.table("t", ["a"], [[html_parts.number_cell("1.0 [0, 2]", 1.0)], [html_parts.Cell("<b>", None)]])
    assert '<td class="n" data-v="1.0">1.0 [0, 2]</td>' in text
    assert '<td data-v="">&lt;b&gt;</td>' in text

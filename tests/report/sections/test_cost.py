"""Hours are summed per trainer."""

from dataclasses import replace

from nnunet_semisam.report.sections.cost import cost_section


def test_hours_per_trainer_are_summed(page):
    cost = page.split('<section id="cost"')[1].split("</section>")[0]
    body = cost.split("<caption>Hours per trainer</caption>")[1].split("</table>")[0]
    assert body.count("<tr>") == 1 + 3
    assert ">6.00</td>" in body  # four runs of an hour and a half
    assert "of the main process, without nnU-Net" in cost


def test_without_sums_there_is_no_table_of_them(benchmark_result):
    assert "Hours per trainer" not in cost_section(replace(benchmark_result, costs=()))

"""What SAM did is shown: agreement, prompts, rejected masks, confidence, time, and what was switched off."""

import re

import pytest
from invented import OURS, REASON_OFF, benchmark_record, run_record

from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.round_log import RoundRecord
from nnunet_semisam.report.reading.sam_rounds import read_sam
from nnunet_semisam.report.sections.sam import CALIBRATIONS_HEAD, ROUNDS_HEAD, sam_section


def rows_of(section, caption, head):
    """Return the rows of a table as head -> text."""
    body = section.split(f"<caption>{caption}</caption>")[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("</tr>")[:-1]]
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.fixture
def sam(page):
    return page.split('<section id="sam">')[1].split("</section>")[0]


def test_every_class_of_every_round_is_a_row(sam):
    rows = rows_of(sam, "SAM rounds", ROUNDS_HEAD)
    assert len(rows) == 4 * 2 * 2  # runs, rounds, classes
    first, second = rows[:2]
    assert (first["round"], first["epoch of the network"], first["cases"]) == ("0", "15", "2")
    assert (first["in use"], first["seconds"]) == ("yes", "141.3")
    assert (first["class"], first["prompts"], first["rejected"], first["empty"]) == ("RV", "1362", "4", "2")
    assert first["Dice network/SAM, %"] == "83.0"
    assert (first["mean confidence, %"], first["confident voxels of the class, %"]) == ("24.5", "12.5")
    assert first["confident voxels of all, %"] == "84.0"
    assert (second["class"], second["share of SAM"]) == ("MYO &amp; wall", "off")
    assert second["Dice network/SAM, %"] == "\u2013"
    assert 'title="load 0.2, predict 63.4, 100 % of the embeddings were cached"' in sam


def test_calibration_stands_with_its_reason(sam):
    rows = rows_of(sam, "SAM calibration on labeled cases", CALIBRATIONS_HEAD)
    assert len(rows) == 4 * 2 * 2
    assert (rows[0]["SAM"], rows[0]["share of SAM"], rows[0]["Dice SAM, %"]) == ("nano", "0.75", "77.6")
    assert (rows[1]["share of SAM"], rows[1]["verdict"]) == ("off", REASON_OFF)
    assert (rows[1]["cases"], rows[1]["seconds"]) == ("6", "20.5")


def test_charts_show_agreement_and_confidence_of_named_classes(sam):
    assert "</svg>MYO &amp; wall</li>" in sam
    assert sam.count('aria-label="Dice between network and SAM"') == 4
    assert sam.count('aria-label="mean confidence in pseudo-labels"') == 4
    assert sam.count('aria-label="confidence of pseudo-labels in round 1"') == 4


def test_a_round_that_is_not_used_is_said(tmp_path):
    round_log.append(tmp_path, RoundRecord(0, 5, 0, False, 20.0))
    run = run_record(trainer=OURS)
    benchmark = benchmark_record(tmp_path, runs=(run,))
    (row,) = rows_of(sam_section(benchmark, {run.name: read_sam(tmp_path)}), "SAM rounds", ROUNDS_HEAD)
    assert (row["in use"], row["class"], row["prompts"]) == ("no", "all", "\u2013")


def test_trainings_without_sam_have_a_sentence(tmp_path):
    text = sam_section(benchmark_record(tmp_path), {"x": read_sam(tmp_path)})
    assert text == '<p class="dim">No training of this benchmark used a SAM, or none has come so far.</p>'

"""Rounds and calibrations come from the records that the training wrote."""

from types import SimpleNamespace

import pytest
from invented import case_record, write_round

from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.round_log import RoundRecord
from nnunet_semisam.report.reading.damage import Damage
from nnunet_semisam.report.reading.sam_rounds import SamRecord, read_rounds, read_sam


def test_figures_of_cases_are_put_together(tmp_path):
    round_log.append(tmp_path, case_record(4, 21, "a"))
    second = case_record(
        4,
        21,
        "b",
        agreement=(0.63, 0.5),
        confidence=(None, 0.641),
        confident_share_all=0.5,
        seconds={"load": 0.4, "predict": 8.3},
        cache_hit=None,
    )
    round_log.append(tmp_path, second)
    round_log.append(tmp_path, RoundRecord(4, 21, 2, True, 60.0))
    (found,) = read_sam(tmp_path).rounds
    assert (found.number, found.epoch, found.cases, found.active, found.seconds) == (4, 21, 2, True, 60.0)
    assert found.seconds_by_part == {"load": pytest.approx(0.5), "predict": pytest.approx(40.0)}
    assert found.confident_share == pytest.approx(0.67)
    assert found.cache_hit_rate == 1.0  # of the case that needed an embedding
    first, second = found.classes
    assert (first.name, first.prompts, first.rejected, first.empty, first.weight) == ("1", 1362, 4, 2, 0.75)
    assert (first.agreement, first.confidence) == (pytest.approx(0.73), pytest.approx(0.245))
    assert (second.agreement, second.confidence) == (pytest.approx(0.5), pytest.approx(0.691))
    assert first.histogram == (20, 0, 60, 0, 0, 0, 0, 0, 0, 0)  # the background's is the first of the record


def test_a_repeated_round_replaces_what_it_was(tmp_path):
    write_round(tmp_path, 0, 5)
    write_round(tmp_path, 0, 5)
    round_log.append(tmp_path, RoundRecord(0, 5, 2, True, 99.0))
    found = read_sam(tmp_path)
    assert [(one.number, one.cases, one.seconds) for one in found.rounds] == [(0, 2, 99.0)]
    assert found.rounds[0].classes[0].prompts == 2 * 681
    assert len(found.calibrations) == 1


def test_a_round_that_was_killed_has_no_end(tmp_path):
    round_log.append(tmp_path, case_record(3, 30, "a"))
    (found,) = read_sam(tmp_path).rounds
    assert (found.epoch, found.cases, found.active, found.seconds) == (30, 1, None, None)


def test_a_round_without_active_class_has_no_cases(tmp_path):
    round_log.append(tmp_path, RoundRecord(0, 5, 0, False, 20.0))
    (found,) = read_sam(tmp_path).rounds
    assert (found.active, found.classes, found.confident_share) == (False, (), None)


def test_a_training_without_sam_is_empty(tmp_path):
    assert read_sam(tmp_path / "nowhere") == SamRecord()
    assert read_sam(tmp_path / "nowhere").is_empty


@pytest.mark.parametrize(
    "fault",
    [
        {"agreement": (0.5,)},
        {"weights": ()},
        {"prompts": 3},
        {"histogram": ((0,) * 10, (0,) * 10)},
        {"histogram": ((0,) * 10, (0,) * 10, (0,) * 9)},
        {"histogram": (1, 2, 3)},
        {"names": ("1", "2", "3")},
        {"names": "12"},
        {"names": ({}, {})},
        {"seconds": None},
        {"names": ("2", "1")},
    ],
)
def test_a_case_whose_lists_do_not_fit_is_passed_over(tmp_path, fault):
    round_log.append(tmp_path, case_record(0, 5, "a9_frame01", **fault))
    write_round(tmp_path, 0, 5)
    (found,) = read_sam(tmp_path).rounds
    assert [one.name for one in found.classes] == ["1", "2"]
    assert found.classes[0].prompts == 2 * 681


def test_a_round_of_malformed_cases_is_passed_over(tmp_path):
    write_round(tmp_path, 0, 5)
    round_log.append(tmp_path, case_record(1, 9, "a2_frame01", empty=(0, 0, 0)))
    assert [one.number for one in read_sam(tmp_path).rounds] == [0]


def test_a_note_on_records_ends_with_one_point(tmp_path):
    (tmp_path / "fold_0").mkdir()
    round_log.append(tmp_path / "fold_0", case_record(4, 21, "a"))
    file = tmp_path / "fold_0" / round_log.FILE_NAME
    file.write_text(file.read_text().replace('"agreement"', '"agreed"'))
    run = SimpleNamespace(name="run_a", training="fold_0")
    damage = Damage(tmp_path)
    read_rounds(
        SimpleNamespace(runs=[run], folder=tmp_path, damage=damage, file=lambda *names: tmp_path.joinpath(*names))
    )
    (sentence,) = damage.sentences()
    assert "run_a: " in sentence
    assert sentence.endswith(".")
    assert ".." not in sentence

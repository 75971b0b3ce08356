"""Rounds as data: what is written is what is read, whatever a killed process left at the end."""

from nnunet_semisam.pseudo_labels.round_log import (
    FILE_NAME,
    CalibrationRecord,
    CaseRecord,
    ClassRecord,
    RoundRecord,
    append,
    read,
)


def case_record(name: str, round_index: int = 0, prompts: int = 3) -> CaseRecord:
    return CaseRecord(
        round=round_index,
        epoch=4,
        case=name,
        names=("1", "2"),
        agreement=(0.9, None),
        confidence=(0.7, None),
        confident_share=(0.8, None),
        prompts=(prompts, 0),
        rejected=(1, 0),
        empty=(0, 0),
        weights=(0.5, 0.0),
        confident_share_all=0.9,
        histogram=((1,) * 10,) * 3,
        seconds={"load": 0.1},
        cache_hit=None,
    )


CALIBRATION = CalibrationRecord(
    0, 4, 0.8, 1.5, (ClassRecord("1", "nano", 0.5, (0.6, 0.4), 0.7, 0.8, 0.85, 3, "it helps", 1.0, 1.0),)
)


def test_records_come_back_as_they_were(tmp_path):
    for record in (CALIBRATION, case_record("a"), case_record("b"), RoundRecord(0, 4, 2, True, 3.0)):
        append(tmp_path, record)
    log = read(tmp_path)
    assert log.calibrations == (CALIBRATION,)
    assert log.cases == (case_record("a"), case_record("b"))
    assert log.rounds == (RoundRecord(0, 4, 2, True, 3.0),)


def test_a_round_that_was_made_again_replaces_the_first(tmp_path):
    append(tmp_path, case_record("a", prompts=3))
    append(tmp_path, case_record("a", prompts=5))
    assert [record.prompts for record in read(tmp_path).cases] == [(5, 0)]


def test_cases_of_a_finished_round_that_was_made_again_are_gone(tmp_path):
    finished = RoundRecord(0, 4, 2, True, 3.0)
    for record in (case_record("a"), case_record("b"), finished, case_record("b", prompts=5)):
        append(tmp_path, record)
    assert [(record.case, record.prompts) for record in read(tmp_path).cases] == [("b", (5, 0))]
    assert read(tmp_path).rounds == ()
    append(tmp_path, RoundRecord(0, 6, 1, True, 2.0))
    assert [record.epoch for record in read(tmp_path).rounds] == [6]
    append(tmp_path, RoundRecord(0, 8, 0, False, 1.0))  # made once more, and no generalist helped
    assert (read(tmp_path).cases, len(read(tmp_path).rounds)) == ((), 1)


def test_a_line_that_a_kill_tore_costs_that_line_only(tmp_path):
    append(tmp_path, case_record("a"))
    with open(tmp_path / FILE_NAME, "a") as file:
        file.write('{"kind": "case", "round"')
    append(tmp_path, case_record("b"))
    assert [record.case for record in read(tmp_path).cases] == ["a", "b"]


def test_without_a_file_there_is_nothing(tmp_path):
    assert read(tmp_path).cases == ()

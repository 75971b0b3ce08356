"""A page says so where a semi-supervised trainer was only a supervised one."""

import pytest

from nnunet_semisam.report.training_logs import TrainingRecord
from nnunet_semisam.report.unused_cases import added_nothing, unused_cases


def record(**weighted):
    series = {f"{name}_weighted": list(enumerate(values)) for name, values in weighted.items()}
    return TrainingRecord(terms=series | {"consistency_weight": [(0, 0.0), (1, 1.0)], "class_trust_1": [(0, 0.3)]})


@pytest.mark.parametrize(
    ("found", "silent"),
    [
        (record(consistency=[0.0, 0.0], sam=[0.0, 0.0]), True),
        (record(consistency=[0.0, 0.0], sam=[0.0, 0.2]), False),
        (record(consistency=[0.0, 0.1]), False),
        (record(), None),  # plain nnU-Net has no such terms
        (TrainingRecord(), None),  # the log is gone
    ],
)
def test_a_training_is_silent_if_no_term_ever_added_anything(found, silent):
    assert added_nothing(found) is silent


def test_reader_is_told_how_many_trainings_used_no_unlabeled_case(benchmark_result):
    ours = [run for run in benchmark_result.runs if run["trainer"] == "nnUNetTrainerSemiSAM" and run["budget"] == 3]
    others = [run for run in benchmark_result.runs if run not in ours]
    assert len(ours) == 2
    records = {run["run"]: record(consistency=[0.0, 0.4]) for run in others}
    records |= {run["run"]: record(consistency=[0.0, 0.0]) for run in ours}
    (said,) = unused_cases(benchmark_result, records)
    assert said.startswith("No unlabeled case had a say in: SemiSAM, 2d, 3 labeled (2 of 2 trainings). ")
    records[ours[0]["run"]] = record(consistency=[0.0, 0.4])
    assert "(1 of 2 trainings)" in unused_cases(benchmark_result, records)[0]
    assert unused_cases(benchmark_result, {}) == []

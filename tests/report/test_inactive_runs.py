"""A page says so where a semi-supervised trainer was only a supervised one."""

import pytest

from nnunet_semisam.report.reading.inactive_runs import added_nothing, unused_cases


def terms(**weighted):
    series = {f"{name}_weighted": list(enumerate(values)) for name, values in weighted.items()}
    return series | {"consistency_weight": [(0, 0.0), (1, 1.0)], "class_trust_1": [(0, 0.3)]}


@pytest.mark.parametrize(
    ("found", "silent"),
    [
        (terms(consistency=[0.0, 0.0], sam=[0.0, 0.0]), True),
        (terms(consistency=[0.0, 0.0], sam=[0.0, 0.2]), False),
        (terms(consistency=[0.0, 0.1]), False),
        (terms(), None),  # plain nnU-Net has no such terms
        ({}, None),  # the log is gone
    ],
)
def test_a_training_is_silent_if_no_term_ever_added_anything(found, silent):
    assert added_nothing(found) is silent


def test_reader_is_told_how_many_trainings_used_no_unlabeled_case(benchmark_result):
    ours = [run for run in benchmark_result.runs if run["trainer"] == "nnUNetTrainerSemiSAM" and run["budget"] == 3]
    others = [run for run in benchmark_result.runs if run not in ours]
    assert len(ours) == 2
    found = {run["run"]: terms(consistency=[0.0, 0.4]) for run in others}
    found |= {run["run"]: terms(consistency=[0.0, 0.0]) for run in ours}
    (said,) = unused_cases(benchmark_result, found)
    assert said.startswith("No unlabeled case had a say in: SemiSAM, 2d, 3 labeled (2 of 2 trainings). ")
    found[ours[0]["run"]] = terms(consistency=[0.0, 0.4])
    assert "(1 of 2 trainings)" in unused_cases(benchmark_result, found)[0]
    assert unused_cases(benchmark_result, {}) == []

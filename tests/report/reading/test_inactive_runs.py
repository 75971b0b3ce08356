"""Trainings to which no unlabeled case contributed are found."""

import pytest
from invented import OURS

from nnunet_semisam.report.reading.benchmark_folder import GridCell
from nnunet_semisam.report.reading.inactive_runs import InactiveRuns, inactive_runs, is_inactive
from nnunet_semisam.report.sections.cautions import inactive_trainings


def terms(**weighted):
    series = {f"{name}_weighted": list(enumerate(values)) for name, values in weighted.items()}
    return series | {"unlabeled_weight": [(0, 0.0), (1, 1.0)], "class_weight_1": [(0, 0.3)]}


@pytest.mark.parametrize(
    ("found", "inactive"),
    [
        (terms(unlabeled=[0.0, 0.0], pseudo_label=[0.0, 0.0]), True),
        (terms(unlabeled=[0.0, 0.0], pseudo_label=[0.0, 0.2]), False),
        (terms(unlabeled=[0.0, 0.1]), False),
        (terms(), None),  # plain nnU-Net has no such terms
        ({}, None),  # the log is gone
    ],
)
def test_a_training_is_inactive_if_no_term_ever_added_anything(found, inactive):
    assert is_inactive(found) is inactive


def test_reader_is_told_how_many_trainings_used_no_unlabeled_case(benchmark_result):
    ours = [run for run in benchmark_result.runs if run.trainer == OURS and run.budget == 3]
    others = [run for run in benchmark_result.runs if run not in ours]
    assert len(ours) == 2
    found = {run.name: terms(unlabeled=[0.0, 0.4]) for run in others}
    found |= {run.name: terms(unlabeled=[0.0, 0.0]) for run in ours}
    assert inactive_runs(benchmark_result, found) == [InactiveRuns(GridCell("2d", 3, OURS), 2, 2)]
    (caution,) = inactive_trainings(benchmark_result, found)
    assert caution.startswith("No unlabeled case contributed in: SemiSAM, 2d, 3 labeled (2 of 2 trainings). ")
    found[ours[0].name] = terms(unlabeled=[0.0, 0.4])
    assert "(1 of 2 trainings)" in inactive_trainings(benchmark_result, found)[0]
    assert inactive_trainings(benchmark_result, {}) == []

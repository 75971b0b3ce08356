from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.labels import Labels
from nnunet_semisam.training.unseen_classes import channels_without_voxels, leave_out_unseen_classes

CLASSES = SimpleNamespace(has_regions=False, foreground_labels=[1, 2])
REGIONS = SimpleNamespace(has_regions=True, foreground_regions=[[1, 2], (2, 3), 3])
SOME, NONE = np.zeros((3, 4), int), []


def dataset(*locations: dict) -> SimpleNamespace:
    def load(case: str):
        return None, None, None, {"class_locations": locations[int(case)]}

    return SimpleNamespace(identifiers=[str(i) for i in range(len(locations))], load_case=load)


def test_a_class_that_no_labeled_case_shows_is_not_waited_for_and_named():
    gate, lines = ClassGate(GateSettings(), Labels.of_classes(3)), []
    leave_out_unseen_classes(dataset({1: SOME, 2: NONE}, {1: SOME}), 0, CLASSES, gate, lines.append)
    assert gate.left_out == {2}
    assert len(lines) == 1
    assert "No labeled training case of fold 0 shows" in lines[0]


def test_classes_that_different_cases_show_are_all_waited_for():
    gate, lines = ClassGate(GateSettings(), Labels.of_classes(3)), []
    leave_out_unseen_classes(dataset({1: SOME, 2: NONE}, {1: NONE, 2: SOME}), 0, CLASSES, gate, lines.append)
    assert (gate.left_out, lines) == (frozenset(), [])


def test_a_fold_without_any_class_is_refused():
    gate = ClassGate(GateSettings(), Labels.of_classes(3))
    with pytest.raises(UserError, match="None of the 1 labeled training cases of fold 3 shows any class"):
        leave_out_unseen_classes(dataset({1: NONE}), 3, CLASSES, gate, print)


def test_regions_are_told_by_their_labels():
    assert channels_without_voxels(dataset({(1, 2): SOME, (2, 3): NONE, 3: SOME}), REGIONS) == [1]


def test_a_case_that_cannot_be_read_is_named():
    broken = SimpleNamespace(identifiers=["a"], load_case=lambda case: (_ for _ in ()).throw(EOFError("ran out")))
    with pytest.raises(UserError, match=r"'a' cannot be read \(ran out\)\. Delete its files"):
        channels_without_voxels(broken, CLASSES)

"""The lines at the end of an epoch: what is waited for and why, and how long it takes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.gate.status import class_statuses, needed_dice
from nnunet_semisam.labels import Labels
from nnunet_semisam.training.epoch_lines import EpochTimes, sam_line, stage_cost, time_line, unlabeled_line

HEART = Labels((1, 2, 3), False, (), lambda probs: probs.argmax(0), ("RV", "MYO", "LV"))
TERMS = {
    "unlabeled_loss": 0.25,
    "unlabeled_weight": 0.5,
    "unlabeled_confidence": 0.62,
    "pseudo_label_loss": 0.125,
    "pseudo_label_weight": 0.4,
    "pseudo_label_confident": 0.71,
}


def gate_with(dice: list[float], start: str = "all") -> ClassGate:
    """Return a gate that measured these Dice of background, RV, MYO and LV."""
    gate = ClassGate(GateSettings(dice=0.8, start=start), HEART)
    gate.labeled_dice.size = torch.full((4,), 2.0, dtype=torch.float64)
    gate.labeled_dice.overlap = torch.tensor(dice, dtype=torch.float64)
    gate.is_open()
    return gate


def driver(gate: ClassGate, start: float = 0.0):
    return SimpleNamespace(gate=gate, settings=SimpleNamespace(start=start))


def session(**changes):
    values = {"current_round": None, "waits_for": [], "next_refresh": 8, "seconds": 0.0, "budget": 0.1}
    return SimpleNamespace(**values | changes)


def test_classes_that_were_never_active_are_waited_for_with_their_dice():
    gate = gate_with([1.0, 0.14, 0.95, 0.55])
    line = unlabeled_line(driver(gate), TERMS | {"unlabeled_weight": 0.0}, 0.3, 100)
    assert line == "Unlabeled cases: wait for RV (0.14), LV (0.55), need a Dice of 0.85"


def test_an_active_term_names_the_classes_that_are_on_and_why_another_is_off():
    gate = gate_with([1.0, 0.95, 0.95, 0.5], start="any")
    line = unlabeled_line(driver(gate), TERMS, 0.3, 100)
    assert line == (
        "Unlabeled cases: learn RV, MYO; loss 0.250, weight 0.5, mean confidence 0.62; LV is off (Dice 0.50, needs "
        "0.85)"
    )


def test_before_its_start_the_term_names_the_epoch():
    line = unlabeled_line(driver(gate_with([1.0] * 4), start=0.25), TERMS, 0.1, 30)
    assert line == "Unlabeled cases: learned from epoch 8 on"


def test_a_class_is_off_for_the_reason_that_weighs_most():
    gate = gate_with([1.0, 0.95, 0.95, 0.95])
    gate.agreement.size = torch.full((4,), 2.0, dtype=torch.float64)
    gate.agreement.overlap = torch.tensor([1.0, 1.0, 0.2, 1.0], dtype=torch.float64)
    gate.agreement_level = torch.full((4,), 0.8, dtype=torch.float64)
    gate.leave_out([3])
    found = {one.name: (one.active, one.reason) for one in class_statuses(gate)}
    assert found["RV"] == (True, "")
    assert found["MYO"] == (False, "student and target agree less than they did")


def test_a_class_that_no_labeled_case_shows_says_so():
    gate = gate_with([1.0, 0.95, 0.95, 0.0])
    gate.leave_out([3])
    assert class_statuses(gate)[2].reason == "no labeled case shows it"


def test_the_dice_that_is_needed_is_where_the_weight_reaches_the_active_one():
    assert needed_dice(ClassGate(GateSettings(dice=0.6, width=0.2, active_from=0.25), HEART)) == pytest.approx(0.65)
    assert needed_dice(ClassGate(GateSettings(dice=0.0), HEART)) == 0


def test_sam_says_what_it_waits_for_and_what_it_needs():
    gate = gate_with([1.0, 0.14, 0.95, 0.95])
    assert sam_line(session(waits_for=[1]), gate, TERMS, 3, 20) == "SAM: waits for RV (0.14), needs 0.80"


def test_sam_says_which_round_is_in_use_and_when_the_next_one_is_due():
    gate = gate_with([1.0] * 4)
    line = sam_line(session(current_round=2), gate, TERMS, 3, 20)
    assert line == (
        "SAM: round 2 in use; loss 0.125, weight 0.4, 71 % of the voxels confident; the next one before epoch 8"
    )
    line = sam_line(session(current_round=2, waits_for=[2]), gate_with([1.0, 1.0, 0.7, 1.0]), TERMS, 3, 20)
    assert line.endswith("the next one waits for MYO (0.70), needs 0.80")
    assert sam_line(session(current_round=2, next_refresh=20), gate, TERMS, 3, 20).endswith("it is the last one")


def test_a_class_that_was_learned_in_the_epoch_is_waited_for_no_longer():
    line = sam_line(session(waits_for=[1], next_refresh=0), gate_with([1.0] * 4), TERMS, 3, 20)
    assert line == "SAM: ready; first round before epoch 4"


def test_sam_says_what_else_than_dice_a_class_lacks():
    gate = gate_with([1.0, 0.95, 0.95, 0.95])
    gate.agreement.size = torch.full((4,), 2.0, dtype=torch.float64)
    gate.agreement.overlap = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    gate.agreement_level = torch.full((4,), 0.8, dtype=torch.float64)
    line = sam_line(session(waits_for=[2]), gate, TERMS, 3, 20)
    assert line == "SAM: waits for MYO (student and target agree less than they did)"


def test_before_its_start_sam_names_the_epoch_and_afterwards_that_it_does_not_help():
    gate = gate_with([1.0] * 4)
    assert sam_line(session(), gate, TERMS, 3, 20) == "SAM: not before epoch 8"
    assert sam_line(session(seconds=9.0), gate, TERMS, 3, 20) == "SAM: helps in no class; asked again before epoch 8"


def test_time_left_is_that_of_the_epochs_to_come_at_the_pace_of_the_last_ones():
    starts = [0.0, 100.0, 120.0, 140.0, 160.0, 180.0]
    times = EpochTimes(starts, [100.0, 120.0, 140.0, 160.0, 180.0, 230.0])  # 100 s, four of 20 s, and a round of SAM
    assert times.left(36) == 30 * 20.0
    assert time_line(times, 36, None) == "Time: 3 min 50 s so far, about 10 min left"
    assert time_line(times, 6, None) == "Time: 3 min 50 s"


@pytest.mark.parametrize(("refresh_epochs", "left"), [(5, "11 min"), (1, "10 min")])
def test_rounds_that_the_pace_of_the_last_epochs_does_not_show_come_on_top(refresh_epochs, left):
    starts = [20.0 * epoch for epoch in range(6)]
    times = EpochTimes(starts, [start + 20.0 for start in starts])
    rounds = session(
        plan=SimpleNamespace(refresh_epochs=refresh_epochs),
        seconds_to_come=lambda num_epochs, epoch: {(36, 5): 60.0}[num_epochs, epoch],
    )
    assert time_line(times, 36, rounds).startswith(f"Time: 2 min so far, about {left} left; SAM stage")


def test_the_cost_of_sam_is_told_against_its_budget():
    line = stage_cost(session(seconds=30.0), spent=230.0)
    assert (
        line
        == "SAM stage 30 s, 15 % of the training without it (planned: 10 % in forward passes, calibration not counted)"
    )

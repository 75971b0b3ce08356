"""The summary at the end of a training."""

from __future__ import annotations

from test_epoch_lines import gate_with

from nnunet_semisam.pseudo_labels.round_log import CaseRecord, RoundLog, RoundRecord
from nnunet_semisam.training.training_summary import TrainingRecord, supervised_summary, training_summary


def row(epoch: int, weights: tuple[float, float, float], dice=(0.9, 0.9, 0.9), **values: float) -> dict[str, float]:
    classes = {f"class_weight_{k}": weight for k, weight in enumerate(weights, start=1)}
    classes |= {f"labeled_dice_{k}": value for k, value in enumerate(dice, start=1)}
    return {"epoch": epoch, "unlabeled_weight": 0.0, **classes, **values}


def test_a_training_whose_gate_never_opened_is_called_supervised_and_says_why():
    gate = gate_with([1.0, 0.14, 0.95, 0.55])
    rows = [row(0, (0.0, 1.0, 0.0), (0.1, 0.9, 0.6)), row(1, (0.0, 1.0, 0.0), (0.14, 0.9, 0.55))]
    text = "\n".join(training_summary(gate, TrainingRecord(rows, 75.0)))
    assert "1 min 15 s, 2 epochs" in text
    assert "This was a supervised training" in text
    assert "because RV (0.14), LV (0.60) never reached the Dice of 0.85" in text
    assert "MYO: on in epochs 0-1" in text
    assert "RV: never on; at the end Dice 0.14" in text


def test_a_method_without_unlabeled_cases_is_named():
    assert (
        "the method 'supervised' opens no unlabeled case" in supervised_summary("supervised", TrainingRecord([], 1))[1]
    )


def test_it_tells_when_each_term_began_and_when_classes_were_on():
    gate = gate_with([1.0] * 4)
    on, off = (1.0, 1.0, 1.0), (1.0, 0.2, 1.0)
    rows = [
        row(0, off),
        row(1, on, unlabeled_weight=0.5),
        row(2, off, unlabeled_weight=0.5, pseudo_label_weight=0.5),
        row(3, on, unlabeled_weight=0.5, pseudo_label_weight=0.5),
        row(4, on, unlabeled_weight=0.5, pseudo_label_weight=0.5),
    ]
    names = ("1", "2", "3")
    case = CaseRecord(
        0, 2, "free0", names, (0.8,) * 3, (0.9, None, 0.7), (0.5, None, 0.5), (1,) * 3, (0,) * 3, (0,) * 3,
        (0.5, 0.0, 0.25), 0.4, ((0,) * 10,) * 4, {"load": 1.0}, None,
    )  # fmt: skip
    rounds = RoundLog(cases=(case,), rounds=(RoundRecord(0, 2, 1, True, 6.0),))
    text = "\n".join(training_summary(gate, TrainingRecord(rows, 60.0, rounds, "SAM stage 6 s")))
    assert "Unlabeled terms: from epoch 1 on, in 4 of 5 epochs" in text
    assert "SAM's pseudo-labels: from epoch 2 on, in 3 of 5 epochs" in text
    assert "1 round, the first before epoch 2, the last before 2; 1 case with a label" in text
    assert "RV in the last round: SAM's weight 0.5, mean confidence 0.90" in text
    assert "MYO in the last round: SAM does not help, the network's alone, no voxels" in text
    assert "SAM stage 6 s" in text
    assert "MYO: on in epochs 1 and 3-4;" in text
    assert "supervised" not in text


def test_many_spans_are_counted():
    gate = gate_with([1.0] * 4)
    rows = [row(epoch, (1.0, float(epoch % 2 == 0), 1.0), unlabeled_weight=1.0) for epoch in range(9)]
    assert "MYO: on in 5 of 9 epochs, first in 0" in "\n".join(training_summary(gate, TrainingRecord(rows, 1.0)))

"""SAM speaks only where it was seen to help."""

import json

import numpy as np
import pytest
from tiny_world import CASES, ThresholdSAM, classes, disc, load_image, predict

from nnunet_semisam.generalists.prediction import SAMOpinion
from nnunet_semisam.pseudo_labels.calibration import Calibration, degrade
from nnunet_semisam.pseudo_labels.fusion import SAMWeights
from nnunet_semisam.pseudo_labels.summary import dice
from nnunet_semisam.settings.config import SemiSAMConfig

TRUTH = disc((20, 30), 10).astype(np.int16)


def network_of(mask: np.ndarray, sure: float = 0.9) -> np.ndarray:
    foreground = np.where(mask, sure, 1 - sure).astype(np.float32)
    return np.stack([1 - foreground, foreground])


def sam_says(mask: np.ndarray, window: np.ndarray | None = None) -> SAMOpinion:
    asked = np.ones_like(mask) if window is None else window
    sam = (mask & asked).astype(np.float32)[None]
    return SAMOpinion(sam, np.ones_like(sam), asked[None], np.zeros_like(asked[None]))


def calibrated(*measurements) -> Calibration:
    calibration = Calibration(classes())
    for network, opinion, truth in measurements:
        calibration.add(network, opinion, truth)
    return calibration.table()


def shifted(by: int) -> np.ndarray:
    return np.roll(TRUTH, by, axis=2) == 1


def test_a_sam_that_is_right_gets_the_say():
    table = calibrated((network_of(shifted(4)), sam_says(TRUTH == 1), TRUTH))
    (entry,) = table.classes
    assert entry.dice_network == pytest.approx(dice(shifted(4), TRUTH == 1))
    assert entry.dice_sam == entry.dice_fused == 1.0
    assert entry.weight == 0.5, "the smallest of the weights that already overrule a network that is 90 % sure"
    assert entry.disagreement == (1.0, 1.0)
    assert table.weights == SAMWeights((0.5,), ((1.0, 1.0),))


def test_a_sam_never_gets_more_say_than_the_network():
    sure = np.stack([1.0 - shifted(4), 1.0 * shifted(4)]).astype(np.float32)  # only a larger share would overrule it
    entry = calibrated((sure, sam_says(TRUTH == 1), TRUTH)).classes[0]
    assert entry.dice_sam == 1.0, "alone it would be right"
    assert entry.weight <= 0.5


def test_a_sam_that_is_wrong_is_switched_off_and_the_log_says_why():
    table = calibrated((network_of(shifted(1)), sam_says(shifted(5)), TRUTH))
    (entry,) = table.classes
    assert (entry.weight, entry.disagreement) == (0.0, (0.0, 0.0))
    assert entry.dice_fused == entry.dice_network > entry.dice_sam
    assert "class 1: SAM is OFF: SAM does not help: Dice" in table.log_text()


def test_a_sam_that_changes_nothing_is_switched_off():
    table = calibrated((network_of(shifted(2)), sam_says(shifted(2)), TRUTH))
    assert table.classes[0].weight == 0.0


def test_the_mean_over_cases_decides():
    good, bad = (
        (network_of(shifted(4)), sam_says(TRUTH == 1), TRUTH),
        (network_of(shifted(1)), sam_says(shifted(2)), TRUTH),
    )
    assert calibrated(good, bad).classes[0].weight > 0
    assert calibrated(good, bad).classes[0].cases == 2


def test_a_class_that_no_case_shows_is_switched_off():
    empty = np.zeros_like(TRUTH)
    table = calibrated((network_of(shifted(0)), sam_says(TRUTH == 1), empty))
    assert table.classes[0].weight == 0.0
    assert table.classes[0].dice_network is None
    assert "no labeled case shows it" in table.log_text()


def test_voxels_of_the_ignore_label_do_not_count():
    truth = TRUTH.copy()
    wrong = shifted(4) & (TRUTH == 0)
    truth[wrong] = 2  # the highest number: nnU-Net's ignore label
    entry = calibrated((network_of(shifted(4) | (TRUTH == 1)), sam_says(TRUTH == 1), truth)).classes[0]
    assert entry.dice_network == 1.0


def test_accuracy_in_disagreement_by_hand():
    wide, truth = disc((20, 30), 12), TRUTH == 1
    entry = calibrated((network_of(shifted(4)), sam_says(wide), TRUTH)).classes[0]
    assert entry.weight > 0, "then SAM overrules the network"
    yes, no = wide & ~shifted(4), shifted(4) & ~wide
    assert entry.disagreement == pytest.approx(((yes & truth).sum() / yes.sum(), (no & ~truth).sum() / no.sum()))
    assert 0 < entry.disagreement[0] < 1


def test_what_a_class_wins_at_the_cost_of_its_neighbour_is_no_gain():
    ring, inner = disc((20, 30), 10) & ~disc((20, 30), 5), disc((20, 30), 5)
    truth = ring.astype(np.int16) + 2 * inner.astype(np.int16)
    thin = ring & ~disc((20, 30), 9)  # the network sees the outer voxels of the wall only
    probs = np.stack([np.where(thin | inner, 0.05, 0.9), np.where(thin, 0.9, 0.05), np.where(inner, 0.9, 0.05)])
    filled = SAMOpinion(
        np.stack([ring | inner, inner]).astype(np.float32),
        np.ones((2, *truth.shape), dtype=np.float32),
        np.ones((2, *truth.shape), dtype=bool),
        np.zeros((2, *truth.shape), dtype=bool),
    )
    calibration = Calibration(classes(2))
    calibration.add((probs / probs.sum(axis=0)).astype(np.float32), filled, truth)
    first = calibration.table().classes[0]
    assert 0 < first.weight < 1.0, "with weight 1 the disc would swallow the inner class"
    assert first.dice_fused > first.dice_sam


def test_the_table_is_plain_json():
    table = calibrated((network_of(shifted(4)), sam_says(TRUTH == 1), TRUTH))
    assert json.loads(json.dumps(table.to_dict()))["classes"][0]["name"] == "1"


@pytest.mark.parametrize("expected", [0.6, 0.8, 0.9])
def test_degrading_meets_the_expected_dice(expected):
    worse = degrade(network_of(TRUTH == 1), TRUTH, classes(), expected, (8.0, 1.0, 1.0), "case")
    assert worse.shape == (2, *TRUTH.shape)
    assert dice(worse.argmax(0) == 1, TRUTH == 1) == pytest.approx(expected, abs=0.03)
    assert np.allclose(worse.sum(axis=0), 1, atol=1e-5)


def test_degrading_repeats_and_differs_between_cases():
    first, again, other = (
        degrade(network_of(TRUTH == 1), TRUTH, classes(), 0.8, (8.0, 1.0, 1.0), name) for name in ("a", "a", "b")
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_network_that_is_no_better_than_expected_is_left_alone():
    poor = network_of(shifted(8))
    assert degrade(poor, TRUTH, classes(), 0.9, (8.0, 1.0, 1.0), "a") is poor
    assert degrade(poor, np.zeros_like(TRUTH), classes(), 0.0, (8.0, 1.0, 1.0), "a") is poor


def test_the_stage_calibrates_and_follows(make_stage, store):
    lines: list[str] = []
    stage = make_stage(ThresholdSAM(), SemiSAMConfig(sam_prompt="points"), log=lines.append)
    table = stage.calibrate(list(CASES), lambda case: load_image(case)[0].astype(np.int16), 0.8)
    assert table.classes[0].dice_sam > 0.95 > table.classes[0].dice_network
    assert table.classes[0].dice_network == pytest.approx(0.8, abs=0.05)
    assert stage.weights.weight[0] > 0
    assert any("SAM calibration" in line for line in lines)
    stage.refresh(0, list(CASES), epoch=0)
    assert store.provenance(0)["calibration"]["classes"][0]["weight"] == stage.weights.weight[0]


def test_the_stage_switches_a_harmful_sam_off(make_stage, store):
    stage = make_stage(ThresholdSAM(), SemiSAMConfig(sam_prompt="points"))
    lied_to = {case: np.roll(predict(load_image(case))[1].numpy() > 0.5, 2, axis=1) for case in CASES}
    stage.predict = lambda image: predict(image).roll(2, dims=2)
    table = stage.calibrate(list(CASES), lambda case: lied_to[case].astype(np.int16), 0.99)
    assert table.classes[0].weight == 0.0
    stage.refresh(0, ["case_a"], epoch=0)
    label, trust = store.open("case_a")
    assert np.array_equal(label[0] == 1, lied_to["case_a"]), "the network's own opinion"
    assert trust[0][label[0] == 1].max() < 0.5 * 255

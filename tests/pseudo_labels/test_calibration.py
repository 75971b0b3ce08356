"""A generalist contributes only where it was seen to help."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_world import CASES, ThresholdSAM, classes, disc, load_image, predict

from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.generalists.build import build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.ensemble import GeneralistEnsemble
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.calibration import Calibration, CalibrationSettings, CalibrationTable
from nnunet_semisam.pseudo_labels.case_outcome import dice
from nnunet_semisam.pseudo_labels.round_log import ClassRecord

LABEL = disc((20, 30), 10).astype(np.int16)


def network_of(mask: np.ndarray, sure: float = 0.9) -> np.ndarray:
    foreground = np.where(mask, sure, 1 - sure).astype(np.float32)
    return np.stack([1 - foreground, foreground])


def predicts(mask: np.ndarray) -> CasePrediction:
    everywhere = np.ones_like(mask)[None]
    probs = mask.astype(np.float32)[None]
    return CasePrediction(probs, np.ones_like(probs), everywhere, ~everywhere)


def calibrated(*measurements, **settings) -> CalibrationTable:
    calibration = Calibration(classes(), "nano", CalibrationSettings(**settings))
    for specialist, prediction, label in measurements:
        calibration.add(specialist, prediction, label)
    return CalibrationTable(("nano",), calibration.classes())


def shifted(by: int) -> np.ndarray:
    return np.roll(LABEL, by, axis=2) == 1


def test_a_generalist_that_is_right_becomes_active():
    table = calibrated((network_of(shifted(4)), predicts(LABEL == 1), LABEL))
    (entry,) = table.classes
    assert entry.dice_specialist == pytest.approx(dice(shifted(4), LABEL == 1))
    assert entry.dice_generalist == entry.dice_fused == 1.0
    assert entry.weight == 0.5, "the smallest of the weights that already overrule a specialist that is 90 % sure"
    assert entry.disagreement == (1.0, 1.0)
    assert table.weights == (GeneralistWeights((0.5,), ((1.0, 1.0),)),)


def test_a_generalist_never_gets_more_weight_than_the_settings_offer():
    sure = np.stack([1.0 - shifted(4), 1.0 * shifted(4)]).astype(np.float32)  # only a larger share would overrule it
    entry = calibrated((sure, predicts(LABEL == 1), LABEL)).classes[0]
    assert entry.dice_generalist == 1.0, "alone it would be right"
    assert entry.weight <= 0.5


def test_a_generalist_that_is_wrong_is_inactive_and_the_record_says_why():
    table = calibrated((network_of(shifted(1)), predicts(shifted(5)), LABEL))
    (entry,) = table.classes
    assert (entry.weight, entry.disagreement) == (0.0, (0.0, 0.0))
    assert entry.dice_fused == entry.dice_specialist > entry.dice_generalist
    assert entry.reason.startswith("it does not help: Dice")
    assert table.log_text() == "Calibration of nano: class 1 inactive"
    assert not table.active


def test_a_generalist_that_changes_nothing_is_inactive():
    table = calibrated((network_of(shifted(2)), predicts(shifted(2)), LABEL))
    assert table.classes[0].weight == 0.0


def test_the_mean_over_cases_decides():
    good, bad = (
        (network_of(shifted(4)), predicts(LABEL == 1), LABEL),
        (network_of(shifted(1)), predicts(shifted(2)), LABEL),
    )
    assert calibrated(good, bad).classes[0].weight > 0
    assert calibrated(good, bad).classes[0].cases == 2


def test_a_class_that_no_case_shows_is_inactive():
    empty = np.zeros_like(LABEL)
    table = calibrated((network_of(shifted(0)), predicts(LABEL == 1), empty))
    assert table.classes[0].weight == 0.0
    assert table.classes[0].dice_specialist is None
    assert table.classes[0].reason == "no labeled case shows it"


def test_voxels_of_the_ignore_label_do_not_count():
    label = LABEL.copy()
    wrong = shifted(4) & (LABEL == 0)
    label[wrong] = 2  # the highest number: nnU-Net's ignore label
    entry = calibrated((network_of(shifted(4) | (LABEL == 1)), predicts(LABEL == 1), label)).classes[0]
    assert entry.dice_specialist == 1.0


def test_accuracy_in_disagreement_by_hand():
    wide, label = disc((20, 30), 12), LABEL == 1
    entry = calibrated((network_of(shifted(4)), predicts(wide), LABEL)).classes[0]
    assert entry.weight > 0, "then the generalist overrules the specialist"
    yes, no = wide & ~shifted(4), shifted(4) & ~wide
    assert entry.disagreement == pytest.approx(((yes & label).sum() / yes.sum(), (no & ~label).sum() / no.sum()))
    assert 0 < entry.disagreement[0] < 1


def test_what_a_class_wins_at_the_cost_of_its_neighbour_is_no_gain():
    ring, inner = disc((20, 30), 10) & ~disc((20, 30), 5), disc((20, 30), 5)
    label = ring.astype(np.int16) + 2 * inner.astype(np.int16)
    thin = ring & ~disc((20, 30), 9)  # the network sees the outer voxels of the wall only
    probs = np.stack([np.where(thin | inner, 0.05, 0.9), np.where(thin, 0.9, 0.05), np.where(inner, 0.9, 0.05)])
    filled = CasePrediction(
        np.stack([ring | inner, inner]).astype(np.float32),
        np.ones((2, *label.shape), dtype=np.float32),
        np.ones((2, *label.shape), dtype=bool),
        np.zeros((2, *label.shape), dtype=bool),
    )
    calibration = Calibration(classes(2), "nano")
    calibration.add((probs / probs.sum(axis=0)).astype(np.float32), filled, label)
    first = calibration.classes()[0]
    assert 0 < first.weight < 1.0, "with weight 1 the disc would swallow the inner class"
    assert first.dice_fused > first.dice_generalist


def test_the_table_survives_json_and_checkpoints():
    table = calibrated((network_of(shifted(4)), predicts(LABEL == 1), LABEL))
    assert CalibrationTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_settings_offer_the_weights_and_ask_for_the_gain():
    right = (network_of(shifted(4)), predicts(LABEL == 1), LABEL)
    assert calibrated(right, weights=(0.9,)).classes[0].weight == 0.9
    assert calibrated(right, min_gain=0.9).classes[0].weight == 0.0


def test_the_stage_calibrates_and_follows(make_stage, store, tmp_path):
    stage = make_stage(nano={"prompt": "points"}, records=tmp_path)
    table = stage.calibrate(0, 7, list(CASES), lambda case: load_image(case)[0].astype(np.int16), 0.8)
    assert table.classes[0].dice_generalist > 0.95 > table.classes[0].dice_specialist
    assert table.classes[0].dice_specialist == pytest.approx(0.8, abs=0.05)
    stage.use_calibration(table)
    assert stage.ensemble.weights.weight[0] > 0
    stage.refresh(0, list(CASES), epoch=7)
    assert store.provenance(0)["calibration"]["classes"][0]["weight"] == stage.ensemble.weights.weight[0]
    (record,) = round_log.read(tmp_path).calibrations
    assert (record.round, record.epoch, record.estimated_dice, record.classes) == (0, 7, 0.8, table.classes)


def test_the_stage_leaves_a_harmful_generalist_out(make_stage, store):
    wrong_labels = {case: np.roll(predict(load_image(case))[1].numpy() > 0.5, 2, axis=1) for case in CASES}
    stage = make_stage(nano={"prompt": "points"}, inputs={"predict": lambda image: predict(image).roll(2, dims=2)})
    table = stage.calibrate(0, 0, list(CASES), lambda case: wrong_labels[case].astype(np.int16), 0.99)
    assert table.classes[0].weight == 0.0
    stage.use_calibration(table)
    stage.refresh(0, ["case_a"], epoch=0)
    label, confidence = store.open("case_a")
    assert np.array_equal(label[0] == 1, wrong_labels["case_a"]), "the specialist's own prediction"
    assert confidence[0][label[0] == 1].max() < 0.5 * 255


class Beside(ThresholdSAM):
    """Predicts every object six voxels beside where it is."""

    fingerprint = "beside"

    def decode(self, embedding, prompts):
        prediction = super().decode(embedding, prompts)
        return dataclasses.replace(prediction, logits=prediction.logits.roll(6, dims=2))


def test_each_generalist_of_an_ensemble_is_measured_by_itself(make_stage, tmp_path):
    stage = make_stage(nano={"prompt": "points"}, vit_b={"prompt": "points"}, sam={"models": ["nano", "vit_b"]})
    cache = EmbeddingCache(tmp_path / "embeddings", "plans_2d", 1.0)
    wrong = build_generalist("vit_b", Beside(), stage.settings, classes(), cache, (5.0, 1.0, 1.0))
    stage.ensemble = GeneralistEnsemble([*stage.ensemble.members, wrong], 1)
    table = stage.calibrate(0, 0, list(CASES), lambda case: load_image(case)[0].astype(np.int16), 0.8)
    assert [(entry.generalist, entry.weight > 0) for entry in table.classes] == [("nano", True), ("vit_b", False)]
    assert [weights.active for weights in table.weights] == [True, False]
    stage.use_calibration(table)
    assert stage.ensemble.weights == table.weights[0]
    assert table.log_text().splitlines()[1] == "Calibration of vit_b: class 1 inactive"


def test_a_gain_in_one_case_of_three_is_not_enough():
    """One case that gains much would lift the mean over the others, in which nothing is gained."""
    good = (network_of(shifted(5)), predicts(LABEL == 1), LABEL)
    same = (network_of(shifted(2)), predicts(shifted(2)), LABEL)
    assert calibrated(good, same, same).classes[0].weight == 0.0
    assert calibrated(good, good, same).classes[0].weight > 0.0


def test_the_log_names_classes_as_the_dataset_does():
    classes = tuple(
        ClassRecord(name, "nano", weight, (0.5, 0.5), 0.7, 0.8, 0.8, 2, "measured")
        for name, weight in (("1", 0.5), ("2", 0.0))
    )
    table = CalibrationTable(("nano",), classes)
    assert table.log_text({"1": "RV", "2": "LV"}) == "Calibration of nano: RV weight 0.5, LV inactive"
    assert table.log_text() == "Calibration of nano: class 1 weight 0.5, class 2 inactive"

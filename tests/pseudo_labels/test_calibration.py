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
from nnunet_semisam.pseudo_labels.calibration import Calibration, CalibrationSettings
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable, best_strategies
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
    assert (entry.temperature, entry.helped) == (1.0, 1.0)
    assert entry.disagreement == (1.0, 1.0)
    assert table.weights == (GeneralistWeights((0.5,), ((1.0, 1.0),), (1.0,)),)


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
    assert (entry.temperature, entry.helped) == (4.0, 0.0), "a mask that is wrong should have been less sure"
    own, alone = (f"{dice:.3f}" for dice in (entry.dice_specialist, entry.dice_generalist))
    assert table.log_text().splitlines()[-1] == f"| nano | 1 | 1 | {own} | {alone} | {own} | inactive | 4 | 0% |"
    assert not table.active


def test_a_generalist_that_changes_nothing_is_inactive():
    table = calibrated((network_of(shifted(2)), predicts(shifted(2)), LABEL))
    assert table.classes[0].weight == 0.0


def test_a_gain_in_half_of_the_cases_is_not_enough():
    good, bad = (
        (network_of(shifted(4)), predicts(LABEL == 1), LABEL),
        (network_of(shifted(1)), predicts(shifted(2)), LABEL),
    )
    (entry,) = calibrated(good, bad).classes
    assert (entry.weight, entry.cases, entry.helped) == (0.0, 2, 0.5)
    assert calibrated(good, bad, min_share=0.4).classes[0].weight > 0, "the mean gains"
    assert calibrated(good, good, bad).classes[0].helped == pytest.approx(2 / 3)
    assert calibrated(good, good, bad).classes[0].weight > 0


def test_a_smaller_weight_that_helps_in_most_cases_is_taken_before_a_larger_one_that_gains_more_on_average():
    much = (network_of(shifted(6), 0.9), predicts(LABEL == 1), LABEL)  # only 0.5 overrules a sure specialist
    unsure = (network_of(shifted(4), 0.6), predicts(LABEL == 1), LABEL)  # 0.25 does, too
    harmed = (network_of(shifted(1), 0.9), predicts(shifted(6)), LABEL)  # 0.5 harms
    cases = (much, unsure, unsure, harmed, harmed)
    (entry,) = calibrated(*cases, temperatures=(1.0,), min_share=0.3, weights=(0.25, 0.5)).classes
    alone = calibrated(*cases, temperatures=(1.0,), min_share=0.3, weights=(0.5,)).classes[0]
    assert (entry.weight, entry.helped) == (0.25, 0.4)
    assert alone.dice_fused < entry.dice_fused


def test_the_temperature_is_the_one_that_makes_the_labels_likeliest():
    """The generalist says 0.9 everywhere, and is right in 60 % of the voxels."""
    label = np.zeros((1, 10, 10), dtype=np.int16)
    label[0, :6] = 1
    probs = np.full((1, *label.shape), 0.9, dtype=np.float32)
    everywhere = np.ones(probs.shape, dtype=bool)
    prediction = CasePrediction(probs, np.ones_like(probs), everywhere, ~everywhere)
    surprise = {
        t: 0.6 * -np.log(p) + 0.4 * -np.log(1 - p) for t, p in [(t, 1 / (1 + 9 ** (-1 / t))) for t in (1, 2, 4)]
    }
    (entry,) = calibrated((network_of(label == 1), prediction, label), temperatures=(1.0, 2.0, 4.0)).classes
    assert entry.temperature == min(surprise, key=surprise.get) == 4


def test_only_the_best_strategy_of_a_model_contributes_to_a_class():
    right = (network_of(shifted(4)), predicts(LABEL == 1), LABEL)
    nearly = (network_of(shifted(4)), predicts(shifted(2)), LABEL)
    entries = [
        dataclasses.replace(calibrated(each).classes[0], generalist=name)
        for name, each in (("nano", nearly), ("nano_points", right), ("vit_b", nearly))
    ]
    model_of = {"nano": "nano", "nano_points": "nano", "vit_b": "vit_b"}
    chosen = best_strategies(entries, model_of)
    assert [entry.weight > 0 for entry in entries] == [True, True, True]
    assert [entry.weight > 0 for entry in chosen] == [False, True, True]
    assert chosen[0].reason.startswith("nano_points gains more (")
    assert chosen[0].dice_fused == chosen[0].dice_specialist
    assert chosen[1:] == tuple(entries[1:])


def test_a_class_that_no_case_shows_is_inactive():
    empty = np.zeros_like(LABEL)
    table = calibrated((network_of(shifted(0)), predicts(LABEL == 1), empty))
    assert table.classes[0].weight == 0.0
    assert table.classes[0].dice_specialist is None
    assert table.classes[0].reason == "no labeled case that it may be measured on shows it"


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
    assert stage.ensemble.weights.weight == table.weights[0].weight
    assert table.log_text().splitlines()[-1].startswith("| vit_b | 1 | 3 | ")


def test_a_gain_in_one_case_of_three_is_not_enough():
    """One case that gains much would lift the mean over the others, in which nothing is gained."""
    good = (network_of(shifted(5)), predicts(LABEL == 1), LABEL)
    same = (network_of(shifted(2)), predicts(shifted(2)), LABEL)
    assert calibrated(good, same, same).classes[0].weight == 0.0
    assert calibrated(good, good, same).classes[0].weight > 0.0


def test_an_adapted_model_is_measured_on_cases_that_it_has_not_learned_only(make_stage):
    names = list(CASES)

    def entry_of(cases, **settings):
        stage = make_stage(nano={"prompt": "points"}, calibration=settings)
        stage.ensemble.members[0].learned = frozenset(names[:-1])
        chosen = stage.calibration_cases(cases)
        table = stage.calibrate(0, 0, chosen, lambda case: load_image(case)[0].astype(np.int16), 0.8)
        return chosen, table.classes[0]

    chosen, entry = entry_of(names)
    assert (chosen, entry.cases) == (names[-1:], 1)
    chosen, entry = entry_of(names[:-1])
    assert (chosen, entry.cases, entry.weight) == (names[:-1], 0, 0.0)
    assert entry.reason == "no labeled case that it may be measured on shows it"
    assert entry_of(names, on_learned_cases=True)[1].cases == len(names)


def test_the_log_names_classes_as_the_dataset_does():
    classes = tuple(
        ClassRecord(name, "nano", weight, (0.5, 0.5), 0.7, 0.8, 0.8, 2, "measured", 1.0, 1.0)
        for name, weight in (("1", 0.5), ("2", 0.0))
    )
    table = CalibrationTable(("nano",), classes)

    def cells(names):
        return [tuple(line.split(" | ")[i] for i in (1, 6)) for line in table.log_text(names).splitlines()[3:]]

    assert cells({"1": "RV", "2": "LV"}) == [("RV", "0.5"), ("LV", "inactive")]
    assert cells(None) == [("1", "0.5"), ("2", "inactive")]


def test_a_class_that_no_case_of_a_calibration_shows_keeps_what_was_measured_before():
    """A few cases are looked at each time: that they lack a class is no evidence against a generalist."""

    def table(*cases):
        weights = [0.5 if count else 0.0 for count in cases]
        entries = [
            ClassRecord(str(f), "nano", weight, (0.5, 0.5), 0.7, 0.8, 0.8, count, f"of {count}", 1.0, 1.0)
            for f, (weight, count) in enumerate(zip(weights, cases, strict=True))
        ]
        return CalibrationTable(("nano",), tuple(entries))

    before, now = table(4, 4), table(6, 0)
    merged = now.with_unseen_of(before)
    earlier = dataclasses.replace(before.classes[1], reason="measured by an earlier calibration: of 4")
    assert merged.classes == (now.classes[0], earlier)
    assert now.with_unseen_of(merged) == merged  # said once
    assert now.with_unseen_of(None) is now
    assert table(0, 0).with_unseen_of(table(0, 0)).weights[0].active is False

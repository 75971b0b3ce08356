"""A refresh from image to stored pseudo-label."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import CASES, SHAPE, ThresholdSAM, classes, disc, load_image, predict, regions

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.views import slice_axis
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.connectivity import ConnectivityPrior
from nnunet_semisam.pseudo_labels.fusion import CasePriors, FusionSettings
from nnunet_semisam.pseudo_labels.round_summary import summarize


def read(store, case: str) -> tuple[np.ndarray, np.ndarray]:
    label, confidence = store.open(case)
    return label[0], confidence[0] / 255


def prompts_of(summary) -> list[int]:
    return [one.prompts for one in summary.classes]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_generalist_of_full_weight_corrects_the_specialist(make_stage, store, dims):
    stage = make_stage(ThresholdSAM(spatial_dims=dims), nano={"prompt": "points"})
    stage.ensemble.use_weights([GeneralistWeights((1.0,), ((1.0, 1.0),))])
    summary = stage.refresh(0, list(CASES), epoch=7)
    for case, center in CASES.items():
        label, confidence = read(store, case)
        assert np.array_equal(label == 1, disc(center, 9))
        assert confidence[label == 1].min() > 0.5
    assert prompts_of(summary) == [3 * 3 if dims == 2 else 3], "three slices show the object; one volume does"
    assert summary.classes[0].agreement == pytest.approx(0.93, abs=0.03), "discs shifted by one voxel"
    assert summary.cases == 3
    assert summary.epoch == 7


def test_voxels_where_specialist_and_generalist_disagree_have_low_confidence(make_stage, store):
    make_stage().refresh(0, ["case_a"], epoch=0)
    truth, shifted = disc(CASES["case_a"], 9), np.roll(disc(CASES["case_a"], 9), 1, axis=2)
    _, confidence = read(store, "case_a")
    assert confidence[truth & shifted].min() > 0.5
    assert confidence[truth ^ shifted].max() < 0.5


def test_the_first_and_the_last_slice_are_background_of_high_confidence(make_stage, store):
    make_stage().refresh(0, ["case_a"], epoch=0)
    label, confidence = read(store, "case_a")
    assert not label[[0, -1]].any()
    assert confidence[[0, -1]] == pytest.approx(0.9, abs=0.01), "the specialist's certainty |2 * 0.05 - 1|"


@pytest.mark.parametrize("prompt", ["box", "points", "mask", "box_points", "box_mask", "box_points_mask"])
def test_every_strategy_runs(make_stage, prompt):
    summary = make_stage(nano={"prompt": prompt}).refresh(0, ["case_a"], epoch=0)
    assert prompts_of(summary) == [3]


def test_a_case_without_prompts_keeps_the_specialists_prediction_and_encodes_nothing(make_stage, store):
    backend = ThresholdSAM()
    nothing = lambda image: torch.stack([torch.full(SHAPE, 0.9), torch.full(SHAPE, 0.1)])  # noqa: E731
    summary = make_stage(backend, inputs={"predict": nothing}).refresh(0, ["case_a"], epoch=0)
    label, confidence = read(store, "case_a")
    assert not label.any()
    assert confidence == pytest.approx(0.8, abs=0.01)
    assert backend.encoded == 0
    assert prompts_of(summary) == [0]
    assert [one.agreement for one in summary.classes] == [None]
    assert summary.cache_hit_rate is None
    assert store.locations("case_a") == {}


def test_spurious_components_are_not_prompted_and_become_background(make_stage, store):
    def with_spurious(image: np.ndarray) -> torch.Tensor:
        probs = predict(image)
        probs[:, 2, 30:36, 2:8] = torch.tensor([0.1, 0.9])[:, None, None]
        return probs

    kept = make_stage(inputs={"predict": with_spurious}).refresh(0, ["case_a"], epoch=0)
    assert prompts_of(kept) == [4]  # the object in three slices, the spurious component in one
    assert (read(store, "case_a")[0][2, 30:36, 2:8] == 1).all()
    priors = CasePriors(connectivity=ConnectivityPrior(whole=True, classes=(True,)))
    stage = make_stage(inputs={"predict": with_spurious}, priors=priors)
    assert prompts_of(stage.refresh(1, ["case_a"], epoch=0)) == [3]
    label, confidence = read(store, "case_a")
    assert not label[2, 30:36, 2:8].any()
    assert confidence[2, 30:36, 2:8] == pytest.approx(FusionSettings().spurious_background, abs=0.01)


def test_one_class_absent(make_stage, store):
    def two_classes(image: np.ndarray) -> torch.Tensor:
        background, foreground = predict(image)
        return torch.stack([background - 0.01, foreground, torch.full(SHAPE, 0.01)])

    summary = make_stage(inputs={"predict": two_classes}, labels=classes(2)).refresh(0, ["case_a"], epoch=0)
    label, _ = read(store, "case_a")
    assert set(np.unique(label)) == {0, 1}
    assert prompts_of(summary) == [3, 0]
    assert summary.classes[1].confidence is None


def test_regions_are_prompted_one_by_one_and_stored_as_a_label_map(make_stage, store):
    whole, core = disc((18, 30), 9), disc((18, 30), 5)

    def both(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.where(whole, 0.9, 0.05), np.where(core, 0.9, 0.05)]))

    stage = make_stage(inputs={"predict": both}, labels=regions())
    # this SAM takes all that is bright in the core's box
    stage.ensemble.use_weights([GeneralistWeights((0.5, 0.0), ((0.0, 0.0), (0.0, 0.0)))])
    summary = stage.refresh(0, ["case_a"], epoch=0)
    label, confidence = read(store, "case_a")
    assert np.array_equal(label, whole.astype(np.int16) + core)
    assert prompts_of(summary) == [3, 3]
    assert confidence[core].max() < 0.5, "only the specialist says that it is core"
    assert confidence[0].min() > 0.5, "an empty slice is certain"


@pytest.mark.parametrize(("spacing", "wanted", "axis"), [((1, 5, 1), None, 1), ((1, 1, 1), None, 0), ((1, 5, 1), 2, 2)])
def test_slices_along_the_largest_spacing(make_stage, store, spacing, wanted, axis):
    backend = ThresholdSAM()
    nano = {"prompt": "box_points", "axis": wanted}
    make_stage(backend, nano=nano, inputs={"spacing": spacing}).refresh(0, ["case_a"], epoch=0)
    assert backend.encoded == SHAPE[axis]
    label, _ = read(store, "case_a")
    truth, shifted = disc(CASES["case_a"], 9), np.roll(disc(CASES["case_a"], 9), 1, axis=2)
    assert label[truth & shifted].all(), "axes are put back where they were"


def test_slice_axis_of_a_2d_configuration_is_the_first():
    assert slice_axis((1.5, 1.5)) == 0


def test_prompts_are_decoded_in_bounded_chunks_with_the_same_result(make_stage, store):
    small, large = ThresholdSAM(spatial_dims=2), ThresholdSAM(spatial_dims=2)
    make_stage(small, nano={"prompt": "box"}, sam={"batch_size": 1}).refresh(0, list(CASES), epoch=0)
    first = read(store, "case_a")
    make_stage(large, nano={"prompt": "box"}, sam={"batch_size": 50}).refresh(1, list(CASES), epoch=0)
    second = read(store, "case_a")
    assert small.largest_decode <= 4
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_two_refreshes_with_the_same_network_agree_bit_for_bit_and_the_second_uses_the_cache(make_stage, store):
    backend = ThresholdSAM()
    stage = make_stage(backend)
    first = stage.refresh(0, list(CASES), epoch=0)
    before = {case: read(store, case) for case in CASES}
    encoded = backend.encoded
    second = stage.refresh(1, list(CASES), epoch=1)
    for case in CASES:
        assert np.array_equal(before[case][0], read(store, case)[0])
        assert np.array_equal(before[case][1], read(store, case)[1])
    assert backend.encoded == encoded
    assert (first.cache_hit_rate, second.cache_hit_rate) == (0.0, 1.0)


def test_provenance_says_how_the_round_was_made(make_stage, store):
    stage = make_stage()
    stage.refresh(4, ["case_a"], epoch=9)
    made = store.provenance(4)
    assert made["network_epoch"] == 9
    assert made["sam_fingerprint"] == "threshold-1"
    assert made["settings"] == json.loads(json.dumps(stage.settings.to_dict()))
    assert made["generalists"] == [{"name": "nano", "fingerprint": "threshold-1", "view": "slices0"}]
    assert made["versions"]["torch"]
    assert made["cases"]["case_a"]["prompts"] == [3]
    assert made["cases"]["case_a"]["round"] == 4


def test_an_exception_in_a_refresh_leaves_the_previous_round_alone(make_stage, store):
    stage = make_stage()
    stage.refresh(0, list(CASES), epoch=0)
    before = read(store, "case_b")

    def dies(case: str) -> np.ndarray:
        if case == "case_b":
            raise KeyboardInterrupt
        return load_image(case)

    with pytest.raises(KeyboardInterrupt):
        make_stage(inputs={"load_image": dies}).refresh(1, list(CASES), epoch=1)
    assert store.rounds() == [0]
    assert np.array_equal(read(store, "case_b")[1], before[1])
    stage.refresh(1, ["case_a"], epoch=1)
    assert store.rounds() == [0, 1]
    assert store.cases(1) == sorted(CASES), "cases that were not refreshed are carried over"
    assert not list(store.root.glob("*.partial"))


def test_a_network_with_nan_is_named(make_stage):
    broken = lambda image: torch.full((2, *SHAPE), float("nan"))  # noqa: E731
    with pytest.raises(ValueError, match=r"case_a.*NaN"):
        make_stage(inputs={"predict": broken}).refresh(0, ["case_a"], epoch=0)


def test_a_strategy_that_the_sam_does_not_understand_is_refused_early(make_stage):
    with pytest.raises(UserError, match="understands box only"):
        make_stage(ThresholdSAM(kinds=("box",)))


def test_a_channel_that_the_image_lacks_is_refused(make_stage):
    with pytest.raises(UserError, match=r"channel: 2.*lacks: it has 1"):
        make_stage(nano={"channel": 2}).refresh(0, ["case_a"], epoch=0)


def test_two_processes_share_a_round(make_stage, store):
    """Threads stand in for processes: everything they share are files and a barrier."""
    barrier, summaries = threading.Barrier(2, timeout=30), {}

    def run(rank: int) -> None:
        summaries[rank] = make_stage().refresh(
            0, list(CASES), epoch=0, rank=rank, world_size=2, together=lambda error: barrier.wait()
        )

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.cases(0) == sorted(CASES)
    assert summaries[0] == summaries[1]
    alone = make_stage().refresh(1, list(CASES), epoch=0)
    assert alone.classes == summaries[0].classes


def test_the_log_says_what_happened(make_stage):
    lines: list[str] = []
    make_stage(log=lines.append).refresh(2, ["case_a"], epoch=5)
    (text,) = lines
    assert text.startswith("Pseudo-labels, round 2: 1 cases in ")
    assert "3 prompts, 0 masks rejected" in text


def slow(stage, seconds: float) -> None:
    member = stage.ensemble.members[0]
    predict_case = member.predict_case
    member.predict_case = lambda case: replace(predict_case(case), seconds={"encode": seconds, "decode": 0.0})


def test_what_each_generalist_took_is_recorded_and_a_dear_one_is_said_once(make_stage, tmp_path):
    lines: list[str] = []
    stage = make_stage(log=lines.append, records=tmp_path, sam={"generalist_cost": 3.0})
    slow(stage, 1000.0)
    for number in (0, 1):
        stage.refresh(number, ["case_a", "case_b"], epoch=number)
    first, _ = (case for case in round_log.read(tmp_path).cases if case.round == 0)
    assert first.seconds_by_generalist == {"nano": 1000.0}
    assert first.seconds["encode"] == 1000.0
    assert lines[0].endswith("; a case took nano 1000.0 s")
    warnings = [line for line in lines if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "planned with 3, so they take more than their share 0.05" in warnings[0]


def test_generalists_that_cost_what_was_planned_are_not_warned_of(make_stage):
    lines: list[str] = []
    stage = make_stage(log=lines.append, sam={"generalist_cost": 1e9})
    slow(stage, 1000.0)
    stage.refresh(0, ["case_a"], epoch=0)
    assert not [line for line in lines if line.startswith("WARNING")]


def test_the_cost_of_generalists_is_in_predictions_of_the_network():
    cost = replace(summarize(0, 0, []), seconds_by_part={"predict": 8.0}, seconds_by_generalist={"a": 5.0, "b": 1.0})
    assert cost.generalist_cost(predictions=1) == pytest.approx(0.75)
    assert cost.generalist_cost(predictions=2) == pytest.approx(1.5)
    assert summarize(0, 0, []).generalist_cost(1) is None


def test_every_case_of_a_round_has_a_record(make_stage, tmp_path):
    make_stage(records=tmp_path).refresh(2, ["case_a", "case_b"], epoch=5)
    first, second = round_log.read(tmp_path).cases
    assert (first.case, first.round, first.epoch, second.case) == ("case_a", 2, 5, "case_b")
    assert first.prompts == (3,)
    assert first.weights == (0.5,)
    assert set(first.seconds) == {"load", "predict", "encode", "decode", "fuse"}
    assert sum(map(sum, first.histogram)) == np.prod(SHAPE)
    assert first.confident_share_all == pytest.approx(sum(np.sum(first.histogram, axis=0)[5:]) / np.prod(SHAPE))


def test_generalists_are_told_the_spacing_of_the_case_if_it_is_known(make_stage):
    seen = []
    for spacing, known in (((2.0, 3.0), None), ((2.0, 3.0), (9.0, 2.0, 3.0)), ((5.0, 1.0, 1.0), None)):
        stage = make_stage(inputs={"spacing": spacing, "spacing_of": lambda case, known=known: known})
        predict_case = stage.ensemble.members[0].predict_case
        stage.ensemble.members[0].predict_case = lambda case, f=predict_case: seen.append(case.spacing) or f(case)
        stage.refresh(0, ["case_a"], epoch=0)
        seen.append(stage.pipeline.spacing("case_a", SHAPE))
    assert seen[:2] == [None, (24.0, 2.0, 3.0)], "slices count as thick where nobody knows their distance"
    assert seen[2:4] == [(9.0, 2.0, 3.0)] * 2
    assert seen[4:] == [(5.0, 1.0, 1.0)] * 2


def test_a_single_slice_has_no_distance(make_stage):
    inputs = {"spacing": (2.0, 3.0), "spacing_of": lambda case: (1998.0, 2.0, 3.0)}  # as nnU-Net reads 2D images
    assert make_stage(inputs=inputs).pipeline.spacing("case_a", (1, 40, 60)) == (24.0, 2.0, 3.0)


def mirrored_prediction(shift: int):
    """The object seen somewhere else in the mirrored image: the network does not know it."""
    return lambda image: predict(image).roll(shift, dims=2)


def test_a_second_opinion_that_sees_the_object_elsewhere_takes_the_confidence_away(make_stage, store):
    confidence = {}
    for shift in (0, 12):
        inputs = {"predict_mirrored": mirrored_prediction(shift)}
        make_stage(inputs=inputs).refresh(shift, ["case_a"], epoch=0)
        _, confidence[shift] = read(store, "case_a")
    truth, shifted = disc(CASES["case_a"], 9), np.roll(disc(CASES["case_a"], 9), 1, axis=2)
    assert confidence[0][truth & shifted].min() > 0.5
    assert confidence[12][truth | shifted].max() < 0.5
    assert confidence[12].max() < 0.5, "who knows whether the rest is background"


def test_where_no_generalist_helps_none_is_asked_and_the_network_teaches_where_its_opinions_agree(make_stage, store):
    def sure(image: np.ndarray) -> torch.Tensor:
        return torch.where(predict(image) > 0.5, 0.95, 0.05)

    backend = ThresholdSAM()
    stage = make_stage(backend, inputs={"predict": sure, "predict_mirrored": sure})
    stage.ensemble.use_weights([GeneralistWeights((0.0,), ((0.0, 0.0),))])
    summary = stage.refresh(0, ["case_a"], epoch=0)
    label, confidence = read(store, "case_a")
    assert backend.encoded == 0
    assert prompts_of(summary) == [0]
    assert (label == 1).any()
    # certainty 0.9 of a probability of 0.95, as good as a second opinion of the same network can make it
    assert confidence[label == 1] == pytest.approx(0.7 * 0.9, abs=0.01)
    assert len(store.locations("case_a")[1]), "patches are centred there"


def test_pictures_are_drawn_without_a_generalist(make_stage, tmp_path):
    stage = make_stage(inputs={"predict_mirrored": mirrored_prediction(0)}, previews=tmp_path)
    stage.ensemble.use_weights([GeneralistWeights((0.0,), ((0.0, 0.0),))])
    stage.refresh(0, ["case_a"], epoch=0)
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_the_estimated_dice_is_the_square_of_the_agreement_of_two_predictions(make_stage):
    same = make_stage(inputs={"predict_mirrored": mirrored_prediction(0)})
    assert same.pipeline.estimate_dice(list(CASES)) == 1.0
    other = make_stage(inputs={"predict_mirrored": mirrored_prediction(3)})
    seen = predict(load_image("case_a"))[1].numpy() > 0.5
    overlap = 2 * (seen & np.roll(seen, 3, axis=1)).sum() / (2 * seen.sum())
    assert other.pipeline.estimate_dice(["case_a"]) == pytest.approx(overlap**2, abs=1e-6)
    assert make_stage().pipeline.estimate_dice(list(CASES)) is None, "there is no second opinion"


def test_older_labels_weigh_less_and_keep_their_confidence(make_stage, store):
    from nnunet_semisam.pseudo_labels.rounds import Round

    stage = make_stage()
    stage.refresh(0, ["case_a", "case_b"], epoch=0)
    stage.refresh(1, ["case_b"], epoch=1)
    stage.refresh(2, ["case_b"], epoch=2)
    box = [[0, size] for size in SHAPE]
    for case, age in (("case_a", 2), ("case_b", 0)):
        latest = Round(store, 2, age_decay=0.9)
        assert np.array_equal(latest.crop(case, box, SHAPE)[1], store.open(case)[1][:])
        assert latest.weight(case) == pytest.approx(0.9**age)
    assert latest.weight("unknown") == 1.0

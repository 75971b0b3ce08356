"""A refresh from image to stored pseudo-label."""

import json
import threading

import numpy as np
import pytest
import torch
from tiny_world import CASES, SHAPE, ThresholdSAM, classes, disc, load_image, predict, regions

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.sam_generalist import slice_axis
from nnunet_semisam.pseudo_labels.connectivity import PiecePrior
from nnunet_semisam.pseudo_labels.fusion import STRAY, SAMWeights
from nnunet_semisam.settings.config import SemiSAMConfig


def read(store, case: str) -> tuple[np.ndarray, np.ndarray]:
    label, trust = store.open(case)
    return label[0], trust[0] / 255


@pytest.mark.parametrize("dims", [2, 3])
def test_sam_corrects_the_network_where_it_is_given_the_say(make_stage, store, dims):
    stage = make_stage(ThresholdSAM(spatial_dims=dims), SemiSAMConfig(sam_prompt="points"))
    stage.weights = SAMWeights((1.0,), ((1.0, 1.0),))
    summary = stage.refresh(0, list(CASES), epoch=7)
    for case, center in CASES.items():
        label, trust = read(store, case)
        assert np.array_equal(label == 1, disc(center, 9))
        assert trust[label == 1].min() > 0.5
    assert summary.prompts == [3 * 3 if dims == 2 else 3], "three slices show the object; one volume does"
    assert summary.agreement[0] == pytest.approx(0.93, abs=0.03), "discs shifted by one voxel"
    assert summary.cases == 3
    assert summary.epoch == 7


def test_doubts_voxels_where_network_and_sam_disagree(make_stage, store):
    make_stage().refresh(0, ["case_a"], epoch=0)
    truth, shifted = disc(CASES["case_a"], 9), np.roll(disc(CASES["case_a"], 9), 1, axis=2)
    _, trust = read(store, "case_a")
    assert trust[truth & shifted].min() > 0.5
    assert trust[truth ^ shifted].max() < 0.5


def test_the_first_and_the_last_slice_are_background_that_is_trusted(make_stage, store):
    make_stage().refresh(0, ["case_a"], epoch=0)
    label, trust = read(store, "case_a")
    assert not label[[0, -1]].any()
    assert trust[[0, -1]] == pytest.approx(0.9, abs=0.01), "network's certainty |2 * 0.05 - 1|"


@pytest.mark.parametrize("sam_prompt", ["box", "points", "mask", "box_points", "box_mask", "box_points_mask"])
def test_every_strategy_runs(make_stage, store, sam_prompt):
    summary = make_stage(config=SemiSAMConfig(sam_prompt=sam_prompt)).refresh(0, ["case_a"], epoch=0)
    assert summary.prompts == [3]


def test_a_case_without_prompts_keeps_the_networks_opinion_and_encodes_nothing(make_stage, store):
    backend = ThresholdSAM()
    nothing = lambda image: torch.stack([torch.full(SHAPE, 0.9), torch.full(SHAPE, 0.1)])  # noqa: E731
    summary = make_stage(backend, predict=nothing).refresh(0, ["case_a"], epoch=0)
    label, trust = read(store, "case_a")
    assert not label.any()
    assert trust == pytest.approx(0.8, abs=0.01)
    assert backend.encoded == 0
    assert summary.prompts == [0]
    assert summary.agreement == [None]
    assert summary.cache_hit_rate is None
    assert store.locations("case_a") == {}


def test_sam_is_not_asked_about_islands_which_become_background(make_stage, store):
    def with_island(image: np.ndarray) -> torch.Tensor:
        probs = predict(image)
        probs[:, 2, 30:36, 2:8] = torch.tensor([0.1, 0.9])[:, None, None]
        return probs

    islands = make_stage(predict=with_island).refresh(0, ["case_a"], epoch=0)
    assert islands.prompts == [4]  # the object in three slices, the island in one
    assert (read(store, "case_a")[0][2, 30:36, 2:8] == 1).all()
    pieces = PiecePrior(whole=True, classes=(True,))
    assert make_stage(predict=with_island, pieces=pieces).refresh(1, ["case_a"], epoch=0).prompts == [3]
    label, trust = read(store, "case_a")
    assert not label[2, 30:36, 2:8].any()
    assert trust[2, 30:36, 2:8] == pytest.approx(STRAY, abs=0.01)


def test_one_class_absent(make_stage, store):
    def two_classes(image: np.ndarray) -> torch.Tensor:
        background, foreground = predict(image)
        return torch.stack([background - 0.01, foreground, torch.full(SHAPE, 0.01)])

    summary = make_stage(predict=two_classes, layout=classes(2)).refresh(0, ["case_a"], epoch=0)
    label, _ = read(store, "case_a")
    assert set(np.unique(label)) == {0, 1}
    assert summary.prompts == [3, 0]
    assert summary.trust[1] is None


def test_regions_are_asked_about_one_by_one_and_stored_as_a_label_map(make_stage, store):
    whole, core = disc((18, 30), 9), disc((18, 30), 5)

    def both(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.where(whole, 0.9, 0.05), np.where(core, 0.9, 0.05)]))

    stage = make_stage(predict=both, layout=regions())
    stage.weights = SAMWeights(
        (0.5, 0.0), ((0.0, 0.0), (0.0, 0.0))
    )  # this SAM takes all that is bright in the core's box
    summary = stage.refresh(0, ["case_a"], epoch=0)
    label, trust = read(store, "case_a")
    assert np.array_equal(label, whole.astype(np.int16) + core)
    assert summary.prompts == [3, 3]
    assert summary.names == ["1+2", "2"]
    assert trust[core].max() < 0.5, "one witness only says that it is core"
    assert trust[0].min() > 0.5, "an empty slice is trusted"


@pytest.mark.parametrize(("spacing", "wanted", "axis"), [((1, 5, 1), None, 1), ((1, 1, 1), None, 0), ((1, 5, 1), 2, 2)])
def test_slices_along_the_largest_spacing(make_stage, store, spacing, wanted, axis):
    backend = ThresholdSAM()
    config = SemiSAMConfig(sam_prompt="box_points", sam_axis=wanted)
    make_stage(backend, config, spacing=spacing).refresh(0, ["case_a"], epoch=0)
    assert backend.encoded == SHAPE[axis]
    label, _ = read(store, "case_a")
    truth, shifted = disc(CASES["case_a"], 9), np.roll(disc(CASES["case_a"], 9), 1, axis=2)
    assert label[truth & shifted].all(), "axes are put back where they were"


def test_slice_axis_of_a_2d_configuration_is_the_first():
    assert slice_axis(None, (1.5, 1.5)) == 0
    with pytest.raises(UserError, match="sam_axis"):
        slice_axis(3, (1, 1, 1))


def test_prompts_are_decoded_in_bounded_chunks_with_the_same_result(make_stage, store):
    small, large = ThresholdSAM(spatial_dims=2), ThresholdSAM(spatial_dims=2)
    make_stage(small, SemiSAMConfig(sam_prompt="box", sam_batch_size=1)).refresh(0, list(CASES), epoch=0)
    first = read(store, "case_a")
    make_stage(large, SemiSAMConfig(sam_prompt="box", sam_batch_size=50)).refresh(1, list(CASES), epoch=0)
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
    assert made["config"] == json.loads(json.dumps(stage.config.to_dict()))
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
        make_stage(load_image=dies).refresh(1, list(CASES), epoch=1)
    assert store.rounds() == [0]
    assert np.array_equal(read(store, "case_b")[1], before[1])
    stage.refresh(1, ["case_a"], epoch=1)
    assert store.rounds() == [0, 1]
    assert store.cases(1) == sorted(CASES), "cases that were not refreshed are carried over"
    assert not list(store.root.glob("*.partial"))


def test_a_network_with_nan_is_named(make_stage):
    broken = lambda image: torch.full((2, *SHAPE), float("nan"))  # noqa: E731
    with pytest.raises(ValueError, match=r"case_a.*NaN"):
        make_stage(predict=broken).refresh(0, ["case_a"], epoch=0)


def test_a_strategy_that_the_sam_does_not_understand_is_refused_early(make_stage):
    backend = ThresholdSAM()
    backend.prompt_kinds = frozenset({"box"})
    with pytest.raises(UserError, match="understands box only"):
        make_stage(backend)


def test_a_channel_that_the_image_lacks_is_refused(make_stage):
    with pytest.raises(UserError, match="sam_channel is 2"):
        make_stage(config=SemiSAMConfig(sam_channel=2)).refresh(0, ["case_a"], epoch=0)


def test_two_processes_share_a_round(make_stage, store):
    """Threads stand in for processes: everything they share are files and a barrier."""
    barrier, summaries = threading.Barrier(2, timeout=30), {}

    def run(rank: int) -> None:
        summaries[rank] = make_stage().refresh(0, list(CASES), epoch=0, rank=rank, world_size=2, barrier=barrier.wait)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.cases(0) == sorted(CASES)
    assert summaries[0] == summaries[1]
    alone = make_stage().refresh(1, list(CASES), epoch=0)
    assert (alone.prompts, alone.agreement, alone.trust) == (
        summaries[0].prompts,
        summaries[0].agreement,
        summaries[0].trust,
    )


def test_the_log_says_what_happened(make_stage):
    lines: list[str] = []
    make_stage(log=lines.append).refresh(2, ["case_a"], epoch=5)
    (text,) = lines
    assert text.startswith("SAM round 2 (network of epoch 5): 1 cases in ")
    assert "class 1: 3 prompts, 0 collapsed (0 empty), network/SAM Dice 0." in text

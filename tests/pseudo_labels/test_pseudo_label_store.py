"""Rounds on disk: complete or invisible."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnunet_semisam.errors import UserError
from nnunet_semisam.pseudo_labels.rounds import Round
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore, foreground_locations

SHAPE = (6, 50, 70)


def pseudo_label(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, SHAPE).astype(np.int16), rng.random(SHAPE, dtype=np.float32)


def write_round(store: PseudoLabelStore, index: int, cases: dict[str, int]) -> None:
    store.begin(index)
    for case, seed in cases.items():
        store.write(index, case, *pseudo_label(seed), record={"seed": seed})
    store.commit(index, {"network_epoch": index})


def test_reads_back_what_was_written_within_a_step_of_confidence(store):
    write_round(store, 0, {"a": 1})
    label, confidence = store.open("a")
    expected_label, expected_confidence = pseudo_label(1)
    assert label.shape == confidence.shape == (1, *SHAPE)
    assert label.dtype == np.int8
    assert confidence.dtype == np.uint8
    assert np.array_equal(label[0], expected_label)
    assert np.abs(confidence[0] / 255 - expected_confidence).max() <= 0.5 / 255 + 1e-7
    assert np.array_equal(label[0, 2:4, 10:20, 5:9], expected_label[2:4, 10:20, 5:9]), "partial reads"


def test_many_labels_need_more_bits(store):
    store.begin(0)
    store.write(0, "a", np.full(SHAPE, 300), np.ones(SHAPE))
    store.commit(0, {})
    assert store.open("a")[0].dtype == np.int16
    assert store.open("a")[0][0, 0, 0, 0] == 300


@pytest.mark.parametrize(
    ("patch_size", "blocks"),
    [((64, 64, 64), (1, 6, 50, 64)), ((32, 32), (1, 1, 32, 32)), ((2, 20, 30), (1, 2, 20, 30))],
)
def test_blocks_suit_the_patches(tmp_path, patch_size, blocks):
    store = PseudoLabelStore(tmp_path, patch_size)
    write_round(store, 0, {"a": 0})
    assert store.open("a")[0].blocks == blocks


def test_an_unfinished_round_is_invisible_and_removed_by_the_next(store):
    assert store.latest_round() is None
    assert store.cases() == []
    store.begin(0)
    store.write(0, "a", *pseudo_label())
    assert store.rounds() == []
    write_round(PseudoLabelStore(store.root), 1, {"b": 0})
    assert store.rounds() == [1]
    assert sorted(folder.name for folder in store.root.iterdir()) == ["round_001"]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is Unix")
def test_kill_minus_nine_in_the_middle_of_a_round_leaves_the_previous_one(store):
    write_round(store, 0, {"a": 1})
    writer = f"""
import numpy as np
from nnunet_semisam.pseudo_labels.rounds import Round
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
store = PseudoLabelStore({str(store.root)!r})
store.begin(1)
for i in range(10**6):
    store.write(1, f"case_{{i}}", np.ones((6, 50, 70), dtype=np.int16), np.ones((6, 50, 70)))
    print(i, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", writer], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.kill()
    process.wait()
    assert (store.root / "round_001.partial").is_dir(), "it was killed in the middle"
    assert store.rounds() == [0]
    assert np.array_equal(store.open("a")[0][0], pseudo_label(1)[0])
    write_round(store, 1, {"b": 2})
    assert store.cases(1) == ["a", "b"]


def test_cases_that_were_not_refreshed_are_carried_over_without_a_copy(store):
    write_round(store, 0, {"a": 1, "b": 2})
    write_round(store, 1, {"b": 3, "c": 4})
    assert store.cases() == ["a", "b", "c"]
    assert np.array_equal(store.open("a")[0][0], pseudo_label(1)[0])
    assert np.array_equal(store.open("b")[0][0], pseudo_label(3)[0])
    assert np.array_equal(store.open("b", 0)[0][0], pseudo_label(2)[0])
    files = [store.folder(r) / "label" / "a.b2nd" for r in (0, 1)]
    assert os.path.samefile(*files)
    assert {case: s["round"] for case, s in store.provenance(1)["cases"].items()} == {"a": 0, "b": 1, "c": 1}
    store.prune(set())
    assert np.array_equal(store.open("a")[0][0], pseudo_label(1)[0]), "a round is complete by itself"
    assert store.locations("a")[1].shape[1] == 4


def test_prune_keeps_what_checkpoints_name_and_the_latest(store):
    for index in range(5):
        write_round(store, index, {"a": index})
    store.prune({1, 3})
    assert store.rounds() == [1, 3, 4]


def test_a_resumed_run_forgets_the_future_it_left(store):
    for index in range(4):
        write_round(store, index, {"a": index})
    write_round(store, 2, {"a": 9})
    assert store.rounds() == [0, 1, 2]
    assert np.array_equal(store.open("a")[0][0], pseudo_label(9)[0])


def test_readers_of_a_round_survive_its_removal(store):
    write_round(store, 0, {"a": 1})
    label, _ = store.open("a", 0)
    write_round(store, 1, {"a": 2})
    store.prune(set())
    assert np.array_equal(label[0], pseudo_label(1)[0])


def test_several_processes_fill_one_round(store):
    store.begin(0)
    for case in ("a", "b"):
        PseudoLabelStore(store.root).write(0, case, *pseudo_label())
    store.commit(0, {})
    assert store.cases() == ["a", "b"]


def test_locations_are_confident_voxels_of_each_label(store):
    label, confidence = pseudo_label()
    store.begin(0)
    store.write(0, "a", label, confidence, min_confidence=0.8)
    store.commit(0, {})
    found = store.locations("a")
    assert sorted(found) == [1, 2]
    for value, places in found.items():
        assert (places[:, 0] == 0).all()
        _, z, y, x = places.T
        assert (label[z, y, x] == value).all()
        assert (confidence[z, y, x] >= 0.8).all()
        assert len(np.unique(places, axis=0)) == len(places) > 100


def test_locations_are_a_bounded_draw_that_repeats():
    label, usable = np.ones((20, 20, 20), dtype=np.int8), np.ones((20, 20, 20), dtype=bool)
    first, second = (foreground_locations(label, usable, "a")[1] for _ in range(2))
    assert first.shape == (2000, 4)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, foreground_locations(label, usable, "b")[1])
    assert foreground_locations(label, usable, "a", max_locations=7)[1].shape == (7, 4)
    assert foreground_locations(label, ~usable, "a")[1].shape == (0, 4)
    assert foreground_locations(np.zeros_like(label), usable, "a") == {}


def test_provenance_is_plain_json(store):
    write_round(store, 3, {"a": 1})
    text = (store.folder(3) / "provenance.json").read_text("utf-8")
    assert json.loads(text) == {"round": 3, "network_epoch": 3, "cases": {"a": {"round": 3, "seed": 1}}}


def test_an_unknown_case_or_round_is_a_clear_error(store):
    with pytest.raises(UserError, match="No pseudo-label of case 'a'"):
        store.open("a")
    write_round(store, 0, {"a": 1})
    with pytest.raises(UserError, match=r"there are the rounds \[0\]"):
        store.locations("b")


@pytest.mark.parametrize("bad", [np.full(SHAPE, np.nan), np.full(SHAPE, 1.5), np.full(SHAPE, -0.1), np.ones((2, 2, 2))])
def test_confidence_out_of_range_or_shape_is_refused(store, bad):
    store.begin(0)
    with pytest.raises(ValueError, match="confidence"):
        store.write(0, "a", np.zeros(SHAPE, dtype=np.int16), bad)


def test_a_changed_or_cut_file_of_a_round_gives_a_patch_or_an_error_that_names_the_case(tmp_path):
    """Whatever the bytes: labels that the network knows and confidences in their range, or a line for the user."""
    store = PseudoLabelStore(tmp_path)
    store.begin(0)
    label, confidence = (array[:, :12, :14] for array in pseudo_label())
    store.write(0, "case", label, confidence)
    store.commit(0, {})
    files = sorted(path for path in store.folder(0).rglob("case.*") if path.suffix in (".b2nd", ".npz"))
    whole = {path: path.read_bytes() for path in files}
    box = [[0, 6], [-2, 10], [4, 16]]

    @settings(max_examples=60, deadline=None)
    @example(1, 1.0, [(0.1328125, 128)])  # blosc2 overflows at a number in its metadata
    @given(
        st.integers(0, len(files) - 1),
        st.floats(0, 1),
        st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4),
    )
    def try_damage(which, length, changes):
        path = files[which]
        content = bytearray(whole[path])
        for place, value in changes:
            content[int(place * len(content))] = value
        for each, good in whole.items():
            each.unlink()  # a reader may still have the file before mapped
            each.write_bytes(bytes(content[: round(length * len(content))]) if each == path else good)
        now = Round(PseudoLabelStore(tmp_path), 0, highest_label=2)
        try:
            patch = now.crop("case", box, (6, 12, 14))
            places = now.foreground_locations("case")
        except UserError as caught:
            error = str(caught)
        else:
            assert patch[0].shape == patch[1].shape == (1, 6, 12, 12)
            assert -1 <= patch[0].min() <= patch[0].max() <= 2
            assert patch[1].dtype == np.uint8
            assert all(found.ndim == 2 and found.shape[1] == 4 for found in places.values())
            return
        assert "case" in error
        assert len(error) < 2000

    try_damage()

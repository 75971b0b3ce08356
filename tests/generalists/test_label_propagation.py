"""Labels travel from labeled cases to others through the memory of a SAM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_video import BrightFollower
from tiny_world import classes

from nnunet_semisam.generalists.base import CaseInput, GeneralistContext
from nnunet_semisam.generalists.build import build_ensemble
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.label_propagation import LabelPropagation, evenly, memory_slices
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.settings import Settings

SHAPE = (7, 30, 36)


def box_volume(first: int, last: int, shift: int = 0, column: int = 6) -> np.ndarray:
    volume = np.zeros(SHAPE, dtype=bool)
    volume[first:last, 8 + shift : 20 + shift, column : column + 10] = True
    return volume


class Labeled:
    """Labeled cases: what is bright in the image is class 1; ``patients`` says whose cases they are."""

    def __init__(self, cases: dict[str, np.ndarray], patients: dict[str, str] | None = None) -> None:
        self.images, self.patients, self.read = cases, patients or {}, []
        self.labels = {name: image.astype(np.int16) for name, image in cases.items()}

    @property
    def cases(self) -> list[str]:
        return list(self.images)

    def group_of(self, case: str) -> str:
        return self.patients.get(case, case)

    def load_image(self, case: str) -> np.ndarray:
        self.read.append(case)
        return (self.images[case][None] > 0).astype(np.float32)

    def load_label(self, case: str) -> np.ndarray:
        self.read.append(case)
        return self.labels[case]


@pytest.fixture
def sam(monkeypatch) -> BrightFollower:
    sam = BrightFollower()
    monkeypatch.setattr("nnunet_semisam.generalists.video_sam.build_backend", lambda name, options: sam)
    return sam


def built(tmp_path, labeled: Labeled, count: int = 1, **block) -> LabelPropagation:
    settings = Settings.of(use_sam=True, sam={"models": ["label_propagation"]}, label_propagation=block)
    cache = EmbeddingCache(tmp_path, "2d", 1.0)
    context = GeneralistContext(settings, classes(count), cache, (5.0, 1.0, 1.0), torch.device("cpu"), None, labeled)
    (member,) = build_ensemble(context).members
    return member


def case_of(volume: np.ndarray, name: str = "new", specialist: float = np.nan) -> CaseInput:
    """A case; the specialist's prediction is no number: whoever looks at it will show it."""
    return CaseInput(name, volume[None].astype(np.float32), np.full((2, *SHAPE), specialist, dtype=np.float32))


def test_a_label_travels_to_another_case_without_a_specialist(sam, tmp_path):
    labeled = Labeled({"a": box_volume(2, 5), "b": box_volume(1, 5)})
    real = box_volume(1, 6, shift=3)
    elsewhere = box_volume(1, 6, column=24)  # as bright, but not where the label was
    result = built(tmp_path, labeled).predict_case(case_of(real | elsewhere))
    found = result.prediction
    assert np.array_equal(found.probs[0] > 0.5, real)
    assert found.predicted.all()
    assert not found.rejected.any()
    assert float(found.reliability.min()) > 0.99  # all videos agree
    assert result.counts.prompts == (0,)


def test_every_slice_is_followed_once_for_each_insertion(sam, tmp_path):
    labeled = Labeled({"a": box_volume(2, 5)})
    built(tmp_path, labeled, insertions=2).predict_case(case_of(box_volume(1, 6)))
    assert sam.followed == [[2, 3, 4, 5, 6], [1, 0], [5, 6], [4, 3, 2, 1, 0]]


def test_videos_that_disagree_are_averaged_and_less_reliable(sam, tmp_path):
    labeled = Labeled({"a": box_volume(2, 5), "b": box_volume(2, 5, column=24)})
    first, second = box_volume(1, 6), box_volume(1, 6, column=24)
    found = built(tmp_path, labeled).predict_case(case_of(first | second)).prediction
    assert found.probs[0][first | second] == pytest.approx(0.5, abs=1e-4)  # one of two cases says yes
    assert found.reliability[0][first | second] == pytest.approx(0, abs=1e-4)  # one bit of entropy
    assert found.reliability[0][~(first | second)] == pytest.approx(1, abs=1e-2)


def test_a_labeled_case_is_never_predicted_from_its_own_patient(sam, tmp_path):
    cases = {name: box_volume(2, 5) for name in ("a_first", "a_second", "b")}
    labeled = Labeled(cases, patients={"a_first": "a", "a_second": "a"})
    built(tmp_path, labeled).predict_case(case_of(cases["a_first"], "a_first"))
    assert set(labeled.read) == {"b"}


def test_no_more_labeled_cases_are_read_than_the_settings_say(sam, tmp_path):
    labeled = Labeled({name: box_volume(2, 5) for name in "abcdefg"})
    built(tmp_path, labeled, labeled_cases=3).predict_case(case_of(box_volume(1, 6)))
    assert set(labeled.read) == {"a", "d", "g"}


def test_slices_with_ignored_voxels_are_not_remembered(sam, tmp_path):
    labeled = Labeled({"a": box_volume(1, 6)})
    labeled.labels["a"][:3, 0, 0] = 2  # nnU-Net's ignore label is the highest
    generalist = built(tmp_path, labeled)
    support = generalist._support("a")
    assert len(support.embedding) == 4  # slices 3 to 6
    labeled.labels["a"][:, 0, 0] = 2
    assert generalist._support("a") is None
    assert not generalist.predict_case(case_of(box_volume(1, 6))).prediction.predicted.any()


def test_a_class_that_no_labeled_case_shows_is_not_predicted(sam, tmp_path):
    labeled = Labeled({"a": box_volume(2, 5)})
    found = built(tmp_path, labeled, count=2).predict_case(case_of(box_volume(1, 6))).prediction
    assert found.predicted[0].all()
    assert not found.predicted[1].any()


def test_labeled_cases_are_encoded_once_however_many_cases_they_help(sam, tmp_path):
    generalist = built(tmp_path, Labeled({"a": box_volume(2, 5), "b": box_volume(2, 5)}))
    generalist.predict_case(case_of(box_volume(1, 6)))
    assert sam.encoded == 3 * SHAPE[0]
    generalist.predict_case(case_of(box_volume(1, 5), "another"))
    assert sam.encoded == 4 * SHAPE[0]


def test_memory_slices_span_the_structures_and_one_slice_beyond():
    masks = np.zeros((2, 12, 4, 4), dtype=bool)
    masks[0, 3:6], masks[1, 5:9] = True, True
    everything = np.ones(12, dtype=bool)
    assert memory_slices(masks, everything, 100) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert memory_slices(masks, everything, 3) == [2, 6, 9]
    assert memory_slices(np.zeros_like(masks), everything, 3) == []
    assert evenly([1, 2, 3], 1) == [2]

"""Labels travel from labeled cases to others by the features of a SAM."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from tiny_world import CASES, SHAPE, ThresholdSAM, classes, disc, load_image, predict, regions

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists import prototypes as prototypes_module
from nnunet_semisam.generalists.base import CaseInput, GeneralistContext
from nnunet_semisam.generalists.build import build_ensemble, check_generalists
from nnunet_semisam.generalists.case_memory import CaseMemory, CaseSummary
from nnunet_semisam.generalists.class_prototypes import (
    mean_entropy,
    mean_prototypes,
    probabilities,
    prototypes_of,
    sides_of,
)
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.feature_grid import FeatureGrid, dense_features
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.sam.base import Embedding
from nnunet_semisam.settings import Settings

SPACING = (5.0, 1.0, 1.0)


class ColourSAM(ThresholdSAM):
    """Its features are the image and its negative, one cell for 2 x 2 pixels."""

    fingerprint = "colour-1"

    def encode(self, images):
        self.encoded += len(images)
        small = torch.nn.functional.avg_pool2d(images[:, :1], 2)
        return Embedding({"image": torch.cat([small, 1 - small], dim=1)}, tuple(images.shape[2:]))


class Labeled:
    """Labeled cases; ``patients`` says whose they are."""

    def __init__(self, *cases: str, patients: dict[str, str] | None = None) -> None:
        self.cases, self.patients, self.read = list(cases), patients or {}, []

    def group_of(self, case: str) -> str:
        return self.patients.get(case, case)

    def load_image(self, case: str) -> np.ndarray:
        return load_image(case)

    def load_label(self, case: str) -> np.ndarray:
        self.read.append(case)
        return disc(CASES[case], 9).astype(np.int16)


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Return a function that builds the generalist; ``backend`` is the SAM that it loads."""
    backend = ColourSAM()
    monkeypatch.setattr(prototypes_module, "build_backend", lambda name, options: backend)

    def build(labeled, labels=None, **block):
        settings = Settings.of(use_sam=True, sam={"models": ["prototypes"]}, prototypes=block)
        cache = EmbeddingCache(tmp_path, "2d", 1.0)
        context = GeneralistContext(
            settings, labels or classes(), cache, SPACING, torch.device("cpu"), predict, labeled
        )
        (member,) = build_ensemble(context).members
        return member

    build.backend = backend
    return build


def case(name: str, specialist: np.ndarray | None = None) -> CaseInput:
    image = load_image(name)
    return CaseInput(name, image, predict(image).numpy() if specialist is None else specialist)


def blind() -> np.ndarray:
    """A specialist that sees nothing anywhere."""
    return np.stack([np.full(SHAPE, 0.95), np.full(SHAPE, 0.05)]).astype(np.float32)


# ------------------------------------------------------------------------------------------------- cells and voxels


def test_voxels_are_counted_in_the_cells_that_they_lie_in():
    grid = FeatureGrid((3, 2), (2, 1), (1.0, 1.0))
    counted = grid.to_cells(torch.tensor([[[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]]))
    assert counted.flatten().tolist() == pytest.approx([2.5, 1.5]), "the middle row is shared by both cells"


def test_cells_of_padding_get_no_voxel_and_give_none_a_value():
    grid = FeatureGrid((4,), (4,), (0.5,))  # four voxels in the first two of four cells
    assert grid.to_cells(torch.ones(1, 4)).tolist() == [[2.0, 2.0, 0.0, 0.0]]
    assert grid.to_voxels(torch.tensor([[0.0, 1.0, 9.0, 9.0]])).tolist() == [[0.0, 0.25, 0.75, 1.0]]


@pytest.mark.parametrize("covered", [(1.0, 1.0, 1.0), (1.0, 0.75, 0.9)])
def test_nothing_is_lost_between_voxels_and_cells(covered):
    grid = FeatureGrid((5, 9, 7), (2, 4, 4), covered)
    masks = torch.rand(2, 5, 9, 7)
    assert grid.to_cells(masks).sum().item() == pytest.approx(masks.sum().item(), rel=1e-5)
    assert torch.allclose(grid.to_voxels(torch.ones(2, 2, 4, 4)), torch.ones(2, 5, 9, 7))


def test_the_deepest_feature_map_is_compared():
    maps = {"fine": torch.zeros(1, 8, 16, 16), "deep": torch.ones(1, 4, 4, 4), "token": torch.zeros(1, 9)}
    assert torch.equal(dense_features(Embedding(maps, (32, 32))), maps["deep"])
    with pytest.raises(ValueError, match="no feature map"):
        dense_features(Embedding({"token": torch.zeros(1, 9)}, (32, 32)))


# --------------------------------------------------------------------------------------------------- the arithmetic


def test_prototypes_are_normalised_means_over_the_voxels_of_a_class():
    features = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])  # (1, c=2, two cells)
    shares = torch.tensor([[[1.0, 0.0], [2.0, 1.0], [0.0, 0.0]]])  # three sides
    found = prototypes_of(features, shares)
    assert torch.allclose(found, torch.tensor([[1.0, 0.0], [6 / math.sqrt(52), 4 / math.sqrt(52)], [0.0, 0.0]]))


def test_cases_count_alike_however_large_and_a_missing_class_counts_nothing():
    first, second = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    mean = mean_prototypes([first, second])
    assert torch.allclose(mean, torch.tensor([[math.sqrt(0.5), math.sqrt(0.5)], [0.0, 1.0]]))
    weighed = mean_prototypes([first, second], [3.0, 4.0])
    assert torch.allclose(weighed[0], torch.tensor([0.6, 0.8]))


def test_probabilities_are_a_softmax_over_the_classes_that_have_a_prototype():
    alike = torch.tensor([[0.1, 0.3, 0.9]]).reshape(1, 3, 1)
    known = torch.tensor([True, True, False])
    probs, certainty = probabilities(alike, known, classes(2), temperature=0.2)
    p = 1 / (1 + math.exp(-1.0))
    assert probs.flatten().tolist() == pytest.approx([p, 0.0])
    expected = 1 + (p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2)
    assert certainty.flatten().tolist() == pytest.approx([expected, 0.0])


def test_regions_are_compared_with_their_own_outside():
    alike = torch.tensor([[0.1, 0.5, 0.3, 0.5]]).reshape(1, 4, 1)  # outside of both regions, inside of both
    probs, certainty = probabilities(alike, torch.ones(4, dtype=torch.bool), regions(), temperature=0.1)
    assert probs.flatten().tolist() == pytest.approx([1 / (1 + math.exp(-2.0)), 0.5])
    assert certainty.flatten().tolist()[1] == pytest.approx(0.0, abs=1e-6)
    half = torch.tensor([True, False, True, True])
    assert probabilities(alike, half, regions(), 0.1)[0].flatten().tolist()[1] == 0.0


def test_voxels_of_the_ignore_label_lie_on_no_side():
    label = np.array([0, 1, 2, 3], dtype=np.int16)
    assert sides_of(label, classes(2)).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert sides_of(label, regions()).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]]


def test_entropy_is_a_share_of_the_largest():
    assert mean_entropy(np.full((4, 3), 0.25), classes(3)) == pytest.approx(1.0)
    assert mean_entropy(np.array([[1.0, 0.5], [0.0, 0.5]]), classes(1)) == pytest.approx(0.5, abs=1e-4)
    assert mean_entropy(np.full((2, 3), 0.5), regions()) == pytest.approx(1.0)
    assert mean_entropy(np.array([[1.0], [0.0]]), regions()) == pytest.approx(0.0, abs=1e-4)


# ------------------------------------------------------------------------------------------------------- whole cases


def test_a_case_is_found_from_the_label_of_another(built):
    prediction = built(Labeled("case_a"), where="everywhere").predict_case(case("case_c", blind())).prediction
    found, truth = prediction.probs[0] > 0.5, disc(CASES["case_c"], 9)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    assert prediction.predicted.all()
    assert not prediction.rejected.any()
    assert 0 <= prediction.reliability.min() <= prediction.reliability.max() <= 1


def test_by_default_prototypes_count_in_the_windows_of_the_specialists_components(built):
    member = built(Labeled("case_a"))
    predicted = member.predict_case(case("case_c")).prediction.predicted[0]
    assert predicted[1:4].any(axis=(1, 2)).all()
    assert not predicted[[0, 4]].any()
    assert 0 < predicted.mean() < 0.3
    assert not member.predict_case(case("case_c", blind())).prediction.predicted.any()


def test_a_class_that_no_labeled_case_shows_is_not_predicted(built):
    member = built(Labeled("case_a"), classes(2), where="everywhere")
    specialist = np.stack([np.full(SHAPE, 0.8), np.full(SHAPE, 0.1), np.full(SHAPE, 0.1)]).astype(np.float32)
    prediction = member.predict_case(case("case_c", specialist)).prediction
    assert prediction.predicted[0].all()
    assert not prediction.predicted[1].any()
    assert prediction.probs[1].max() == 0


def test_regions_are_predicted(built):
    member = built(Labeled("case_a"), regions(), where="everywhere")
    prediction = member.predict_case(case("case_c", np.full((2, *SHAPE), 0.1, dtype=np.float32))).prediction
    truth = disc(CASES["case_c"], 9)
    assert (prediction.probs[0] > 0.5)[truth].mean() > 0.9
    assert not prediction.predicted[1].any(), "no labeled voxel lies in the inner region"


def test_cases_are_encoded_once_and_labels_read_once(built):
    labeled = Labeled("case_a", "case_b")
    member = built(labeled)
    results = [member.predict_case(case("case_c")) for _ in range(2)]
    assert built.backend.encoded == 3 * SHAPE[0]
    assert labeled.read == ["case_a", "case_b"]
    assert [result.cache_hit for result in results] == [False, True]


def test_a_labeled_case_never_sees_the_prototypes_of_its_own_patient(built, monkeypatch):
    labeled = Labeled("case_a", "case_b", "case_c", patients={"case_a": "anna", "case_b": "anna"})
    member = built(labeled)
    used = []
    original = prototypes_module.mean_prototypes
    monkeypatch.setattr(
        prototypes_module, "mean_prototypes", lambda found, *rest: used.append(found) or original(found, *rest)
    )
    member.predict_case(case("case_a"))
    summaries = member._labeled
    assert [id(each) for each in used[0]] == [id(summaries["case_c"].prototypes)]


def test_nothing_is_predicted_for_a_labeled_case_if_those_of_all_other_patients_are_damaged(built):
    class Damaged(Labeled):
        def load_label(self, case):
            if case == "case_b":
                raise UserError("case_b is damaged.")
            return super().load_label(case)

    member = built(Damaged("case_a", "case_b"))
    assert not member.predict_case(case("case_a")).prediction.predicted.any()
    assert member.predict_case(case("case_c")).prediction.predicted.any()


def test_damaged_labeled_cases_are_left_out_and_named(built, caplog):
    class Damaged(Labeled):
        def load_label(self, case):
            if case != "case_a":
                raise UserError(f"{case} is damaged.")
            return super().load_label(case)

    built(Damaged("case_a", "case_b")).predict_case(case("case_c"))
    assert "1 labeled cases give no prototypes: case_b. case_b is damaged." in caplog.text
    with pytest.raises(UserError, match=r"no labeled case can be used for prototypes\. case_b is damaged"):
        built(Damaged("case_b")).predict_case(case("case_c"))


# ------------------------------------------------------------------------------------------------ from round to round


def summary(angle: float, uncertainty: float) -> CaseSummary:
    overall = torch.tensor([math.cos(angle), math.sin(angle)])
    return CaseSummary(overall[None].repeat(2, 1), overall, uncertainty)


def test_the_most_alike_certain_cases_are_neighbours():
    memory = CaseMemory("sam")
    assert memory.threshold(0.1) is None
    memory.update({f"case_{i}": summary(0.1 * i, 0.1 * i) for i in range(1, 11)})
    threshold = memory.threshold(0.1)
    assert threshold == pytest.approx(np.quantile(0.1 * np.arange(1, 11), 0.9))
    found = memory.neighbours("case_9", summary(0.9, 0).overall, threshold, {"labeled": summary(0.85, 0.0)}, 3)
    assert [round(math.acos(cosine), 2) for _, cosine in found] == [0.05, 0.1, 0.2]
    assert memory.neighbours("x", summary(0.9, 0).overall, threshold, {}, 10) == [], "nine are certain"


def test_nothing_is_corrected_by_cases_that_are_not_alike():
    memory = CaseMemory("sam")
    memory.update({"one": summary(math.pi, 0.1), "two": summary(math.pi, 0.2)})
    assert memory.neighbours("x", summary(0.0, 0).overall, 1.0, {}, 2) == []


def test_uncertain_cases_are_corrected_by_their_neighbours_after_the_round(built, monkeypatch):
    member = built(Labeled("case_a"), uncertain_share=0.5, neighbours=1)
    weights = []
    original = prototypes_module.mean_prototypes
    monkeypatch.setattr(
        prototypes_module, "mean_prototypes", lambda found, *rest: weights.append(rest) or original(found, *rest)
    )
    unsure = case("case_c", np.full((2, *SHAPE), 0.5, dtype=np.float32))
    for each in (case("case_b"), unsure):
        member.predict_case(each)
    assert weights == [(), ()], "within a round nothing is known of its cases"
    member.end_round()
    for each in (case("case_b"), unsure):
        member.predict_case(each)
    assert weights[2] == ()
    assert len(weights[3][0]) == 1, "one neighbour, weighed by its cosine"


def test_a_resumed_generalist_predicts_the_same(built, tmp_path):
    member = built(Labeled("case_a"), uncertain_share=1.0, neighbours=2, where="everywhere")
    member.predict_case(case("case_b"))
    member.predict_case(case("case_c"))
    member.end_round()
    torch.save({"memory": member.state_dict()}, tmp_path / "checkpoint.pth")
    resumed = built(Labeled("case_a"), uncertain_share=1.0, neighbours=2, where="everywhere")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pth", weights_only=True)["memory"])
    assert resumed.memory.cases.keys() == {"case_b", "case_c"}
    first, again = (each.predict_case(case("case_c")).prediction for each in (member, resumed))
    np.testing.assert_allclose(first.probs, again.probs, atol=2e-3)  # remembered in half precision


def remembered(prototypes: torch.Tensor) -> dict:
    return {"prototypes": prototypes, "overall": torch.zeros(2), "uncertainty": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "other"}, "of another SAM"),
        ({"cases": {"x": remembered(torch.zeros(2))}}, "something else"),
        ({"cases": {"x": remembered(torch.full((2, 2), torch.nan))}}, "NaN"),
        ({"cases": {"x": remembered(torch.zeros(2, 2)), "y": remembered(torch.zeros(3, 2))}}, "different shapes"),
    ],
)
def test_a_memory_that_cannot_be_used_is_refused(change, message):
    memory = CaseMemory("sam")
    memory.update({"one": summary(0.0, 0.1)})
    with pytest.raises(ValueError, match=message):
        memory.load_state_dict({"fingerprint": "sam", "cases": {}, **change})
    assert list(memory.cases) == ["one"]


# --------------------------------------------------------------------------------------------------------- settings


def test_prototypes_and_a_sam_predict_together(tmp_path):
    settings = Settings.of(use_sam=True, sam={"models": ["nano", "prototypes"]})
    check_generalists(settings)
    cache = EmbeddingCache(tmp_path, "2d", 1.0)
    labeled = Labeled("case_a", "case_b")
    context = GeneralistContext(settings, classes(), cache, SPACING, torch.device("cpu"), predict, labeled)
    ensemble = build_ensemble(context)
    result = ensemble.predict_case(case("case_c"))
    assert ensemble.name == "nano+prototypes"
    assert len(result.members) == 2
    assert result.members[1].cache_hit, "the SAM has encoded the same slices"
    assert list(ensemble.state_dict()) == ["prototypes"]
    ensemble.end_round()
    assert list(ensemble.state_dict()["prototypes"]["cases"]) == ["case_c"]


def test_an_encoder_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"Unknown SAM model 'nanno'\. Did you mean 'nano'"):
        Settings.of(prototypes={"encoder": "nanno"})


def test_a_channel_that_images_lack_is_refused_before_the_training():
    settings = Settings.of(use_sam=True, sam={"models": ["prototypes"]}, prototypes={"channel": 1})
    with pytest.raises(UserError, match=r"prototypes: \{channel: 1\}"):
        check_generalists(settings, image_channels=1)


def test_the_real_nano_sam_says_how_much_of_its_input_an_image_takes(tmp_path):
    from nnunet_semisam.sam import BackendOptions, build_backend

    backend = build_backend("nano", BackendOptions(torch.device("cpu")))
    assert backend.covered((100, 50)) == (1.0, 0.5)
    assert dataclasses.asdict(Settings.of().block("prototypes"))["encoder"] == "nano"


def test_what_is_remembered_is_what_a_resumed_run_reads():
    """A state in half precision beside memory in single precision: a resumed run found other neighbours."""
    summary = CaseSummary(torch.rand(2, 3), torch.rand(3), 0.25)
    memory, resumed = CaseMemory("sam"), CaseMemory("sam")
    memory.update({"case_a": summary})
    resumed.load_state_dict(memory.state_dict())
    assert torch.equal(resumed.cases["case_a"].prototypes, memory.cases["case_a"].prototypes)
    assert torch.equal(resumed.cases["case_a"].overall, memory.cases["case_a"].overall)


def test_padding_is_no_part_of_what_is_alike(built, monkeypatch):
    """A SAM that pads: the lower half of each map is constant, and would make all cases alike."""
    original = ColourSAM.encode

    def padded(self, images):
        embedding = original(self, images)
        features = embedding.features["image"]
        embedding.features["image"] = torch.cat([features, torch.full_like(features, 9.0)], dim=2)
        return embedding

    plain = built(Labeled("case_a"))
    monkeypatch.setattr(ColourSAM, "fingerprint", "colour-padded")
    monkeypatch.setattr(ColourSAM, "encode", padded)
    monkeypatch.setattr(ColourSAM, "covered", lambda self, shape: (0.5, 1.0))
    pads = built(Labeled("case_a"))
    label = disc(CASES["case_a"], 9).astype(np.int16)
    overall = []
    for member, change in ((plain, original), (pads, padded)):
        monkeypatch.setattr(ColourSAM, "encode", change)
        monkeypatch.setattr(ColourSAM, "covered", lambda self, shape, c=change: (0.5 if c is padded else 1.0, 1.0))
        overall.append(member._summary(member._see(case("case_a")), label, 0.0).overall)
    torch.testing.assert_close(*overall)

"""What every registered method promises, whatever its idea."""

from __future__ import annotations

import copy
import difflib
import inspect
import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_students import (
    LEARNING,
    NOW,
    SPATIAL,
    K,
    StoredPseudoLabels,
    Student,
    deep_loss,
    labels_of,
    loader_batches,
    make_batches,
    make_method,
    make_pass,
    make_step,
    target_settings,
)
from torch import Tensor, nn

from nnunet_semisam.errors import UserError
from nnunet_semisam.gate.class_gate import GatedTarget
from nnunet_semisam.methods import METHODS, PseudoLabel, SSLMethod, UnlabeledBatch, UnlabeledTerm
from nnunet_semisam.methods.settings import UnmixedSettings, UntargetedSettings
from nnunet_semisam.training.optimisation import GRADIENT_CLIP_NORM, parameters_of

LOSSES = ["mse", "cross_entropy", "dice_ce"]
LOG = [
    "unlabeled_loss",
    "unlabeled_weight",
    "unlabeled_weighted",
    "unlabeled_extra",
    "unlabeled_confidence",
    "estimated_dice",
    *(f"labeled_dice_{k}" for k in range(K)),
    *(f"class_weight_{k}" for k in range(K)),
]
PSEUDO_LABEL_LOG = [
    "pseudo_label_loss",
    "pseudo_label_weight",
    "pseudo_label_weighted",
    "pseudo_label_confident",
]


@pytest.fixture(params=LEARNING)
def name(request) -> str:
    return request.param


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def dims(request) -> int:
    return request.param


@pytest.fixture(params=[False, True], ids=["classes", "regions"])
def has_regions(request) -> bool:
    return request.param


def mixing_of(name: str, cutmix: float, labeled_mix: float) -> dict[str, float]:
    """Return settings of the driver's mixing; a method that it leaves alone takes no other."""
    if issubclass(METHODS.get(name).Settings, UnmixedSettings) and (cutmix or labeled_mix):
        pytest.skip("mixes images in its own way")
    return {"cutmix_probability": cutmix, "labeled_mix_probability": labeled_mix}


def networks_of(method: SSLMethod, student: nn.Module) -> list[nn.Module]:
    """Return the student and all networks that the method owns."""
    parts = [getattr(part, "network", part) for part in method.state_parts().values()]
    return [student, *(part for part in parts if isinstance(part, nn.Module))]


def learners_of(term: UnlabeledTerm, student: nn.Module) -> list[nn.Module]:
    """Return the modules that learn a term: a learner that is no module holds them as attributes."""
    learner = term.learner or student
    held = [learner] if isinstance(learner, nn.Module) else list(vars(learner).values())
    return [each for each in held if isinstance(each, nn.Module)]


def views_of(unlabeled: UnlabeledBatch) -> list[Tensor]:
    return [unlabeled.weak, unlabeled.strong, unlabeled.strong2]


def trained_by_itself(method: SSLMethod) -> set[int]:
    return {id(parameter) for optimizer in method.optimizers() for parameter in parameters_of(optimizer)}


def spy_on_terms(method: SSLMethod) -> list[UnlabeledTerm]:
    """Return a list that every term is added to as it is yielded."""
    seen: list[UnlabeledTerm] = []
    original = method.terms

    def terms(*args: object) -> Iterable[UnlabeledTerm]:
        for term in original(*args):
            seen.append(term)
            yield term

    method.terms = terms
    return seen


# ---------------------------------------------------------------------------------------------------------- the terms


def test_terms_are_constants_of_the_right_form(name, dims, has_regions):
    method, student = make_method(name, dims, has_regions)
    labeled, unlabeled = make_batches(dims, has_regions)
    terms = list(method.terms(student, labeled, unlabeled, NOW))
    assert terms
    for term in terms:
        assert term.images.shape == unlabeled.strong.shape
        assert term.target.shape == (2, K, *SPATIAL[dims])
        assert term.confidence.shape == (2, 1, *SPATIAL[dims])
        assert not term.target.requires_grad
        assert not term.confidence.requires_grad
        assert 0 <= term.target.min() <= term.target.max() <= 1
        assert 0 <= term.confidence.min() <= term.confidence.max() <= 1
        if not has_regions:
            torch.testing.assert_close(term.target.sum(1), torch.ones(2, *SPATIAL[dims]))
        assert term.annotated is None or term.annotated.dtype == torch.bool


@pytest.mark.parametrize(("cutmix", "labeled_mix"), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
def test_each_learner_gets_its_gradient_through_the_images_alone(name, dims, has_regions, cutmix, labeled_mix):
    mixing = mixing_of(name, cutmix, labeled_mix)
    method, student = make_method(name, dims, has_regions, **mixing)
    labeled, unlabeled = make_batches(dims, has_regions, with_pseudo=False)
    terms = spy_on_terms(method)
    for loss in make_pass(method).losses(student, labeled, unlabeled, NOW):
        for network in networks_of(method, student):
            network.zero_grad(set_to_none=True)
        assert loss.isfinite()
        loss.backward()
        learners = learners_of(terms[-1], student)
        for network in networks_of(method, student):
            for parameter_name, parameter in network.named_parameters():
                if not any(network is learner for learner in learners):
                    assert parameter.grad is None, parameter_name
                elif parameter_name.endswith("trunk.0.bias"):
                    continue  # instance norm takes the mean out again
                elif "coarse" not in parameter_name:  # one level is learned
                    assert parameter.grad.abs().sum() > 0, parameter_name


def test_networks_that_nobody_trains_want_no_gradient(name):
    method, student = make_method(name)
    trained = trained_by_itself(method)
    for network in networks_of(method, student)[1:]:
        assert all(p.requires_grad == (id(p) in trained) for p in network.parameters())


def test_learners_are_the_student_or_trained_by_the_method(name):
    method, student = make_method(name)
    for term in method.terms(student, *make_batches(), NOW):
        learners = learners_of(term, student)
        assert learners
        for learner in learners:
            assert learner is student or {id(p) for p in learner.parameters()} <= trained_by_itself(method)


def test_settings_of_the_driver_that_a_method_ignores_are_refused(name):
    method, student = make_method(name)
    ignored = not any(term.mixable for term in method.terms(student, *make_batches(), NOW))
    assert ignored == issubclass(method.Settings, UnmixedSettings)
    for setting in ("cutmix_probability", "labeled_mix_probability"):
        if ignored:
            with pytest.raises(UserError, match=setting):
                method.Settings(**{setting: 0.5})
    untargeted = not any(term.confidence.any() for term in method.terms(student, *make_batches(), NOW))
    assert untargeted == issubclass(method.Settings, UntargetedSettings)
    if untargeted:
        for changed in ({"loss": "mse"}, {"confidence": 0.9}):
            with pytest.raises(UserError, match=next(iter(changed))):
                method.Settings(**changed)


# ------------------------------------------------------------------------------------------------------- pseudo-labels


def test_a_learner_learns_each_voxel_of_the_pseudo_label_once(name, has_regions):
    method, student = make_method(name, has_regions=has_regions)
    labeled, unlabeled = make_batches(2, has_regions)
    terms = list(method.terms(student, labeled, unlabeled, NOW))
    carriers = [term for term in terms if term.learned_pseudo is not None]
    assert any(student in learners_of(term, student) for term in carriers)  # which generalists are prompted for
    for learner in {id(each): each for term in carriers for each in learners_of(term, student)}.values():
        mine = [term.learned_pseudo for term in carriers if learner in learners_of(term, student)]
        assert sum((pseudo.confidence > 0).int() for pseudo in mine).max() == 1
    without = method.terms(student, labeled, replace(unlabeled, pseudo=None), NOW)
    assert all(term.pseudo is None for term in without)


def test_no_term_learns_a_target_that_the_pseudo_label_contradicts(name, has_regions):
    """A pseudo-label that is sure of another class everywhere; only voxels of pasted labels are still learned."""
    method, student = make_method(name, has_regions=has_regions)
    labeled, unlabeled = make_batches(2, has_regions, with_pseudo=False)
    gate, sure = make_pass(method).gate, torch.ones_like(unlabeled.weak[:, :1])

    def terms(batch: UnlabeledBatch) -> list[UnlabeledTerm]:
        torch.manual_seed(0)  # boxes and shares of images
        return list(method.terms(student, labeled, batch, NOW))

    for index, before in enumerate(terms(unlabeled)):
        target = method.labels.hard(before.counted_target)
        opposite = 1 - target if has_regions else target.roll(1, dims=1)
        term = terms(replace(unlabeled, pseudo=PseudoLabel(opposite, sure)))[index]
        learned = gate.apply(term, torch.zeros_like(target), torch.ones(K)).confidence
        annotated = torch.zeros_like(sure, dtype=torch.bool) if term.annotated is None else term.annotated
        assert learned[~annotated].abs().max() == 0, index


@pytest.mark.parametrize(("cutmix", "labeled_mix"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_pseudo_label_is_mixed_exactly_as_the_images(name, dims, cutmix, labeled_mix):
    mixing = mixing_of(name, cutmix, labeled_mix)
    method, student = make_method(name, dims, **mixing)
    batch = 4
    constants = torch.arange(batch, dtype=torch.float32).view(-1, *[1] * (dims + 1)).expand(batch, 1, *SPATIAL[dims])
    target = torch.zeros(batch, K, *SPATIAL[dims]).scatter_(1, constants.long() % K, 1.0)
    unlabeled = UnlabeledBatch(
        constants, constants.clone(), PseudoLabel(target, (1 + constants) / 10), constants.clone()
    )
    labeled, _ = make_batches(dims, labeled=batch)
    labeled = replace(labeled, data=torch.full_like(labeled.data, -1.0))  # no unlabeled image has this value
    stored = StoredPseudoLabels(method.labels)
    learned: list[tuple[UnlabeledTerm, GatedTarget]] = []
    original = stored.loss

    driver = make_pass(method, pseudo_labels=stored)
    term_loss = driver._term_loss

    def note_images(term: UnlabeledTerm, *words: object) -> Tensor | None:
        now.append(term)
        return term_loss(term, *words)

    def loss(gated: GatedTarget) -> Tensor:
        learned.append((now[-1], gated))
        return original(gated)

    now: list[UnlabeledTerm] = []
    stored.loss, driver._term_loss = loss, note_images
    list(driver.losses(student, labeled, unlabeled, NOW))
    assert learned
    for term, pseudo in learned:
        from_unlabeled = term.images >= 0
        assert torch.equal(pseudo.confidence, torch.where(from_unlabeled, (1 + term.images) / 10, 0.0))
        shown = term.images.long()[from_unlabeled] % K
        assert torch.equal(pseudo.target.argmax(1, keepdim=True)[from_unlabeled], shown)
        if term.mixable:
            assert (term.images != constants).any() == bool(cutmix or labeled_mix)


def test_pseudo_labels_are_learned_before_the_start_of_the_method(name, has_regions):
    method, student = make_method(name, has_regions=has_regions, start=0.9)
    labeled, unlabeled = make_batches(2, has_regions)
    for view in views_of(unlabeled):
        view.requires_grad_()
    driver = make_pass(method, pseudo_labels=StoredPseudoLabels(method.labels))
    losses = 0
    for loss in driver.losses(student, labeled, unlabeled, NOW):
        loss.backward()
        losses += 1
    terms = method.terms(student, labeled, unlabeled, NOW)
    assert losses == sum(term.learned_pseudo is not None for term in terms) > 0
    assert any(view.grad is not None and view.grad.abs().sum() > 0 for view in views_of(unlabeled))
    assert student.head.weight.grad.abs().sum() > 0
    assert driver.log["pseudo_label_loss"] > 0
    assert driver.log["unlabeled_loss"] == 0


@pytest.mark.parametrize("reason", ["start", "gate"])
def test_while_nothing_can_be_learned_nothing_is_computed(name, reason):
    method, student = make_method(name, start=0.9 if reason == "start" else 0.0)
    driver = make_pass(method, {"dice": 0.95 if reason == "gate" else 0.0})
    labeled, unlabeled = make_batches(with_pseudo=False)
    list(driver.losses(student, labeled, unlabeled, NOW))  # measures
    seen = [network.seen for network in networks_of(method, student) if isinstance(network, Student)]
    for images in seen:
        images.clear()
    terms = spy_on_terms(method)
    assert not list(driver.losses(student, labeled, unlabeled, NOW))
    assert not terms
    assert not any(seen)


# ------------------------------------------------------------------------------------------------------------ training


class Run:
    """A training of a method on random batches, as the trainer does it."""

    def __init__(self, name: str, has_regions: bool = False, gate: dict | None = None, **settings: object) -> None:
        batch_norm = bool(settings.pop("batch_norm", False))
        self.has_regions = has_regions
        self.method, self.student = make_method(name, has_regions=has_regions, batch_norm=batch_norm, **settings)
        self.driver = make_pass(self.method, gate, pseudo_labels=StoredPseudoLabels(self.method.labels))
        self.step = make_step(self.driver, self.student)

    def batches(self, seed: int) -> tuple[dict, dict]:
        labeled, unlabeled = make_batches(2, self.has_regions, seed=seed)
        batch, unlabeled_batch = loader_batches(labeled, unlabeled)
        label = torch.stack([target > 0 for target in unlabeled.weak.expand(-1, K, -1, -1)])
        unlabeled_batch["pseudo_label"] = label if self.has_regions else label[:, :1].to(torch.int16)
        unlabeled_batch["pseudo_confidence"] = unlabeled.weak.sigmoid()
        unlabeled_batch["pseudo_weight"] = torch.ones(len(unlabeled.weak))
        return batch, unlabeled_batch

    def train(self, seeds: Iterable[int]) -> list[dict]:
        logs = []
        for seed in seeds:
            torch.manual_seed(seed)
            self.step.optimisation.follow_decay(1 - seed / 20)
            log = self.step(*self.batches(seed), NOW)
            logs.append({each: float(value) for each, value in log.items()})
        return logs

    def state(self) -> dict:
        """Return what the trainer puts into a checkpoint."""
        return {
            "student": self.student.state_dict(),
            "optimizer": self.step.optimisation.student.state_dict(),
            "method": {each: part.state_dict() for each, part in self.method.state_parts().items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.method.optimizers()],
            "gate": self.driver.gate.state_dict(),
            "unlabeled_pass": self.driver.state_dict(),
        }

    def load(self, state: dict) -> None:
        self.student.load_state_dict(state["student"])
        self.step.optimisation.student.load_state_dict(state["optimizer"])
        for each, part in self.method.state_parts().items():
            part.load_state_dict(state["method"][each])
        for optimizer, optimizer_state in zip(self.method.optimizers(), state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.driver.gate.load_state_dict(state["gate"])
        self.driver.load_state_dict(state["unlabeled_pass"])


def assert_same(first: object, second: object, place: str = "") -> None:
    """Compare nested states bit for bit."""
    if isinstance(first, Tensor):
        assert torch.equal(first, second), place
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for key in first:
            assert_same(first[key], second[key], f"{place}.{key}")
    elif isinstance(first, (list, tuple)):
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{place}[{index}]")
    else:
        assert first == second, place


@pytest.mark.parametrize("batch_norm", [False, True], ids=["instance norm", "batch norm"])
@pytest.mark.parametrize("reason", ["weight", "gate"])
def test_a_method_without_weight_is_the_supervised_training_bit_for_bit(name, reason, batch_norm):
    weight, dice = (0.0, 0.0) if reason == "weight" else (1.0, 0.95)
    run = Run(name, gate={"dice": dice, "measure_every": 2}, weight=weight, batch_norm=batch_norm)
    run.driver.pseudo_labels.constant = 0.0
    plain = copy.deepcopy(run.student)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    run.train(range(5))
    for seed in range(5):
        batch, _ = run.batches(seed)
        optimizer.zero_grad()
        deep_loss(plain(batch["data"]), batch["target"]).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), GRADIENT_CLIP_NORM)
        optimizer.step()
    assert_same(run.student.state_dict(), plain.state_dict())


def test_resumed_training_goes_on_bit_for_bit(name, has_regions, tmp_path):
    gate = {"dice": 0.05, "start": "any", "area_factor": 2.0}
    settings = target_settings(name, gate=gate, confidence=0.4)
    run = Run(name, has_regions, **settings)
    run.train(range(3))
    torch.save(run.state(), tmp_path / "state.pth")
    uninterrupted = run.train(range(3, 12))  # the gate measures at steps 10

    resumed = Run(name, has_regions, **settings)
    resumed.load(torch.load(tmp_path / "state.pth", weights_only=True))
    assert resumed.train(range(3, 12)) == uninterrupted
    assert_same(resumed.state(), run.state())
    assert any(log["unlabeled_loss"] + log["unlabeled_extra"] > 0 for log in uninterrupted)


SITUATIONS = {
    "no confident voxel": {"settings": {"confidence": 1.0}},
    "batch of one": {"batches": {"labeled": 1, "unlabeled": 1}},
    "fewer labeled": {"batches": {"labeled": 1, "unlabeled": 3}},
    "fewer unlabeled": {"batches": {"labeled": 3, "unlabeled": 2}},
    "ignore label": {"batches": {"ignore": True}},
    "no pseudo-label": {"batches": {"with_pseudo": False}},
    "class in no label": {"absent": True},
    "closed after the start": {"gate": {"dice": 0.9, "start": "any"}},
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_losses_and_gradients_are_finite_in_every_situation(name, has_regions, situation):
    given = SITUATIONS[situation]
    labeled, unlabeled = make_batches(2, has_regions, **given.get("batches", {}))
    if given.get("absent"):
        levels = [level.clone() for level in labeled.levels]
        for level in levels:
            if has_regions:
                level[:, 2] = False
            else:
                level[level == 2] = 0
        labeled = replace(labeled, levels=tuple(levels))
    for loss_name in LOSSES:
        settings = target_settings(name, loss=loss_name, **given.get("settings", {}))
        method, student = make_method(name, has_regions=has_regions, **settings)
        driver = make_pass(method, given.get("gate"), pseudo_labels=StoredPseudoLabels(method.labels))
        for _ in range(2):
            for loss in driver.losses(student, labeled, unlabeled, NOW):
                assert loss.isfinite()
                loss.backward()
        for network in networks_of(method, student):
            assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
        assert all(math.isfinite(value) for value in driver.log.values())


@pytest.mark.parametrize("loss", LOSSES)
def test_terms_without_confidence_are_exactly_zero(name, has_regions, loss):
    """Annotated voxels of mixed images are always learned: there only the others are left out."""
    settings = target_settings(name, confidence=1.0, loss=loss, labeled_mix_probability=0.0)
    method, student = make_method(name, has_regions=has_regions, **settings)
    terms = spy_on_terms(method)
    labeled, unlabeled = make_batches(2, has_regions, with_pseudo=False)
    for value in make_pass(method).losses(student, labeled, unlabeled, NOW):
        value.backward()
        if terms[-1].extra is not None:
            assert terms[-1].confidence.eq(0).all()  # what is learned of voxels; the rest is a loss of its own
        elif terms[-1].annotated is None:
            assert value.item() == 0.0
            for learner in learners_of(terms[-1], student):
                assert all(p.grad is None or p.grad.eq(0).all() for p in learner.parameters())
        else:
            assert terms[-1].confidence[~terms[-1].annotated].eq(0).all()


def test_log_holds_finite_plain_numbers_under_the_same_names_at_every_step(name, has_regions):
    method, student = make_method(name, has_regions=has_regions, start=0.5)
    labeled, unlabeled = make_batches(2, has_regions)
    for stored, names in ((None, LOG), (StoredPseudoLabels(method.labels), [*LOG, *PSEUDO_LABEL_LOG])):
        driver = make_pass(method, pseudo_labels=stored)
        for progress in (0.0, NOW, NOW):
            list(driver.losses(student, labeled, unlabeled, progress))
            assert sorted(driver.log) == sorted(names)
            assert all(type(value) is float and math.isfinite(value) for value in driver.log.values()), driver.log
        assert driver.log["unlabeled_loss"] + driver.log["unlabeled_extra"] > 0
        assert 0 <= driver.log["estimated_dice"] <= 1


def test_supervised_loss_of_networks_of_the_method_trains_them_alone(name):
    method, student = make_method(name)
    labeled, unlabeled = make_batches()
    loss = method.owned_loss(student, labeled, unlabeled, 0.5)
    assert loss is None or method.optimizers()
    if loss is not None:
        loss.backward()
        trained = trained_by_itself(method)
        parameters = [p for network in networks_of(method, student) for p in network.parameters()]
        assert any(p.grad is not None for p in parameters)
        assert all(p.grad is None or id(p) in trained for p in parameters)


# ------------------------------------------------------------------------------------------------- what is shipped


@pytest.mark.parametrize("batch_norm", [False, True])
def test_inference_network_fits_a_plain_one(name, batch_norm):
    method, student = make_method(name, batch_norm=batch_norm)
    Student(2, deep_supervision=False, batch_norm=batch_norm).load_state_dict(
        method.inference_network(student).state_dict()
    )


def test_ensemble_members_are_networks_that_fit_a_plain_one(name):
    method, _ = make_method(name)
    for member in method.ensemble_members:
        Student(2, deep_supervision=False).load_state_dict(method.state_parts()[member].state_dict())


def test_weights_that_come_after_the_setup_reach_the_inference_network(name):
    method, student = make_method(name)
    with torch.no_grad():
        student.head.bias.fill_(3.0)  # as -pretrained_weights does
    method.on_train_start(student)
    shipped, prompting = method.inference_network(student), method.prompting_network(student)
    for network in (shipped, prompting) if isinstance(prompting, Student) else (shipped,):
        assert network.head.bias.tolist() == [3.0] * K


@pytest.mark.parametrize("name", METHODS.names())
def test_loaders_make_one_or_two_strong_views(name):
    assert METHODS.get(name).strong_views in (1, 2)


def test_unknown_method_is_refused():
    with pytest.raises(UserError, match=r"semi-supervised method 'mean_techer'\. Did you mean 'mean_teacher'"):
        METHODS.get("mean_techer")


def test_supervised_has_nothing_to_learn_from_unlabeled_images():
    method = METHODS.get("supervised")(None, labels_of(False))
    assert not method.uses_unlabeled
    assert not list(method.terms(Student(2), *make_batches(), NOW))


# ----------------------------------------------------------------------------------------------------- the files

FILES = sorted({Path(inspect.getfile(METHODS.get(name))) for name in METHODS.names()})


def lines_of(file: Path) -> list[str]:
    """Return what a file says: no blank lines, no imports."""
    source, wanted, in_import = file.read_text().splitlines(), [], False
    for line in source:
        text = line.strip()
        if text.startswith(("from ", "import ")):
            in_import = text.endswith("(")
        elif in_import:
            in_import = text != ")"
        elif text:
            wanted.append(text)
    return wanted


def shared(first: list[str], second: list[str]) -> float:
    """Return the share of the shorter text's lines that the other has too, in order."""
    blocks = difflib.SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / min(len(first), len(second))


@pytest.mark.parametrize(
    "pair", list(itertools.combinations(FILES, 2)), ids=lambda pair: "-".join(f.stem for f in pair)
)
def test_methods_share_parts_and_not_lines(pair):
    share = shared(*(lines_of(file) for file in pair))
    assert share <= 0.4, f"{pair[0].name} and {pair[1].name} share {share:.0%} of their lines: make a part of it."


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_method_is_a_short_file(file):
    assert len(file.read_text().splitlines()) <= 120

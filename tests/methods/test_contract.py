"""What every registered method promises, whatever its idea."""

import math

import pytest
import torch
from tiny_students import SPATIAL, make_batches, make_method, make_student

from nnunet_semisam.methods import METHODS, PseudoLabel, UnlabeledBatch
from nnunet_semisam.methods.parts.losses import dice_and_cross_entropy
from nnunet_semisam.settings.config import SemiSAMConfig

K = 3
NOW = 0.7  # progress


@pytest.fixture(params=METHODS.names())
def name(request) -> str:
    return request.param


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def dims(request) -> int:
    return request.param


@pytest.fixture(params=[False, True], ids=["classes", "regions"])
def has_regions(request) -> bool:
    return request.param


@pytest.mark.parametrize("cutmix", [0.0, 1.0])
def test_unsupervised_loss_reaches_the_student_through_the_strong_view_alone(name, dims, has_regions, cutmix):
    method, student = make_method(name, dims, K, has_regions, cutmix_probability=cutmix)
    labeled, unlabeled = make_batches(dims, K, has_regions)
    unlabeled.weak.requires_grad_()
    unlabeled.strong.requires_grad_()
    method.unsupervised_loss(student, labeled, unlabeled, NOW).total.backward()
    assert unlabeled.strong.grad.abs().sum() > 0
    assert unlabeled.weak.grad is None
    for parameter_name, parameter in student.named_parameters():
        assert parameter.grad is not None, parameter_name
        if not parameter_name.endswith("trunk.0.bias"):  # instance norm takes the mean out again
            assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("cutmix", [0.0, 1.0])
def test_pseudo_label_term_reaches_the_student_through_the_strong_view(name, dims, has_regions, cutmix):
    method, student = make_method(name, dims, K, has_regions, cutmix_probability=cutmix)
    labeled, unlabeled = make_batches(dims, K, has_regions)
    unlabeled.strong.requires_grad_()
    terms = method.unsupervised_loss(student, labeled, unlabeled, NOW)
    pseudo = terms.pseudo
    dice_and_cross_entropy(terms.strong_logits, pseudo.target, pseudo.trust, torch.ones(K), has_regions).backward()
    assert unlabeled.strong.grad.abs().sum() > 0
    assert student.head.weight.grad.abs().sum() > 0
    assert student.trunk[0].weight.grad.abs().sum() > 0


def test_networks_that_the_method_does_not_train_by_itself_get_no_gradient(name, dims):
    method, student = make_method(name, dims, K, False)
    trained = {id(p) for o in method.optimizers() for group in o.param_groups for p in group["params"]}
    method.unsupervised_loss(student, *make_batches(dims, K, False), NOW).total.backward()
    for network in (method.deployable(student), method.opinion(student)):
        if network is not student:
            assert all(p.grad is None for p in network.parameters() if id(p) not in trained)


@pytest.mark.parametrize("cutmix", [0.0, 1.0])
def test_pseudo_label_is_mixed_exactly_as_the_images(name, dims, cutmix):
    method, student = make_method(name, dims, K, False, cutmix_probability=cutmix)
    batch = 4
    constants = torch.arange(batch, dtype=torch.float32).view(-1, *[1] * (dims + 1)).expand(batch, 1, *SPATIAL[dims])
    target = torch.zeros(batch, K, *SPATIAL[dims]).scatter_(1, constants.long() % K, 1.0)
    unlabeled = UnlabeledBatch(constants, constants.clone(), PseudoLabel(target, constants / 10))
    labeled, _ = make_batches(dims, K, False)
    student.seen.clear()
    terms = method.unsupervised_loss(student, labeled, unlabeled, NOW)
    shown = student.seen[-1]
    assert torch.equal(terms.pseudo.trust, shown / 10)
    assert torch.equal(terms.pseudo.target.argmax(1, keepdim=True), shown.long() % K)
    assert (shown != constants).any() == bool(cutmix)
    assert torch.equal(terms.strong_logits, student(shown)[0])


def test_without_pseudo_label_none_is_passed_on(name, dims, has_regions):
    method, student = make_method(name, dims, K, has_regions)
    terms = method.unsupervised_loss(student, *make_batches(dims, K, has_regions, with_pseudo=False), NOW)
    assert terms.pseudo is None
    assert terms.total.isfinite()


def test_before_its_start_the_method_costs_nothing_but_still_shows_sam_the_logits(name):
    method, student = make_method(name, 2, K, False, consistency_start=0.9)
    labeled, unlabeled = make_batches(2, K, False)
    student.seen.clear()
    silent = method.unsupervised_loss(student, labeled, UnlabeledBatch(unlabeled.weak, unlabeled.strong), NOW)
    assert silent.total is None
    assert not student.seen
    with_pseudo = method.unsupervised_loss(student, labeled, unlabeled, NOW)
    assert with_pseudo.total is None
    assert with_pseudo.strong_logits.requires_grad
    assert with_pseudo.pseudo is not None


@pytest.mark.parametrize("loss", ["mse", "cross_entropy", "dice_ce"])
def test_nothing_trusted_is_zero_and_never_nan(name, has_regions, loss):
    method, student = make_method(name, 2, K, has_regions, consistency_confidence=1.0, consistency_loss=loss)
    labeled, unlabeled = make_batches(2, K, has_regions)
    pseudo = PseudoLabel(unlabeled.pseudo.target, torch.zeros_like(unlabeled.pseudo.trust))
    terms = method.unsupervised_loss(student, labeled, UnlabeledBatch(unlabeled.weak, unlabeled.strong, pseudo), NOW)
    terms.total.backward()
    assert terms.total.item() == 0.0
    assert all(p.grad.eq(0).all() for p in student.parameters())


def test_log_holds_finite_plain_numbers_under_the_same_names_all_along(name, has_regions):
    method, student = make_method(name, 2, K, has_regions, consistency_start=0.5)
    labeled, unlabeled = make_batches(2, K, has_regions)
    logs = [method.unsupervised_loss(student, labeled, unlabeled, progress).log for progress in (0.0, NOW)]
    assert list(logs[0]) == list(logs[1])
    for log in logs:
        assert all(type(value) is float and math.isfinite(value) for value in log.values()), log


def test_labeled_loss_keeps_the_supervised_term(name):
    method, student = make_method(name, 2, K, False)
    labeled, _ = make_batches(2, K, False)
    supervised = student(labeled.data)[0].square().mean()
    method.labeled_loss(student, labeled, supervised, NOW).total.backward()
    assert student.head.weight.grad.abs().sum() > 0


def test_what_the_method_says_of_itself_is_in_range(name, has_regions):
    method, student = make_method(name, 2, K, has_regions)
    method.unsupervised_loss(student, *make_batches(2, K, has_regions), NOW)
    assert 0.0 <= method.expected_dice() <= 1.0
    trust = method.class_trust()
    assert trust is None or (len(trust) == K and all(0.0 <= value <= 1.0 for value in trust))


@pytest.mark.parametrize("deploy", ["teacher", "student"])
def test_deployed_network_fits_the_plain_one(name, deploy):
    method, student = make_method(name, 2, K, False, deploy=deploy)
    _, build_network = make_student(2, K)
    build_network().load_state_dict(method.deployable(student).state_dict())


def train(method, student, optimizer, seeds) -> list:
    """Take steps as :mod:`nnunet_semisam.training.step` does."""
    logs = []
    for seed in seeds:
        torch.manual_seed(seed)
        labeled, unlabeled = make_batches(2, K, method.has_regions, seed=seed)
        for each in (optimizer, *method.optimizers()):
            each.zero_grad()
        terms = method.unsupervised_loss(student, labeled, unlabeled, NOW)
        supervised = student(labeled.data)[0].square().mean()
        (terms.total + method.labeled_loss(student, labeled, supervised, NOW).total).backward()
        for each in (optimizer, *method.optimizers()):
            each.step()
        method.after_step(student)
        logs.append(dict(terms.log))
    return logs


def test_resumed_method_goes_on_bit_for_bit(name, has_regions, tmp_path):
    settings = {
        "maturity_dice": 0.05,
        "maturity_start": "any",
        "area_prior_factor": 2.0,
    }  # gate and prior must be restored too

    def begin():
        method, student = make_method(name, 2, K, has_regions, **settings)
        return method, student, torch.optim.SGD(student.parameters(), lr=0.1)

    method, student, optimizer = begin()
    train(method, student, optimizer, range(3))
    torch.save({"student": student.state_dict(), "method": method.state_dict()}, tmp_path / "state.pth")
    uninterrupted = train(method, student, optimizer, range(3, 15))

    resumed, other, optimizer = begin()
    state = torch.load(tmp_path / "state.pth", weights_only=True)
    other.load_state_dict(state["student"])
    resumed.load_state_dict(state["method"])
    assert train(resumed, other, optimizer, range(3, 15)) == uninterrupted
    for ours, theirs in ((student, other), (method.deployable(student), resumed.deployable(other))):
        for key, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[key]), key


def test_weights_that_come_after_the_setup_reach_the_deployed_network(name):
    method, student = make_method(name, 2, K, False)
    with torch.no_grad():
        student.head.bias.fill_(3.0)  # as -pretrained_weights does
    method.on_train_start(student)
    assert method.deployable(student).head.bias.tolist() == [3.0] * K


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"semi-supervised method 'mean_techer'\. Did you mean 'mean_teacher'"):
        METHODS.get(SemiSAMConfig(method="mean_techer").method)

import pytest
import torch
import torch.multiprocessing
from step_world import WORLD, batches, fixed_boxes, make_network, make_training, run_rank, train
from tiny_students import LEARNING, NOW, K, StoredPseudoLabels, deep_loss, labels_of, make_pass, make_step
from torch import nn

from nnunet_semisam.methods import SSLMethod, UnlabeledTerm, bcp, ict
from nnunet_semisam.methods.parts.losses import UNLABELED_LOSSES
from nnunet_semisam.methods.settings import MethodSettings
from nnunet_semisam.training.optimisation import GRADIENT_CLIP_NORM
from nnunet_semisam.training.step import SemiSupervisedStep


class Scripted(SSLMethod):
    """Pulls the student towards equal probabilities, and keeps what it was given."""

    def __init__(self, weight: float = 1.0, own: nn.Module | None = None) -> None:
        settings = MethodSettings(weight=weight, start=0.0, rampup=0.0, loss="mse", cutmix_probability=0.0)
        super().__init__(settings, labels_of(False))
        self.own, self.followed = own, []
        self.own_optimizer = None if own is None else torch.optim.SGD(own.parameters(), lr=1.0)

    def terms(self, student, labeled, unlabeled, progress):
        self.labeled, self.unlabeled, self.progress = labeled, unlabeled, progress
        target = target_of(unlabeled.weak)
        confidence = torch.ones_like(unlabeled.weak)
        yield UnlabeledTerm(unlabeled.strong, target, confidence, unlabeled.pseudo)

    def owned_loss(self, student, labeled, unlabeled, progress):
        return None if self.own is None else self.own(labeled.data).mean()

    def optimizers(self):
        return [] if self.own_optimizer is None else [self.own_optimizer]

    def after_step(self, student):
        self.followed.append(student)


def target_of(weak: torch.Tensor) -> torch.Tensor:
    """Soft targets in which each class wins somewhere, so that the gate is open."""
    winner = (weak > -0.4).long() + (weak > 0.4)
    return torch.full((len(weak), K, *weak.shape[2:]), 0.3).scatter_(1, winner, 0.4)


def step_with(network: nn.Module, method: SSLMethod | None = None, lr: float = 1.0, **arguments) -> SemiSupervisedStep:
    stored = arguments.pop("pseudo_labels", None)
    driver = make_pass(method or Scripted(), pseudo_labels=stored)
    return make_step(driver, network, torch.optim.SGD(network.parameters(), lr=lr), loss=deep_loss, **arguments)


def unlabeled_loss(network: nn.Module, unlabeled: dict) -> torch.Tensor:
    logits, target = network(unlabeled["strong"])[0], target_of(unlabeled["weak"])
    confidence = torch.ones_like(unlabeled["weak"])
    return UNLABELED_LOSSES.get("mse")(logits, target, confidence, torch.ones(K), labels_of(False))


def step_of(network, before: dict) -> dict:
    return {name: p.detach() - before[name] for name, p in network.named_parameters()}


def weights(network) -> dict:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def gradients_of(loss, network) -> dict:
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}


def assert_moved(network, before: dict, gradients: dict) -> None:
    for name, moved in step_of(network, before).items():
        torch.testing.assert_close(moved, -gradients[name], msg=name)


def test_both_losses_make_one_step():
    network = make_network()
    labeled, unlabeled = batches(0, [0, 1])
    supervised = deep_loss(network(labeled["data"]), labeled["target"])
    expected = gradients_of(supervised + 0.5 * unlabeled_loss(network, unlabeled), network)
    before = weights(network)
    log = step_with(network, Scripted(0.5))(labeled, unlabeled, NOW)
    assert_moved(network, before, expected)
    assert float(log["loss"]) == pytest.approx(supervised.item())
    assert log["unlabeled_weighted"] == pytest.approx(0.5 * log["unlabeled_loss"])


def test_gradients_of_the_step_before_are_gone():
    network = make_network()
    step = step_with(network, Scripted(0.0), lr=0.0)
    for _ in range(2):
        step(*batches(0, [0]), NOW)
        gradients = [p.grad.clone() for p in network.parameters()]
    labeled, _ = batches(0, [0])
    expected = gradients_of(deep_loss(network(labeled["data"]), labeled["target"]), network)
    torch.testing.assert_close(gradients, list(expected.values()))


def test_accumulated_gradient_is_clipped_as_in_nnunet():
    network = make_network()
    before = weights(network)
    step_with(network, Scripted(1e6))(*batches(0, [0]), NOW)
    length = torch.stack([moved.norm() for moved in step_of(network, before).values()]).norm()
    assert length.item() == pytest.approx(GRADIENT_CLIP_NORM, rel=1e-4)


def test_method_without_weight_leaves_nnunets_step():
    network, other = make_network(), make_network()
    labeled, unlabeled = batches(0, [0])
    step_with(network, Scripted(0.0))(labeled, unlabeled, NOW)
    deep_loss(other(labeled["data"]), labeled["target"]).backward()
    torch.optim.SGD(other.parameters(), lr=1.0).step()
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_method_sees_all_levels_random_patches_and_progress():
    network = make_network()
    step = step_with(network, unlabeled_random_share=0.75)
    labeled, unlabeled = batches(0, [0, 1])
    step(labeled, unlabeled, NOW)
    method = step.method
    assert len(method.labeled.levels) == 3
    assert torch.equal(method.labeled.target, labeled["target"][0])
    assert method.labeled.num_random == 2
    assert method.unlabeled.num_random == 3
    assert method.progress == NOW
    assert method.unlabeled.pseudo is None
    assert method.followed == [network]


def test_second_strong_view_reaches_the_method():
    step = step_with(make_network())
    labeled, unlabeled = batches(0, [0])
    unlabeled["strong2"] = unlabeled["strong"] + 1
    step(labeled, unlabeled, NOW)
    assert torch.equal(step.method.unlabeled.strong2, unlabeled["strong2"])


def test_network_without_deep_supervision_is_trained_on_the_finest_level():
    network = nn.Conv2d(1, K, 1)
    labeled, unlabeled = batches(0, [0])
    loss = nn.functional.cross_entropy
    step = make_step(make_pass(Scripted(0.0)), network, loss=lambda output, target: loss(output, target[:, 0].long()))
    for target in (labeled["target"], labeled["target"][0]):
        log = step({"data": labeled["data"], "target": target}, unlabeled, NOW)
        assert log["loss"] > 0


def test_labeled_batch_that_the_method_augments_is_trained_on():
    network = make_network()
    labeled, unlabeled = batches(0, [0])
    step = step_with(network, Scripted(0.0))
    mirrored = {"data": labeled["data"].flip(-1), "target": [level.flip(-1) for level in labeled["target"]]}
    step.method.augment_labeled = lambda batch, progress: type(batch)(
        mirrored["data"], tuple(mirrored["target"]), batch.num_random
    )
    expected = gradients_of(deep_loss(network(mirrored["data"]), mirrored["target"]), network)
    before = weights(network)
    step(labeled, unlabeled, NOW)
    assert_moved(network, before, expected)


def test_networks_of_the_method_are_trained_by_their_own_optimizer():
    own = nn.Conv2d(1, 1, 1)
    before = own.bias.item()
    step_with(make_network(), Scripted(1.0, own))(*batches(0, [0]), NOW)
    assert own.bias.item() == pytest.approx(before - 1.0)


def test_gradient_scaler_changes_nothing_but_the_range():
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        network, own = make_network(), nn.Conv2d(1, 1, 1)
        nn.init.zeros_(own.weight)
        nn.init.zeros_(own.bias)
        step_with(network, Scripted(1e3, own), scaler=scaler)(*batches(0, [0]), NOW)
        results.append([*network.parameters(), *own.parameters()])
    torch.testing.assert_close(results[0], results[1])


class MeanOfLogits(StoredPseudoLabels):
    """A stand-in for the pseudo-label term: its loss is the mean of the logits inside the label."""

    def loss(self, gated):
        return (gated.logits.mean(1, keepdim=True) * gated.target[:, 1:2]).mean()


def with_pseudo_label(unlabeled: dict) -> dict:
    return unlabeled | {
        "pseudo_label": (unlabeled["weak"] > 0).to(torch.int16),
        "pseudo_confidence": torch.zeros_like(unlabeled["weak"]),  # contradicts no target
        "pseudo_weight": torch.ones(len(unlabeled["weak"])),
    }


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_pseudo_label_term_is_added_once_it_weighs_something(weight):
    network = make_network()
    labeled, unlabeled = batches(0, [0])
    unlabeled = with_pseudo_label(unlabeled)
    mask = unlabeled["pseudo_label"]
    joint = deep_loss(network(labeled["data"]), labeled["target"]) + unlabeled_loss(network, unlabeled)
    joint = joint + weight * (network(unlabeled["strong"])[0].mean(1, keepdim=True) * mask).mean()
    expected, before = gradients_of(joint, network), weights(network)
    step = step_with(network, pseudo_labels=MeanOfLogits(labels_of(False), weight))
    log = step(labeled, unlabeled, NOW)
    assert_moved(network, before, expected)
    assert (step.method.unlabeled.pseudo is None) == (weight == 0)
    assert (log["pseudo_label_loss"] != 0) == (weight > 0)


def test_pseudo_label_term_alone_trains_the_student():
    network = make_network()
    labeled, unlabeled = batches(0, [0])
    unlabeled = with_pseudo_label(unlabeled)
    unlabeled["pseudo_label"] = torch.ones_like(unlabeled["pseudo_label"])
    plain = deep_loss(network(labeled["data"]), labeled["target"])
    without, before = gradients_of(plain, network), weights(network)
    step_with(network, Scripted(0.0), pseudo_labels=MeanOfLogits(labels_of(False), 1.0))(labeled, unlabeled, NOW)
    moved = step_of(network, before)["decoder.fine.bias"]
    torch.testing.assert_close(moved + without["decoder.fine.bias"], torch.full((K,), -1 / K))


# ------------------------------------------------------------------------------------------------------ two processes


@pytest.fixture(scope="module")
def rank_files(tmp_path_factory):
    """The same trainings in two gloo processes, each on its half of every batch."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, args=(str(folder), LEARNING), nprocs=WORLD)
    return folder


@pytest.fixture(scope="module", params=LEARNING)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def two_ranks(rank_files, name) -> list[dict]:
    return [torch.load(rank_files / f"{name}_{rank}.pth", weights_only=True) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def one_process(name) -> dict:
    if name == "cpc_sam":
        pytest.skip("the Dice in its own loss is one of the batch, which is no mean over the batches of ranks")
    boxes, shares = bcp.box_mask, ict.interpolation_shares
    fixed_boxes(WORLD)
    try:
        return train(make_training(name, make_network(), method_seed=5), list(range(WORLD)))
    finally:
        bcp.box_mask, ict.interpolation_shares = boxes, shares


def close(first: dict, second: dict) -> None:
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=1e-5, rtol=1e-4, msg=name)


def test_all_ranks_begin_and_end_with_the_same_networks(two_ranks):
    """Each rank was seeded by itself: DDP gives the student of rank 0 to all, the trainer does so for the method's."""
    for key in ("student", "begun", "method"):
        first, second = (rank[key] for rank in two_ranks)
        pairs = [(first, second)] if key == "student" else [(first[part], second[part]) for part in first]
        for ours, theirs in pairs:
            for name in ours:
                assert torch.equal(ours[name], theirs[name]), f"{key}: {name}"


def test_ranks_train_as_one_process_does_on_the_joint_batch(two_ranks, one_process):
    class_weights = [log[f"class_weight_{k}"] for log in one_process["logs"][1:] for k in range(K)]
    assert 0 < min(class_weights) < 1  # the prior takes part, and no class is left out
    close(two_ranks[0]["student"], one_process["student"])
    for part, ours in two_ranks[0]["method"].items():
        close(ours, one_process["method"][part])
    started = make_network().state_dict()
    assert any((one_process["student"][name] - started[name]).abs().max() > 0.1 for name in started)


@pytest.mark.parametrize("part", ["labeled_dice", "area", "agreement"])
def test_gate_and_prior_count_the_patches_of_all_ranks(two_ranks, one_process, part):
    for rank in two_ranks:
        for name, counted in one_process["gate"][part].items():
            assert counted.sum() > 0
            torch.testing.assert_close(rank["gate"][part][name], counted, atol=0.5, rtol=1e-2)
            assert torch.equal(rank["gate"][part][name], two_ranks[0]["gate"][part][name])


def test_all_ranks_weigh_the_same_classes_alike_at_every_step(two_ranks, one_process):
    for ours, theirs, joint in zip(two_ranks[0]["logs"], two_ranks[1]["logs"], one_process["logs"], strict=True):
        for k in range(K):
            name = f"class_weight_{k}"
            assert ours[name] == theirs[name]
            assert ours[name] == pytest.approx(joint[name], rel=1e-2)
        mean = (ours["unlabeled_loss"] + theirs["unlabeled_loss"]) / 2
        assert mean == pytest.approx(joint["unlabeled_loss"], rel=1e-3)


# --------------------------------------------------------------------------------------------------------------- CUDA


class CudaStep(SemiSupervisedStep):
    """A step that believes to be on a GPU."""

    def _to_device(self, values):
        return values


def test_predictions_without_gradients_leave_nothing_in_the_cache_of_autocast(monkeypatch):
    def on_the_cpu(device: str, **options):
        return torch.autocast("cpu", dtype=torch.bfloat16, **options)

    monkeypatch.setattr("nnunet_semisam.training.step.autocast", on_the_cpu)
    network = make_network()
    step = step_with(network, Scripted(1.0))
    cached = []
    network.register_forward_hook(lambda *_: cached.append(torch.is_autocast_cache_enabled()))
    cuda = CudaStep(**{**vars(step), "device": torch.device("cuda")})
    cuda(*batches(0, [0]), NOW)
    assert cached == [False] * len(cached)
    assert len(cached) >= 2

import pytest
import torch
import torch.multiprocessing
from step_world import WORLD, K, batches, deep_loss, make_network, make_trainer, run_rank, train
from torch import nn

from nnunet_semisam.methods import LossTerms, PseudoLabel, SSLMethod
from nnunet_semisam.settings.config import SemiSAMConfig
from nnunet_semisam.training.step import GRADIENT_CLIP_NORM, semi_supervised_step


class Scripted(SSLMethod):
    """Says what the test wants, and keeps what it was given."""

    def __init__(self, weight: float | None = 1.0, own: nn.Module | None = None) -> None:
        super().__init__(SemiSAMConfig(), K)
        self.weight, self.own, self.followed = weight, own, []
        self.own_optimizer = None if own is None else torch.optim.SGD(own.parameters(), lr=1.0)

    def unsupervised_loss(self, student, labeled, unlabeled, progress):
        self.labeled, self.unlabeled, self.progress = labeled, unlabeled, progress
        if self.weight is None:
            return LossTerms(None, {"term": 0.0})
        logits = student(unlabeled.strong)[0]
        total = self.weight * logits.square().mean()
        if self.own is not None:
            total = total + self.own(unlabeled.strong).mean()
        return LossTerms(total, {"term": float(total.detach())}, logits, unlabeled.pseudo)

    def labeled_loss(self, student, labeled, supervised, progress):
        return LossTerms(2.0 * supervised, {"labeled_term": 5.0})

    def optimizers(self):
        return [] if self.own_optimizer is None else [self.own_optimizer]

    def after_step(self, student):
        self.followed.append(student)


class Session:
    """A stand-in for the SAM stage: its label is the mask, its loss the mean of the logits."""

    def __init__(self, weight: float) -> None:
        self.says = weight

    def weight(self, progress):
        return self.says

    def to_pseudo_label(self, label, trust):
        return PseudoLabel(label.float(), trust)

    def loss(self, logits, pseudo, progress):
        if logits is None or pseudo is None:
            return None, {"sam": 0.0}
        loss = self.says * (logits.mean(1, keepdim=True) * pseudo.target).mean()
        return loss, {"sam": float(loss.detach())}


def step_of(network, before: dict) -> dict:
    return {name: p.detach() - before[name] for name, p in network.named_parameters()}


def weights(network) -> dict:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def gradients_of(loss, network) -> dict:
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}


def plain_sgd(network, lr: float = 1.0):
    return torch.optim.SGD(network.parameters(), lr=lr)


def test_both_losses_make_one_step():
    network = make_network()
    labeled, unlabeled = batches(0, [0, 1])
    joint = 2 * deep_loss(network(labeled["data"]), labeled["target"])
    joint = joint + 0.5 * network(unlabeled["strong"])[0].square().mean()
    expected, before = gradients_of(joint, network), weights(network)
    trainer = make_trainer(network, method=Scripted(0.5), optimizer=plain_sgd(network))
    log = semi_supervised_step(trainer, labeled, unlabeled)
    for name, moved in step_of(network, before).items():
        torch.testing.assert_close(moved, -expected[name], msg=name)
    assert float(log["loss"]) == pytest.approx(deep_loss(make_network()(labeled["data"]), labeled["target"]).item())
    assert (log["labeled_term"], set(log)) == (5.0, {"loss", "term", "labeled_term"})


def test_gradients_of_the_step_before_are_gone():
    network = make_network()
    trainer = make_trainer(network, method=Scripted(None), optimizer=plain_sgd(network, lr=0.0))
    for _ in range(2):
        semi_supervised_step(trainer, *batches(0, [0]))
        gradients = [p.grad.clone() for p in network.parameters()]
    labeled, _ = batches(0, [0])
    expected = gradients_of(2 * deep_loss(network(labeled["data"]), labeled["target"]), network)
    torch.testing.assert_close(gradients, list(expected.values()))


def test_accumulated_gradient_is_clipped_as_in_nnunet():
    network = make_network()
    before = weights(network)
    trainer = make_trainer(network, method=Scripted(1e6), optimizer=plain_sgd(network))
    semi_supervised_step(trainer, *batches(0, [0]))
    length = torch.stack([moved.norm() for moved in step_of(network, before).values()]).norm()
    assert length.item() == pytest.approx(GRADIENT_CLIP_NORM, rel=1e-4)


def test_silent_method_leaves_nnunets_step():
    network, other = make_network(), make_network()
    labeled, unlabeled = batches(0, [0])
    trainer = make_trainer(network, method=Scripted(None), optimizer=plain_sgd(network))
    trainer.method.labeled_loss = lambda student, labeled, supervised, progress: LossTerms(supervised)
    semi_supervised_step(trainer, labeled, unlabeled)
    deep_loss(other(labeled["data"]), labeled["target"]).backward()
    plain_sgd(other).step()
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_method_sees_finest_target_random_patches_and_progress():
    network = make_network()
    trainer = make_trainer(network, method=Scripted())
    labeled, unlabeled = batches(0, [0, 1])
    semi_supervised_step(trainer, labeled, unlabeled)
    method = trainer.method
    assert torch.equal(method.labeled.target, labeled["target"][0])
    assert method.labeled.num_random == 2
    assert method.progress == 0.7
    assert method.unlabeled.pseudo is None
    assert method.followed == [network]


def test_networks_of_the_method_are_trained_by_their_own_optimizer():
    own = nn.Conv2d(1, 1, 1)
    before = own.bias.item()
    network = make_network()
    semi_supervised_step(make_trainer(network, method=Scripted(1.0, own)), *batches(0, [0]))
    assert own.bias.item() == pytest.approx(before - 1.0)


def test_gradient_scaler_changes_nothing_but_the_range():
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        network, own = make_network(), nn.Conv2d(1, 1, 1)
        nn.init.zeros_(own.weight)
        nn.init.zeros_(own.bias)
        trainer = make_trainer(network, method=Scripted(1e3, own), grad_scaler=scaler, optimizer=plain_sgd(network))
        semi_supervised_step(trainer, *batches(0, [0]))
        results.append([*network.parameters(), *own.parameters()])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_sam_term_is_added_once_it_weighs_something(weight):
    network = make_network()
    labeled, unlabeled = batches(0, [0])
    mask = (unlabeled["weak"] > 0).to(torch.int16)
    unlabeled |= {"pseudo_label": mask, "pseudo_trust": torch.ones_like(unlabeled["weak"])}
    logits = network(unlabeled["strong"])[0]
    joint = 2 * deep_loss(network(labeled["data"]), labeled["target"]) + logits.square().mean()
    joint = joint + weight * (logits.mean(1, keepdim=True) * mask).mean()
    expected, before = gradients_of(joint, network), weights(network)
    trainer = make_trainer(network, method=Scripted(), pseudo_labels=Session(weight), optimizer=plain_sgd(network))
    log = semi_supervised_step(trainer, labeled, unlabeled)
    for name, moved in step_of(network, before).items():
        torch.testing.assert_close(moved, -expected[name], msg=name)
    assert (trainer.method.unlabeled.pseudo is None) == (weight == 0)
    assert (log["sam"] != 0) == (weight > 0)


def test_sam_term_alone_trains_the_student():
    network = make_network()
    labeled, unlabeled = batches(0, [0])
    unlabeled |= {
        "pseudo_label": torch.ones_like(unlabeled["weak"]),
        "pseudo_trust": torch.ones_like(unlabeled["weak"]),
    }
    method = Scripted(0.0)
    original = method.unsupervised_loss

    def only_logits(*args):
        terms = original(*args)
        return LossTerms(None, terms.log, terms.strong_logits, terms.pseudo)

    method.unsupervised_loss = only_logits
    plain = 2 * deep_loss(network(labeled["data"]), labeled["target"])
    without, before = gradients_of(plain, network), weights(network)
    trainer = make_trainer(network, method=method, pseudo_labels=Session(1.0), optimizer=plain_sgd(network))
    semi_supervised_step(trainer, labeled, unlabeled)
    moved = step_of(network, before)["fine.bias"]
    torch.testing.assert_close(moved + without["fine.bias"], torch.full((K,), -1 / K))


# ------------------------------------------------------------------------------------------------------ two processes


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> list[dict]:
    """The same training in two gloo processes, each on its half of every batch."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, args=(str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"rank_{rank}.pth", weights_only=True) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def one_process() -> dict:
    return train(make_trainer(make_network()), list(range(WORLD)))


def close(first: dict, second: dict) -> None:
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=1e-5, rtol=1e-4, msg=name)


def test_all_ranks_hold_the_same_networks(two_ranks):
    for name in two_ranks[0]["student"]:
        assert torch.equal(two_ranks[0]["student"][name], two_ranks[1]["student"][name]), name
    teachers = [rank["method"]["teacher"]["network"] for rank in two_ranks]
    for name in teachers[0]:
        assert torch.equal(teachers[0][name], teachers[1][name]), name


def test_ranks_train_as_one_process_does_on_the_joint_batch(two_ranks, one_process):
    trust = [log[f"class_trust_{k}"] for log in one_process["logs"][1:] for k in range(K)]
    assert 0 < min(trust) < 1  # the prior takes part, and silences nothing
    close(two_ranks[0]["student"], one_process["student"])
    close(two_ranks[0]["method"]["teacher"]["network"], one_process["method"]["teacher"]["network"])
    started = make_network().state_dict()
    assert any((one_process["student"][name] - started[name]).abs().max() > 0.1 for name in started)


@pytest.mark.parametrize("part", ["gate", "area", "agreement"])
def test_gate_and_prior_count_the_patches_of_all_ranks(two_ranks, one_process, part):
    for rank in two_ranks:
        for name, counted in one_process["method"][part].items():
            assert counted.sum() > 0
            torch.testing.assert_close(rank["method"][part][name], counted, atol=0.5, rtol=1e-2)
            assert torch.equal(rank["method"][part][name], two_ranks[0]["method"][part][name])


def test_all_ranks_trust_the_same_classes_at_every_step(two_ranks, one_process):
    for ours, theirs, joint in zip(two_ranks[0]["logs"], two_ranks[1]["logs"], one_process["logs"], strict=True):
        for k in range(K):
            name = f"class_trust_{k}"
            assert ours[name] == theirs[name]
            assert ours[name] == pytest.approx(joint[name], rel=1e-2)
        mean = (ours["consistency"] + theirs["consistency"]) / 2
        assert mean == pytest.approx(joint["consistency"], rel=1e-3)

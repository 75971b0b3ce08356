"""Backward passes and steps of several optimisers, with and without loss scaling."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunet_semisam.training.optimisation import Optimisation, optimizer_like, parameters_of

SCALE = 1024.0


def weight(value: float = 0.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value]))


def sgd(*parameters: nn.Parameter, lr: float = 1.0) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr=lr)


@pytest.fixture(params=[False, True], ids=["unscaled", "scaled"])
def scaler(request) -> torch.amp.GradScaler | None:
    return torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=1) if request.param else None


def test_gradients_of_several_losses_add_up_to_one_step(scaler):
    student = weight()
    optimisation = Optimisation(sgd(student, lr=0.5), [], scaler)
    optimisation.zero_grad()
    for factor in (3.0, 4.0):
        optimisation.backward(factor * student.sum())
    optimisation.step()
    assert student.item() == pytest.approx(-0.5 * 7)


def test_gradients_are_forgotten():
    student, other = weight(), weight()
    optimisation = Optimisation(sgd(student), [sgd(other)], None)
    optimisation.backward(student.sum() + other.sum())
    optimisation.zero_grad()
    assert student.grad is None
    assert other.grad is None


def test_each_optimiser_is_clipped_by_itself_after_unscaling(scaler):
    """Gradient (30, 40) has norm 50 and is clipped to 12: (7.2, 9.6). The other one, of norm 3, stays."""
    first, second, other = weight(), weight(), weight()
    optimisation = Optimisation(sgd(first, second), [sgd(other)], scaler)
    optimisation.zero_grad()
    optimisation.backward((30 * first + 40 * second + 3 * other).sum())
    optimisation.step()
    assert [first.item(), second.item(), other.item()] == pytest.approx([-7.2, -9.6, -3.0], rel=1e-5)


def test_optimiser_without_gradient_is_left_out_until_it_has_one(scaler):
    """With momentum and weight decay a step without gradient would show."""
    student, other = weight(), weight(5.0)
    owned = torch.optim.SGD([other], lr=1.0, momentum=0.9, weight_decay=0.5)
    optimisation = Optimisation(sgd(student), [owned], scaler)
    for _ in range(3):
        optimisation.zero_grad()
        optimisation.backward(student.sum())
        optimisation.step()
    assert student.item() == pytest.approx(-3.0)
    assert other.item() == 5.0
    assert not owned.state
    optimisation.zero_grad()
    optimisation.backward(student.sum() + 2 * other.sum())
    optimisation.step()
    assert student.item() == pytest.approx(-4.0)
    assert other.item() == pytest.approx(5.0 - (2.0 + 0.5 * 5.0))


def test_scale_is_updated_once_a_step():
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=1)
    student, other = weight(), weight()
    optimisation = Optimisation(sgd(student), [sgd(other)], scaler)
    optimisation.backward(student.sum() + other.sum())
    optimisation.step()
    assert scaler.get_scale() == 2 * SCALE  # nnU-Net's scaler grows less often


def test_infinite_gradient_skips_its_own_optimiser_and_lowers_the_scale():
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    student, other = weight(), weight()
    optimisation = Optimisation(sgd(student), [sgd(other)], scaler)
    optimisation.backward(student.sum() + float("inf") * other.sum())
    optimisation.step()
    assert student.item() == -1.0
    assert other.item() == 0.0
    assert scaler.get_scale() == SCALE / 2


def test_step_without_any_gradient_is_none(scaler):
    student = weight(2.0)
    Optimisation(sgd(student), [], scaler).step()
    assert student.item() == 2.0


def test_owned_optimisers_follow_the_decay_from_their_own_start():
    student, first, second = weight(), weight(), weight()
    nnunet, slow, fast = sgd(student, lr=0.01), sgd(first, lr=0.002), sgd(second, lr=0.4)
    optimisation = Optimisation(nnunet, [slow, fast], None)
    rates = []
    for share in (1.0, 0.5, 0.25):
        optimisation.follow_decay(share)
        rates.append((slow.param_groups[0]["lr"], fast.param_groups[0]["lr"]))
    assert rates == [pytest.approx((0.002 * s, 0.4 * s)) for s in (1.0, 0.5, 0.25)]
    assert nnunet.param_groups[0]["lr"] == 0.01  # nnU-Net's scheduler sets it


def test_start_rate_survives_a_checkpoint(tmp_path):
    owned = sgd(weight(), lr=0.4)
    Optimisation(sgd(weight()), [owned], None).follow_decay(0.1)
    torch.save(owned.state_dict(), tmp_path / "owned.pth")
    resumed = sgd(weight(), lr=0.4)
    optimisation = Optimisation(sgd(weight()), [resumed], None)
    resumed.load_state_dict(torch.load(tmp_path / "owned.pth", weights_only=True))
    assert resumed.param_groups[0]["lr"] == pytest.approx(0.04)
    optimisation.follow_decay(0.05)
    assert resumed.param_groups[0]["lr"] == pytest.approx(0.02)
    Optimisation(sgd(weight()), [resumed], None).follow_decay(1.0)  # as if it was built after the state was restored
    assert resumed.param_groups[0]["lr"] == pytest.approx(0.4)


def test_parameters_of_all_groups_are_found():
    first, second = weight(), weight()
    optimizer = torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.1}], lr=1.0)
    assert parameters_of(optimizer) == [first, second]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.01, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}),  # nnU-Net's
        (torch.optim.AdamW, {"lr": 3e-4, "weight_decay": 0.01, "amsgrad": True}),
        (torch.optim.Adam, {"lr": 3e-4, "betas": (0.8, 0.9)}),
    ],
)
def test_optimiser_of_the_same_kind_and_settings_for_other_parameters(kind, settings):
    template, other = kind([weight()], **settings), weight(1.0)
    template.param_groups[0]["lr"] = 1e-6  # decayed since
    made = optimizer_like(template, iter([other]))
    assert type(made) is kind
    assert parameters_of(made) == [other]
    assert {name: made.param_groups[0][name] for name in settings} == settings
    other.grad = torch.ones(1)
    made.step()
    assert other.item() < 1.0

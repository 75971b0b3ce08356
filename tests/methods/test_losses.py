import numpy as np
import pytest
import torch
from torch import Tensor

from nnunet_semisam.methods.parts.losses import CONSISTENCY_LOSSES, EPSILON, hard_target, masked_dice, probabilities

LOSSES = CONSISTENCY_LOSSES.names()
SPATIAL = [(5, 6), (3, 4, 5)]
K = 3


@pytest.fixture(params=SPATIAL, ids=["2d", "3d"])
def spatial(request) -> tuple[int, ...]:
    return request.param


@pytest.fixture(params=[False, True], ids=["classes", "regions"])
def has_regions(request) -> bool:
    return request.param


def random_case(spatial: tuple[int, ...], has_regions: bool, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, K, *spatial)
    logits = (2 * torch.randn(shape, generator=generator)).requires_grad_()
    target = probabilities(2 * torch.randn(shape, generator=generator), has_regions)
    trust = torch.rand((2, 1, *spatial), generator=generator)
    trust = trust * (trust > 0.3)
    return logits, target, trust, torch.tensor([0.2, 0.5, 1.0])


@pytest.mark.parametrize("name", LOSSES)
def test_without_trust_loss_and_gradient_are_exactly_zero(name, spatial, has_regions):
    logits, target, trust, _ = random_case(spatial, has_regions)
    loss = CONSISTENCY_LOSSES.get(name)(logits, target, torch.zeros_like(trust), torch.ones(K), has_regions)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_only_trusted_voxels_get_a_gradient(name, spatial, has_regions):
    logits, target, trust, class_trust = random_case(spatial, has_regions)
    CONSISTENCY_LOSSES.get(name)(logits, target, trust, class_trust, has_regions).backward()
    moved = logits.grad.abs().sum(dim=1, keepdim=True) > 0
    assert torch.equal(moved, trust > 0)


@pytest.mark.parametrize("name", LOSSES)
def test_voxels_without_trust_do_not_change_the_loss(name, spatial, has_regions):
    logits, target, trust, class_trust = random_case(spatial, has_regions)
    loss = CONSISTENCY_LOSSES.get(name)
    before = loss(logits, target, trust, class_trust, has_regions)
    other_logits, other_target, _, _ = random_case(spatial, has_regions, seed=9)
    logits, target = (torch.where(trust > 0, a, b) for a, b in ((logits, other_logits), (target, other_target)))
    torch.testing.assert_close(loss(logits, target, trust, class_trust, has_regions), before)


@pytest.mark.parametrize("name", LOSSES)
def test_target_gets_no_gradient(name, spatial, has_regions):
    logits, target, trust, class_trust = random_case(spatial, has_regions)
    target.requires_grad_()
    CONSISTENCY_LOSSES.get(name)(logits, target, trust, class_trust, has_regions).backward()
    assert target.grad is None


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_leads_towards_the_target(name, spatial, has_regions):
    logits, target, trust, _ = random_case(spatial, has_regions)
    hard = hard_target(target, has_regions)
    loss = CONSISTENCY_LOSSES.get(name)
    first = loss(logits, hard, trust, torch.ones(K), has_regions)
    first.backward()
    with torch.no_grad():
        logits -= 1.0 * logits.grad
    assert loss(logits, hard, trust, torch.ones(K), has_regions) < first


@pytest.mark.parametrize("name", LOSSES)
def test_half_the_trust_everywhere_is_half_the_loss_and_half_the_gradient(name, spatial, has_regions):
    logits, target, trust, class_trust = random_case(spatial, has_regions)
    loss = CONSISTENCY_LOSSES.get(name)
    full, half = (loss(logits, target, t * trust, class_trust, has_regions) for t in (1.0, 0.5))
    full_gradient, half_gradient = (torch.autograd.grad(value, logits)[0] for value in (full, half))
    assert full.item() > 0.05
    torch.testing.assert_close(half, 0.5 * full)
    torch.testing.assert_close(half_gradient, 0.5 * full_gradient)


def test_dice_is_linear_in_class_trust(spatial, has_regions):
    logits, target, trust, class_trust = random_case(spatial, has_regions)
    full = masked_dice(logits, target, trust, class_trust, has_regions)
    torch.testing.assert_close(masked_dice(logits, target, trust, 0.3 * class_trust, has_regions), 0.3 * full)


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_are_computed_in_float32(name, has_regions):
    logits, target, trust, class_trust = random_case((4, 4), has_regions)
    loss = CONSISTENCY_LOSSES.get(name)(logits.half(), target.half(), trust, class_trust, has_regions)
    assert loss.dtype == torch.float32
    exact = CONSISTENCY_LOSSES.get(name)(logits.half().float(), target.half().float(), trust, class_trust, has_regions)
    assert torch.equal(loss, exact)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("which", "shape"),
    [
        ("target", (2, K, 5, 5)),
        ("target", (1, K, 5, 6)),
        ("trust", (2, 5, 6)),
        ("trust", (2, K, 5, 6)),
        ("trust", (1, 1, 5, 6)),
        ("class_trust", (2,)),
        ("class_trust", (1, K)),
    ],
)
def test_shape_that_would_broadcast_is_refused(name, which, shape):
    logits, target, trust, class_trust = random_case((5, 6), False)
    arguments = {"logits": logits, "target": target, "trust": trust, "class_trust": class_trust}
    arguments[which] = torch.ones(shape)
    with pytest.raises(ValueError, match=f"{which}.* must have .*shape.* got"):
        CONSISTENCY_LOSSES.get(name)(**arguments, has_regions=False)


# ------------------------------------------------------------------------------------------ numbers, by plain numpy


def numpy_case(has_regions: bool) -> tuple[tuple, tuple]:
    case = random_case((3, 4), has_regions)
    arrays = tuple(x.detach().double().numpy() for x in case)
    logits = arrays[0]
    probs = 1 / (1 + np.exp(-logits)) if has_regions else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return case, (probs, *arrays[1:])


def numpy_hard(target: np.ndarray, has_regions: bool) -> np.ndarray:
    return target > 0.5 if has_regions else np.eye(K)[target.argmax(1)].transpose(0, 3, 1, 2)


def numpy_cross_entropy(p, y, trust, class_trust, has_regions) -> float:
    if has_regions:
        error = -(y * np.log(p) + (1 - y) * np.log(1 - p)) * class_trust[None, :, None, None]
        return float((error.mean(1) * trust[:, 0]).sum() / (trust > 0).sum())
    return float((-(y * np.log(p)).sum(1) * trust[:, 0]).sum() / (trust > 0).sum())


def numpy_dice(p, y, trust, class_trust, has_regions) -> float:
    terms, channels, t = [], range(K) if has_regions else range(1, K), trust[:, 0]
    for k in channels:
        overlap, size = (p[:, k] * y[:, k] * t).sum(), ((p[:, k] + y[:, k]) * t).sum()
        mean_trust = (y[:, k] * t).sum() / y[:, k][t > 0].sum()
        terms.append(class_trust[k] * mean_trust * (1 - (2 * overlap + EPSILON) / (size + EPSILON)))
    return float(sum(terms) / len(terms))


def test_squared_error_by_numpy(has_regions):
    case, (p, y, trust, class_trust) = numpy_case(has_regions)
    weights = class_trust if has_regions else np.ones_like(class_trust)  # trust alone weighs classes
    error = ((p - y) ** 2 * weights[None, :, None, None]).mean(1)
    expected = (error * trust[:, 0]).sum() / (trust > 0).sum()
    assert CONSISTENCY_LOSSES.get("mse")(*case, has_regions).item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_by_numpy(has_regions):
    case, arrays = numpy_case(has_regions)
    expected = numpy_cross_entropy(*arrays, has_regions)
    assert CONSISTENCY_LOSSES.get("cross_entropy")(*case, has_regions).item() == pytest.approx(expected, rel=1e-5)


def test_dice_by_numpy(has_regions):
    case, arrays = numpy_case(has_regions)
    expected = numpy_dice(*arrays, has_regions)
    assert masked_dice(*case, has_regions).item() == pytest.approx(expected, rel=1e-5)


def test_dice_and_cross_entropy_by_numpy_use_hard_targets(has_regions):
    case, (p, y, trust, class_trust) = numpy_case(has_regions)
    hard = numpy_hard(y, has_regions)
    expected = sum(part(p, hard, trust, class_trust, has_regions) for part in (numpy_dice, numpy_cross_entropy))
    assert CONSISTENCY_LOSSES.get("dice_ce")(*case, has_regions).item() == pytest.approx(expected, rel=1e-5)


def test_dice_leaves_out_classes_the_target_claims_on_no_trusted_voxel():
    logits, _, _, _ = random_case((4, 4), False)
    target = torch.zeros(2, K, 4, 4)
    target[:, 1, :2], target[:, 2, 2:] = 1.0, 1.0
    trust = torch.ones(2, 1, 4, 4)
    trust[:, :, 2:] = 0.0  # class 2 is nowhere trusted
    only_first = masked_dice(logits, target, trust, torch.tensor([1.0, 1.0, 0.0]), False)
    torch.testing.assert_close(masked_dice(logits, target, trust, torch.ones(K), False), only_first)


def test_perfect_prediction_costs_nothing_however_little_it_is_trusted(has_regions):
    _, target, trust, _ = random_case((5, 6), has_regions)
    hard = hard_target(target, has_regions)
    for name in LOSSES:
        loss = CONSISTENCY_LOSSES.get(name)(
            40.0 * (hard - 0.5), hard, torch.ones_like(trust), torch.ones(K), has_regions
        )
        assert loss.item() == pytest.approx(0.0, abs=1e-4), name


def test_hard_target_is_one_hot_or_thresholded():
    probs = torch.tensor([[0.2, 0.5], [0.5, 0.1], [0.3, 0.4]]).view(1, 3, 2)
    assert hard_target(probs, False).tolist() == [[[0, 1], [1, 0], [0, 0]]]
    regions = torch.tensor([[0.6, 0.5], [0.9, 0.1]]).view(1, 2, 2)
    assert hard_target(regions, True).tolist() == [[[1, 0], [1, 0]]]
    assert hard_target(regions.half(), True).dtype == torch.float16

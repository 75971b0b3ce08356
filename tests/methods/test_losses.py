import numpy as np
import pytest
import torch
from torch import Tensor

from nnunet_semisam.labels import Labels
from nnunet_semisam.methods.parts.losses import EPSILON, UNLABELED_LOSSES, masked_dice

LOSSES = UNLABELED_LOSSES.names()
SPATIAL = [(5, 6), (3, 4, 5)]
K = 3
CLASSES, REGIONS = Labels.of_classes(K), Labels.of_regions(K)


@pytest.fixture(params=SPATIAL, ids=["2d", "3d"])
def spatial(request) -> tuple[int, ...]:
    return request.param


@pytest.fixture(params=[CLASSES, REGIONS], ids=["classes", "regions"])
def labels(request) -> Labels:
    return request.param


def random_case(spatial: tuple[int, ...], labels: Labels, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, K, *spatial)
    logits = (2 * torch.randn(shape, generator=generator)).requires_grad_()
    target = labels.probabilities(2 * torch.randn(shape, generator=generator))
    confidence = torch.rand((2, 1, *spatial), generator=generator)
    confidence = confidence * (confidence > 0.3)
    return logits, target, confidence, torch.tensor([0.2, 0.5, 1.0])


@pytest.mark.parametrize("name", LOSSES)
def test_without_confidence_loss_and_gradient_are_exactly_zero(name, spatial, labels):
    logits, target, confidence, _ = random_case(spatial, labels)
    loss = UNLABELED_LOSSES.get(name)(logits, target, torch.zeros_like(confidence), torch.ones(K), labels)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_only_confident_voxels_get_a_gradient(name, spatial, labels):
    logits, target, confidence, class_weights = random_case(spatial, labels)
    UNLABELED_LOSSES.get(name)(logits, target, confidence, class_weights, labels).backward()
    moved = logits.grad.abs().sum(dim=1, keepdim=True) > 0
    assert torch.equal(moved, confidence > 0)


@pytest.mark.parametrize("name", LOSSES)
def test_voxels_without_confidence_do_not_change_the_loss(name, spatial, labels):
    logits, target, confidence, class_weights = random_case(spatial, labels)
    loss = UNLABELED_LOSSES.get(name)
    before = loss(logits, target, confidence, class_weights, labels)
    other_logits, other_target, _, _ = random_case(spatial, labels, seed=9)
    logits, target = (torch.where(confidence > 0, a, b) for a, b in ((logits, other_logits), (target, other_target)))
    torch.testing.assert_close(loss(logits, target, confidence, class_weights, labels), before)


@pytest.mark.parametrize("name", LOSSES)
def test_target_gets_no_gradient(name, spatial, labels):
    logits, target, confidence, class_weights = random_case(spatial, labels)
    target.requires_grad_()
    UNLABELED_LOSSES.get(name)(logits, target, confidence, class_weights, labels).backward()
    assert target.grad is None


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_leads_towards_the_target(name, spatial, labels):
    logits, target, confidence, _ = random_case(spatial, labels)
    hard = labels.hard(target)
    loss = UNLABELED_LOSSES.get(name)
    first = loss(logits, hard, confidence, torch.ones(K), labels)
    first.backward()
    with torch.no_grad():
        logits -= 1.0 * logits.grad
    assert loss(logits, hard, confidence, torch.ones(K), labels) < first


@pytest.mark.parametrize("name", LOSSES)
def test_half_the_confidence_everywhere_is_half_the_loss_and_half_the_gradient(name, spatial, labels):
    logits, target, confidence, class_weights = random_case(spatial, labels)
    loss = UNLABELED_LOSSES.get(name)
    full, half = (loss(logits, target, t * confidence, class_weights, labels) for t in (1.0, 0.5))
    full_gradient, half_gradient = (torch.autograd.grad(value, logits)[0] for value in (full, half))
    assert full.item() > 0.03
    torch.testing.assert_close(half, 0.5 * full)
    torch.testing.assert_close(half_gradient, 0.5 * full_gradient)


@pytest.mark.parametrize("name", LOSSES)
def test_a_region_that_the_gate_holds_back_gets_no_gradient(name, spatial):
    """Of regions, unlike of classes, the gate's weights are in the class weights alone."""
    logits, target, confidence, _ = random_case(spatial, REGIONS)
    UNLABELED_LOSSES.get(name)(logits, target, confidence, torch.tensor([0.0, 1.0, 0.5]), REGIONS).backward()
    moved = logits.grad.abs().amax(dim=(0, *range(2, logits.ndim)))
    assert moved[0] == 0
    assert moved[1:].min() > 0


def test_dice_is_linear_in_class_weights(spatial, labels):
    logits, target, confidence, class_weights = random_case(spatial, labels)
    full = masked_dice(logits, target, confidence, class_weights, labels)
    torch.testing.assert_close(masked_dice(logits, target, confidence, 0.3 * class_weights, labels), 0.3 * full)


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_are_computed_in_float32(name, labels):
    logits, target, confidence, class_weights = random_case((4, 4), labels)
    loss = UNLABELED_LOSSES.get(name)(logits.half(), target.half(), confidence, class_weights, labels)
    assert loss.dtype == torch.float32
    exact = UNLABELED_LOSSES.get(name)(logits.half().float(), target.half().float(), confidence, class_weights, labels)
    assert torch.equal(loss, exact)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("which", "shape"),
    [
        ("target", (2, K, 5, 5)),
        ("target", (1, K, 5, 6)),
        ("confidence", (2, 5, 6)),
        ("confidence", (2, K, 5, 6)),
        ("confidence", (1, 1, 5, 6)),
        ("class_weights", (2,)),
        ("class_weights", (1, K)),
    ],
)
def test_shape_that_would_broadcast_is_refused(name, which, shape):
    logits, target, confidence, class_weights = random_case((5, 6), CLASSES)
    arguments = {"logits": logits, "target": target, "confidence": confidence, "class_weights": class_weights}
    arguments[which] = torch.ones(shape)
    with pytest.raises(ValueError, match=f"{which}.* must have .*shape.* got"):
        UNLABELED_LOSSES.get(name)(**arguments, labels=CLASSES)


# ------------------------------------------------------------------------------------------ numbers, by plain numpy


def numpy_case(labels: Labels) -> tuple[tuple, tuple]:
    case = random_case((3, 4), labels)
    arrays = tuple(x.detach().double().numpy() for x in case)
    logits = arrays[0]
    probs = 1 / (1 + np.exp(-logits)) if labels.has_regions else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return case, (probs, *arrays[1:])


def numpy_hard(target: np.ndarray, labels: Labels) -> np.ndarray:
    return target > 0.5 if labels.has_regions else np.eye(K)[target.argmax(1)].transpose(0, 3, 1, 2)


def numpy_cross_entropy(p, y, confidence, class_weights, labels) -> float:
    if labels.has_regions:
        error = -(y * np.log(p) + (1 - y) * np.log(1 - p)) * class_weights[None, :, None, None]
        return float((error.mean(1) * confidence[:, 0]).sum() / confidence.size)
    return float((-(y * np.log(p)).sum(1) * confidence[:, 0]).sum() / confidence.size)


def numpy_dice(p, y, confidence, class_weights, labels) -> float:
    terms, channels, t = [], range(K) if labels.has_regions else range(1, K), confidence[:, 0]
    for k in channels:
        overlap, size = (p[:, k] * y[:, k] * t).sum(), ((p[:, k] + y[:, k]) * t).sum()
        mean_confidence = (y[:, k] * t).sum() / y[:, k][t > 0].sum()
        terms.append(class_weights[k] * mean_confidence * (1 - (2 * overlap + EPSILON) / (size + EPSILON)))
    return float(sum(terms) / len(terms))


def test_squared_error_by_numpy(labels):
    case, (p, y, confidence, class_weights) = numpy_case(labels)
    weights = class_weights if labels.has_regions else np.ones_like(class_weights)  # confidence alone weighs classes
    error = ((p - y) ** 2 * weights[None, :, None, None]).mean(1)
    expected = (error * confidence[:, 0]).sum() / confidence.size
    assert UNLABELED_LOSSES.get("mse")(*case, labels).item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_by_numpy(labels):
    case, arrays = numpy_case(labels)
    expected = numpy_cross_entropy(*arrays, labels)
    assert UNLABELED_LOSSES.get("cross_entropy")(*case, labels).item() == pytest.approx(expected, rel=1e-5)


def test_dice_by_numpy(labels):
    case, arrays = numpy_case(labels)
    expected = numpy_dice(*arrays, labels)
    assert masked_dice(*case, labels).item() == pytest.approx(expected, rel=1e-5)


def test_dice_and_cross_entropy_by_numpy_use_hard_targets(labels):
    case, (p, y, confidence, class_weights) = numpy_case(labels)
    hard = numpy_hard(y, labels)
    expected = sum(part(p, hard, confidence, class_weights, labels) for part in (numpy_dice, numpy_cross_entropy))
    assert UNLABELED_LOSSES.get("dice_ce")(*case, labels).item() == pytest.approx(expected, rel=1e-5)


def test_dice_leaves_out_classes_the_target_has_on_no_confident_voxel():
    logits, _, _, _ = random_case((4, 4), CLASSES)
    target = torch.zeros(2, K, 4, 4)
    target[:, 1, :2], target[:, 2, 2:] = 1.0, 1.0
    confidence = torch.ones(2, 1, 4, 4)
    confidence[:, :, 2:] = 0.0  # class 2 is nowhere confident
    only_first = masked_dice(logits, target, confidence, torch.tensor([1.0, 1.0, 0.0]), CLASSES)
    torch.testing.assert_close(masked_dice(logits, target, confidence, torch.ones(K), CLASSES), only_first)


def test_perfect_prediction_costs_nothing_however_low_the_confidence_is(labels):
    _, target, confidence, _ = random_case((5, 6), labels)
    hard = labels.hard(target)
    for name in LOSSES:
        loss = UNLABELED_LOSSES.get(name)(40.0 * (hard - 0.5), hard, torch.ones_like(confidence), torch.ones(K), labels)
        assert loss.item() == pytest.approx(0.0, abs=1e-4), name


def test_confidence_aware_error_is_the_mean_weighed_by_confidence_times_the_largest():
    logits = torch.zeros(1, K, 1, 2)
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]).view(1, K, 1, 2)
    target[:, :, :, 1] = 1 / 3  # the second voxel is predicted as it should be
    loss = UNLABELED_LOSSES.get("confidence_aware")
    error = ((1 - 1 / 3) ** 2 + 2 * (1 / 3) ** 2) / 3
    for confidence, expected in (
        ([1.0, 1 / 3], 0.75),
        ([0.6, 0.2], 0.6 * 0.75),
        ([0.06, 0.02], 0.06 * 0.75),
        ([0.5, 0], 0.5),
    ):
        weights = torch.tensor(confidence).view(1, 1, 1, 2)
        assert loss(logits, target, weights, torch.ones(K), CLASSES).item() == pytest.approx(expected * error)


def test_losses_of_pseudo_labels_are_registered():
    from nnunet_semisam.pseudo_labels import settings

    assert set(settings.LOSSES) == set(LOSSES)

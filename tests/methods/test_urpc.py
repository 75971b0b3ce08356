import numpy as np
import pytest
import torch
from tiny_students import NOW, labels_of, make_batches, make_method, make_pass

from nnunet_semisam.errors import UserError
from nnunet_semisam.methods.urpc import pyramid, rectified_consistency


def in_numpy(levels: np.ndarray, has_regions: bool) -> float:
    """The loss as its definition says, level by level."""
    mean = levels.mean(axis=0)
    losses = []
    for level in levels:
        divergence = mean * np.log(mean / level)
        if has_regions:
            divergence += (1 - mean) * np.log((1 - mean) / (1 - level))
        divergence = divergence.sum(axis=1, keepdims=True)
        certainty = np.exp(-divergence)
        losses.append(((level - mean) ** 2 * certainty).mean() / certainty.mean() + divergence.mean())
    return float(np.mean(losses))


@pytest.mark.parametrize("has_regions", [False, True])
def test_loss_is_that_of_the_definition(has_regions):
    labels = labels_of(has_regions)
    levels = torch.stack([labels.probabilities(torch.randn(2, 3, 4, 5)) for _ in range(3)])
    found = rectified_consistency(levels, labels).item()
    assert found == pytest.approx(in_numpy(levels.double().numpy(), has_regions), rel=1e-4)
    assert rectified_consistency(levels[:1].expand(3, -1, -1, -1, -1), labels).item() == pytest.approx(0, abs=1e-6)


def test_levels_come_to_full_resolution_without_the_one_that_nnunet_does_not_train():
    coarse, never = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 1, 1), torch.nan)
    coarse[:, 1] = 5.0
    levels = pyramid([torch.zeros(1, 3, 4, 4), coarse, never], labels_of(False))
    assert levels.shape == (2, 1, 3, 4, 4)
    torch.testing.assert_close(levels[0], torch.full((1, 3, 4, 4), 1 / 3))
    assert levels[1, :, 1].gt(0.98).all()


@pytest.mark.parametrize("output", [torch.zeros(1, 3, 4, 4), [torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 2, 2)]])
def test_network_of_one_trained_level_is_refused_with_what_to_do(output):
    with pytest.raises(UserError, match=r"one that is trained\. Take a larger patch size"):
        pyramid(output, labels_of(False))


def test_network_of_too_few_levels_is_refused_before_the_training():
    method, student = make_method("urpc")
    student.decoder.seg_layers = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    with pytest.raises(UserError, match=r"one that is trained"):
        method.setup(student, None)


def test_consistency_is_weighed_by_the_ramp_and_logged():
    method, student = make_method("urpc", weight=0.1, cutmix_probability=0.0)
    labeled, unlabeled = make_batches(with_pseudo=False)
    driver = make_pass(method)
    (loss,) = driver.losses(student, labeled, unlabeled, NOW)
    expected = rectified_consistency(pyramid(student(unlabeled.strong), method.labels), method.labels)
    torch.testing.assert_close(loss, 0.1 * expected)
    assert driver.log["unlabeled_extra"] == pytest.approx(expected.item())
    assert driver.log["unlabeled_loss"] == 0

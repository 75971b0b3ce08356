import numpy as np
import pytest
import torch

from nnunet_semisam.labels import Labels
from nnunet_semisam.methods.parts.uncertainty import mean_of_noisy_passes, normalised_entropy


@pytest.mark.parametrize("heads", [2, 4])
def test_entropy_is_relative_to_that_of_equal_probabilities(heads):
    probs = np.random.default_rng(0).dirichlet(np.ones(heads), size=(2, 5)).transpose(0, 2, 1)
    expected = -(probs * np.log(probs)).sum(axis=1, keepdims=True) / np.log(heads)
    found = normalised_entropy(torch.from_numpy(probs), Labels.of_classes(heads))
    np.testing.assert_allclose(found, expected)
    equal = torch.full((1, heads, 3), 1 / heads)
    torch.testing.assert_close(normalised_entropy(equal, Labels.of_classes(heads)), torch.ones(1, 1, 3))


def test_entropy_of_regions_is_the_mean_of_binary_entropies():
    probs = torch.tensor([[[0.5, 0.0, 0.5], [0.5, 1.0, 1.0]]])
    found = normalised_entropy(probs, Labels.of_regions(2))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.0, 0.5]]]))


def test_mean_over_noisy_passes():
    seen = []

    def predict(images):
        seen.append(images)
        return images

    torch.manual_seed(0)
    images = torch.zeros(1, 1, 200, 200)
    mean = mean_of_noisy_passes(predict, images, passes=4, noise=0.1, limit=0.15)
    torch.testing.assert_close(mean, torch.stack(seen).mean(dim=0))
    assert len(seen) == 4
    assert max(noisy.abs().max() for noisy in seen) == pytest.approx(0.15)
    assert seen[0].std() == pytest.approx(0.0882, abs=0.002)  # N(0, 0.1) clipped at 1.5 standard deviations
    assert not torch.equal(seen[0], seen[1])

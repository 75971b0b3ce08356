"""Labeled patches take on the contrast of unlabeled ones."""

from __future__ import annotations

import torch

from nnunet_semisam.methods.parts.histograms import match_histogram, match_some_histograms


def ramp(low: float, high: float, shape: tuple[int, ...] = (1, 32, 32)) -> torch.Tensor:
    return torch.linspace(low, high, shape[1] * shape[2]).view(shape)


def test_the_histogram_becomes_that_of_the_reference_and_the_order_of_intensities_stays():
    image = ramp(1, 2) ** 2
    matched = match_histogram(image, ramp(5, 9))
    assert torch.allclose(matched, ramp(5, 9), atol=0.02)  # both rise voxel by voxel
    assert (matched.flatten().diff() >= 0).all()


def test_each_channel_follows_its_own_reference():
    image = torch.cat([ramp(1, 2), ramp(1, 2)])
    matched = match_histogram(image, torch.cat([ramp(2, 3), ramp(-8, -4)]))
    assert torch.allclose(matched, torch.cat([ramp(2, 3), ramp(-8, -4)]), atol=0.02)


def test_equal_voxels_stay_equal_and_a_constant_channel_stays_as_it_is():
    image = torch.where(ramp(0, 1) < 0.5, 0.0, ramp(0, 1))  # half of it is padding
    matched = match_histogram(image, ramp(3, 4))
    assert len(matched[image == 0].unique()) == 1
    assert torch.equal(match_histogram(torch.ones(1, 4, 4), ramp(3, 4)), torch.ones(1, 4, 4))
    assert torch.equal(match_histogram(image, torch.ones(1, 4, 4)), image)


def test_images_are_changed_with_the_probability_and_lie_between_themselves_and_the_matched():
    generator = torch.Generator().manual_seed(0)
    images, references = ramp(0, 1).expand(200, 1, 32, 32), ramp(4, 8)[None]
    result = match_some_histograms(images, references, 0.25, generator)
    changed = (result != images).flatten(1).any(1)
    assert 30 <= changed.sum() <= 70
    assert (result >= images - 1e-5).all()
    assert (result <= references + 0.05).all()
    assert torch.equal(match_some_histograms(images, references, 0.0, generator), images)


def test_voxels_outside_of_the_mask_stay_zero_and_count_in_no_histogram():
    image, reference = ramp(1, 2), ramp(5, 9)
    inside = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    matched = match_histogram(torch.where(inside, image, 0.0), torch.where(inside, reference, 0.0))
    assert matched[~inside].eq(0).all()
    assert torch.allclose(matched[inside], reference[inside], atol=0.2)
    assert torch.equal(match_histogram(torch.zeros(1, 4, 4), reference), torch.zeros(1, 4, 4))


def test_voxels_of_all_parts_of_a_large_patch_are_looked_at():
    """Every 64th voxel of a patch of 128 x 128 x 128 is one of two of its planes."""
    image = torch.linspace(1, 2, 128).expand(1, 128, 128, 128)
    matched = match_histogram(image, 3 * image)
    assert torch.allclose(matched, 3 * image, atol=0.05)

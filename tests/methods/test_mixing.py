import pytest
import torch

from nnunet_semisam.methods.parts.mixing import cutmix_mask, mix


def box_of(mask: torch.Tensor) -> tuple[slice, ...]:
    where = mask.nonzero()
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(where.min(0)[0], where.max(0)[0], strict=True))


@pytest.mark.parametrize("spatial", [(64, 48), (40, 32, 36)])
def test_mask_is_one_filled_box_for_each_image(spatial):
    mask = cutmix_mask((5, 2, *spatial), torch.device("cpu"), torch.Generator().manual_seed(0))
    assert mask.shape == (5, 1, *spatial)
    assert mask.dtype == torch.bool
    for one in mask[:, 0]:
        assert one[box_of(one)].all()
    assert len({box_of(one).__repr__() for one in mask[:, 0]}) == 5  # drawn for each image


@pytest.mark.parametrize("spatial", [(160, 200), (60, 80, 70)])
def test_box_covers_a_tenth_to_a_half_of_the_image(spatial):
    mask = cutmix_mask((150, 1, *spatial), torch.device("cpu"), torch.Generator().manual_seed(1))
    shares = mask.flatten(1).float().mean(1)
    assert shares.min() > 0.095
    assert shares.max() < 0.505
    assert 0.25 < shares.mean() < 0.35  # uniform between the two


def test_box_fits_into_images_of_few_voxels():
    mask = cutmix_mask((20, 1, 1, 2, 3), torch.device("cpu"), torch.Generator().manual_seed(2))
    assert mask.flatten(1).any(1).all()


def test_mask_repeats_with_its_generator():
    first, second = (cutmix_mask((2, 1, 9, 9), torch.device("cpu"), torch.Generator().manual_seed(3)) for _ in "ab")
    assert torch.equal(first, second)


def test_neighbour_is_pasted_into_the_box_and_nowhere_else():
    values = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, 4, 4)
    mask = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    mask[0, 0, :2], mask[2, 0, 3, 3] = True, True
    mixed = mix(values, mask)
    assert mixed[0, :, :2].eq(2).all()  # the neighbour of the first is the last
    assert mixed[0, :, 2:].eq(0).all()
    assert mixed[1].eq(1).all()
    assert mixed[2, :, 3, 3].eq(1).all()
    assert mixed[2].sum() == 2 * (15 * 2 + 1)

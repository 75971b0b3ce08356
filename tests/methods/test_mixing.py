import pytest
import torch

from nnunet_semisam.errors import UserError
from nnunet_semisam.methods.parts.mixing import CutMixSettings, box_mask, cutmix_mask, labeled_mix_mask, mix

CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box_of(mask: torch.Tensor) -> tuple[slice, ...]:
    where = mask.nonzero()
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(where.min(0)[0], where.max(0)[0], strict=True))


@pytest.mark.parametrize("spatial", [(64, 48), (40, 32, 36)])
def test_mask_is_one_filled_box_for_each_image(spatial):
    mask = cutmix_mask((5, 2, *spatial), CPU, generator=seeded(0))
    assert mask.shape == (5, 1, *spatial)
    assert mask.dtype == torch.bool
    for one in mask[:, 0]:
        assert one[box_of(one)].all()
    assert len({box_of(one).__repr__() for one in mask[:, 0]}) == 5  # drawn for each image


@pytest.mark.parametrize("spatial", [(160, 200), (60, 80, 70)])
def test_box_covers_a_tenth_to_a_half_of_the_image(spatial):
    mask = cutmix_mask((150, 1, *spatial), CPU, generator=seeded(1))
    shares = mask.flatten(1).float().mean(1)
    assert shares.min() > 0.095
    assert shares.max() < 0.505
    assert 0.25 < shares.mean() < 0.35  # uniform between the two


def test_box_fits_into_images_of_few_voxels():
    mask = cutmix_mask((20, 1, 1, 2, 3), CPU, generator=seeded(2))
    assert mask.flatten(1).any(1).all()


def test_mask_repeats_with_its_generator():
    first, second = (cutmix_mask((2, 1, 9, 9), CPU, generator=seeded(3)) for _ in "ab")
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


def test_size_and_shape_of_boxes_are_settings():
    same = CutMixSettings(smallest=0.25, largest=0.25, stretch=0.0)
    for one in cutmix_mask((10, 1, 40, 60), CPU, same, seeded(4))[:, 0]:
        rows, columns = box_of(one)
        assert (rows.stop - rows.start, columns.stop - columns.start) == (20, 30)
    with pytest.raises(UserError, match="largest must be greater than 0"):
        CutMixSettings(largest=0.0)


@pytest.mark.parametrize(("spatial", "box"), [((12, 9), (8, 6)), ((6, 9, 3), (4, 6, 2)), ((1, 30), (1, 20))])
def test_fixed_box_has_its_share_of_every_side(spatial, box):
    torch.manual_seed(0)
    mask = box_mask((20, 2, *spatial), CPU, 2 / 3)
    assert mask.shape == (20, 1, *spatial)
    assert mask.dtype == torch.bool
    for one in mask[:, 0]:
        assert tuple(side.stop - side.start for side in box_of(one)) == box
        assert one[box_of(one)].all()
    assert len({repr(box_of(one)) for one in mask[:, 0]}) > 3  # drawn for each image


def test_labeled_patches_are_pasted_as_a_box_or_all_but_a_box_with_the_given_probability():
    masks = labeled_mix_mask((400, 1, 30, 40), CPU, 0.5, generator=seeded(5))[:, 0]
    shares = masks.flatten(1).float().mean(1)
    assert 0.4 < (shares > 0).float().mean() < 0.6
    boxes, complements = (shares > 0) & (shares < 0.51), shares >= 0.49
    assert 0.17 < boxes.float().mean() < 0.33
    assert 0.17 < complements.float().mean() < 0.33
    for one in (*masks[boxes & ~complements], *~masks[complements & ~boxes]):
        assert one[box_of(one)].all()


def test_without_probability_nothing_is_pasted_and_with_all_of_it_everywhere():
    assert not labeled_mix_mask((20, 1, 9, 9), CPU, 0.0).any()
    assert labeled_mix_mask((20, 1, 9, 9), CPU, 1.0).flatten(1).any(1).all()

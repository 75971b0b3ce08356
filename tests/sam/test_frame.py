from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.utils.transforms import ResizeLongestSide

from nnunet_semisam.sam.frame import INTENSITY_RULES, Frame, to_frame, to_input
from nnunet_semisam.sam.preprocessing import SEGMENT_ANYTHING, Preprocessing


@pytest.mark.parametrize("shape", [(100, 50), (37, 91), (64, 64), (500, 333)])
def test_resized_shape_is_segment_anythings(shape: tuple[int, int]) -> None:
    assert Frame(shape, 256).resized == ResizeLongestSide.get_preprocess_shape(*shape, 256)


def test_voxel_centre_goes_to_the_centre_of_its_pixels() -> None:
    # 4x larger: voxel 2 spans frame pixels [8, 12), its centre is 10; SAM's encoder adds the last half pixel.
    xy = Frame((16, 16), 64).points_to_frame(torch.tensor([[[2.0, 0.0]]]))
    assert xy.tolist() == [[[1.5, 9.5]]]  # x before y


def test_box_edges_go_to_the_edges_of_their_pixels() -> None:
    # Rows 2 to 3 and columns 0 to 7 of a 4x larger frame: y from 8 to 16, x from 0 to 32, less SAM's half pixel.
    xyxy = Frame((16, 16), 64).boxes_to_frame(torch.tensor([[[2.0, 4.0], [0.0, 8.0]]]))
    assert xyxy.tolist() == [[-0.5, 7.5, 31.5, 15.5]]


def test_box_of_one_voxel_is_centred_on_its_point() -> None:
    frame = Frame((30, 20), 77)
    x0, y0, x1, y1 = frame.boxes_to_frame(torch.tensor([[[5.0, 6.0], [9.0, 10.0]]]))[0].tolist()
    x, y = frame.points_to_frame(torch.tensor([[5.0, 9.0]]))[0].tolist()
    assert (x0 + x1) / 2 == pytest.approx(x)
    assert (y0 + y1) / 2 == pytest.approx(y)


def test_mask_prompt_fills_its_part_of_the_frame_and_the_padding_is_outside() -> None:
    mask = Frame((32, 16), 64).masks_to_frame(torch.full((1, 32, 16), 5.0), 16)
    assert mask.shape == (1, 1, 16, 16)
    assert (mask[0, 0, :, :8] == 5).all()
    assert (mask[0, 0, :, 8:] <= 0).all()


def test_masks_there_and_back_stay_in_place() -> None:
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(60.0), indexing="ij")
    blob = 8 - ((rows - 20) ** 2 + (columns - 35) ** 2).sqrt()
    frame = Frame((48, 60), 128)
    back = frame.logits_to_image(frame.masks_to_frame(blob[None], 64)[:, 0])[0]
    both, any_ = ((back > 0) & (blob > 0)).sum(), ((back > 0) | (blob > 0)).sum()
    assert both / any_ > 0.95


def test_intensities_are_stretched_between_robust_percentiles_per_slice() -> None:
    values = torch.arange(1001.0).view(1, 7, 143)
    values = torch.cat([values, 10 * values - 3])
    scaled = INTENSITY_RULES["percentiles"](values, SEGMENT_ANYTHING)
    # 0.5 % and 99.5 % of 0..1000 are 5 and 995
    expected = np.clip((np.arange(1001) - 5) / 990, 0, 1) * 255
    np.testing.assert_allclose(scaled[0].flatten().numpy(), expected, atol=1e-3)
    np.testing.assert_allclose(scaled[1].flatten().numpy(), expected, atol=1e-3)


def test_constant_image_becomes_zero() -> None:
    for rule in INTENSITY_RULES.values():
        assert (rule(torch.full((1, 5, 5), 3.0), SEGMENT_ANYTHING) == 0).all()


def test_a_small_object_on_a_constant_background_is_seen() -> None:
    image = torch.zeros(2, 64, 64)
    image[0, 30:33, 30:35] = torch.linspace(5, 9, 5)  # 15 of 4,096 voxels: below half a percent
    image[1] = torch.rand(64, 64)
    scaled = INTENSITY_RULES["percentiles"](image, SEGMENT_ANYTHING)
    assert scaled[0, 31, 30:35].tolist() == pytest.approx([5 / 9 * 255, 6 / 9 * 255, 7 / 9 * 255, 8 / 9 * 255, 255])
    assert scaled[0, 0, 0] == 0
    assert torch.equal(scaled[1:], INTENSITY_RULES["percentiles"](image[1:], SEGMENT_ANYTHING))


def test_images_are_resized_into_their_part_of_the_frame() -> None:
    out = to_frame(torch.randn(2, 30, 60), Frame((30, 60), 96), SEGMENT_ANYTHING)
    assert out.shape == (2, 1, 48, 96)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 255


def test_a_family_that_stretches_to_a_square_differs_in_data_only() -> None:
    square = Preprocessing(side=64, keep_aspect=False, intensity="min_max", top=1.0)
    images = torch.linspace(-3, 5, 30 * 60).view(1, 30, 60)
    frame = Frame((30, 60), square.side, square.keep_aspect)
    out = to_input(images, frame, square)
    assert out.shape == (1, 1, 64, 64)
    assert float(out.max()) == pytest.approx(1.0, abs=0.02)
    assert float(out.min()) == pytest.approx(0.0, abs=0.02)
    # row 15 of 30 and column 15 of 60 begin half-way down and a quarter across
    assert frame.points_to_frame(torch.tensor([[14.5, 14.5]])).tolist() == [[15.5, 31.5]]
    back = frame.logits_to_image(torch.ones(1, 16, 16))
    assert back.shape == (1, 30, 60)


def test_input_is_normalised_and_the_padding_is_zero() -> None:
    data = Preprocessing(side=64, mean=(10.0, 20.0), std=(2.0, 4.0))
    out = to_input(torch.full((1, 32, 64), 7.0), Frame((32, 64), 64), data)
    assert out.shape == (1, 2, 64, 64)
    assert out[0, :, 0, 0].tolist() == [-5.0, -5.0]  # a constant image becomes 0
    assert (out[:, :, 32:] == 0).all()

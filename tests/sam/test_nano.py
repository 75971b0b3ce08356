from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam

from nnunet_semisam.sam.nano.model import LOGIT_RANGE, build_nano_sam, half_frame
from nnunet_semisam.sam.nano.synthetic_batches import SyntheticBatches


def test_nano_is_segment_anythings_sam_within_its_budget() -> None:
    sam = build_nano_sam()
    assert type(sam) is Sam
    assert type(sam.mask_decoder) is MaskDecoder
    assert isinstance(sam.prompt_encoder, PromptEncoder)
    assert sum(p.numel() for p in sam.parameters()) <= 6e6
    with torch.no_grad():
        assert sam.image_encoder(torch.zeros(1, 3, 224, 224)).shape == (1, 128, 28, 28)


def test_no_channel_of_the_embedding_is_the_same_everywhere() -> None:
    torch.manual_seed(0)
    sam = build_nano_sam(image_size=64, dim=32, widths=(16, 16, 16))
    for channel_bias in (0.0, 100.0):  # large constants per channel must not drown what varies over the image
        torch.nn.init.constant_(sam.image_encoder.from_middle.bias, channel_bias)
        with torch.no_grad():
            features = sam.image_encoder(torch.randn(2, 1, 64, 64))
        torch.testing.assert_close(features.std((2, 3), correction=0), torch.ones(2, 32), atol=0.05, rtol=0.05)


def test_box_is_drawn_where_it_is(nano_sam: Sam) -> None:
    # The encoder is given edges less half a pixel. Columns 16 to 48 and rows 8 to 24 of 64 are half that on the canvas.
    canvas = nano_sam.prompt_encoder.draw(1, None, torch.tensor([[15.5, 7.5, 47.5, 23.5]]), None)[0]
    inside = canvas[0] > 0.5
    assert inside.any(1).nonzero()[:, 0].tolist() == list(range(4, 12))
    assert inside.any(0).nonzero()[:, 0].tolist() == list(range(8, 24))
    ellipse = (canvas[1] > 0).sum()
    assert float(ellipse) == pytest.approx(torch.pi / 4 * 8 * 16, rel=0.1)
    assert (canvas[2:] == 0).all()


def test_points_are_drawn_by_label_and_padding_is_not(nano_sam: Sam) -> None:
    points = torch.tensor([[[10.0, 20.0], [50.0, 60.0], [30.0, 30.0]]])  # x before y
    canvas = nano_sam.prompt_encoder.draw(1, (points, torch.tensor([[1, 0, -1]])), None, None)[0]
    peak = canvas.flatten(1).argmax(1)
    assert (peak[2] // 32, peak[2] % 32) == (10, 5)
    assert (peak[3] // 32, peak[3] % 32) == (30, 25)
    assert canvas[2:4, 15, 15].max() < 0.1


def test_mask_logits_beyond_the_range_are_as_good_as_certain(nano_sam: Sam) -> None:
    mask = torch.full((1, 1, 32, 32), LOGIT_RANGE)
    at, beyond = (nano_sam.prompt_encoder(None, None, m)[1] for m in (mask, 10 * mask))
    assert torch.equal(at, beyond)


def test_positions_survive_bfloat16_autocast(nano_sam: Sam) -> None:
    points = (torch.rand(4, 2, 2) * 64, torch.ones(4, 2, dtype=torch.int64))
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]]).repeat(4, 1)
    exact, _ = nano_sam.prompt_encoder(points, boxes, None)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = nano_sam.prompt_encoder(points, boxes, None)
    torch.testing.assert_close(mixed.float(), exact, atol=1e-5, rtol=1e-5)


def test_window_is_the_middle_of_the_frame_and_shares_all_parameters(nano_sam: Sam) -> None:
    view = half_frame(nano_sam)
    position = nano_sam.prompt_encoder.get_dense_pe()  # 8 x 8 cells, the middle is 2 to 5
    torch.testing.assert_close(view.prompt_encoder.get_dense_pe(), position[:, :, 2:6, 2:6], atol=1e-5, rtol=1e-5)
    points, labels = torch.tensor([[[3.0, 9.0]]]), torch.ones(1, 1, dtype=torch.int64)
    small = view.prompt_encoder._embed_points(points, labels, pad=False)
    large = nano_sam.prompt_encoder._embed_points(points + 16, labels, pad=False)
    torch.testing.assert_close(small, large, atol=1e-5, rtol=1e-5)
    ours, theirs = ({id(p) for p in sam.parameters()} for sam in (view, nano_sam))
    assert ours == theirs


def test_window_batches_are_half_as_wide_and_twice_as_many() -> None:
    data = SyntheticBatches(10, 0, windows=3, size=64, images=2)
    assert data[2].images.shape == (4, 32, 32)
    assert data[2].targets[0].shape == (8, 16, 16)
    assert data[3].images.shape == (2, 64, 64)

"""SAM-Med3D's network: what is special about it beside the contract of all backends."""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pytest
import torch
from small_backends import CPU, SMALL, build_small_sam_med3d, sam_med3d_content

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam.base import Embedding, PromptBatch
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.sam_med3d import FEATURES, SAMMed3DBackend, build_sam_med3d, normalised

SIDE = 64


@pytest.fixture(scope="module")
def backend() -> SAMMed3DBackend:
    torch.manual_seed(0)
    return SAMMed3DBackend(build_small_sam_med3d(), CPU, "weights")


def point_prompt(count: int = 1, **more) -> PromptBatch:
    index = torch.zeros(count, dtype=torch.int64)
    points = torch.tensor([[[10.0, 20.0, 30.0], [40.0, 5.0, 60.0]]]).expand(count, -1, -1)
    return PromptBatch(index, index + 1, points=points, point_labels=torch.tensor([[1, 0]] * count), **more)


@torch.no_grad()
def test_masks_equal_those_of_the_networks_own_parts_in_the_published_order(backend):
    tile = torch.rand(1, 1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 100
    prompts = point_prompt()
    found = backend.decode(backend.encode(tile), prompts).logits
    sam, bright = backend.sam, tile[tile > tile.min()]
    features = sam.image_encoder((tile - bright.mean()) / bright.std())
    sparse, dense = sam.prompt_encoder(
        points=[prompts.points, prompts.point_labels], boxes=None, masks=torch.zeros(1, 1, 16, 16, 16)
    )
    low, _ = sam.mask_decoder(features, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False)
    full = torch.nn.functional.interpolate(low, (SIDE,) * 3, mode="trilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, full, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_undecided_mask_is_no_mask(backend):
    embedding = backend.encode(torch.randn(1, 1, SIDE, SIDE, SIDE))
    without = backend.decode(embedding, point_prompt()).logits
    undecided = backend.decode(embedding, point_prompt(mask_logits=torch.zeros(1, SIDE, SIDE, SIDE))).logits
    torch.testing.assert_close(without, undecided)


@torch.no_grad()
def test_a_mask_reaches_the_decoder_as_means_of_four_voxels(backend):
    features = Embedding({FEATURES: torch.randn(1, 48, 4, 4, 4)}, (SIDE,) * 3)
    coarse = torch.randn(1, 16, 16, 16)
    fine = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    noise = torch.randn(1, 16, 4, 16, 4, 16, 4)
    noise = (noise - noise.mean((2, 4, 6), keepdim=True)).reshape(1, SIDE, SIDE, SIDE)
    smooth, rough = (backend.decode(features, point_prompt(mask_logits=each)).logits for each in (fine, fine + noise))
    torch.testing.assert_close(smooth, rough, atol=1e-4, rtol=1e-4)


def test_its_own_estimate_of_quality_was_never_trained_and_is_not_used(backend):
    with torch.no_grad():
        assert backend.decode(backend.encode(torch.randn(1, 1, SIDE, SIDE, SIDE)), point_prompt()).quality.tolist() == [
            1
        ]


def test_scale_and_offset_of_an_image_do_not_matter_and_padding_does_not_count():
    tile = torch.zeros(8, 8, 8)
    tile[2:6, 2:6, 2:6] = torch.rand(4, 4, 4) + 1
    torch.testing.assert_close(normalised(3 * tile - 7), normalised(tile), atol=1e-4, rtol=1e-4)
    inside = normalised(tile)[2:6, 2:6, 2:6]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inside.std()) == pytest.approx(1, abs=1e-5)
    assert float(normalised(torch.full((2, 2, 2), 4.0)).abs().max()) == 0


@pytest.mark.parametrize("shape", [(1, 1, 64, 64, 32), (1, 1, 64, 64), (0, 1, 64, 64, 64)])
def test_anything_but_tiles_is_refused(backend, shape):
    with pytest.raises(ValueError, match="give tiles"):
        backend.encode(torch.zeros(shape))


def test_the_layout_of_the_table_is_that_of_the_full_network():
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in build_sam_med3d().state_dict().items()}
    for name in ("sam_med3d", "sam_med3d_turbo", "seganypet"):
        (layout,) = FAMILIES[name].layouts
        assert layout.inside == "model_state_dict"
        assert {key: shapes[key] for key in layout.shapes} == dict(layout.shapes)
    assert sum(np.prod(shape) for shape in shapes.values()) == pytest.approx(402e6 / 4, rel=0.01)  # published: 402 MB


def test_a_checkpoint_of_the_published_training_script_is_read(tmp_path):
    """It holds options of the script, an optimiser and a log beside the weights."""
    content = sam_med3d_content() | {
        "optimizer_state_dict": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 8e-4}]},
        "losses": [np.float64(0.4)],
        "best_loss": np.inf,
        "args": argparse.Namespace(img_size=128),
        "used_datas": ["data"],
    }
    torch.save(content, tmp_path / "sam_med3d.pth")
    loaded = SMALL["sam_med3d"].load(tmp_path / "sam_med3d.pth")
    weight = content["model_state_dict"]["mask_decoder.iou_token.weight"]
    assert torch.equal(loaded.sam.mask_decoder.iou_token.weight, weight)
    assert loaded.tile_side == SIDE


def test_a_file_of_the_bare_state_dict_is_told_from_one_of_the_published_layout(tmp_path):
    torch.save(build_small_sam_med3d().state_dict(), tmp_path / "bare.pth")
    assert SMALL["sam_med3d"].load(tmp_path / "bare.pth").spatial_dims == 3


def test_low_rank_adapters_find_their_layers():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=list(FAMILIES["sam_med3d"].lora_targets))
    adapted = peft.get_peft_model(build_small_sam_med3d(), config)
    trainable = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("image_encoder" in name and "qkv" in name for name in trainable)


def test_without_medim_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "medim.models.sam_med3d", None)
    with pytest.raises(UserError, match=r'pip install "nnunet-semisam\[sam3d\]"'):
        build_sam_med3d()


def test_the_fingerprint_follows_the_precision(tmp_path):
    path = SMALL["sam_med3d"].save(tmp_path / "sam_med3d.pth")
    plain, half = (SMALL["sam_med3d"].load(path, cpu_bfloat16=half) for half in (False, True))
    assert plain.fingerprint != half.fingerprint
    with torch.no_grad():
        decoded = half.decode(half.encode(torch.randn(1, 1, SIDE, SIDE, SIDE)), point_prompt())
    assert decoded.logits.dtype == torch.float32

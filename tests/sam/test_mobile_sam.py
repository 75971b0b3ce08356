"""MobileSAM's TinyViT is timm's under other names."""

from __future__ import annotations

import hashlib

import pytest
import torch
from small_backends import MOBILE_SIDE, build_small_mobile_sam, mobile_sam_content, published_mobile_sam_name
from torch import nn

from nnunet_semisam.sam.mobile_sam import build_lite_medsam, build_mobile_sam, to_timm

# Of the lines "name shape", sorted by name, of the state dict of MobileSAM's own class (package mobilesam-mirror 1.0.0,
# built by its sam_model_registry["vit_t"]), without the four entries of the classifier.
PUBLISHED_KEYS = "9d53a17396c7ffbf7bd3682b563f3b5a131b710cada289817834bd0f6dea2c30"


def test_names_and_shapes_at_true_size_are_those_of_mobile_sams_own_class() -> None:
    with torch.device("meta"):
        state = build_mobile_sam().state_dict()
    lines = sorted(f"{published_mobile_sam_name(key)} {tuple(value.shape)}" for key, value in state.items())
    assert len(lines) == 435
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_KEYS


def test_every_weight_is_mapped_and_the_classifier_is_left_out() -> None:
    content, wanted = mobile_sam_content(), build_small_mobile_sam().state_dict()
    mapped = to_timm(content)
    assert mapped.keys() == wanted.keys()
    assert set(content) - {published_mobile_sam_name(key) for key in wanted} == {
        f"image_encoder.{name}" for name in ("norm_head.weight", "norm_head.bias", "head.weight", "head.bias")
    }


@torch.no_grad()
def test_the_last_stage_keeps_the_grid() -> None:
    sam = build_small_mobile_sam().eval()
    grid = MOBILE_SIDE // 16
    assert sam.image_encoder(torch.zeros(1, 3, MOBILE_SIDE, MOBILE_SIDE)).shape == (1, 32, grid, grid)
    assert sam.prompt_encoder.image_embedding_size == (grid, grid)
    assert not any(isinstance(module, nn.Linear) and module.out_features == 1000 for module in sam.modules())


@torch.no_grad()
def test_lite_medsam_embeds_images_of_256_pixels_on_the_grid_of_vit_b() -> None:
    with torch.device("meta"):
        sam = build_lite_medsam()
        features = sam.image_encoder.eval()(torch.zeros(1, 3, 256, 256))
    assert features.shape == (1, 256, 64, 64)
    assert sam.prompt_encoder.image_embedding_size == (64, 64)
    published = {published_mobile_sam_name(key): tuple(value.shape) for key, value in sam.state_dict().items()}
    assert published["image_encoder.patch_embed.seq.0.c.weight"] == (32, 3, 1, 1)
    assert published["image_encoder.patch_embed.seq.2.c.weight"] == (64, 32, 1, 1)
    with torch.device("meta"):
        mobile = build_mobile_sam().state_dict()
    others = {published_mobile_sam_name(key): tuple(value.shape) for key, value in mobile.items()}
    assert {key for key in others if published[key] != others[key]} == {
        f"image_encoder.patch_embed.seq.{layer}.c.weight" for layer in (0, 2)
    }
    assert published.keys() == others.keys()


@torch.no_grad()
def test_attention_biases_are_not_kept_from_an_earlier_call() -> None:
    torch.manual_seed(0)
    encoder = build_small_mobile_sam().image_encoder.eval()
    images = torch.randn(1, 3, MOBILE_SIDE, MOBILE_SIDE)
    before = encoder(images)
    for name, parameter in encoder.named_parameters():
        if name.endswith("attention_biases"):
            parameter.copy_(torch.randn_like(parameter))
    assert not torch.equal(before, encoder(images))


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from nnunet_semisam.errors import UserError

    monkeypatch.setitem(sys.modules, "timm.models.tiny_vit", None)
    with pytest.raises(UserError, match="pip install timm"):
        build_small_mobile_sam()

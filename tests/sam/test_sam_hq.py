"""SAM-HQ: the published structure, and what its further token adds to segment-anything's masks."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from small_backends import CPU, SIDE, SMALL, build_small_sam_hq
from test_backends_contract import images_of

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam import named
from nnunet_semisam.sam.detect import matching
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.sam_hq import DETAILS, HQEncoder, HQMaskDecoder, SAMHQBackend
from nnunet_semisam.sam.segment_anything import FEATURES, SegmentAnythingBackend

# Of the lines "name shape", sorted by name, of the state dicts of SAM-HQ's own class (segment-anything-hq 0.3).
PUBLISHED_KEYS = {
    "vit_b": "ae860c47e4254d5db6ff3ee65406f6f7035bbbfe89de5cbe71446cffaabf4763",
    "vit_l": "d4c86e243ee58741b57cb592a06f88e4e2d3b8a1add123dd448205ba0e547f51",
    "vit_h": "ec666352ed67c5c096c4916f6b4d0139ad408ac2c49fb8d93d41479fa9c1c02a",
}
BOX = torch.tensor([[4.0, 8.0, 40.0, 30.0]])


@pytest.fixture
def backend() -> SAMHQBackend:
    torch.manual_seed(0)
    sam = build_small_sam_hq()
    return SAMHQBackend(sam, CPU, SMALL["sam_hq_vit_b"].row.preprocessing, "of seed 0")


@pytest.mark.parametrize("size", PUBLISHED_KEYS)
def test_names_and_shapes_at_true_size_are_those_of_its_own_class(size: str) -> None:
    with torch.device("meta"):
        state = named(FAMILIES[f"sam_hq_{size}"].network)().state_dict()
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_KEYS[size]


@pytest.mark.parametrize("size", PUBLISHED_KEYS)
def test_the_further_token_tells_it_from_segment_anything(size: str) -> None:
    plain = {"": dict(FAMILIES[size].layouts[0].shapes)}
    further = {"": plain[""] | {"mask_decoder.hf_token.weight": (1, 256)}}
    assert matching(plain) == [name for name in FAMILIES if name in (size, *_same_keys(size))]
    assert matching(further) == [f"sam_hq_{size}"]


def _same_keys(size: str) -> tuple[str, ...]:
    return ("medsam", "vit_b_medical_imaging") if size == "vit_b" else ()


@torch.no_grad()
def test_the_early_tokens_are_those_of_the_first_block_that_sees_the_whole_image() -> None:
    torch.manual_seed(0)
    size = {"img_size": SIDE, "embed_dim": 32, "depth": 3, "num_heads": 2, "out_chans": 32}
    encoder = HQEncoder(**size, window_size=2, global_attn_indexes=(1, 2), use_rel_pos=True).eval()
    plain = ImageEncoderViT(**size, window_size=2, global_attn_indexes=(1, 2), use_rel_pos=True).eval()
    plain.load_state_dict(encoder.state_dict())
    seen = []
    plain.blocks[1].register_forward_hook(lambda block, given, result: seen.append(result))
    images = torch.randn(2, 3, SIDE, SIDE)
    embedding, early = encoder(images)
    assert torch.equal(embedding, plain(images))
    assert torch.equal(early, seen[0])


def test_details_cost_twice_the_memory_of_the_embedding(backend: SAMHQBackend) -> None:
    features = backend.encode(images_of(SMALL["sam_hq_vit_b"])).features
    assert list(features) == [FEATURES, DETAILS]
    assert features[DETAILS][0].numel() == 2 * features[FEATURES][0].numel()


@torch.no_grad()
def test_a_token_that_draws_nothing_is_one_more_prompt_of_segment_anything(backend: SAMHQBackend) -> None:
    decoder = backend.sam.mask_decoder
    silence(decoder)
    maps = {name: value[:1] for name, value in backend.encode(images_of(SMALL["sam_hq_vit_b"])).features.items()}
    sparse, dense = backend.sam.prompt_encoder(points=None, boxes=BOX, masks=None)
    logits, quality = backend._predict_masks(maps, sparse, dense)
    position = backend.sam.prompt_encoder.get_dense_pe()
    expected, expected_quality = decoder.predict_masks(
        maps[FEATURES], position, torch.cat([decoder.hf_token.weight[None], sparse], dim=1), dense
    )
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(quality, expected_quality)


def silence(decoder: HQMaskDecoder) -> None:
    decoder.hf_mlp.layers[-1].weight.zero_()
    decoder.hf_mlp.layers[-1].bias.zero_()


@torch.no_grad()
def test_the_logits_of_the_token_are_what_plain_numpy_says(backend: SAMHQBackend) -> None:
    decoder = backend.sam.mask_decoder
    maps = {name: value[:1] for name, value in backend.encode(images_of(SMALL["sam_hq_vit_b"])).features.items()}
    sparse, dense = backend.sam.prompt_encoder(points=None, boxes=BOX, masks=None)
    seen = {}
    decoder.transformer.register_forward_hook(lambda module, given, result: seen.update(hidden=result[0]))
    decoder.embedding_maskfeature.register_forward_hook(lambda module, given, result: seen.update(fine=result))
    with_token, _ = backend._predict_masks(maps, sparse, dense)
    hidden = seen["hidden"][0, 5].numpy()  # after the IoU and four masks
    for index, layer in enumerate(decoder.hf_mlp.layers):
        hidden = layer.weight.numpy() @ hidden + layer.bias.numpy()
        hidden = np.maximum(hidden, 0) if index < 2 else hidden
    added = np.einsum("c,chw->hw", hidden, (seen["fine"] + maps[DETAILS])[0].numpy())
    silence(decoder)
    without, _ = backend._predict_masks(maps, sparse, dense)
    difference = (with_token - without)[0].numpy()
    for of_mask in difference:
        np.testing.assert_allclose(of_mask, added, atol=1e-5)


def test_it_is_not_trained_to_segment_classes(backend: SAMHQBackend) -> None:
    assert isinstance(backend, SegmentAnythingBackend)
    with pytest.raises(UserError, match=r"SAMHQBackend has no mask decoders.*nano, vit_b"):
        backend.class_decoders(3, 2, train_encoder=False)

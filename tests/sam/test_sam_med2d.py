"""SAM-Med2D: the published structure of its adapters, and the mask that it was trained to give."""

from __future__ import annotations

import numpy as np
import torch
from segment_anything.modeling.image_encoder import Block
from small_backends import SMALL
from test_backends_contract import images_of, prompts_of

from nnunet_semisam.sam.sam_med2d import Adapter, AdapterBlock, build_sam_med2d


def test_an_adapter_is_what_plain_numpy_says() -> None:
    torch.manual_seed(0)
    adapter, tokens = Adapter(8).double(), torch.randn(2, 4, 6, 8, dtype=torch.float64)
    first, second = (adapter.channel[index].weight.detach().numpy() for index in (0, 2))
    down, up = (adapter.spatial[index].weight.detach().numpy() for index in (0, 2))
    x = tokens.numpy()
    hidden = np.maximum(x.mean(axis=(1, 2)) @ first.T, 0)
    gated = x / (1 + np.exp(-hidden @ second.T))[:, None, None]
    padded = np.pad(gated, ((0, 0), (1, 1), (1, 1), (0, 0)))
    small = np.zeros((2, 2, 3, 8))
    for row, column in np.ndindex(2, 3):
        window = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        small[:, row, column] = np.maximum(np.einsum("nijc,ocij->no", window, down), 0)
    large = np.zeros((2, 6, 8, 8))  # a border of one that is cut off
    for row, column in np.ndindex(2, 3):
        large[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += np.einsum(
            "nc,coij->nijo", small[:, row, column], up
        )
    summed = x + np.maximum(large[:, 1:-1, 1:-1], 0)
    centred = summed - summed.mean(axis=-1, keepdims=True)
    expected = centred / np.sqrt(summed.var(axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(adapter(tokens).detach().numpy(), expected, atol=1e-10)


@torch.no_grad()
def test_an_adapter_that_adds_nothing_leaves_segment_anythings_block() -> None:
    more = {"num_heads": 2, "use_rel_pos": True, "input_size": (4, 4)}
    for window in (0, 3):  # 3 does not divide the grid
        torch.manual_seed(0)
        block = AdapterBlock(16, window_size=window, **more)
        plain = Block(16, window_size=window, **more)
        plain.load_state_dict({key: value for key, value in block.state_dict().items() if "Adapter" not in key})
        block.Adapter.norm.weight.zero_()
        block.Adapter.norm.bias.zero_()
        tokens = torch.randn(2, 4, 4, 16)
        torch.testing.assert_close(block(tokens), plain(tokens))


def test_names_and_shapes_at_true_size() -> None:
    from segment_anything import build_sam_vit_b

    with torch.device("meta"):
        state, plain = build_sam_med2d().state_dict(), build_sam_vit_b().state_dict()
    adapters = {key: tuple(value.shape) for key, value in state.items() if "Adapter" in key}
    assert {key for key in state if key not in adapters} == plain.keys()
    assert len(adapters) == 12 * 6
    assert {key.rpartition("Adapter.")[2]: shape for key, shape in adapters.items()} == {
        "norm.weight": (768,),
        "norm.bias": (768,),
        "channel.0.weight": (192, 768),
        "channel.2.weight": (768, 192),
        "spatial.0.weight": (768, 768, 3, 3),
        "spatial.2.weight": (768, 768, 4, 4),
    }
    assert tuple(state["image_encoder.pos_embed"].shape) == (1, 16, 16, 768)
    assert tuple(state["image_encoder.blocks.0.attn.rel_pos_h"].shape) == (27, 64)
    assert tuple(state["image_encoder.blocks.2.attn.rel_pos_h"].shape) == (31, 64)


@torch.no_grad()
def test_a_box_gets_the_best_candidate_too(tmp_path) -> None:
    model = SMALL["sam_med2d"]
    backend = model.load(model.save(tmp_path / "weights.pt"))
    sam, prompts = backend.sam, prompts_of(model, frozenset({"box"}), 1, 1)
    embedding = backend.encode(images_of(model, 1))
    predicted = backend.decode(embedding, prompts)
    frame = backend.frame(model.image_shape)
    sparse, dense = sam.prompt_encoder(None, frame.boxes_to_frame(prompts.boxes), None)
    features = next(iter(embedding.features.values()))
    low, quality = sam.mask_decoder(
        image_embeddings=features,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    best = int(quality[0].argmax())
    torch.testing.assert_close(predicted.logits, frame.logits_to_image(low[:, best]), atol=1e-4, rtol=1e-4)

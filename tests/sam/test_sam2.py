"""SAM 2 on a tiny network of random weights: no published weights are needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_sam2 import SIDE, build_tiny_sam2, meta_state

from nnunet_semisam.sam.base import Embedding, PromptBatch
from nnunet_semisam.sam.preprocessing import SAM2
from nnunet_semisam.sam.sam2 import COARSE, FINE, MIDDLE, Sam2Backend
from nnunet_semisam.sam.sam2_keys import from_meta, translated

CPU = torch.device("cpu")
PREPROCESSING = replace(SAM2, side=SIDE)
KINDS = ("box", "points", "mask", "box+points", "box+points+mask")


@pytest.fixture(scope="module")
def model():
    return build_tiny_sam2()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(5, 1, 40, 52, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def backend(model) -> Sam2Backend:
    return Sam2Backend(model, CPU, PREPROCESSING, "test")


@pytest.fixture(scope="module")
def embedding(backend, images) -> Embedding:
    with torch.no_grad():
        return backend.encode(images)


def prompts_of(kind: str, count: int = 7, images: int = 3) -> PromptBatch:
    generator = torch.Generator().manual_seed(3)
    start = torch.rand(count, 2, generator=generator) * 20
    return PromptBatch(
        image=torch.arange(count) % images,
        label=torch.ones(count, dtype=torch.int64),
        boxes=torch.stack([start, start + 15], dim=2) if "box" in kind else None,
        points=torch.rand(count, 2, 2, generator=generator) * 39 if "points" in kind else None,
        point_labels=torch.tensor([[1, -1]] + [[1, 0]] * (count - 1)) if "points" in kind else None,
        mask_logits=torch.randn(count, 40, 52, generator=generator) if "mask" in kind else None,
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_masks_do_not_depend_on_chunks_or_company(model, images, kind):
    together, apart = (Sam2Backend(model, CPU, PREPROCESSING, "test", batch_size=size) for size in (16, 1))
    prompts = prompts_of(kind)
    many, one = together.decode(together.encode(images), prompts), apart.decode(apart.encode(images), prompts)
    assert many.logits.shape == (7, 40, 52)
    assert many.logits.dtype == torch.float32
    assert float(many.quality.min()) >= 0
    assert float(many.quality.max()) <= 1
    torch.testing.assert_close(many.logits, one.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(many.quality, one.quality, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_masks_equal_those_of_the_librarys_own_forward_pass(model, backend, kind):
    """An image as large as the frame, so that nothing is resized; the library gets an image and an object at a time."""
    image = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    prompts = prompts_of(kind, images=1)
    if prompts.mask_logits is not None:
        prompts = replace(prompts, mask_logits=torch.randn(7, SIDE, SIDE))
    found = backend.decode(backend.encode(image), prompts)
    low, high = image.flatten().kthvalue(21).values, image.flatten().kthvalue(4076).values  # 0.5 and 99.5 %
    scaled = ((image - low) / (high - low)).clamp(0, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    embeddings = model.get_image_embeddings((scaled - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    for m in range(len(prompts)):
        points = None if prompts.points is None else prompts.points[m].flip(-1)[None, None]
        labels = None if prompts.point_labels is None else prompts.point_labels[m][None, None]
        boxes = None if prompts.boxes is None else prompts.boxes[m].T.flip(-1).reshape(1, 1, 4) - 0.5
        masks = None if prompts.mask_logits is None else prompts.mask_logits[m][None, None]
        several = kind == "points" and int((prompts.point_labels[m] >= 0).sum()) == 1
        answer = model._single_frame_forward(
            input_points=points,
            input_labels=labels,
            input_boxes=boxes,
            input_masks=masks,
            image_embeddings=embeddings,
            multimask_output=several,
        )
        best = int(answer.iou_scores[0, 0].argmax())
        torch.testing.assert_close(found.quality[m], answer.iou_scores[0, 0, best], atol=1e-4, rtol=1e-4)
        assert bool(answer.object_score_logits > 0), "or the library shows nothing"
        expected = torch.nn.functional.interpolate(answer.pred_masks, (SIDE, SIDE), mode="bilinear")
        torch.testing.assert_close(found.logits[m], expected[0, 0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_every_mask_prompt_belongs_to_its_own_object(backend, embedding):
    prompts = prompts_of("box+mask", count=2, images=1)
    swapped = replace(prompts, mask_logits=prompts.mask_logits.flip(0))
    first, second = backend.decode(embedding, prompts).logits
    other_first, other_second = backend.decode(embedding, swapped).logits
    assert not torch.allclose(first, other_first)
    assert not torch.allclose(second, other_second)


@torch.no_grad()
def test_embeddings_can_be_stored_in_half_precision(backend, embedding):
    halved = Embedding({name: value.half() for name, value in embedding.features.items()}, embedding.image_shape)
    full, half = (backend.decode(each, prompts_of("box+points")).logits for each in (embedding, halved))
    torch.testing.assert_close(full, half, atol=0.05, rtol=0.05)


def test_embeddings_have_the_sizes_of_sam_2(embedding):
    assert embedding.features[FINE].shape == (5, 16, 16, 16)
    assert embedding.features[MIDDLE].shape == (5, 32, 8, 8)
    assert embedding.features[COARSE].shape == (5, 128, 4, 4)


@pytest.mark.parametrize("kind", ["box", "points", "box+points+mask"])
def test_gradients_reach_parameters_images_and_mask_prompts(backend, kind):
    prompts = prompts_of(kind)
    images = torch.randn(3, 1, 40, 52, requires_grad=True)
    if prompts.mask_logits is not None:
        prompts = replace(prompts, mask_logits=prompts.mask_logits.requires_grad_())
    prediction = backend.decode(backend.encode(images), prompts)
    (prediction.logits.sum() + prediction.quality.sum()).backward()
    assert float(images.grad.abs().sum()) > 0
    if prompts.mask_logits is not None:
        assert float(prompts.mask_logits.grad.abs().sum()) > 0
    for part in (backend.module.vision_encoder, backend.module.prompt_encoder, backend.module.mask_decoder):
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in part.parameters())
    backend.module.zero_grad(set_to_none=True)


def test_low_rank_adapters_find_their_layers(model):
    names = [name for name, _ in model.named_modules() if name.rpartition(".")[2] == "qkv"]
    assert names == [f"vision_encoder.backbone.blocks.{n}.attn.qkv" for n in range(5)]


def test_fingerprint_follows_weights_preprocessing_and_precision(model):
    first = Sam2Backend(model, CPU, PREPROCESSING, "a").fingerprint
    assert first == Sam2Backend(model, CPU, PREPROCESSING, "a").fingerprint
    assert first != Sam2Backend(model, CPU, PREPROCESSING, "b").fingerprint
    assert first != Sam2Backend(model, CPU, replace(PREPROCESSING, percentiles=(0.0, 1.0)), "a").fingerprint
    assert first != Sam2Backend(model, CPU, PREPROCESSING, "a", cpu_bfloat16=True).fingerprint


def test_preprocessing_of_another_model_is_refused(model):
    with pytest.raises(ValueError, match=r"64 pixels.*makes 1024"):
        Sam2Backend(model, CPU, SAM2, "a")
    with pytest.raises(ValueError, match="keeps the aspect"):
        Sam2Backend(model, CPU, replace(PREPROCESSING, keep_aspect=True), "a")


# ------------------------------------------------------------------------------------------------------- the memory


def prompts_in(*slices: int) -> PromptBatch:
    prompts = prompts_of("box", count=len(slices))
    return replace(prompts, image=torch.tensor(slices))


def test_the_prompted_slice_is_what_decode_predicts(backend, embedding):
    prompts = prompts_in(2, 0, 2, 4)
    followed = backend.propagate(embedding, prompts)
    assert followed.shape == (4, 5, 40, 52)
    assert torch.isfinite(followed).all()
    with torch.no_grad():
        decoded = backend.decode(embedding, prompts).logits
    for m, index in enumerate(prompts.image.tolist()):
        assert torch.equal(followed[m, index], decoded[m])


def test_objects_are_followed_alike_alone_and_together(backend, embedding):
    prompts = prompts_in(2, 1, 2)
    together = backend.propagate(embedding, prompts)
    for m in range(3):
        alone = backend.propagate(embedding, prompts.select(slice(m, m + 1)))
        torch.testing.assert_close(together[m], alone[0], atol=1e-4, rtol=1e-4)


def test_both_directions_are_the_same_thing(backend, embedding):
    turned = Embedding({name: value.flip(0) for name, value in embedding.features.items()}, embedding.image_shape)
    prompts = prompts_in(1)
    followed = backend.propagate(embedding, prompts)
    back = backend.propagate(turned, replace(prompts, image=torch.tensor([3])))
    torch.testing.assert_close(followed, back.flip(1), atol=1e-4, rtol=1e-4)


def test_following_equals_the_librarys_own_propagation(model, backend):
    """Slices as large as the frame. The library encodes each frame itself and keeps everything; we do neither."""
    from transformers import Sam2VideoInferenceSession

    from nnunet_semisam.sam.frame import to_input

    frames = 20  # more than the memory reaches, so that what we drop would be missed
    images = torch.rand(frames, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    mask[..., 15:45, 20:40] = True
    with torch.no_grad():
        embedding = backend.encode(images)
        pixels = to_input(images[:, 0], backend.frame((SIDE, SIDE)), PREPROCESSING)
    ours = backend.propagate_masks(embedding.select(slice(0, 1)), mask, embedding, range(1, frames))
    session = Sam2VideoInferenceSession(video=pixels, video_height=SIDE, video_width=SIDE, dtype=torch.float32)
    session.add_mask_inputs(session.obj_id_to_idx(1), 0, mask.float())
    session.obj_with_new_inputs = [1]
    model(inference_session=session, frame_idx=0)
    theirs = [found.pred_masks[0] for found in model.propagate_in_video_iterator(session, start_frame_idx=0)][1:]
    expected = torch.nn.functional.interpolate(torch.stack(theirs), (SIDE, SIDE), mode="bilinear")
    torch.testing.assert_close(ours[0], expected[:, 0], atol=1e-4, rtol=1e-4)


def test_what_is_followed_depends_on_the_known_mask_and_on_every_known_slice(backend, embedding):
    masks = torch.zeros(1, 2, 40, 52, dtype=torch.bool)
    masks[0, 0, 5:20, 5:20] = True
    masks[0, 1, 5:22, 5:22] = True
    support = embedding.select(slice(0, 2))
    first = backend.propagate_masks(support, masks, embedding, [2, 3])
    other = masks.clone()
    other[0, 0] = masks[0, 0].flip(-1)
    assert not torch.allclose(first, backend.propagate_masks(support, other, embedding, [2, 3]))
    assert not torch.allclose(
        first, backend.propagate_masks(embedding.select(slice(1, 2)), masks[:, 1:], embedding, [2, 3])
    )


def test_a_memory_may_have_another_size_than_the_slices(backend, embedding):
    with torch.no_grad():
        support = backend.encode(torch.randn(2, 1, 64, 30))
    masks = torch.zeros(3, 2, 64, 30, dtype=torch.bool)
    masks[:2, :, 10:40, 5:20] = True  # the third object is nowhere
    found = backend.propagate_masks(support, masks, embedding, [4, 0])
    assert found.shape == (3, 2, 40, 52)
    assert torch.isfinite(found).all()


def test_the_memory_holds_no_more_slices_than_it_reaches(model, backend, embedding):
    from nnunet_semisam.sam.sam2_memory import Follower

    follower = Follower(model, CPU, 40, 1)
    maps = backend._frame_features(embedding, 0)
    with torch.no_grad():
        follower.remember(maps, torch.ones(1, 40, 52, dtype=torch.bool))
        for _ in range(30):
            follower.follow(maps)
    outputs = follower.session.output_dict_per_obj[0]
    assert len(outputs["cond_frame_outputs"]) == 1
    assert len(outputs["non_cond_frame_outputs"]) == 16  # max_object_pointers_in_encoder
    assert not any("high_res_masks" in frame for frame in outputs["non_cond_frame_outputs"].values())


@torch.no_grad()
def test_bfloat16_predicts_and_follows_nearly_the_same(model, backend, images):
    half = Sam2Backend(model, CPU, PREPROCESSING, "test", cpu_bfloat16=True)
    embedding = half.encode(images)
    assert embedding.features[COARSE].dtype == torch.float32
    for found, expected in (
        (
            half.decode(embedding, prompts_of("box+points+mask")).logits,
            backend.decode(backend.encode(images), prompts_of("box+points+mask")).logits,
        ),
        (half.propagate(embedding, prompts_in(2)), backend.propagate(backend.encode(images), prompts_in(2))),
    ):
        assert found.dtype == torch.float32
        assert float((found - expected).abs().mean()) < 0.05 * float(expected.std())


# --------------------------------------------------------------------------------------------------------- the names


@pytest.mark.parametrize("improved", [False, True], ids=["SAM 2", "SAM 2.1"])
def test_metas_names_become_those_of_the_librarys_network(improved):
    model = build_tiny_sam2(improved=improved)
    state = meta_state(model)
    assert not any(key.startswith(("vision_encoder", "prompt_encoder", "mask_decoder", "shared")) for key in state)
    assert ("obj_ptr_tpos_proj.weight" in state) == ("no_obj_embed_spatial" in state) == improved
    loaded = from_meta(state)
    wanted = model.state_dict()
    assert set(loaded) == set(wanted)
    assert all(torch.equal(loaded[key], wanted[key]) for key in wanted)


def test_no_two_keys_become_one(model):
    names = [translated(key) for key in meta_state(model)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("key", "name"),
    [  # as the published files and transformers' own conversion have them
        ("image_encoder.trunk.pos_embed_window", "vision_encoder.backbone.pos_embed_window"),
        ("image_encoder.neck.convs.2.conv.bias", "vision_encoder.neck.convs.2.bias"),
        ("sam_mask_decoder.output_upscaling.3.weight", "mask_decoder.upscale_conv2.weight"),
        ("sam_mask_decoder.iou_prediction_head.layers.2.bias", "mask_decoder.iou_prediction_head.proj_out.bias"),
        ("sam_mask_decoder.pred_obj_score_head.layers.1.bias", "mask_decoder.pred_obj_score_head.layers.0.bias"),
        (
            "sam_mask_decoder.transformer.final_attn_token_to_image.out_proj.bias",
            "mask_decoder.transformer.final_attn_token_to_image.o_proj.bias",
        ),
        ("memory_encoder.mask_downsampler.encoder.12.bias", "memory_encoder.mask_downsampler.final_conv.bias"),
        ("memory_encoder.fuser.layers.1.gamma", "memory_encoder.memory_fuser.layers.1.scale"),
        ("memory_encoder.out_proj.weight", "memory_encoder.projection.weight"),
        ("obj_ptr_proj.layers.1.weight", "object_pointer_proj.layers.0.weight"),
        ("image_encoder.trunk.blocks.0.norm3.weight", None),
    ],
)
def test_names_of_some_keys(key, name):
    assert translated(key) == name


def test_a_key_that_nobody_knows_keeps_its_name(model):
    assert "image_encoder.trunk.adapter.weight" in from_meta({"image_encoder.trunk.adapter.weight": torch.zeros(1)})

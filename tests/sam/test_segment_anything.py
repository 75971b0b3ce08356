from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.base import Embedding, PromptBatch
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.family import Family
from nnunet_semisam.sam.mask_decoder import choose_masks, predict_masks, single_points
from nnunet_semisam.sam.preprocessing import NANO, SEGMENT_ANYTHING
from nnunet_semisam.sam.segment_anything import FEATURES, SegmentAnythingBackend

CPU = torch.device("cpu")
KINDS = ("box", "points", "mask", "box+points", "box+points+mask")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def backend_of(sam: Sam, batch_size: int = 16, **options) -> SegmentAnythingBackend:
    data = NANO if len(sam.pixel_mean) == 1 else SEGMENT_ANYTHING
    data = replace(data, side=sam.image_encoder.img_size)
    return SegmentAnythingBackend(sam, CPU, data, "test", batch_size=batch_size, **options)


def prompts_of(kind: str, shape: tuple[int, int] = (40, 52), count: int = 7, images: int = 3) -> PromptBatch:
    generator = torch.Generator().manual_seed(3)
    start = torch.rand(count, 2, generator=generator) * 20
    return PromptBatch(
        image=torch.arange(count) % images,
        label=torch.ones(count, dtype=torch.int64),
        boxes=torch.stack([start, start + 15], dim=2) if "box" in kind else None,
        points=torch.rand(count, 2, 2, generator=generator) * 39 if "points" in kind else None,
        point_labels=torch.tensor([[1, 0]] * (count - 1) + [[1, -1]]) if "points" in kind else None,
        mask_logits=torch.randn(count, *shape, generator=generator) if "mask" in kind else None,
    )


@pytest.fixture(params=["tiny_sam", "nano_sam"])
def sam(request: pytest.FixtureRequest) -> Sam:
    return request.getfixturevalue(request.param)


def test_decoding_prompts_about_many_images_equals_the_stock_decoder_called_for_each(sam: Sam) -> None:
    generator = torch.Generator().manual_seed(0)
    dim, side = sam.prompt_encoder.embed_dim, sam.prompt_encoder.image_embedding_size[0]
    features = torch.randn(3, dim, side, side, generator=generator)
    image = torch.tensor([2, 0, 1, 2, 2])
    points = (torch.rand(5, 3, 2, generator=generator) * 60, torch.tensor([[1, 0, -1]] * 5))
    boxes = torch.rand(5, 4, generator=generator) * 20 + torch.tensor([0, 0, 30, 30])
    masks = torch.randn(5, 1, *sam.prompt_encoder.mask_input_size, generator=generator)
    position = sam.prompt_encoder.get_dense_pe()
    with torch.no_grad():
        sparse, dense = sam.prompt_encoder(points, boxes, masks)
        logits, quality = predict_masks(sam.mask_decoder, features[image], position, sparse, dense)
        for m in range(5):
            embedding = features[image[m]][None]
            one = sam.mask_decoder.predict_masks(embedding, position, sparse[m : m + 1], dense[m : m + 1])
            torch.testing.assert_close(logits[m], one[0][0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(quality[m], one[1][0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_equal_those_of_segment_anythings_own_predictor(tiny_sam: Sam, kind: str) -> None:
    shape = (48, 64)  # as wide as the frame, so that nothing is resized, only padded
    levels = torch.arange(256.0).repeat(12)  # spans 0..255 in every quarter: percentile stretching changes little
    grey = levels[torch.randperm(48 * 64, generator=torch.Generator().manual_seed(0))].view(shape)
    prompts, backend = prompts_of(kind, shape, images=1), backend_of(tiny_sam)
    embedding = backend.encode(grey[None, None])
    answers = backend.decode(embedding, prompts)
    predictor = SamPredictor(tiny_sam)
    stretched = ((grey - 1) / 253 * 255).clamp(0, 255)  # 0.5 and 99.5 % of 0..255 are 1 and 254
    predictor.set_torch_image(stretched.expand(1, 3, -1, -1), shape)
    for m in range(len(prompts)):
        points = None if prompts.points is None else prompts.points[m].flip(-1)[None]
        labels = None if prompts.point_labels is None else prompts.point_labels[m][None]
        # a box [start, stop) has its edges at start and stop; SAM adds half a pixel to what it gets
        boxes = None if prompts.boxes is None else prompts.boxes[m].T.flip(-1).reshape(1, 4) - 0.5
        low = None
        if prompts.mask_logits is not None:  # 16 mask pixels for 64 image pixels; the last quarter is padding
            small = torch.nn.functional.interpolate(
                prompts.mask_logits[m][None, None], (12, 16), mode="bilinear", antialias=True
            )
            low = torch.full((1, 1, 16, 16), float(small.min()))
            low[:, :, :12] = small
        single = kind == "points" and int((labels >= 0).sum()) == 1
        masks, quality, _ = predictor.predict_torch(points, labels, boxes, low, single, return_logits=True)
        best = int(quality[0].argmax())
        torch.testing.assert_close(answers.logits[m], masks[0, best], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(answers.quality[m], quality[0, best].clamp(0, 1), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_do_not_depend_on_chunks_or_company(sam: Sam, kind: str) -> None:
    images, prompts = torch.randn(3, 1, 40, 52), prompts_of(kind)
    together = backend_of(sam).decode(backend_of(sam).encode(images), prompts)
    small = backend_of(sam, batch_size=1)
    apart = small.decode(small.encode(images), prompts)
    assert together.logits.shape == (7, 40, 52)
    assert together.logits.dtype == torch.float32
    assert together.quality.shape == (7,)
    assert float(together.quality.min()) >= 0
    assert float(together.quality.max()) <= 1
    torch.testing.assert_close(together.logits, apart.logits, atol=1e-4, rtol=1e-4)


def test_every_prompt_is_decoded_with_its_own_image(nano_sam: Sam) -> None:
    backend = backend_of(nano_sam)
    embedding = backend.encode(torch.randn(3, 1, 40, 52))
    prompts = prompts_of("box")
    swapped = Embedding({FEATURES: embedding.features[FEATURES][[1, 2, 0]]}, embedding.image_shape)
    moved = PromptBatch(image=(prompts.image + 2) % 3, label=prompts.label, boxes=prompts.boxes)
    torch.testing.assert_close(backend.decode(embedding, prompts).logits, backend.decode(swapped, moved).logits)
    assert not torch.allclose(backend.decode(embedding, prompts).logits, backend.decode(embedding, moved).logits)


def test_embeddings_can_be_stored_in_half_precision(nano_sam: Sam) -> None:
    backend = backend_of(nano_sam)
    embedding = backend.encode(torch.randn(3, 1, 40, 52))
    halved = Embedding({FEATURES: embedding.features[FEATURES].half()}, embedding.image_shape)
    prompts = prompts_of("box+points")
    full, half = backend.decode(embedding, prompts), backend.decode(halved, prompts)
    assert half.logits.dtype == torch.float32
    torch.testing.assert_close(full.logits, half.logits, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("change", [lambda x: 3 * x + 7, lambda x: x / 1000])
def test_intensity_unit_does_not_matter(nano_sam: Sam, change) -> None:
    images = torch.randn(2, 1, 40, 52)
    backend = backend_of(nano_sam)
    before, after = (backend.encode(i).features[FEATURES] for i in (images, change(images)))
    torch.testing.assert_close(before, after, atol=1e-3, rtol=1e-3)


def test_several_channels_and_constant_images_are_encoded(nano_sam: Sam) -> None:
    features = backend_of(nano_sam).encode(torch.zeros(1, 2, 30, 30)).features[FEATURES]
    assert torch.isfinite(features).all()


def test_single_point_takes_the_best_candidate_and_all_else_the_first_mask() -> None:
    logits = torch.arange(8.0).view(2, 4, 1, 1)
    quality = torch.tensor([[0.9, 0.1, 0.3, 0.2], [0.9, 0.1, 0.3, 0.2]])
    masks, chosen = choose_masks(logits, quality, torch.tensor([True, False]))
    assert masks.flatten().tolist() == [2.0, 4.0]
    assert np.allclose(chosen, [0.3, 0.9])


def test_only_one_point_without_box_and_mask_is_ambiguous() -> None:
    labels = torch.tensor([[1, -1], [1, 0], [-1, 1]])
    assert single_points(labels, 3, False, CPU).tolist() == [True, False, True]
    assert not single_points(labels, 3, True, CPU).any()
    assert not single_points(None, 3, False, CPU).any()


def test_prompts_that_make_no_sense_are_refused(nano_sam: Sam) -> None:
    backend = backend_of(nano_sam)
    embedding = backend.encode(torch.randn(2, 1, 40, 52))
    one = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="neither box nor points"):
        backend.decode(embedding, PromptBatch(one, one))
    with pytest.raises(ValueError, match="at least one"):
        backend.decode(embedding, prompts_of("box").select(slice(0, 0)))
    with pytest.raises(ValueError, match="images 0 to 2, but 2"):
        backend.decode(embedding, prompts_of("box"))
    with pytest.raises(ValueError, match="belong together"):
        backend.decode(embedding, PromptBatch(one, one, points=torch.zeros(1, 1, 2)))
    with pytest.raises(ValueError, match="must be equal"):
        backend.decode(embedding, prompts_of("mask", (20, 20), images=2))
    with pytest.raises(ValueError, match="give slices"):
        backend.encode(torch.randn(1, 1, 4, 40, 52))


def test_a_kind_that_the_model_does_not_understand_is_refused(nano_sam: Sam) -> None:
    backend = backend_of(nano_sam, prompt_kinds=frozenset({"box"}))
    with pytest.raises(ValueError, match="understands box only"):
        backend.decode(backend.encode(torch.randn(3, 1, 40, 52)), prompts_of("box+points"))


def test_fingerprint_follows_weights_preprocessing_and_precision(nano_sam: Sam) -> None:
    data = replace(NANO, side=64)
    first = SegmentAnythingBackend(nano_sam, CPU, data, "a").fingerprint
    assert first == SegmentAnythingBackend(nano_sam, CPU, data, "a").fingerprint
    assert first != SegmentAnythingBackend(nano_sam, CPU, data, "b").fingerprint
    assert first != SegmentAnythingBackend(nano_sam, CPU, replace(data, percentiles=(0.0, 1.0)), "a").fingerprint
    assert first != SegmentAnythingBackend(nano_sam, CPU, data, "a", cpu_bfloat16=True).fingerprint


def test_a_side_that_is_not_the_models_is_refused(nano_sam: Sam) -> None:
    with pytest.raises(ValueError, match="64 pixels, the preprocessing makes 224"):
        SegmentAnythingBackend(nano_sam, CPU, NANO, "a")


@pytest.mark.parametrize("kind", ["box", "box+points+mask"])
def test_gradients_reach_parameters_images_and_mask_prompts(sam: Sam, kind: str) -> None:
    backend, prompts = backend_of(sam), prompts_of(kind)
    with torch.enable_grad():
        images = torch.randn(3, 1, 40, 52, requires_grad=True)
        if prompts.mask_logits is not None:
            prompts = replace(prompts, mask_logits=prompts.mask_logits.requires_grad_())
        prediction = backend.decode(backend.encode(images), prompts)
        (prediction.logits.sum() + prediction.quality.sum()).backward()
    assert float(images.grad.abs().sum()) > 0
    if prompts.mask_logits is not None:
        assert float(prompts.mask_logits.grad.abs().sum()) > 0
    for part in (backend.module.image_encoder, backend.module.prompt_encoder, backend.module.mask_decoder):
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in part.parameters())
    backend.module.zero_grad(set_to_none=True)


def test_an_unknown_model_is_refused_with_the_closest_name() -> None:
    with pytest.raises(UserError, match="Did you mean 'nano'"):
        build_backend("nanoo", BackendOptions(CPU))


def build_fake_backend(family: Family, options: BackendOptions) -> str:
    return f"{family.name} on {options.device}"


def test_a_further_sam_is_a_function_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Family("fake", backend=f"{__name__}:build_fake_backend", network="", file="fake.pt")
    monkeypatch.setitem(FAMILIES, "fake", row)
    assert build_backend("fake", BackendOptions(CPU)) == "fake on cpu"


@pytest.mark.parametrize("name", ["nano", "vit_b", "vit_l", "vit_h"])
def test_rows_fit_the_models_that_they_build(name: str) -> None:
    row = FAMILIES[name]
    if name == "nano":
        from nnunet_semisam.sam import named

        sam = named(row.network)()
        assert row.preprocessing.side == sam.image_encoder.img_size
        assert row.preprocessing.mean == tuple(sam.pixel_mean.flatten().tolist())
    else:
        from segment_anything.build_sam import sam_model_registry

        assert row.network.rpartition("_sam_")[2] == name
        assert name in sam_model_registry
    assert row.prompts == ("box", "points", "mask")


@pytest.mark.slow
def test_vit_b_has_the_published_keys_and_predicts() -> None:
    from segment_anything import build_sam_vit_b

    sam = build_sam_vit_b()
    keys = set(sam.state_dict())
    assert len(keys) == 314
    assert tuple(sam.state_dict()["image_encoder.pos_embed"].shape) == (1, 64, 64, 768)
    # a block with windows and one without, of twelve: the image passes at its true size in a sixth of the time
    sam.image_encoder.blocks = sam.image_encoder.blocks[1:3]
    backend = backend_of(sam)
    answer = backend.decode(backend.encode(torch.randn(1, 1, 40, 52)), prompts_of("box", images=1, count=2))
    assert answer.logits.shape == (2, 40, 52)

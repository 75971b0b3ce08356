"""Objects come back where they were: models of the true classes whose weights are set so that they find what is bright.

The weights make every layer pass on "brighter than the middle" as the sign of one channel, and the decoder copy it to
all masks. What is left is geometry: frame, padding or stretching, patches, the way back, and the axes of the view.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from small_backends import CPU, build_small_sam

from nnunet_semisam.generalists.base import CaseInput
from nnunet_semisam.generalists.build import build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the blocks
from nnunet_semisam.sam import BackendOptions, named
from nnunet_semisam.sam.base import PromptBatch
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.preprocessing import Preprocessing
from nnunet_semisam.sam.sam_med2d import build_sam_med2d
from nnunet_semisam.sam.segment_anything import SegmentAnythingBackend
from nnunet_semisam.settings import Settings


def build_fine_sam() -> Sam:
    return build_small_sam(side=128, patch=4)


def build_fine_sam_med2d() -> Sam:
    return build_sam_med2d(side=512, width=32, depth=1, heads=2, global_blocks=(0,), dim=32)


FINE = {
    "vit_b": (build_fine_sam, 128),
    "medsam": (build_fine_sam, 128),
    "sam_med2d": (build_fine_sam_med2d, 512),
}


@torch.no_grad()
def follow_brightness(sam: Sam, preprocessing: Preprocessing) -> Sam:
    """Set all weights so that masks are what is brighter than the middle of the range."""
    for name, parameter in sam.named_parameters():
        if parameter.ndim > 1 or name.endswith("bias"):
            parameter.zero_()
    encoder, decoder = sam.image_encoder, sam.mask_decoder
    for sign, channel in ((1.0, 0), (-1.0, 1)):
        weight = encoder.patch_embed.proj.weight
        weight[channel] = sign / weight[0].numel()
        middle = [(preprocessing.top / 2 - m) / s for m, s in zip(preprocessing.mean, preprocessing.std, strict=True)]
        encoder.patch_embed.proj.bias[channel] = -sign * float(np.mean(middle))
        encoder.neck[0].weight[channel, channel] = 1.0
        encoder.neck[2].weight[channel, channel, 1, 1] = 1.0
        decoder.output_upscaling[0].weight[channel, channel] = 1.0
        decoder.output_upscaling[3].weight[channel, channel] = 1.0
        for mlp in decoder.output_hypernetworks_mlps:
            mlp.layers[-1].bias[channel] = 5.0 * sign
    decoder.iou_prediction_head.layers[-1].bias.fill_(0.9)
    for block in encoder.blocks:
        if hasattr(block, "Adapter"):
            block.Adapter.norm.weight.zero_()
    return sam


def fine_backend(name: str, folder: Path) -> SegmentAnythingBackend:
    build, side = FINE[name]
    row = FAMILIES[name]
    row = replace(row, network=f"{__name__}:{build.__name__}", preprocessing=replace(row.preprocessing, side=side))
    state = follow_brightness(build(), row.preprocessing).state_dict()
    torch.save({"model": state} if row.layouts[0].inside else state, folder / "weights.pt")
    return named(row.backend)(row, BackendOptions(CPU, checkpoint=str(folder / "weights.pt")))


def ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    grid = np.ogrid[tuple(slice(size) for size in shape)]
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) < 1


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


@torch.no_grad()
@pytest.mark.parametrize("shape", [(60, 96), (100, 50)])
@pytest.mark.parametrize("name", FINE)
def test_an_object_of_a_slice_comes_back_where_it_was(name: str, shape: tuple[int, int], tmp_path: Path) -> None:
    backend = fine_backend(name, tmp_path)
    height, width = shape
    objects = np.stack(
        [
            ellipsoid(shape, (0.2 * height, 0.75 * width), (0.1 * height, 0.2 * width)),
            ellipsoid(shape, (0.7 * height, 0.3 * width), (0.2 * height, 0.2 * width)),
        ]
    )
    images = torch.from_numpy(objects[:, None].astype(np.float32))
    boxes = torch.tensor([[[5.0, 20.0], [5.0, 20.0]]] * 2)
    prompts = PromptBatch(torch.tensor([0, 1]), torch.tensor([1, 1]), boxes=boxes)
    found = backend.decode(backend.encode(images), prompts)
    for mask, wanted in zip(found.logits.numpy() > 0, objects, strict=True):
        assert dice(mask, wanted) > 0.9
        assert np.argwhere(mask).mean(axis=0) == pytest.approx(np.argwhere(wanted).mean(axis=0), abs=1)
    assert found.quality.tolist() == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize("view", [{"axis": 0}, {"axis": 1}, {"axis": 2}, {"view": "three_axes"}], ids=str)
def test_an_object_of_an_anisotropic_volume_comes_back_through_every_view(view: dict, tmp_path: Path) -> None:
    shape = (10, 30, 36)  # 3 x 1 x 1.5 mm
    wanted = ellipsoid(shape, (3.0, 21.0, 11.0), (3.0, 6.0, 8.0))
    image = np.where(wanted, 100.0, -100.0).astype(np.float32)[None]
    shifted = np.roll(wanted, (0, 1, -1), (0, 1, 2)).astype(np.float32)
    specialist = np.stack([1 - 0.9 * shifted, 0.9 * shifted])
    settings = Settings.of(use_sam=True, nano={"prompt": "box", "refinement": "none", **view})
    cache = EmbeddingCache(tmp_path / "embeddings", "3d", 1.0)
    backend = fine_backend("vit_b", tmp_path)
    generalist = build_generalist("nano", backend, settings, Labels.of_classes(2), cache, (3.0, 1.0, 1.5))
    found = generalist.predict_case(CaseInput("case", image, specialist)).prediction.probs[0] > 0.5
    assert dice(found, wanted) > 0.85
    assert np.argwhere(found).mean(axis=0) == pytest.approx(np.argwhere(wanted).mean(axis=0), abs=1)
    assert dice(found, wanted) > dice(found, shifted > 0)

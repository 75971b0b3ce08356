"""Small models of the true classes, written as files of the true layout and loaded by the loaders that users have.

One more backend is one more entry of ``SMALL``: its row of the table of models with a small network, and a function
that writes a small checkpoint. The contract test runs over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from tiny_sam2 import build_seeded_tiny_sam2, meta_checkpoint

from nnunet_semisam.sam import BackendOptions, named
from nnunet_semisam.sam.base import SAMBackend
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.family import Family

CPU = torch.device("cpu")
SIDE = 64
MOBILE_SIDE = 128  # the windows of its attention see all of a smaller grid


def build_small_sam(side: int = SIDE, patch: int = 16, dim: int = 32) -> Sam:
    """segment-anything's own classes, one transformer block deep."""
    encoder = ImageEncoderViT(
        depth=1,
        embed_dim=32,
        img_size=side,
        mlp_ratio=2,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=2,
        patch_size=patch,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[0],
        window_size=2,
        out_chans=dim,
    )
    return Sam(encoder, *small_decoder(side, patch, dim)).eval()


def small_decoder(side: int, patch: int, dim: int) -> tuple[PromptEncoder, MaskDecoder]:
    """segment-anything's prompt encoder and mask decoder, small."""
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=dim, num_heads=2, mlp_dim=64),
        transformer_dim=dim,
        iou_head_depth=3,
        iou_head_hidden_dim=32,
    )
    return PromptEncoder(dim, (side // patch, side // patch), (side, side), mask_in_chans=8), decoder


def build_small_nano() -> Sam:
    from nnunet_semisam.sam.nano.model import build_nano_sam

    return build_nano_sam(image_size=SIDE, dim=32, widths=(16, 16, 16))


def build_small_sam_med3d() -> torch.nn.Module:
    """medim's own classes, one transformer block deep."""
    from medim.models.sam_med3d import build_sam3D_vit_b_ori

    return build_sam3D_vit_b_ori(
        encoder_embed_dim=48,
        encoder_depth=1,
        encoder_num_heads=4,
        encoder_global_attn_indexes=[0],
        prompt_embed_dim=48,
        image_size=SIDE,
    )


def sam_med3d_content() -> dict[str, Any]:
    return {"model_state_dict": build_small_sam_med3d().state_dict(), "epoch": 3}


def build_small_mobile_sam() -> Sam:
    from nnunet_semisam.sam.mobile_sam import build_mobile_sam

    return build_mobile_sam(MOBILE_SIDE, (16, 16, 32, 32), (1, 1, 1, 1), (1, 1, 2, 2), (7, 7, 14, 7), dim=32)


def build_small_lite_medsam() -> Sam:
    from nnunet_semisam.sam.mobile_sam import build_mobile_sam

    return build_mobile_sam(SIDE, (16, 16, 32, 32), (1, 1, 1, 1), (1, 1, 2, 2), (7, 7, 14, 7), dim=32, reduction=4)


def mobile_sam_content(network: Callable[[], Sam] = build_small_mobile_sam) -> dict[str, Any]:
    """Weights under the published names, with the classifier that the published file has, too."""
    state = network().state_dict()
    for key in state:
        if key.endswith("attn.proj.weight"):  # as in trained weights, what is near counts more than what is far
            state[key] *= 0.1
    state = {published_mobile_sam_name(key): value for key, value in state.items()}
    head = {"norm_head.weight": (32,), "norm_head.bias": (32,), "head.weight": (10, 32), "head.bias": (10,)}
    return state | {f"image_encoder.{key}": torch.randn(shape) for key, shape in head.items()}


def published_mobile_sam_name(key: str) -> str:
    """The published name of a weight that is called ``key`` here, without the map of the package."""
    if not key.startswith("image_encoder.trunk."):
        return key
    parts = key.removeprefix("image_encoder.trunk.").split(".")
    if parts[0] == "patch_embed":
        parts[1:2] = ["seq", {"conv1": "0", "conv2": "2"}[parts[1]]]
    elif parts[2] == "downsample":
        parts[:2] = ["layers", str(int(parts[1]) - 1)]
    else:
        parts[0] = "layers"
    if parts[-2:] == ["conv", "weight"]:
        parts[-2] = "c"
    return ".".join(["image_encoder", *parts])


def build_small_sam_med2d() -> Sam:
    from nnunet_semisam.sam.sam_med2d import build_sam_med2d

    return build_sam_med2d(SIDE, width=32, depth=2, heads=2, global_blocks=(1,), dim=32)


def build_small_sam_hq() -> Sam:
    from nnunet_semisam.sam.sam_hq import build_sam_hq

    return build_sam_hq(width=32, depth=2, heads=2, global_blocks=(0,), side=SIDE, dim=32)


@dataclass(frozen=True)
class SmallModel:
    """A backend to hold against the contract.

    Attributes:
        row: Of the table of models, with a small network; the name is that of the true row.
        content: What a small checkpoint holds, with random weights of the current seed.
        image_shape: Of the images that it is shown: not square, no multiple of a patch.
        write: Writes the content as the loader reads it.
    """

    row: Family
    content: Callable[[], dict[str, Any]]
    image_shape: tuple[int, ...] = (40, 52)
    write: Callable[[dict[str, Any], Path], None] = torch.save

    def save(self, path: Path, seed: int = 0) -> Path:
        """Write a checkpoint of random weights."""
        torch.manual_seed(seed)
        self.write(self.content(), path)
        return path

    def load(self, path: Path, **options: Any) -> SAMBackend:
        """Load a checkpoint as a training does."""
        return named(self.row.backend)(self.row, BackendOptions(CPU, checkpoint=str(path), **options))


def small(
    name: str,
    network: Callable[[], torch.nn.Module],
    content: Callable[[], dict[str, Any]] | None = None,
    side: int = SIDE,
    **more: Any,
) -> SmallModel:
    """Return a model of a row whose input is small, too; ``network`` is a function of this module."""
    row = FAMILIES[name]
    preprocessing = None if row.preprocessing is None else replace(row.preprocessing, side=side)
    row = replace(row, network=f"{network.__module__}:{network.__name__}", preprocessing=preprocessing)
    return SmallModel(row, content or (lambda: network().state_dict()), **more)


SMALL = {
    model.row.name: model
    for model in (
        small("nano", build_small_nano),
        small("vit_b", build_small_sam),
        small("sam_med3d", build_small_sam_med3d, sam_med3d_content, image_shape=(SIDE,) * 3),
        small("mobile_sam", build_small_mobile_sam, mobile_sam_content, side=MOBILE_SIDE),
        small("lite_medsam", build_small_lite_medsam, lambda: mobile_sam_content(build_small_lite_medsam)),
        small("medsam", build_small_sam),
        small("vit_b_medical_imaging", build_small_sam),
        small("sam_med2d", build_small_sam_med2d, lambda: {"model": build_small_sam_med2d().state_dict(), "epoch": 1}),
        small("sam_hq_vit_b", build_small_sam_hq),
        small("sam2.1_tiny", build_seeded_tiny_sam2, meta_checkpoint),
    )
}

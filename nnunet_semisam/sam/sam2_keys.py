"""From the names of Meta's SAM 2 checkpoints to those of the network in transformers.

Every key of a file is translated by a rule of :data:`RULES`. One that no rule knows keeps its name, and the loader
refuses it: it may be a layer that the network lacks. Names on the left: ``sam2/modeling`` of https://github.com/facebookresearch/sam2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

LABELED_POINTS = 4  # background point, foreground point, first and last corner of a box

# Of multilayer perceptrons with two and with three layers.
_TWO = {"0": "proj_in", "1": "proj_out"}
_THREE = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}
_MASK_EMBED = {"0": "conv1", "1": "layer_norm1", "3": "conv2", "4": "layer_norm2", "6": "conv3"}
_UPSCALING = {"0": "upscale_conv1", "1": "upscale_layer_norm", "3": "upscale_conv2"}
_ATTENTION = r"(?P<layer>self_attn|cross_attn_\w+|final_attn_token_to_image)\.(?P<part>q|k|v|out)_proj"
_ENDING = r"\.(?P<ending>weight|bias)"


def _downsampler(number: str) -> str:
    """Return the name of a module of the mask downsampler: four times convolution, norm and activation."""
    if number == "12":
        return "final_conv"
    return f"layers.{int(number) // 3}.{'conv' if int(number) % 3 == 0 else 'layer_norm'}"


def _projection(part: str) -> str:
    return f"{'o' if part == 'out' else part}_proj"


# Pattern of a whole key, and what it becomes: {name} stands for a group, or for a translated one.
RULES: tuple[tuple[str, str], ...] = (
    # image encoder
    (r"image_encoder\.trunk\.(?P<rest>pos_embed|pos_embed_window)", "vision_encoder.backbone.{rest}"),
    (r"image_encoder\.trunk\.patch_embed\.proj" + _ENDING, "vision_encoder.backbone.patch_embed.projection.{ending}"),
    (
        r"image_encoder\.trunk\.blocks\.(?P<n>\d+)\.norm(?P<k>[12])" + _ENDING,
        "vision_encoder.backbone.blocks.{n}.layer_norm{k}.{ending}",
    ),
    (
        r"image_encoder\.trunk\.blocks\.(?P<n>\d+)\.mlp\.layers\.(?P<two>[01])" + _ENDING,
        "vision_encoder.backbone.blocks.{n}.mlp.{two}.{ending}",
    ),
    (
        r"image_encoder\.trunk\.blocks\.(?P<n>\d+)\.(?P<rest>attn\.qkv|attn\.proj|proj)" + _ENDING,
        "vision_encoder.backbone.blocks.{n}.{rest}.{ending}",
    ),
    (r"image_encoder\.neck\.convs\.(?P<n>\d+)\.conv" + _ENDING, "vision_encoder.neck.convs.{n}.{ending}"),
    # prompt encoder
    (
        r"sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
        "prompt_encoder.shared_embedding.positional_embedding",
    ),
    (r"sam_prompt_encoder\.point_embeddings\.(?P<n>[0-3])\.weight", "prompt_encoder.point_embed.{n}"),
    (r"sam_prompt_encoder\.(?P<rest>not_a_point_embed|no_mask_embed)\.weight", "prompt_encoder.{rest}.weight"),
    (
        r"sam_prompt_encoder\.mask_downscaling\.(?P<embed>[01346])" + _ENDING,
        "prompt_encoder.mask_embed.{embed}.{ending}",
    ),
    # mask decoder
    (
        r"sam_mask_decoder\.transformer\.(?P<before>layers\.\d+\.)?" + _ATTENTION + _ENDING,
        "mask_decoder.transformer.{before}{layer}.{part}.{ending}",
    ),
    (
        r"sam_mask_decoder\.transformer\.layers\.(?P<n>\d+)\.norm(?P<k>[1-4])" + _ENDING,
        "mask_decoder.transformer.layers.{n}.layer_norm{k}.{ending}",
    ),
    (
        r"sam_mask_decoder\.transformer\.layers\.(?P<n>\d+)\.mlp\.layers\.(?P<two>[01])" + _ENDING,
        "mask_decoder.transformer.layers.{n}.mlp.{two}.{ending}",
    ),
    (
        r"sam_mask_decoder\.transformer\.norm_final_attn" + _ENDING,
        "mask_decoder.transformer.layer_norm_final_attn.{ending}",
    ),
    (r"sam_mask_decoder\.(?P<rest>iou_token|mask_tokens|obj_score_token)\.weight", "mask_decoder.{rest}.weight"),
    (r"sam_mask_decoder\.output_upscaling\.(?P<upscaling>[013])" + _ENDING, "mask_decoder.{upscaling}.{ending}"),
    (r"sam_mask_decoder\.(?P<rest>conv_s0|conv_s1)" + _ENDING, "mask_decoder.{rest}.{ending}"),
    (
        r"sam_mask_decoder\.(?P<rest>output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)"
        r"\.layers\.(?P<three>[012])" + _ENDING,
        "mask_decoder.{rest}.{three}.{ending}",
    ),
    # memory
    (
        r"memory_attention\.layers\.(?P<n>\d+)\." + _ATTENTION + _ENDING,
        "memory_attention.layers.{n}.{layer}.{part}.{ending}",
    ),
    (
        r"memory_attention\.layers\.(?P<n>\d+)\.norm(?P<k>[1-3])" + _ENDING,
        "memory_attention.layers.{n}.layer_norm{k}.{ending}",
    ),
    (
        r"memory_attention\.layers\.(?P<n>\d+)\.(?P<rest>linear[12])" + _ENDING,
        "memory_attention.layers.{n}.{rest}.{ending}",
    ),
    (r"memory_attention\.norm" + _ENDING, "memory_attention.layer_norm.{ending}"),
    (
        r"memory_encoder\.mask_downsampler\.encoder\.(?P<downsampler>0|1|3|4|6|7|9|10|12)" + _ENDING,
        "memory_encoder.mask_downsampler.{downsampler}.{ending}",
    ),
    (r"memory_encoder\.pix_feat_proj" + _ENDING, "memory_encoder.feature_projection.{ending}"),
    (r"memory_encoder\.fuser\.layers\.(?P<n>\d+)\.gamma", "memory_encoder.memory_fuser.layers.{n}.scale"),
    (
        r"memory_encoder\.fuser\.layers\.(?P<n>\d+)\.dwconv" + _ENDING,
        "memory_encoder.memory_fuser.layers.{n}.depthwise_conv.{ending}",
    ),
    (
        r"memory_encoder\.fuser\.layers\.(?P<n>\d+)\.norm" + _ENDING,
        "memory_encoder.memory_fuser.layers.{n}.layer_norm.{ending}",
    ),
    (
        r"memory_encoder\.fuser\.layers\.(?P<n>\d+)\.pwconv(?P<k>[12])" + _ENDING,
        "memory_encoder.memory_fuser.layers.{n}.pointwise_conv{k}.{ending}",
    ),
    (r"memory_encoder\.out_proj" + _ENDING, "memory_encoder.projection.{ending}"),
    (r"obj_ptr_proj\.layers\.(?P<three>[012])" + _ENDING, "object_pointer_proj.{three}.{ending}"),
    (r"obj_ptr_tpos_proj" + _ENDING, "temporal_positional_encoding_projection_layer.{ending}"),
    (r"mask_downsample" + _ENDING, "mask_downsample.{ending}"),
    (r"maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    (r"no_mem_embed", "no_memory_embedding"),
    (r"no_mem_pos_enc", "no_memory_positional_encoding"),
    (r"no_obj_ptr", "no_object_pointer"),
    (r"no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
)
_COMPILED = tuple((re.compile(pattern), target) for pattern, target in RULES)
_TRANSLATIONS = {
    "two": _TWO.get,
    "three": _THREE.get,
    "embed": _MASK_EMBED.get,
    "upscaling": _UPSCALING.get,
    "downsampler": _downsampler,
    "part": _projection,
}


def translated(key: str) -> str | None:
    """Return the name in transformers of a key in Meta's files; ``None`` if no rule knows it.

    Example:
        >>> translated("image_encoder.trunk.blocks.3.mlp.layers.1.weight")
        'vision_encoder.backbone.blocks.3.mlp.proj_out.weight'
        >>> translated("memory_encoder.mask_downsampler.encoder.4.bias")
        'memory_encoder.mask_downsampler.layers.1.layer_norm.bias'
    """
    for pattern, target in _COMPILED:
        found = pattern.fullmatch(key)
        if found is not None:
            groups = {name: value or "" for name, value in found.groupdict().items()}
            return target.format(**{name: _TRANSLATIONS.get(name, str)(value) for name, value in groups.items()})
    return None


def from_meta(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict of the network in transformers of Meta's; a key that no rule knows keeps its name.

    The four embeddings of labeled points become one table, and the random matrix of positions, which Meta's network
    shares, stands under both names that the network has for it.

    Args:
        state: What a file holds under ``model``.
    """
    result = {translated(str(key)) or str(key): value for key, value in state.items()}
    points = [result.get(f"prompt_encoder.point_embed.{n}") for n in range(LABELED_POINTS)]
    if all(isinstance(point, torch.Tensor) and point.ndim == 2 and point.is_contiguous() for point in points):
        for n in range(LABELED_POINTS):
            del result[f"prompt_encoder.point_embed.{n}"]
        result["prompt_encoder.point_embed.weight"] = torch.cat(points)
    positions = result.get("prompt_encoder.shared_embedding.positional_embedding")
    if positions is not None:
        result["shared_image_embedding.positional_embedding"] = positions
    return result

"""A SAM 2 of the smallest sizes that transformers can build, and Meta's names for its weights."""

from __future__ import annotations

import re

import torch
from transformers import (
    Sam2HieraDetConfig,
    Sam2VideoConfig,
    Sam2VideoMaskDecoderConfig,
    Sam2VideoModel,
    Sam2VideoPromptEncoderConfig,
    Sam2VisionConfig,
)

SIDE = 64
WIDTH = 128  # more than the memory's 64, which transformers fixes: pointers are cut into pieces of it


def tiny_config(improved: bool = True) -> Sam2VideoConfig:
    """Return a configuration of four blocks; widths of decoder, memory and pointers are tied to each other."""
    widths = [16, 32, 64, 128]
    vision = Sam2VisionConfig(
        backbone_config=Sam2HieraDetConfig(
            hidden_size=16,
            num_attention_heads=1,
            image_size=[SIDE, SIDE],
            blocks_per_stage=[1, 1, 2, 1],
            embed_dim_per_stage=widths,
            num_attention_heads_per_stage=[1, 2, 4, 8],
            window_size_per_stage=[8, 4, 4, 4],
            global_attention_blocks=[3],
        ),
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[SIDE // stride] * 2 for stride in (4, 8, 16)],
        fpn_hidden_size=WIDTH,
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=WIDTH, image_size=SIDE),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=WIDTH, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32
        ),
        image_size=SIDE,
        memory_attention_hidden_size=WIDTH,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
        memory_encoder_hidden_size=WIDTH,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=WIDTH,
        memory_fuser_embed_dim=WIDTH,
        memory_fuser_intermediate_dim=WIDTH,
        memory_fuser_num_layers=1,
        enable_temporal_pos_encoding_for_object_pointers=improved,
        enable_occlusion_spatial_embedding=improved,
    )


def build_tiny_sam2(seed: int = 0, improved: bool = True) -> Sam2VideoModel:
    """Return the network with random weights that keep the size of what passes through them.

    transformers' own start gives logits of a thousandth and embeddings of zero: no test would see a missing sum. The
    model always holds that the object is there; it would draw nothing at all otherwise.
    """
    torch.manual_seed(seed)
    model = Sam2VideoModel(tiny_config(improved)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
            elif name.endswith("scale"):
                parameter.fill_(0.5)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(10.0)
        positions = model.prompt_encoder.shared_embedding.positional_embedding
        model.shared_image_embedding.positional_embedding.copy_(positions)  # one matrix in Meta's network
    return model


def meta_name(key: str) -> str:
    """Return the name in Meta's files of a key of the network: written by hand, independently of the loader's rules."""
    three = {"proj_in": "layers.0", "layers.0": "layers.1", "proj_out": "layers.2"}
    two = {"proj_in": "layers.0", "proj_out": "layers.1"}
    embed = {"conv1": "0", "layer_norm1": "1", "conv2": "3", "layer_norm2": "4", "conv3": "6"}
    upscale = {"upscale_conv1": "0", "upscale_layer_norm": "1", "upscale_conv2": "3"}
    key = re.sub(
        r"(backbone\.blocks\.\d+\.mlp|transformer\.layers\.\d+\.mlp)\.(\w+)", lambda m: f"{m[1]}.{two[m[2]]}", key
    )
    heads = r"(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head|object_pointer_proj)"
    key = re.sub(heads + r"\.(proj_in|layers\.0|proj_out)", lambda m: f"{m[1]}.{three[m[2]]}", key)
    key = re.sub(r"(?<!no_)mask_embed\.(\w+)", lambda m: f"mask_downscaling.{embed[m[1]]}", key)
    key = re.sub(r"mask_decoder\.(upscale_\w+)", lambda m: f"mask_decoder.output_upscaling.{upscale[m[1]]}", key)
    key = re.sub(r"mask_downsampler\.layers\.(\d)\.conv", lambda m: f"mask_downsampler.encoder.{3 * int(m[1])}", key)
    key = re.sub(
        r"mask_downsampler\.layers\.(\d)\.layer_norm", lambda m: f"mask_downsampler.encoder.{3 * int(m[1]) + 1}", key
    )
    key = re.sub(r"neck\.convs\.(\d)\.", r"neck.convs.\1.conv.", key)
    key = re.sub(r"memory_fuser\.layers\.(\d)\.scale", r"fuser.layers.\1.gamma", key)
    for ours, theirs in (
        ("mask_downsampler.final_conv", "mask_downsampler.encoder.12"),
        ("memory_fuser", "fuser"),
        ("depthwise_conv", "dwconv"),
        ("pointwise_conv", "pwconv"),
        ("memory_encoder.projection", "memory_encoder.out_proj"),
        ("memory_encoder.feature_projection", "memory_encoder.pix_feat_proj"),
        ("patch_embed.projection", "patch_embed.proj"),
        ("vision_encoder.backbone", "image_encoder.trunk"),
        ("vision_encoder", "image_encoder"),
        ("layer_norm", "norm"),
        (".o_proj", ".out_proj"),
        (
            "prompt_encoder.shared_embedding.positional_embedding",
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        ),
        ("memory_temporal_positional_encoding", "maskmem_tpos_enc"),
        ("temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
        ("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
        ("object_pointer_proj", "obj_ptr_proj"),
        ("no_object_pointer", "no_obj_ptr"),
        ("no_memory_embedding", "no_mem_embed"),
        ("no_memory_positional_encoding", "no_mem_pos_enc"),
    ):
        key = key.replace(ours, theirs)
    return re.sub(r"^(prompt_encoder|mask_decoder)\.", r"sam_\1.", key)


def build_seeded_tiny_sam2() -> Sam2VideoModel:
    """Return the network with weights of the current seed, as the contract of all backends wants them."""
    return build_tiny_sam2(seed=int(torch.initial_seed()))


def meta_checkpoint() -> dict[str, dict[str, torch.Tensor]]:
    """Return what a file of Meta's holds."""
    return {"model": meta_state(build_seeded_tiny_sam2())}


def meta_state(model: Sam2VideoModel) -> dict[str, torch.Tensor]:
    """Return the weights of a network as Meta's files name them."""
    state = {}
    for key, value in model.state_dict().items():
        if key == "prompt_encoder.point_embed.weight":
            state |= {f"sam_prompt_encoder.point_embeddings.{n}.weight": value[n : n + 1].clone() for n in range(4)}
        elif key != "shared_image_embedding.positional_embedding":
            state[meta_name(key)] = value.clone()
    return state

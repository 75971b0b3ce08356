"""The table of SAM models: where code and weights are, what they see, under which licence. Standard library only.

A further SAM is one file with a function that builds its backend, and one row here.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

from nnunet_semisam.errors import UserError, printable, shown
from nnunet_semisam.sam.family import PACKAGED_FILE, Family, Layout
from nnunet_semisam.sam.preprocessing import (
    LITE_MEDSAM,
    MEDSAM,
    NANO,
    SAM2,
    SAM_MED2D,
    SEGMENT_ANYTHING,
)

RELEASE = "https://dl.fbaipublicfiles.com/segment_anything"
SEGMENT_ANYTHING_BACKEND = "nnunet_semisam.sam.segment_anything:load"
SEGMENT_ANYTHING_WIDTHS = {"vit_b": 768, "vit_l": 1024, "vit_h": 1280}  # channels of the image encoder
AUTO = "auto"
APACHE = "Apache-2.0"


def _segment_anything(name: str, network: str, file: str, **more: Any) -> Family:
    """Return the row of a model of segment-anything's class ``Sam``.

    Args:
        name: Of the model.
        network: Size of its image encoder: ``vit_b``, ``vit_l`` or ``vit_h``.
        file: File name of the weights.
        more: Further fields of the row.
    """
    width = SEGMENT_ANYTHING_WIDTHS[network]
    layout = Layout(
        {
            "image_encoder.pos_embed": (1, 64, 64, width),
            "prompt_encoder.mask_downscaling.0.weight": (4, 1, 2, 2),
            "mask_decoder.iou_token.weight": (1, 256),
        },
        without=("Adapter", "w_a_", "w_b_", "lora_", "hf_token"),
    )
    return Family(
        name=name,
        backend=SEGMENT_ANYTHING_BACKEND,
        network=f"segment_anything:build_sam_{network}",
        file=file,
        lora_targets=("qkv",),
        layouts=(layout,),
        **{"preprocessing": SEGMENT_ANYTHING, "licence": APACHE, **more},
    )


def _sam_hq(network: str) -> Family:
    """Return the row of a SAM-HQ: ``vit_b``, ``vit_l`` or ``vit_h`` with a further token."""
    plain = _segment_anything(f"sam_hq_{network}", network, f"sam_hq_{network}.pth")
    (layout,) = plain.layouts
    shapes = {**layout.shapes, "mask_decoder.hf_token.weight": (1, 256)}
    without = tuple(part for part in layout.without if part != "hf_token")
    return replace(
        plain,
        backend="nnunet_semisam.sam.sam_hq:load",
        network=f"nnunet_semisam.sam.sam_hq:build_sam_hq_{network}",
        page="https://huggingface.co/lkeab/hq-sam",
        layouts=(Layout(shapes, without=without),),
    )


def _sam_med3d(name: str, file: str, licence: str, **published: str) -> Family:
    """Return a row of SAM-Med3D's network: ViT-B in 3D, cubes of 128 voxels."""
    layout = Layout(
        {
            "image_encoder.pos_embed": (1, 8, 8, 8, 768),
            "image_encoder.patch_embed.proj.weight": (768, 1, 16, 16, 16),
            "mask_decoder.iou_token.weight": (1, 384),
        },
        inside="model_state_dict",
    )
    return Family(
        name=name,
        backend="nnunet_semisam.sam.sam_med3d:load",
        network="nnunet_semisam.sam.sam_med3d:build_sam_med3d",
        file=file,
        licence=licence,
        prompts=("points", "mask"),
        prompt="points_mask",
        lora_targets=("qkv",),
        layouts=(layout,),
        **published,
    )


def _tiny_vit_layout(kernel: int) -> Layout:
    """Return the layout of SAMs behind a TinyViT, whose first layer sees so many pixels along each axis."""
    return Layout(
        {
            "image_encoder.patch_embed.seq.0.c.weight": (32, 3, kernel, kernel),
            "image_encoder.layers.3.blocks.0.attn.qkv.weight": (960, 320),
            "mask_decoder.iou_token.weight": (1, 256),
        }
    )


def _sam2(
    name: str, file: str, encoder: tuple[int, int, int], improved: bool = True, side: int = 1024, **more: Any
) -> Family:
    """Return the row of a SAM 2.

    Args:
        name: Of the model.
        file: File name of the weights.
        encoder: Channels of the image encoder's first stage, its number of blocks, side of its positional embedding.
        improved: Whether it is of SAM 2.1.
        side: Side of the input in pixels.
        more: Further fields of the row.
    """
    width, blocks, background = encoder
    position, inner = (1, width, background, background), (32 * width,)
    last = f"blocks.{blocks - 1}.mlp"
    meta = {"image_encoder.trunk.pos_embed": position, f"image_encoder.trunk.{last}.layers.0.bias": inner}
    library = {"vision_encoder.backbone.pos_embed": position, f"vision_encoder.backbone.{last}.proj_in.bias": inner}
    told = "obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer"  # only SAM 2.1 has it
    if improved:
        meta[f"{told[0]}.bias"] = library[f"{told[1]}.bias"] = (64,)
    without = () if improved else told
    return Family(
        name=name,
        backend="nnunet_semisam.sam.sam2_weights:load",
        network=f"nnunet_semisam.sam.sam2_networks:{name.replace('.', '_')}",
        file=file,
        preprocessing=replace(SAM2, side=side),
        lora_targets=("qkv",),
        layouts=(
            Layout(meta, inside="model", without=without),
            Layout(library, without=without),
        ),
        folders=True,
        **{"licence": APACHE, **more},
    )


# Addresses: github.com/facebookresearch/sam2, README. Sizes in bytes and SHA-256: as micro-sam (micro_sam/v2/util.py)
# and several other public lists give them. The hashes were never compared with the files themselves.
SAM2_RELEASE = "https://dl.fbaipublicfiles.com/segment_anything_2"
SAM2_ENCODERS = {"tiny": (96, 12, 7), "small": (96, 16, 7), "base_plus": (112, 24, 14), "large": (144, 48, 7)}
SAM2_FILES = {
    "sam2_tiny": (155_906_050, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    "sam2_small": (184_309_650, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    "sam2_base_plus": (323_493_298, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    "sam2_large": (897_952_466, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
    "sam2.1_tiny": (156_008_466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    "sam2.1_small": (184_416_285, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    "sam2.1_base_plus": (323_606_802, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    "sam2.1_large": (898_083_611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
}


def _published_sam2(name: str) -> Family:
    version, _, size = name.partition("_")
    file, day = f"{version}_hiera_{size}.pt", {"sam2": "072824", "sam2.1": "092824"}[version]
    length, sha256 = SAM2_FILES[name]
    more = {"url": f"{SAM2_RELEASE}/{day}/{file}", "size": length, "sha256": sha256}
    return _sam2(name, file, SAM2_ENCODERS[size], improved=version == "sam2.1", **more)


# File names, addresses and licence: github.com/facebookresearch/segment-anything, README, "Model Checkpoints". The six
# digits in a file name begin its MD5. SHA-256: as micro-sam publishes them (micro_sam/util.py); several other public
# lists agree. The hashes were never compared with the files themselves.
FAMILIES: dict[str, Family] = {
    row.name: row
    for row in (
        Family(
            name="nano",
            backend=SEGMENT_ANYTHING_BACKEND,
            network="nnunet_semisam.sam.nano.model:build_nano_sam",
            file=PACKAGED_FILE,
            licence=APACHE,
            preprocessing=NANO,
            layouts=(
                Layout({"image_encoder.stem.0.weight": (None, 1, 3, 3), "mask_decoder.iou_token.weight": (1, None)}),
            ),
        ),
        _segment_anything(
            "vit_b",
            "vit_b",
            "sam_vit_b_01ec64.pth",
            url=f"{RELEASE}/sam_vit_b_01ec64.pth",
            size=375_042_383,
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        _segment_anything(
            "vit_l",
            "vit_l",
            "sam_vit_l_0b3195.pth",
            url=f"{RELEASE}/sam_vit_l_0b3195.pth",
            size=1_249_524_607,
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        _segment_anything(
            "vit_h",
            "vit_h",
            "sam_vit_h_4b8939.pth",
            url=f"{RELEASE}/sam_vit_h_4b8939.pth",
            size=2_564_550_879,
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
        # Addresses: github.com/uni-medical/SAM-Med3D and github.com/YichiZhang98/SegAnyPET, README. SHA-256: as Hugging
        # Face shows it beside the file; never compared with the file itself.
        _sam_med3d("sam_med3d", "sam_med3d.pth", "Apache-2.0", page="https://github.com/uni-medical/SAM-Med3D"),
        _sam_med3d(
            "sam_med3d_turbo",
            "sam_med3d_turbo.pth",
            "Apache-2.0",
            url="https://huggingface.co/blueyo0/SAM-Med3D/resolve/main/sam_med3d_turbo.pth",
            sha256="899a46d04d3b70f723282ceb489149373558bf0aaba389a346f5ab57da5cdd3c",
        ),
        _sam_med3d(
            "seganypet",
            "seganypet_v1.pth",
            "see the page of the weights",
            page="https://huggingface.co/YichiZhang98/SegAnyPET",
        ),
        Family(
            name="mobile_sam",
            backend="nnunet_semisam.sam.mobile_sam:load",
            network="nnunet_semisam.sam.mobile_sam:build_mobile_sam",
            file="mobile_sam.pt",
            licence=APACHE,
            preprocessing=SEGMENT_ANYTHING,
            # Pinned to a commit; size and hash as several public lists and micro-sam have them.
            url="https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
            size=40_728_226,
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            lora_targets=("qkv",),
            layouts=(_tiny_vit_layout(3),),
        ),
        Family(
            name="lite_medsam",
            backend="nnunet_semisam.sam.mobile_sam:load",
            network="nnunet_semisam.sam.mobile_sam:build_lite_medsam",
            file="lite_medsam.pth",
            licence=APACHE,
            preprocessing=LITE_MEDSAM,
            page="https://github.com/bowang-lab/MedSAM/tree/LiteMedSAM",
            prompts=("box",),
            prompt="box",
            lora_targets=("qkv",),
            layouts=(_tiny_vit_layout(1),),
        ),
        _segment_anything(
            "medsam",
            "vit_b",
            "medsam_vit_b.pth",
            preprocessing=MEDSAM,
            page="https://github.com/bowang-lab/MedSAM",
            prompts=("box",),
            prompt="box",
        ),
        _segment_anything(
            "vit_b_medical_imaging",
            "vit_b",
            "vit_b_medical_imaging.pt",
            page="https://computational-cell-analytics.github.io/micro-sam/micro_sam.html#finetuned-models",
            licence="not stated; the code of micro-sam is MIT",
        ),
        Family(
            name="sam_med2d",
            backend="nnunet_semisam.sam.sam_med2d:load",
            network="nnunet_semisam.sam.sam_med2d:build_sam_med2d",
            file="sam-med2d_b.pth",
            licence=APACHE,
            preprocessing=SAM_MED2D,
            page="https://github.com/OpenGVLab/SAM-Med2D",
            prompt="box",  # https://arxiv.org/abs/2308.16184 trained boxes and points each alone
            lora_targets=("qkv",),
            layouts=(
                Layout(
                    {
                        "image_encoder.pos_embed": (1, 16, 16, 768),
                        "image_encoder.blocks.0.Adapter.channel.0.weight": (192, 768),
                        "mask_decoder.iou_token.weight": (1, 256),
                    },
                    inside="model",
                ),
            ),
        ),
        *map(_sam_hq, SEGMENT_ANYTHING_WIDTHS),
        *map(_published_sam2, SAM2_FILES),
        _sam2(
            "medsam2",
            "MedSAM2_latest.pt",
            SAM2_ENCODERS["tiny"],
            side=512,
            prompt="box",  # what its training starts from, besides masks
            page="https://huggingface.co/wanglab/MedSAM2",
            licence="see the page of the weights",
        ),
        Family(name=AUTO, backend="", network="", file="", licence=""),
    )
}


def family(name: str) -> Family:
    """Return the row of a model.

    Raises:
        UserError: If there is no such model; the closest name is offered.
    """
    if name not in FAMILIES:
        close = difflib.get_close_matches(printable(name), FAMILIES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"Unknown SAM model {shown(name)}.{hint} Available: {', '.join(FAMILIES)}.")
    return FAMILIES[name]

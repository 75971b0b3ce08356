"""The table of SAM models: where code and weights are, what they see, under which licence. Standard library only.

A further SAM is one file with a function that builds its backend, and one row here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from nnunet_semisam.errors import UserError, printable, shown
from nnunet_semisam.sam.preprocessing import NANO, SEGMENT_ANYTHING, Preprocessing

RELEASE = "https://dl.fbaipublicfiles.com/segment_anything"
SEGMENT_ANYTHING_BACKEND = "nnunet_semisam.sam.segment_anything:load"
AUTO = "auto"


@dataclass(frozen=True)
class Layout:
    """What a file of weights looks like, so that :mod:`nnunet_semisam.sam.detect` finds the model that it is of.

    Attributes:
        shapes: Keys that the state dict must have, with their shapes; a size that is ``None`` may be any.
        inside: Key of the file's dict under which the state dict lies; empty if the file is the state dict itself.
        without: Fragments of keys that no key may have.
    """

    shapes: Mapping[str, tuple[int | None, ...]]
    inside: str = ""
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One model that the setting ``sam: {models: [...]}`` can name.

    Attributes:
        name: Name of the model, and of its block of settings.
        backend: ``module:function``; the function gets this row and :class:`BackendOptions` and returns a
            :class:`~nnunet_semisam.sam.base.SAMBackend`.
        network: ``module:function`` that returns the model with random weights, for the backend.
        file: File name of the weights.
        preprocessing: How the model wants its images; ``None`` for models that are not 2D.
        url: Address from which the weights can be fetched; only with ``sha256``.
        page: Page that offers the weights, for files that have no published hash: users get them by hand.
        size: Size of the file in bytes.
        sha256: Hash of the file.
        licence: Licence of the weights.
        prompts: Kinds of prompts that the model was trained with.
        prompt: Prompt strategy that is used where the settings name none.
        lora_targets: Names of the layers that low-rank adapters are put on.
        layouts: What files of the model's weights look like; any of them.

    Example:
        >>> family("vit_b").file
        'sam_vit_b_01ec64.pth'
    """

    name: str
    backend: str
    network: str
    file: str
    preprocessing: Preprocessing | None = None
    url: str | None = None
    page: str | None = None
    size: int | None = None
    sha256: str | None = None
    licence: str = "Apache-2.0"
    prompts: tuple[str, ...] = ("box", "points", "mask")
    prompt: str = "box_points_mask"
    lora_targets: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = field(default=(), repr=False)

    @property
    def packaged(self) -> bool:
        """Return whether the weights are in this package."""
        return self.url is None and self.page is None and bool(self.file)


def _segment_anything_layout(width: int) -> Layout:
    """Return the layout of segment-anything's checkpoints, whose image encoder is so many channels wide."""
    return Layout(
        {
            "image_encoder.pos_embed": (1, 64, 64, width),
            "prompt_encoder.mask_downscaling.0.weight": (4, 1, 2, 2),
            "mask_decoder.iou_token.weight": (1, 256),
        },
        without=("Adapter", "w_a_", "w_b_", "lora_"),
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
            file="nano_sam.pt",
            preprocessing=NANO,
            layouts=(
                Layout({"image_encoder.stem.0.weight": (None, 1, 3, 3), "mask_decoder.iou_token.weight": (1, None)}),
            ),
        ),
        Family(
            name="vit_b",
            backend=SEGMENT_ANYTHING_BACKEND,
            network="segment_anything:build_sam_vit_b",
            file="sam_vit_b_01ec64.pth",
            preprocessing=SEGMENT_ANYTHING,
            url=f"{RELEASE}/sam_vit_b_01ec64.pth",
            size=375_042_383,
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            lora_targets=("qkv",),
            layouts=(_segment_anything_layout(768),),
        ),
        Family(
            name="vit_l",
            backend=SEGMENT_ANYTHING_BACKEND,
            network="segment_anything:build_sam_vit_l",
            file="sam_vit_l_0b3195.pth",
            preprocessing=SEGMENT_ANYTHING,
            url=f"{RELEASE}/sam_vit_l_0b3195.pth",
            size=1_249_524_607,
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            lora_targets=("qkv",),
            layouts=(_segment_anything_layout(1024),),
        ),
        Family(
            name="vit_h",
            backend=SEGMENT_ANYTHING_BACKEND,
            network="segment_anything:build_sam_vit_h",
            file="sam_vit_h_4b8939.pth",
            preprocessing=SEGMENT_ANYTHING,
            url=f"{RELEASE}/sam_vit_h_4b8939.pth",
            size=2_564_550_879,
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            lora_targets=("qkv",),
            layouts=(_segment_anything_layout(1280),),
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
            "not stated",
            page="https://huggingface.co/YichiZhang98/SegAnyPET",
        ),
        Family(name=AUTO, backend="nnunet_semisam.sam.detect:load", network="", file="", licence=""),
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

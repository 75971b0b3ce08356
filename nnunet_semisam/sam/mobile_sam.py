"""MobileSAM and LiteMedSAM: segment-anything's prompt encoder and mask decoder behind a TinyViT.

The image encoder is timm's TinyViT. Its keys differ from the published ones, and so does one stride: both models do not
reduce the grid before the last stage. LiteMedSAM takes images of 256 pixels and does not reduce them at first, either.

Shapes in this file: ``N`` images, ``S`` side of the input in pixels, ``R`` pixels per voxel of the embedding.

Source: Zhang et al., Faster Segment Anything, https://arxiv.org/abs/2306.14289; names of the weights as in
https://github.com/ChaoningZhang/MobileSAM. LiteMedSAM: https://github.com/bowang-lab/MedSAM, branch LiteMedSAM.
"""

from __future__ import annotations

import re

from segment_anything.modeling import Sam
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam import BackendOptions
from nnunet_semisam.sam.checkpoints import State
from nnunet_semisam.sam.decoder_parts import build_decoder, build_prompt_encoder
from nnunet_semisam.sam.family import Family
from nnunet_semisam.sam.segment_anything import SegmentAnythingBackend, load_sam

MOBILE_SAM_REDUCTION = 16
LITE_MEDSAM_REDUCTION = 4
ENCODER = "image_encoder."
# Of TinyViT as a classifier, and an index that timm computes.
UNUSED = re.compile(r"image_encoder\.(norm_head|head)\.|\.attention_bias_idxs$")
# Published names within the image encoder, and timm's, in the order in which they are replaced.
NAMES = (
    (re.compile(r"^patch_embed\.seq\.0\."), "patch_embed.conv1."),
    (re.compile(r"^patch_embed\.seq\.2\."), "patch_embed.conv2."),
    (re.compile(r"^layers\.(\d+)\.downsample\."), lambda found: f"stages.{int(found[1]) + 1}.downsample."),
    (re.compile(r"^layers\."), "stages."),
    (re.compile(r"\.c\.weight$"), ".conv.weight"),
)


class TinyViTEncoder(nn.Module):
    """A TinyViT and segment-anything's neck.

    Args:
        img_size: ``S``, a multiple of ``reduction``.
        reduction: ``R``: 16, or 4, where the first two layers see single pixels and keep the grid.
        widths: Channels of the four stages.
        depths: Blocks of the four stages.
        heads: Attention heads of the four stages; the first has none.
        windows: Windows of the four stages.
        dim: Channels of the embedding.

    Raises:
        UserError: If timm is not installed.
    """

    def __init__(
        self,
        img_size: int,
        reduction: int,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        windows: tuple[int, ...],
        dim: int,
    ) -> None:
        super().__init__()
        try:
            from timm.models.tiny_vit import TinyVit
        except ImportError as error:
            raise UserError(
                "MobileSAM and LiteMedSAM need timm, which nnU-Net brings with it: pip install timm."
            ) from error
        self.img_size = img_size
        self.trunk = TinyVit(
            num_classes=0,
            embed_dims=widths,
            depths=depths,
            num_heads=heads,
            window_sizes=windows,
            drop_path_rate=0.0,
        )
        self.trunk.head = nn.Identity()  # of a classifier: not used, and not in the weights of a SAM
        self.trunk.stages[3].downsample.conv2.conv.stride = (1, 1)
        if reduction == LITE_MEDSAM_REDUCTION:
            first, second = self.trunk.patch_embed.conv1, self.trunk.patch_embed.conv2
            first.conv = nn.Conv2d(3, widths[0] // 2, kernel_size=1, bias=False)
            second.conv = nn.Conv2d(widths[0] // 2, widths[0], kernel_size=1, bias=False)
        self.neck = nn.Sequential(
            nn.Conv2d(widths[-1], dim, kernel_size=1, bias=False),
            LayerNorm2d(dim),
            nn.Conv2d(dim, dim, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(dim),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding ``(N, dim, S / R, S / R)`` of images ``(N, 3, S, S)``."""
        for module in self.trunk.modules():
            # In evaluation mode timm keeps them, and with them the graph and the weights of the first call.
            getattr(module, "attention_bias_cache", {}).clear()
        return self.neck(self.trunk.forward_features(images))


def build_mobile_sam(
    side: int = 1024,
    widths: tuple[int, ...] = (64, 128, 160, 320),
    depths: tuple[int, ...] = (2, 2, 6, 2),
    heads: tuple[int, ...] = (2, 4, 5, 10),
    windows: tuple[int, ...] = (7, 7, 14, 7),
    dim: int = 256,
    reduction: int = MOBILE_SAM_REDUCTION,
) -> Sam:
    """Return the network with random weights; the defaults are those of the published ``mobile_sam.pt``.

    For the arguments see :class:`TinyViTEncoder`; ``side`` is its ``img_size``.
    """
    parts = build_prompt_encoder(side, side // reduction, dim), build_decoder(dim)
    return Sam(TinyViTEncoder(side, reduction, widths, depths, heads, windows, dim), *parts)


def build_lite_medsam() -> Sam:
    """Return the network of the published ``lite_medsam.pth`` with random weights."""
    return build_mobile_sam(side=256, reduction=LITE_MEDSAM_REDUCTION)


def to_timm(state: State) -> State:
    """Return published weights under the names of this file's network; those of TinyViT's classifier are left out.

    Example:
        >>> to_timm({"image_encoder.layers.0.blocks.1.conv1.c.weight": 1, "image_encoder.head.bias": 2})
        {'image_encoder.trunk.stages.0.blocks.1.conv1.conv.weight': 1}
    """
    return {_renamed(key): value for key, value in state.items() if not UNUSED.search(key)}


def _renamed(key: str) -> str:
    inner = key.removeprefix(ENCODER)
    if inner == key or inner.startswith("neck."):
        return key
    for published, ours in NAMES:
        inner = published.sub(ours, inner)
    return f"{ENCODER}trunk.{inner}"


def load(family: Family, options: BackendOptions) -> SegmentAnythingBackend:
    """Return MobileSAM or LiteMedSAM with its weights; see ``build_backend``."""
    return load_sam(family, options, to_model=to_timm)

"""SAM-Med3D, SAM-Med3D-turbo and SegAnyPET: one network, three sets of weights.

The network is medim's (Apache-2.0, the extra ``sam3d``), built empty and filled by our own strict loader: medim's own
loader runs code from the file and leaves out keys that do not fit.

Shapes in this file: ``N`` tiles, ``C`` channels, ``D`` side of a tile, ``M`` prompts, ``P`` points, ``c, d`` channels
and side of the embedding.

Source: Wang et al., SAM-Med3D, https://arxiv.org/abs/2310.15161; normalisation, first mask and the way back as in
``train.py`` and ``utils/infer_utils.py`` of https://github.com/uni-medical/SAM-Med3D. SegAnyPET:
https://arxiv.org/abs/2502.14351.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.sam import BackendOptions, named
from nnunet_semisam.sam.base import Embedding, MaskPrediction, PromptBatch, SAMBackend, check_prompts
from nnunet_semisam.sam.checkpoints import find_weights, load_weights
from nnunet_semisam.sam.family import Family
from nnunet_semisam.sam.parts import Parts
from nnunet_semisam.sam.precision import computes_in_bfloat16

if TYPE_CHECKING:
    from medim.models.sam_med3d import SAM_Med3D

FEATURES = "image_embedding"
VERSION = 1  # part of the fingerprint: raise it whenever normalised() changes
PROMPTS_AT_ONCE = 16  # their masks take 128 MiB at 128 voxels a side


class SAMMed3DBackend(SAMBackend):
    """The network of SAM-Med3D, for cubes of one size; how volumes become such cubes is the business of a view.

    Several channels are averaged. As in the model's training, prompts without a mask come with an undecided one (logit
    0 everywhere), and a mask without points has no point at all. Boxes are not understood: the published code for them
    is that of the 2D model. The model's own estimate of its quality was never trained (its loss is of the mask alone),
    so every mask has quality 1.

    Args:
        sam: The network, with weights.
        device: Where it runs.
        weights: Digest of the weights, part of the fingerprint.
        cpu_bfloat16: Whether encoder and decoder run in bfloat16 on a CPU, too; on CUDA they do where the GPU can.
        prompt_kinds: Kinds of prompts that the model was trained with.
        lora_targets: Names of the layers that low-rank adapters are put on.
    """

    def __init__(
        self,
        sam: SAM_Med3D,
        device: torch.device,
        weights: str,
        *,
        cpu_bfloat16: bool = False,
        prompt_kinds: frozenset[str] = frozenset({"points", "mask"}),
        lora_targets: tuple[str, ...] = (),
    ) -> None:
        self.spatial_dims, self.tile_side = 3, int(sam.image_encoder.img_size)
        self.prompt_kinds, self.lora_targets = prompt_kinds, lora_targets
        self.module = self.sam = sam.to(device).eval()
        self.device = device
        self.bfloat16 = computes_in_bfloat16(device, cpu_bfloat16)
        self._prompts = Parts(PROMPTS_AT_ONCE, "the mask of one prompt")
        self.fingerprint = sha256_of_json({"weights": weights, "version": VERSION, "bfloat16": self.bfloat16})

    def encode(self, images: Tensor) -> Embedding:
        """Encode tiles one by one; see :meth:`SAMBackend.encode`.

        Args:
            images: ``(N, C, D, D, D)``, float, axes to the right, front and head, padded with the least value.

        Raises:
            ValueError: If there is not at least one tile of the model's size.
        """
        shape = (self.tile_side,) * 3
        if images.ndim != 5 or len(images) == 0 or tuple(images.shape[2:]) != shape:
            raise ValueError(f"Images must be (N, C, {shape}) with N >= 1, got {tuple(images.shape)}: give tiles.")
        features = []
        for tile in images:
            with self._autocast():
                encoded = self.sam.image_encoder(normalised(tile.to(self.device).float().mean(0))[None, None])
            features.append(encoded.float())
        return Embedding({FEATURES: torch.cat(features)}, shape)

    def decode(self, embedding: Embedding, prompts: PromptBatch) -> MaskPrediction:
        """Predict a mask for prompts about any of the encoded tiles; see :meth:`SAMBackend.decode`."""
        check_prompts(embedding, prompts, self.prompt_kinds)

        def decoded(part: slice) -> Tensor:
            chunk = prompts.select(part)
            tiles, place = chunk.image.unique(return_inverse=True)  # each crosses to the device once
            features = embedding.select(tiles).features[FEATURES].to(self.device).float()[place.to(self.device)]
            low = self._decode_chunk(features, chunk.to(self.device))
            return F.interpolate(low, embedding.image_shape, mode="trilinear", align_corners=False)[:, 0]

        logits = self._prompts.each(len(prompts), decoded)
        return MaskPrediction(torch.cat(logits), torch.ones(len(prompts), device=self.device))

    def _decode_chunk(self, features: Tensor, prompts: PromptBatch) -> Tensor:
        """Return low-resolution logits ``(M, 1, 4d, 4d, 4d)`` of prompts, each about its own ``features``."""
        encoder = self.sam.prompt_encoder
        low_shape = tuple(4 * side for side in features.shape[2:])
        if prompts.mask_logits is None:
            masks = features.new_zeros(len(features), 1, *low_shape)
        else:
            masks = F.adaptive_avg_pool3d(prompts.mask_logits[:, None].float(), low_shape)
        points = None
        if prompts.points is not None:
            points = (prompts.points.float(), prompts.point_labels)
        sparse, dense = encoder(points=points, boxes=None, masks=masks)
        with self._autocast():
            logits, _ = self.sam.mask_decoder(
                image_embeddings=features,
                image_pe=encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
        return logits.float()

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


def normalised(tile: Tensor) -> Tensor:
    """Return a tile of mean 0 and standard deviation 1, both over the voxels brighter than its darkest.

    The published rule takes the voxels above 0 of the raw image. That is the same for images whose darkest value is a
    raw 0 (most MR and PET images), since nnU-Net's normalisation is linear; in CT, tissue below 0 HU counts here, too.

    Args:
        tile: ``(D, D, D)``, float32; a constant one becomes 0.

    Example:
        >>> normalised(torch.tensor([[[5.0, 5.0, 7.0, 9.0]]])).round(decimals=3).tolist()  # mean 8, deviation sqrt(2)
        [[[-2.121000051498413, -2.121000051498413, -0.7070000171661377, 0.7070000171661377]]]
    """
    bright = tile[tile > tile.min()]
    if len(bright) < 2 or float(bright.detach().std()) == 0:
        return tile - tile
    return (tile - bright.mean()) / bright.std()


def build_sam_med3d() -> SAM_Med3D:
    """Return the network with random weights.

    Raises:
        UserError: If medim is not installed.
    """
    try:
        from medim.models.sam_med3d import build_sam3D_vit_b_ori
    except ImportError as error:
        raise UserError(
            f'SAM-Med3D and SegAnyPET need the package medim ({error}): pip install "nnunet-semisam[sam3d]"'
        ) from error
    return build_sam3D_vit_b_ori(pretrained=False)


def load(family: Family, options: BackendOptions) -> SAMMed3DBackend:
    """Return a model of SAM-Med3D's network with its weights; see ``build_backend``."""
    path = find_weights(family.name, options.checkpoint)
    sam = named(family.network)()
    weights = load_weights(sam, path, family.name)
    return SAMMed3DBackend(
        sam,
        options.device,
        weights,
        cpu_bfloat16=options.cpu_bfloat16,
        prompt_kinds=frozenset(family.prompts),
        lora_targets=family.lora_targets,
    )

"""Meta's Segment Anything (vit_b, vit_l, vit_h) and the nano SAM of this package, which is built of the same classes.

Shapes in this file: ``N`` images, ``C`` channels, ``H, W`` of the given images, ``S`` side of the SAM's input,
``M`` prompts, ``h, w`` of the image embedding.

Source: Kirillov et al., Segment Anything, https://arxiv.org/abs/2304.02643; frame, normalisation and the choice among
candidate masks as in ``SamPredictor`` of https://github.com/facebookresearch/segment-anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_semisam.sam.base import BACKENDS, Embedding, MaskPrediction, PromptBatch, SAMBackend
from nnunet_semisam.sam.checkpoints import find_weights, load_weights
from nnunet_semisam.sam.mask_decoder import choose_masks, predict_masks, single_points
from nnunet_semisam.sam.preprocessing import VERSION, Frame, to_frame
from nnunet_semisam.settings.config import SemiSAMConfig

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

FEATURES = "image_embedding"


class SegmentAnythingBackend(SAMBackend):
    """Any model of segment-anything's class ``Sam``.

    Several channels are averaged; intensities are stretched between robust percentiles to 0..255, slice by slice.
    A prompt of a single point is answered by the best of the three candidate masks (by the model's own estimate of
    IoU), every other prompt by the one mask meant for unambiguous prompts, as segment-anything advises.

    Args:
        sam: The model, with weights.
        device: Where it runs.
        fingerprint: Identifies the weights; the preprocessing's version is added.
        batch_size: Images that are encoded, and quarters of prompts that are decoded, at once.
        cpu_bfloat16: Whether encoder and decoder run in bfloat16 on a CPU, too; on CUDA they always do. The prompt
            encoder never does: eight bits of mantissa would lose the position of a point.
    """

    def __init__(
        self, sam: Sam, device: torch.device, fingerprint: str, batch_size: int = 16, cpu_bfloat16: bool = False
    ) -> None:
        self.sam = sam.to(device).eval().requires_grad_(False)
        self.device = device
        self.bfloat16 = device.type == "cuda" or (cpu_bfloat16 and device.type == "cpu")
        self.batch_size = batch_size
        self.side = int(sam.image_encoder.img_size)
        self.fingerprint = hashlib.sha256(f"{fingerprint} preprocessing {VERSION} {self.side}".encode()).hexdigest()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Embedding:
        """Encode images; see :meth:`SAMBackend.encode`.

        Args:
            images: ``(N, C, H, W)``, float, as nnU-Net normalised them.

        Raises:
            ValueError: If there is not at least one image of two spatial axes.
        """
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(f"Images must be (N, C, H, W) with N >= 1, got {tuple(images.shape)}: give slices.")
        shape = (images.shape[2], images.shape[3])
        parts = [self._encode_chunk(chunk, Frame(shape, self.side)) for chunk in images.split(self.batch_size)]
        return Embedding({FEATURES: torch.cat(parts)}, shape)

    def _encode_chunk(self, images: Tensor, frame: Frame) -> Tensor:
        grey = to_frame(images.to(self.device).float().mean(1), frame)
        normalised = (grey - self.sam.pixel_mean) / self.sam.pixel_std  # broadcasts to the model's channels
        padding = (0, self.side - normalised.shape[3], 0, self.side - normalised.shape[2])
        with self._autocast():
            return self.sam.image_encoder(F.pad(normalised, padding)).float()

    @torch.no_grad()
    def decode(self, embedding: Embedding, prompts: PromptBatch) -> MaskPrediction:
        """Answer prompts about any of the encoded images; see :meth:`SAMBackend.decode`."""
        self._check(embedding, prompts)
        frame = Frame((embedding.image_shape[0], embedding.image_shape[1]), self.side)
        features = embedding.features[FEATURES]
        logits, quality = [], []
        for start in range(0, len(prompts), 4 * self.batch_size):
            chunk = prompts.select(slice(start, start + 4 * self.batch_size)).to(self.device)
            of_prompts = features[chunk.image.to(features.device)].to(self.device, torch.float32)
            low, iou = self._decode_chunk(of_prompts, chunk, frame)
            logits.append(frame.logits_to_image(low))
            quality.append(iou.clamp(0, 1))
        return MaskPrediction(torch.cat(logits), torch.cat(quality))

    def _decode_chunk(self, features: Tensor, prompts: PromptBatch, frame: Frame) -> tuple[Tensor, Tensor]:
        """Return the chosen low-resolution logits ``(M, 4h, 4w)`` and their estimated IoU ``(M,)``, float32."""
        encoder = self.sam.prompt_encoder
        points = boxes = masks = None
        if prompts.points is not None:
            points = (frame.points_to_frame(prompts.points.float()), prompts.point_labels)
        if prompts.boxes is not None:
            boxes = frame.boxes_to_frame(prompts.boxes.float())
        if prompts.mask_logits is not None:
            masks = frame.masks_to_frame(prompts.mask_logits, encoder.mask_input_size[0])
        sparse, dense = encoder(points=points, boxes=boxes, masks=masks)
        position = encoder.get_dense_pe()
        with self._autocast():
            logits, quality = predict_masks(self.sam.mask_decoder, features, position, sparse, dense)
        others = boxes is not None or masks is not None
        ambiguous = single_points(prompts.point_labels, len(prompts), others, features.device)
        return choose_masks(logits.float(), quality.float(), ambiguous)

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def _check(self, embedding: Embedding, prompts: PromptBatch) -> None:
        if len(prompts) == 0:
            raise ValueError("No prompt was given; decode needs at least one.")
        if prompts.boxes is None and prompts.points is None and prompts.mask_logits is None:
            raise ValueError("The prompts have neither box nor points nor mask; give at least one kind.")
        if (prompts.points is None) != (prompts.point_labels is None):
            raise ValueError("Points and point labels belong together; one of them is missing.")
        low, high = int(prompts.image.min()), int(prompts.image.max())
        if low < 0 or high >= len(embedding):
            raise ValueError(f"Prompts ask about images {low} to {high}, but {len(embedding)} were encoded.")
        if prompts.mask_logits is not None and tuple(prompts.mask_logits.shape[1:]) != tuple(embedding.image_shape):
            got, wanted = tuple(prompts.mask_logits.shape[1:]), tuple(embedding.image_shape)
            raise ValueError(f"Mask prompts are {got} voxels, the images {wanted}; they must be equal.")


def _build(name: str, make: Callable[[], Sam], config: SemiSAMConfig, device: torch.device) -> SegmentAnythingBackend:
    path = find_weights(name, config.sam_checkpoint)
    sam = make()
    fingerprint = load_weights(sam, path, name)
    return SegmentAnythingBackend(sam, device, fingerprint, config.sam_batch_size, config.cpu_bfloat16)


@BACKENDS.register("nano")
def build_nano(config: SemiSAMConfig, device: torch.device) -> SegmentAnythingBackend:
    """Return the nano SAM of this package, or one that ``sam pretrain`` made; see ``build_backend``."""
    from nnunet_semisam.sam.nano.model import build_nano_sam

    return _build("nano", build_nano_sam, config, device)


@BACKENDS.register("vit_b")
def build_vit_b(config: SemiSAMConfig, device: torch.device) -> SegmentAnythingBackend:
    """Return SAM with its base encoder; see ``build_backend``."""
    from segment_anything import build_sam_vit_b

    return _build("vit_b", build_sam_vit_b, config, device)


@BACKENDS.register("vit_l")
def build_vit_l(config: SemiSAMConfig, device: torch.device) -> SegmentAnythingBackend:
    """Return SAM with its large encoder; see ``build_backend``."""
    from segment_anything import build_sam_vit_l

    return _build("vit_l", build_sam_vit_l, config, device)


@BACKENDS.register("vit_h")
def build_vit_h(config: SemiSAMConfig, device: torch.device) -> SegmentAnythingBackend:
    """Return SAM with its huge encoder; see ``build_backend``."""
    from segment_anything import build_sam_vit_h

    return _build("vit_h", build_sam_vit_h, config, device)

"""Meta's Segment Anything (vit_b, vit_l, vit_h) and the nano SAM of this package, which is built of the same classes.

Shapes in this file: ``N`` images, ``C`` channels, ``H, W`` of the given images, ``S`` side of the SAM's input,
``M`` prompts, ``h, w`` of the image embedding.

Source: Kirillov et al., Segment Anything, https://arxiv.org/abs/2304.02643; frame, normalisation and the choice among
candidate masks as in ``SamPredictor`` of https://github.com/facebookresearch/segment-anything.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.sam import BATCH_SIZE, BackendOptions, named
from nnunet_semisam.sam.base import Embedding, MaskPrediction, PromptBatch, SAMBackend, check_prompts
from nnunet_semisam.sam.checkpoints import State, find_weights, load_weights
from nnunet_semisam.sam.class_decoders import ClassDecoders
from nnunet_semisam.sam.families import Family
from nnunet_semisam.sam.frame import Frame, to_input
from nnunet_semisam.sam.mask_decoder import choose_masks, predict_masks, single_points
from nnunet_semisam.sam.preprocessing import Preprocessing

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

FEATURES = "image_embedding"
ALL_KINDS = frozenset({"box", "points", "mask"})


class SegmentAnythingBackend(SAMBackend):
    """Any model of segment-anything's class ``Sam``.

    Several channels are averaged; intensities are rescaled slice by slice. A prompt of a single point is decoded to
    the best of the three candidate masks (by the model's own estimate of IoU), every other prompt by the one mask meant
    for unambiguous prompts, as segment-anything advises.

    Args:
        sam: The model, with weights.
        device: Where it runs.
        preprocessing: How it wants its images; ``side`` is that of the model.
        weights: Digest of the weights, part of the fingerprint.
        batch_size: Images that are encoded, and quarters of prompts that are decoded, at once.
        cpu_bfloat16: Whether encoder and decoder run in bfloat16 on a CPU, too; on CUDA they always do. The prompt
            encoder never does: eight bits of mantissa would lose the position of a point.
        prompt_kinds: Kinds of prompts that the model was trained with.
        lora_targets: Names of the layers that low-rank adapters are put on.
        best_candidate: Whether the best of the candidate masks is taken for every prompt, not for single points only.

    Raises:
        ValueError: If the preprocessing's side is not the model's.
    """

    def __init__(
        self,
        sam: Sam,
        device: torch.device,
        preprocessing: Preprocessing,
        weights: str,
        *,
        batch_size: int = BATCH_SIZE,
        cpu_bfloat16: bool = False,
        prompt_kinds: frozenset[str] = ALL_KINDS,
        lora_targets: tuple[str, ...] = (),
        best_candidate: bool = False,
    ) -> None:
        if preprocessing.side != int(sam.image_encoder.img_size):
            raise ValueError(
                f"The model takes images of {sam.image_encoder.img_size} pixels, the preprocessing makes "
                f"{preprocessing.side}; they must be equal."
            )
        self.spatial_dims = 2
        self.prompt_kinds, self.lora_targets, self.best_candidate = prompt_kinds, lora_targets, best_candidate
        self.module = self.sam = sam.to(device).eval()
        self.device, self.preprocessing, self.batch_size = device, preprocessing, batch_size
        self.bfloat16 = device.type == "cuda" or (cpu_bfloat16 and device.type == "cpu")
        self.fingerprint = sha256_of_json(
            {"weights": weights, "preprocessing": preprocessing.to_dict(), "bfloat16": self.bfloat16}
        )

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
        parts = [self._encode_chunk(chunk, self.frame(shape)) for chunk in images.split(self.batch_size)]
        return Embedding({FEATURES: torch.cat(parts)}, shape)

    def _encode_chunk(self, images: Tensor, frame: Frame) -> Tensor:
        grey = images.to(self.device).float().mean(1)
        inputs = to_input(grey, frame, self.preprocessing)
        with self.autocast():
            return self.sam.image_encoder(inputs).float()

    def decode(self, embedding: Embedding, prompts: PromptBatch) -> MaskPrediction:
        """Predict a mask for prompts about any of the encoded images; see :meth:`SAMBackend.decode`."""
        check_prompts(embedding, prompts, self.prompt_kinds)
        frame = self.frame((embedding.image_shape[0], embedding.image_shape[1]))
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
        with self.autocast():
            logits, quality = predict_masks(self.sam.mask_decoder, features, position, sparse, dense)
        others = boxes is not None or masks is not None
        ambiguous = single_points(prompts.point_labels, len(prompts), others, features.device) | self.best_candidate
        return choose_masks(logits.float(), quality.float(), ambiguous)

    def covered(self, image_shape: tuple[int, ...]) -> tuple[float, ...]:
        """Return which share of the square input the image takes; see :meth:`SAMBackend.covered`."""
        frame = self.frame((image_shape[0], image_shape[1]))
        return tuple(size / frame.side for size in frame.resized)

    def class_decoders(self, classes: int, count: int, train_encoder: bool) -> ClassDecoders:
        """Return this SAM as one that segments classes without prompts; see :meth:`SAMBackend.class_decoders`."""
        return ClassDecoders(self, classes, count, train_encoder)

    def autocast(self) -> AbstractContextManager:
        """Return the precision in which encoder and decoder run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def frame(self, shape: tuple[int, int]) -> Frame:
        """Return how images of a shape ``H, W`` lie in the model's input."""
        return Frame(shape, self.preprocessing.side, self.preprocessing.keep_aspect)


def load(family: Family, options: BackendOptions) -> SegmentAnythingBackend:
    """Return a model of segment-anything's class ``Sam`` with its weights; see ``build_backend``."""
    return load_sam(family, options)


def load_sam(
    family: Family,
    options: BackendOptions,
    *,
    to_model: Callable[[State], State] | None = None,
    best_candidate: bool = False,
) -> SegmentAnythingBackend:
    """Return a model of the class ``Sam`` with its weights.

    Args:
        family: Its row of the table of models.
        options: How and where it runs.
        to_model: Turns the published state dict into one with the keys of the network, if they differ.
        best_candidate: See :class:`SegmentAnythingBackend`.

    Raises:
        UserError: If the weights are missing, damaged or of another model.
    """
    path = find_weights(family.name, options.checkpoint)
    sam = named(family.network)()
    weights = load_weights(sam, path, family.name, to_model)
    return SegmentAnythingBackend(
        sam,
        options.device,
        family.preprocessing,
        weights,
        batch_size=options.batch_size,
        cpu_bfloat16=options.cpu_bfloat16,
        prompt_kinds=frozenset(family.prompts),
        lora_targets=family.lora_targets,
        best_candidate=best_candidate,
    )

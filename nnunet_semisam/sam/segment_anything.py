"""Meta's Segment Anything (vit_b, vit_l, vit_h) and the nano SAM of this package, which is built of the same classes.

Shapes in this file: ``N`` images, ``C`` channels, ``H, W`` of the given images, ``S`` side of the SAM's input,
``M`` prompts, ``h, w`` of the image embedding.

Source: Kirillov et al., Segment Anything, https://arxiv.org/abs/2304.02643; frame, normalisation and the choice among
candidate masks as in ``SamPredictor`` of https://github.com/facebookresearch/segment-anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nnunet_semisam.sam import BackendOptions, named
from nnunet_semisam.sam.base import PromptBatch
from nnunet_semisam.sam.checkpoints import State, find_weights, load_weights
from nnunet_semisam.sam.class_decoders import ClassDecoders
from nnunet_semisam.sam.family import Family
from nnunet_semisam.sam.frame import Frame
from nnunet_semisam.sam.mask_decoder import choose_masks, predict_masks, single_points
from nnunet_semisam.sam.preprocessing import Preprocessing
from nnunet_semisam.sam.slice_backend import SliceBackend

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

FEATURES = "image_embedding"


class SegmentAnythingBackend(SliceBackend):
    """Any model of segment-anything's class ``Sam``.

    A prompt of a single point is decoded to the best of the three candidate masks (by the model's own estimate of IoU),
    every other prompt by the one mask meant for unambiguous prompts, as segment-anything advises.

    Args:
        sam: The model, with weights.
        device: Where it runs.
        preprocessing: How it wants its images; ``side`` is that of the model.
        weights: Digest of the weights, part of the fingerprint.
        best_candidate: Whether the best of the candidate masks is taken for every prompt, not for single points only.
        options: See :class:`SliceBackend`; as many images are encoded at once as quarters of prompts are decoded.

    Raises:
        ValueError: If the preprocessing's side is not the model's.
    """

    prompts_per_image = 4

    def __init__(
        self,
        sam: Sam,
        device: torch.device,
        preprocessing: Preprocessing,
        weights: str,
        *,
        best_candidate: bool = False,
        **options: Any,
    ) -> None:
        if preprocessing.side != int(sam.image_encoder.img_size):
            raise ValueError(
                f"The model takes images of {sam.image_encoder.img_size} pixels, the preprocessing makes "
                f"{preprocessing.side}; they must be equal."
            )
        super().__init__(sam, device, preprocessing, weights, **options)
        self.sam, self.best_candidate = self.module, best_candidate

    def _encode_chunk(self, inputs: Tensor) -> dict[str, Tensor]:
        with self.autocast():
            return {FEATURES: self.sam.image_encoder(inputs).float()}

    def _decode_chunk(self, maps: dict[str, Tensor], prompts: PromptBatch, frame: Frame) -> tuple[Tensor, Tensor]:
        encoder = self.sam.prompt_encoder
        points = boxes = masks = None
        if prompts.points is not None:
            points = (frame.points_to_frame(prompts.points.float()), prompts.point_labels)
        if prompts.boxes is not None:
            boxes = frame.boxes_to_frame(prompts.boxes.float())
        if prompts.mask_logits is not None:
            masks = frame.masks_to_frame(prompts.mask_logits, encoder.mask_input_size[0])
        sparse, dense = encoder(points=points, boxes=boxes, masks=masks)
        with self.autocast():
            logits, quality = self._predict_masks(maps, sparse, dense)
        others = boxes is not None or masks is not None
        ambiguous = single_points(prompts.point_labels, len(prompts), others, logits.device) | self.best_candidate
        return choose_masks(logits.float(), quality.float(), ambiguous)

    def _predict_masks(self, maps: dict[str, Tensor], sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and estimated IoU of all mask tokens for embedded prompts; see :func:`predict_masks`."""
        position = self.sam.prompt_encoder.get_dense_pe()
        return predict_masks(self.sam.mask_decoder, maps[FEATURES], position, sparse, dense)

    def covered(self, image_shape: tuple[int, ...]) -> tuple[float, ...]:
        """Return which share of the square input the image takes; see :meth:`SAMBackend.covered`."""
        frame = self.frame((image_shape[0], image_shape[1]))
        return tuple(size / frame.side for size in frame.resized)

    def class_decoders(self, classes: int, count: int, train_encoder: bool) -> ClassDecoders:
        """Return this SAM as one that segments classes without prompts; see :meth:`SAMBackend.class_decoders`."""
        return ClassDecoders(self, classes, count, train_encoder)


def load(family: Family, options: BackendOptions) -> SegmentAnythingBackend:
    """Return a model of segment-anything's class ``Sam`` with its weights; see ``build_backend``."""
    return load_sam(family, options)


def load_sam(
    family: Family,
    options: BackendOptions,
    *,
    to_model: Callable[[State], State] | None = None,
    best_candidate: bool = False,
    backend: type[SegmentAnythingBackend] = SegmentAnythingBackend,
) -> SegmentAnythingBackend:
    """Return a model of the class ``Sam`` with its weights.

    Args:
        family: Its row of the table of models.
        options: How and where it runs.
        to_model: Turns the published state dict into one with the keys of the network, if they differ.
        best_candidate: See :class:`SegmentAnythingBackend`.
        backend: The class of the backend.

    Raises:
        UserError: If the weights are missing, damaged or of another model.
    """
    path = find_weights(family.name, options.checkpoint)
    sam = named(family.network)()
    weights = load_weights(sam, path, family.name, to_model)
    return backend(
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

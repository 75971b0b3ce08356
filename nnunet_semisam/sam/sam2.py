"""SAM 2, SAM 2.1 and MedSAM2 on the networks in transformers; one backend for all sizes.

Shapes in this file: ``N`` images, ``C`` channels, ``H, W`` of the given images, ``M`` prompts, ``T`` candidate masks,
``h, w`` of the image embedding.

Source: Ravi et al., SAM 2: Segment Anything in Images and Videos, https://arxiv.org/abs/2408.00714; MedSAM2: Ma et al.,
https://arxiv.org/abs/2504.03600. Which of the candidate masks counts follows the image predictor of
https://github.com/facebookresearch/sam2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nnunet_semisam.sam.base import Embedding, PromptBatch, VideoSAM
from nnunet_semisam.sam.frame import Frame
from nnunet_semisam.sam.mask_decoder import single_points
from nnunet_semisam.sam.preprocessing import Preprocessing
from nnunet_semisam.sam.sam2_memory import Follower
from nnunet_semisam.sam.slice_backend import SliceBackend

if TYPE_CHECKING:
    from transformers import Sam2Model, Sam2VideoModel

# Names of the feature maps: 1 / 4, 1 / 8 and 1 / 16 of the input's side.
FINE, MIDDLE, COARSE = "fine", "middle", "coarse"


class Sam2ImageBackend(SliceBackend):
    """A SAM 2 that sees single images: all that a folder without the memory's weights can be.

    A prompt of a single point is decoded to the best of three candidate masks, by the model's own estimate of IoU.
    Every other prompt is decoded to the one mask meant for unambiguous prompts; if that one is not stable against a
    small change of the threshold, SAM 2 takes the best candidate as well.

    Args:
        model: The network, with weights.
        device: Where it runs.
        preprocessing: How it wants its images; ``side`` is that of the model, both sides are stretched.
        weights: Digest of the weights, part of the fingerprint.
        options: See :class:`SliceBackend`; a prompt takes four times the memory that it takes in the first SAM.

    Raises:
        ValueError: If the preprocessing does not fit the model.
    """

    def __init__(
        self,
        model: Sam2Model | Sam2VideoModel,
        device: torch.device,
        preprocessing: Preprocessing,
        weights: str,
        **options: Any,
    ) -> None:
        side = int(model.prompt_encoder.input_image_size)
        if preprocessing.side != side or preprocessing.keep_aspect:
            raise ValueError(
                f"The model takes square images of {side} pixels, stretched along both axes; the preprocessing makes "
                f"{preprocessing.side}{' and keeps the aspect' if preprocessing.keep_aspect else ''}."
            )
        super().__init__(model, device, preprocessing, weights, **options)
        self.model = self.module

    def _encode_chunk(self, inputs: Tensor) -> dict[str, Tensor]:
        decoder = self.model.mask_decoder
        with self.autocast():
            fine, middle, coarse = self.model.vision_encoder(inputs, return_dict=True).fpn_hidden_states
            fine, middle = decoder.conv_s0(fine), decoder.conv_s1(middle)
        return {FINE: fine.float(), MIDDLE: middle.float(), COARSE: coarse.float()}

    def _decode_chunk(self, maps: dict[str, Tensor], prompts: PromptBatch, frame: Frame) -> tuple[Tensor, Tensor]:
        """See :meth:`SliceBackend._decode_chunk`.

        transformers counts prompts within an image, and spreads one mask prompt over all of an image's prompts. Here
        each prompt therefore comes with an image of its own, its only one.
        """
        coarse = maps[COARSE] + self.model.no_memory_embedding.view(1, -1, 1, 1)
        sparse, dense = self._prompt_embeddings(prompts, frame)
        position = self.model.get_image_wide_positional_embeddings()
        others = prompts.boxes is not None or prompts.mask_logits is not None
        ambiguous = single_points(prompts.point_labels, len(prompts), others, self.device)
        order, logits, quality = [], [], []
        for several in (False, True):
            chosen = (ambiguous == several).nonzero()[:, 0]
            if len(chosen) == 0:
                continue
            with self.autocast():
                masks, iou, _, _ = self.model.mask_decoder(
                    image_embeddings=coarse[chosen],
                    image_positional_embeddings=position.expand(len(chosen), -1, -1, -1),
                    sparse_prompt_embeddings=sparse[chosen],
                    dense_prompt_embeddings=dense[chosen],
                    multimask_output=several,
                    high_resolution_features=[maps[FINE][chosen], maps[MIDDLE][chosen]],
                )
            best = iou[:, 0].argmax(1)  # of T: one mask, or three
            rows = torch.arange(len(chosen), device=self.device)
            order.append(chosen)
            logits.append(masks[rows, 0, best].float())
            quality.append(iou[rows, 0, best].float())
        back = torch.cat(order).argsort()
        return torch.cat(logits)[back], torch.cat(quality)[back]

    def _prompt_embeddings(self, prompts: PromptBatch, frame: Frame) -> tuple[Tensor, Tensor]:
        """Return the embeddings of points and boxes ``(M, 1, tokens, C)``, and those of masks ``(M, C, h, w)``."""
        encoder = self.model.prompt_encoder
        points = labels = boxes = masks = None
        if prompts.points is not None:
            points = frame.points_to_frame(prompts.points.float())[:, None]
            labels = prompts.point_labels[:, None]
        if prompts.boxes is not None:
            boxes = frame.boxes_to_frame(prompts.boxes.float())[:, None]
        if points is None and boxes is None:  # a mask alone comes with a point that is none, as in SAM 2's own code
            points = torch.zeros(len(prompts), 1, 1, 2, device=self.device)
            labels = torch.full((len(prompts), 1, 1), -1, device=self.device)
        if prompts.mask_logits is not None:
            masks = frame.masks_to_frame(prompts.mask_logits, encoder.mask_input_size[0])
        return encoder(points, labels, boxes, masks)


class Sam2Backend(Sam2ImageBackend, VideoSAM):
    """A SAM 2 with its memory; see :class:`Sam2ImageBackend`."""

    def __init__(self, model: Sam2VideoModel, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        self.model: Sam2VideoModel = model

    @torch.no_grad()
    def propagate(self, embedding: Embedding, prompts: PromptBatch) -> Tensor:
        """Follow every prompted object through all images; see :meth:`VideoSAM.propagate`.

        The mask that :meth:`decode` predicts for the prompted image goes into the memory as a mask prompt does. Each
        direction starts from it anew, so that neither sees what the other found.
        """
        decoded = self.decode(embedding, prompts).logits.cpu()
        count = len(embedding)
        found = torch.empty(len(prompts), count, *embedding.image_shape)
        for start in prompts.image.unique().tolist():
            mine = (prompts.image == start).nonzero()[:, 0].cpu()
            masks = (decoded[mine] > 0)[:, None]
            found[mine, start] = decoded[mine]
            support = embedding.select(slice(start, start + 1))
            for order in (range(start + 1, count), range(start - 1, -1, -1)):
                if len(order):
                    found[mine[:, None], torch.tensor(order)] = self.propagate_masks(support, masks, embedding, order)
        return found

    @torch.no_grad()
    def propagate_masks(self, support: Embedding, masks: Tensor, query: Embedding, order: Sequence[int]) -> Tensor:
        """Follow objects from images with known masks into others; see :meth:`VideoSAM.propagate_masks`."""
        frame = self.frame((query.image_shape[0], query.image_shape[1]))
        follower = Follower(self.model, self.device, len(support) + len(order), len(masks))
        found = torch.empty(len(masks), len(order), *query.image_shape)
        with self.autocast():
            for i in range(len(support)):
                follower.remember(self._frame_features(support, i), masks[:, i])
            for i, index in enumerate(order):
                low = follower.follow(self._frame_features(query, index))
                found[:, i] = frame.logits_to_image(low.float()).cpu()
        return found

    def _frame_features(self, embedding: Embedding, index: int) -> list[Tensor]:
        """Return the maps of one image, fine first, ``(1, C, *reduced)`` each."""
        one = embedding.select(slice(index, index + 1)).features
        return [one[name].to(self.device, torch.float32) for name in (FINE, MIDDLE, COARSE)]

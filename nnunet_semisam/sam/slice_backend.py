"""What all SAMs that see slices as square images share: chunks, precision, frame and fingerprint.

Shapes in this file: ``N`` images, ``C`` channels, ``H, W`` of the given images, ``M`` prompts, ``h, w`` of the image
embedding.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.sam import BATCH_SIZE
from nnunet_semisam.sam.base import Embedding, MaskPrediction, PromptBatch, SAMBackend, check_prompts
from nnunet_semisam.sam.frame import Frame, to_input
from nnunet_semisam.sam.parts import Parts
from nnunet_semisam.sam.precision import computes_in_bfloat16
from nnunet_semisam.sam.preprocessing import Preprocessing

ALL_KINDS = frozenset({"box", "points", "mask"})
# Attention over all of a large image holds a matrix of every position with every other: for vit_b 2 GB for one image of
# 1024 pixels a side, 32 GB for sixteen (computed from the sizes, not measured).
ENCODED_PIXELS = 2 * 1024**2
# On a CPU more at once takes memory and hardly less time with models larger than nano (224 pixels). Seconds an image,
# encoded 1, 2 and 4 at a time: SAM-Med2D 1.40, 1.23, 1.22; LiteMedSAM 2.2, 2.5, 2.8; vit_b (1024 pixels) 20.3, 21.8.
# LiteMedSAM decoded 24 prompts in 3.0 s in parts of 4 and in 4.7 s in parts of 8 or more: the C library gives blocks
# above 32 MiB back to the system, which clears them anew each time.
SMALL_SIDE = 224
MOST_ON_CPU, PIXELS_ON_CPU = 2, 1024**2
DECODED_BYTES = 32 * 1024**2


class SliceBackend(SAMBackend):
    """A SAM that sees single slices; several channels are averaged, intensities are rescaled slice by slice.

    Args:
        model: The network, with weights.
        device: Where it runs.
        preprocessing: How it wants its images.
        weights: Digest of the weights, part of the fingerprint.
        batch_size: Images that are encoded at once, at most: of large ones fewer, on a CPU one or two, and fewer where
            memory ends.
        cpu_bfloat16: Whether encoder and decoder run in bfloat16 on a CPU, too; on CUDA they do where the GPU can. The
            prompt encoder never does: eight bits of mantissa would lose the position of a point.
        prompt_kinds: Kinds of prompts that the model was trained with.
        lora_targets: Names of the layers that low-rank adapters are put on.
    """

    prompts_per_image = 1  # that take the memory of one image to encode

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        preprocessing: Preprocessing,
        weights: str,
        *,
        batch_size: int = BATCH_SIZE,
        cpu_bfloat16: bool = False,
        prompt_kinds: frozenset[str] = ALL_KINDS,
        lora_targets: tuple[str, ...] = (),
    ) -> None:
        self.spatial_dims = 2
        self.prompt_kinds, self.lora_targets = prompt_kinds, lora_targets
        self.module = model.to(device).eval()
        self.device, self.preprocessing = device, preprocessing
        side = preprocessing.side
        self._is_large_on_cpu = device.type == "cpu" and side > SMALL_SIDE
        self._images = Parts(images_at_once(device, side, batch_size), f"one image of {side} x {side} pixels")
        self._prompts = Parts(self.prompts_per_image * batch_size, "the mask of one prompt")
        self.bfloat16 = computes_in_bfloat16(device, cpu_bfloat16)
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
        parts = self._images.each(len(images), lambda part: self._encode_chunk(self._inputs(images[part])))
        return Embedding({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, shape)

    def _inputs(self, images: Tensor) -> Tensor:
        grey = images.to(self.device).float().mean(1)
        return to_input(grey, self.frame((images.shape[2], images.shape[3])), self.preprocessing)

    def decode(self, embedding: Embedding, prompts: PromptBatch) -> MaskPrediction:
        """Predict a mask for prompts about any of the encoded images; see :meth:`SAMBackend.decode`."""
        check_prompts(embedding, prompts, self.prompt_kinds)
        frame = self.frame((embedding.image_shape[0], embedding.image_shape[1]))
        if self._is_large_on_cpu:
            self._prompts.at_once = min(self._prompts.at_once, prompts_in_bytes(embedding))

        def decoded(part: slice) -> tuple[Tensor, Tensor]:
            chunk = prompts.select(part)
            images, place = chunk.image.unique(return_inverse=True)  # each crosses to the device once
            maps = {
                name: value.to(self.device).float()[place.to(self.device)]
                for name, value in embedding.select(images).features.items()
            }
            low, iou = self._decode_chunk(maps, chunk.to(self.device), frame)
            return frame.logits_to_image(low), iou.clamp(0, 1)

        logits, quality = zip(*self._prompts.each(len(prompts), decoded), strict=True)
        return MaskPrediction(torch.cat(logits), torch.cat(quality))

    @abstractmethod
    def _encode_chunk(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the feature maps by name, ``(N, channels, *reduced)``, float32, of the model's input."""

    @abstractmethod
    def _decode_chunk(self, maps: dict[str, Tensor], prompts: PromptBatch, frame: Frame) -> tuple[Tensor, Tensor]:
        """Return the chosen low-resolution logits ``(M, 4h, 4w)`` and their estimated IoU ``(M,)``, float32.

        Args:
            maps: The feature maps of each prompt's image, ``(M, channels, *reduced)``, float32.
            prompts: On the model's device.
            frame: How the images lie in the model's input.
        """

    def autocast(self) -> AbstractContextManager:
        """Return the precision in which encoder and decoder run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def frame(self, shape: tuple[int, int]) -> Frame:
        """Return how images of a shape ``H, W`` lie in the model's input."""
        return Frame(shape, self.preprocessing.side, self.preprocessing.keep_aspect)


def images_at_once(device: torch.device, side: int, batch_size: int) -> int:
    """Return how many images of a side length a SAM may encode at once: at most ``batch_size``, and at least 1."""
    most, pixels = batch_size, ENCODED_PIXELS
    if device.type == "cpu" and side > SMALL_SIDE:
        most, pixels = min(batch_size, MOST_ON_CPU), PIXELS_ON_CPU
    return max(1, min(most, pixels // side**2))


def prompts_in_bytes(embedding: Embedding) -> int:
    """Return how many prompts a SAM may decode at once so that its largest array has :data:`DECODED_BYTES`, at least 1.

    It holds the upscaled features of the mask decoder: an eighth of the channels of the image embedding, four times its
    height and width, float32.
    """
    smallest = min(embedding.features.values(), key=lambda maps: maps.shape[2] * maps.shape[3])
    return max(1, DECODED_BYTES // (2 * 4 * smallest[0].numel()))

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
from nnunet_semisam.sam.preprocessing import Preprocessing

ALL_KINDS = frozenset({"box", "points", "mask"})


class SliceBackend(SAMBackend):
    """A SAM that sees single slices; several channels are averaged, intensities are rescaled slice by slice.

    Args:
        model: The network, with weights.
        device: Where it runs.
        preprocessing: How it wants its images.
        weights: Digest of the weights, part of the fingerprint.
        batch_size: Images that are encoded at once.
        cpu_bfloat16: Whether encoder and decoder run in bfloat16 on a CPU, too; on CUDA they always do. The prompt
            encoder never does: eight bits of mantissa would lose the position of a point.
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
        parts = [self._encode_chunk(self._inputs(chunk)) for chunk in images.split(self.batch_size)]
        return Embedding({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, shape)

    def _inputs(self, images: Tensor) -> Tensor:
        grey = images.to(self.device).float().mean(1)
        return to_input(grey, self.frame((images.shape[2], images.shape[3])), self.preprocessing)

    def decode(self, embedding: Embedding, prompts: PromptBatch) -> MaskPrediction:
        """Predict a mask for prompts about any of the encoded images; see :meth:`SAMBackend.decode`."""
        check_prompts(embedding, prompts, self.prompt_kinds)
        frame = self.frame((embedding.image_shape[0], embedding.image_shape[1]))
        at_once, logits, quality = self.prompts_per_image * self.batch_size, [], []
        for start in range(0, len(prompts), at_once):
            chunk = prompts.select(slice(start, start + at_once)).to(self.device)
            features = embedding.select(chunk.image).features
            maps = {name: value.to(self.device, torch.float32) for name, value in features.items()}
            low, iou = self._decode_chunk(maps, chunk, frame)
            logits.append(frame.logits_to_image(low))
            quality.append(iou.clamp(0, 1))
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

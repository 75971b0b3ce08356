"""What generalists share that follow objects from slice to slice with the memory of a SAM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.generalists.base import GeneralistContext
from nnunet_semisam.generalists.case_encoder import CaseEncoder
from nnunet_semisam.generalists.views import CaseGrid, Slices, slice_axis
from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.base import Embedding, VideoSAM
from nnunet_semisam.sam.families import family
from nnunet_semisam.settings import Settings, SettingsBlock, setting


@dataclass(frozen=True, kw_only=True)
class VideoSAMSettings(SettingsBlock):
    """Which SAM with a memory is used, and what it sees."""

    model: str = setting(
        "sam2.1_tiny",
        "Name of a SAM with a memory: a SAM 2, a SAM 2.1 or `medsam2`.",
        source="SSL-MedSAM2, https://arxiv.org/abs/2512.11548, takes MedSAM2, whose weights have no published hash",
    )
    checkpoint: str | None = setting(
        None, "File or folder with the weights of `model`; null looks in `$nnUNet_sam`. See docs/sam2.md."
    )
    axis: int | None = setting(
        None,
        "Spatial axis along which slices follow each other; null takes that of the largest spacing.",
        choices=(0, 1, 2),
    )
    channel: int = setting(0, "Image channel that the SAM sees, counted from 0.", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        family(self.model)
        if self.checkpoint is not None and ("\0" in self.checkpoint or not self.checkpoint.strip()):
            raise UserError(f"The setting checkpoint must name a file or folder, got {shown(self.checkpoint)}.")


def load_video_sam(name: str, settings: Settings, device: torch.device) -> VideoSAM:
    """Return the SAM that the block ``name`` describes, weights loaded.

    Args:
        name: Of a block of :class:`VideoSAMSettings`.
        settings: The settings of the run.
        device: Where it runs.

    Raises:
        UserError: If the weights cannot be loaded, or the model has no memory.
    """
    block: VideoSAMSettings = settings.block(name)
    batch_size = settings.block("sam").batch_size
    options = BackendOptions(device, block.checkpoint, batch_size, settings.run.cpu_bfloat16)
    backend = build_backend(block.model, options)
    if not isinstance(backend, VideoSAM):
        raise UserError(
            f"The setting {name}: {{model: {block.model}}} names a SAM without a memory (or a folder without the "
            f"memory's weights): it cannot follow anything. Set {name}: {{model: sam2.1_tiny}}, for example."
        )
    return backend


@dataclass(frozen=True)
class VideoEncoder:
    """A SAM with a memory, and the slices of cases as it sees them.

    Attributes:
        backend: The SAM.
        encoder: Encodes the slices of a case, each case once.
        axis: Along which slices follow each other.
    """

    backend: VideoSAM
    encoder: CaseEncoder
    axis: int

    @classmethod
    def of(cls, name: str, context: GeneralistContext) -> VideoEncoder:
        """Return what the block ``name`` describes, weights loaded.

        Raises:
            UserError: If the weights cannot be loaded, or the model has no memory.
        """
        settings: VideoSAMSettings = context.settings.block(name)
        backend = load_video_sam(name, context.settings, context.device)
        batch_size = context.settings.block("sam").batch_size
        axis = slice_axis(context.spacing) if settings.axis is None else settings.axis
        view = Slices(axis)
        cache = context.cache.of(backend.fingerprint, view.name, settings.channel)
        return cls(backend, CaseEncoder(name, backend, view, cache, settings.channel, batch_size), axis)

    def about(self) -> dict[str, str]:
        """Return the digest of the weights and the name of the view, for the records of rounds."""
        return {"fingerprint": self.backend.fingerprint, "view": self.encoder.view.name}

    def embedding(self, case: str, image: np.ndarray) -> Embedding:
        """Return the embedding of all slices of a case ``(C, Z, Y, X)``, on the CPU."""
        return self.encoder.embedding(case, image, CaseGrid(image.shape[1:]))

    def slices_first(self, volume: np.ndarray) -> np.ndarray:
        """Return maps ``(F, N, H, W)`` of maps ``(F, Z, Y, X)``: ``N`` slices along the axis."""
        return np.moveaxis(volume, self.axis + 1, 1)

    def back(self, maps: np.ndarray) -> np.ndarray:
        """Return maps ``(F, Z, Y, X)`` of maps ``(F, N, H, W)``: undoes :meth:`slices_first`."""
        return np.ascontiguousarray(np.moveaxis(maps, 1, self.axis + 1))

"""Segment Anything models behind one interface. Importing this package loads neither segment-anything nor torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from nnunet_semisam.sam.base import SAMBackend

BATCH_SIZE = 16


@dataclass(frozen=True)
class BackendOptions:
    """How and where a model runs.

    Attributes:
        device: Where.
        checkpoint: File with its weights; ``None`` looks in ``$nnUNet_sam`` (nano: in the package).
        batch_size: Images that are encoded, and quarters of prompts that are decoded, at once, at most.
        cpu_bfloat16: Whether the model computes in bfloat16 on a CPU, too; on CUDA it does where the GPU can.
    """

    device: torch.device
    checkpoint: str | None = None
    batch_size: int = BATCH_SIZE
    cpu_bfloat16: bool = False


def build_backend(name: str, options: BackendOptions) -> SAMBackend:
    """Return the SAM of a name in :data:`~nnunet_semisam.sam.families.FAMILIES`, with its weights.

    ``auto`` stands for the model that ``options.checkpoint`` is of.

    Raises:
        UserError: If there is no such model, or its weights are missing, damaged or of another model.
    """
    from nnunet_semisam.sam.detect import family_of

    row = family_of(name, options.checkpoint)
    return named(row.backend)(row, options)


def named(text: str) -> Any:
    """Return what a text ``module:name`` names, imported only now.

    Example:
        >>> named("math:sqrt")(9.0)
        3.0
    """
    module, _, name = text.partition(":")
    return getattr(importlib.import_module(module), name)

"""Segment Anything models behind one interface. Importing this package loads neither segment-anything nor torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nnunet_semisam.sam.base import SAMBackend
    from nnunet_semisam.settings.config import SemiSAMConfig


def build_backend(config: SemiSAMConfig, device: torch.device) -> SAMBackend:
    """Return the SAM that a configuration names, with its weights, frozen, on ``device``.

    Args:
        config: ``sam_model`` names the model, ``sam_checkpoint`` its weights, ``sam_batch_size`` how much is computed
            at once.
        device: Where the model runs.

    Raises:
        UserError: If there is no such model, or its weights are missing, damaged or of another model.
    """
    from nnunet_semisam.sam import segment_anything  # noqa: F401  registers its models
    from nnunet_semisam.sam.base import BACKENDS

    return BACKENDS.get(config.sam_model)(config, device)

"""Small values on their way from the host to the device, without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a small tensor of the host on ``device``.

    A copy from ordinary memory to a GPU waits until all work that was queued there is done; one from pinned memory is
    queued behind it.

    Args:
        values: On the CPU.
        device: Where it is wanted.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)

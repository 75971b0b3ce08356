"""In which precision a SAM computes."""

from __future__ import annotations

import torch

FIRST_WITH_BFLOAT16 = (8, 0)  # Ampere; NVIDIA's GPUs before it emulate bfloat16


def computes_in_bfloat16(device: torch.device, on_cpu: bool) -> bool:
    """Return whether encoder and decoder run in bfloat16.

    Args:
        device: Where they run. A GPU does where its processor can; no other device but a CPU ever does.
        on_cpu: Whether a CPU does, too.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= FIRST_WITH_BFLOAT16
    return on_cpu and device.type == "cpu"

"""What makes a training faster on a CPU: threads, the layout of 3D tensors, bfloat16 where it is an instruction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nnunet_semisam.threads import asked_threads


def take_asked_threads() -> None:
    """Take as many threads as the environment says; ``nnUNetv2_train -device cpu`` takes one per core.

    Threads that wait for others spin, so trainings that share cores slow each other down by more than their share: two
    supervised ones in 2D at once took 2.3 to 5.4 s a step on two cores, with a thread each 0.8 to 0.9 s (one alone with
    both cores 0.6 s).
    """
    limit = asked_threads()
    if limit:
        torch.set_num_threads(limit)


def has_bfloat16_instructions() -> bool:
    """Return whether this CPU computes convolutions in bfloat16; others emulate it and take many times as long."""
    if not torch.backends.mkldnn.is_available():  # ARM, Apple
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # what torch itself asks; there is no public name


def warning_of_bfloat16() -> str | None:
    """Return what to tell a user who asks for bfloat16 on a CPU without it; ``None`` on other CPUs."""
    if has_bfloat16_instructions():
        return None
    return (
        "cpu_bfloat16: true, but this CPU has no instructions for bfloat16: steps take many times as long as in "
        "float32 (25 times, measured for a convolution with AVX2). Set cpu_bfloat16: false."
    )


def speed_up_on_cpu(network: nn.Module, bfloat16: bool) -> None:
    """Let a network compute in the layout, and if asked in the precision, that is fastest on a CPU.

    nnU-Net 2.8.1 trains in float32 and torch's default layout on CPUs. One forward and backward pass of a narrow
    network on one core: in 3D, batch 2, 40 x 56 x 40, 0.58 s with channels last and 0.82 s without (AVX2, float32); in
    2D, batch 8, 192 x 192, 0.30 s in bfloat16 with channels last and 0.80 s in float32 (AVX-512 BF16). In 2D and
    float32 the layout makes no difference.

    Args:
        network: The network, changed in place; its state dict keeps names, shapes and dtypes. It takes and returns
            float32 as before.
        bfloat16: Whether to compute in bfloat16; parameters stay float32.
    """
    is_3d = any(isinstance(module, nn.Conv3d) for module in network.modules())
    if not is_3d and not bfloat16:
        return
    layout = torch.channels_last_3d if is_3d else torch.channels_last
    network.to(memory_format=layout)
    forward = network.forward

    def fast_forward(x: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            output = forward(x.contiguous(memory_format=layout))
        return [level.float() for level in output] if isinstance(output, (list, tuple)) else output.float()

    network.forward = fast_forward

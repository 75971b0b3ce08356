"""The teacher: an exponential moving average of the student."""

from __future__ import annotations

import torch
from torch import nn

from nnunet_semisam.methods.parts.networks import unwrap


class MovingAverage:
    """Keeps ``network`` at the exponential moving average of a student, parameters and buffers.

    Args:
        network: A network like the student, on the same device; it is put in eval mode and gets no gradient.
        decay: Share of the old value kept per step, in [0, 1). The first steps use ``1 - 1 / (step + 1)``, so that
            the average forgets the random start.

    Source:
        Tarvainen & Valpola, NeurIPS 2017, https://arxiv.org/abs/1703.01780. Published code of the field averages
        parameters only; then running statistics of batch normalisation stay at their initial values.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network.eval().requires_grad_(False)
        self.decay = decay
        self.step = 0

    @torch.no_grad()
    def copy_from(self, student: nn.Module) -> None:
        """Start again from the student's weights."""
        self.network.load_state_dict(unwrap(student).state_dict())
        self.step = 0

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move one step towards the student."""
        alpha = min(1.0 - 1.0 / (self.step + 1), self.decay)
        old, new = self.network.state_dict(), unwrap(student).state_dict()
        names = self._distinct_names()
        averaged = [name for name in names if old[name].is_floating_point()]
        torch._foreach_lerp_([old[name] for name in averaged], [new[name] for name in averaged], 1.0 - alpha)
        for name in set(names) - set(averaged):
            old[name].copy_(new[name])  # counters
        self.step += 1

    def _distinct_names(self) -> list[str]:
        """Return one name for each tensor of the state dict.

        nnU-Net's networks list the weights of their encoder four times (the decoder knows the encoder, and each block
        knows its convolution by two names). An average that follows names would move them four times a step.
        """
        entries = self.network.state_dict().keys()
        distinct = (*self.network.named_parameters(), *self.network.named_buffers())
        return [name for name, _ in distinct if name in entries]

    def state_dict(self) -> dict:
        """Return the average and the number of steps."""
        return {"network": self.network.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.step = state["step"]

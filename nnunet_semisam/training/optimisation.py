"""Backward passes and optimiser steps for the student and for networks that a method trains itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from nnunet_semisam import ranks

GRADIENT_CLIP_NORM = 12.0  # as nnUNetTrainer.train_step, nnU-Net 2.8.1
START_RATE = "start_lr"  # kept in the parameter groups, and so in the optimiser's state


class Optimisation:
    """Steps nnU-Net's optimiser and those of a method alike: loss scaling, clipping, decay, averaging over ranks.

    Args:
        student: nnU-Net's optimiser. Under DDP its gradients are averaged by DDP.
        owned: Optimisers of networks that the method trains itself; DDP knows nothing of them.
        scaler: nnU-Net's gradient scaler; ``None`` where it uses none (CPU).

    Example:
        >>> import torch
        >>> layer = nn.Linear(1, 1)
        >>> optimisation = Optimisation(torch.optim.SGD(layer.parameters(), lr=0.1), [], None)
        >>> optimisation.zero_grad()
        >>> optimisation.backward(layer(torch.ones(1, 1)).sum())
        >>> optimisation.step()
    """

    def __init__(self, student: Optimizer, owned: Sequence[Optimizer], scaler: GradScaler | None) -> None:
        self.student, self.owned, self.scaler = student, list(owned), scaler
        for optimizer in self.owned:
            for group in optimizer.param_groups:
                group.setdefault(START_RATE, group["lr"])

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in (self.student, *self.owned):
            optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a scalar loss."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(self) -> None:
        """Clip and step as nnU-Net does; an optimiser none of whose parameters has a gradient is left out.

        So is one with a gradient that is not finite, with or without a scaler: one step with it makes all weights NaN,
        for good. nnU-Net 2.8.1 takes that step where it has no scaler (CPU).

        ``GradScaler.step`` would raise for such an optimiser, and a method's second network has no gradient before its
        term starts.
        """
        for optimizer in self.owned:
            ranks.average_gradients(parameters_of(optimizer))
        stepped = False
        for optimizer in (self.student, *self.owned):
            parameters = parameters_of(optimizer)
            if all(parameter.grad is None for parameter in parameters):
                continue
            stepped = True
            if self.scaler is None:
                norm = nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP_NORM)
                if bool(torch.isfinite(norm)):
                    optimizer.step()
            else:
                self.scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP_NORM)
                self.scaler.step(optimizer)
        if self.scaler is not None and stepped:
            self.scaler.update()

    def follow_decay(self, share: float) -> None:
        """Set the rates of owned optimisers to ``share`` of those that they started with.

        Args:
            share: What is left of nnU-Net's learning rate, in [0, 1]; its scheduler knows its own optimiser only.
        """
        for optimizer in self.owned:
            for group in optimizer.param_groups:
                group["lr"] = share * group[START_RATE]


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """Return the parameters that an optimiser steps."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def optimizer_like(template: Optimizer, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return an optimiser of the template's class and settings for other parameters."""
    known = inspect.signature(type(template)).parameters  # AdamW keeps a default that its constructor does not take
    settings = {name: value for name, value in template.defaults.items() if name in known}
    return type(template)(list(parameters), **settings)

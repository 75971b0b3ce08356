"""Patches as slices, for networks that see two axes.

Shapes in this file: ``B`` batch, ``C`` channels of any kind, ``*S`` two or three spatial axes, ``N`` slices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_semisam.errors import UserError
from nnunet_semisam.labels import Labels


def slices_of(count: int | None, *patches: Tensor) -> tuple[Tensor, ...]:
    """Return the slices of patches ``(B, C, *S)`` along the first spatial axis, ``(N, C, H, W)`` each.

    Args:
        count: Largest number of slices, drawn at random, the same of all arguments; ``None``: all. A patch of two axes
            is a slice.
        patches: ``(B, C, *S)``, of one batch size and spatial shape.
    """
    slices = tuple(patch if patch.ndim == 4 else patch.transpose(1, 2).flatten(0, 1) for patch in patches)
    if count is None or len(slices[0]) <= count:
        return slices
    chosen = torch.randperm(len(slices[0]))[:count].sort().values.to(slices[0].device)
    return tuple(each[chosen] for each in slices)


class SliceNetwork(nn.Module):
    """A network of slices and foreground channels as one of patches and output channels.

    Args:
        decoders: From images ``(N, 1, H, W)`` to logits of the foreground, ``(N, F, H, W)``.
        labels: What the output channels mean.
        channel: The image channel that they see.
    """

    def __init__(self, decoders: nn.Module, labels: Labels, channel: int = 0) -> None:
        super().__init__()
        self.decoders, self.labels, self.channel = decoders, labels, channel

    def seen(self, slices: Tensor) -> Tensor:
        """Return what the decoders see of slices ``(N, C, H, W)``: ``(N, 1, H, W)``.

        Raises:
            UserError: If the images lack the channel.
        """
        if self.channel >= slices.shape[1]:
            raise UserError(
                f"The setting channel: {self.channel} of the method names a channel that the images lack: they have "
                f"{slices.shape[1]}, counted from 0."
            )
        return slices[:, self.channel : self.channel + 1]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, K, *S)`` of patches ``(B, C, *S)``."""
        (slices,) = slices_of(None, images)
        logits = self.with_background(self.decoders(self.seen(slices)))
        if images.ndim == 4:
            return logits
        return logits.unflatten(0, (images.shape[0], images.shape[2])).transpose(1, 2)

    def with_background(self, foreground: Tensor) -> Tensor:
        """Return logits of all output channels, ``(N, K, H, W)``: the background of classes has the logit 0."""
        return foreground if self.labels.has_regions else F.pad(foreground, (0, 0, 0, 0, 1, 0))

"""The networks of nnU-Net as methods meet them: wrapped, compiled, with or without deep supervision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from nnunet_semisam.errors import UserError


def unwrap(network: nn.Module) -> nn.Module:
    """Return the plain network below ``DistributedDataParallel`` and ``torch.compile``."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        network = network.module
    return getattr(network, "_orig_mod", network)


def finest(output: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Return the full-resolution output of a network with or without deep supervision."""
    return output[0] if isinstance(output, (list, tuple)) else output


class Finest(nn.Module):
    """A network that returns its full-resolution output only, whether or not it has deep supervision.

    It computes as if it was not compiled: it predicts whole cases patch by patch, and another size of batch would make
    the graph that is trained one of changing sizes.

    Args:
        network: The network; its weights are shared.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, K, *S)`` of images ``(B, C, *S)``."""
        return finest(unwrap(self.network).forward(images))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode for a while, and back into the mode that it had.

    A network that is trained makes targets too. In train mode these passes would move the running statistics of batch
    normalisation and draw dropout, so that even a method of weight 0 would change the training.
    """
    plain = unwrap(network)
    was_training = plain.training
    plain.eval()
    try:
        yield
    finally:
        plain.train(was_training)


def forward_with(
    network: nn.Module, images: Tensor, change: Callable[[list[Tensor]], list[Tensor]]
) -> Tensor | list[Tensor]:
    """Return ``decoder(change(encoder(images)))``: a forward pass with changed features, for the unlabeled pass only.

    The unwrapped network is used: under DDP the pass does not synchronise gradients, the labeled pass does.

    Args:
        network: A network of nnU-Net's encoder-decoder kind.
        images: ``(B, C, *S)``.
        change: Gets the encoder's feature maps, ``(B, channels, *S_stage)`` from fine to coarse, and returns as many of
            the same shapes.

    Returns:
        Logits as the network's own forward pass returns them.

    Raises:
        UserError: If the network has no encoder and decoder.

    Example:
        Channel dropout on all features, as UniMatch perturbs them::

            drop = torch.nn.Dropout2d(0.5)
            logits = forward_with(student, unlabeled.weak, lambda features: [drop(f) for f in features])
    """
    encoder, decoder = _parts(network)
    return decoder(change(encoder(images)))


def encoder_features(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the features of a network's encoder, ``(B, channels, *S_stage)`` from fine to coarse.

    Raises:
        UserError: If the network has no encoder and decoder.
    """
    return _parts(network)[0](images)


def encoder_channels(network: nn.Module) -> list[int]:
    """Return the channels of the features of each stage of a network's encoder, from fine to coarse.

    Raises:
        UserError: If the network has no encoder and decoder.
    """
    return [int(channels) for channels in _parts(network)[0].output_channels]


def _parts(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    plain = unwrap(network)
    encoder, decoder = getattr(plain, "encoder", None), getattr(plain, "decoder", None)
    if not isinstance(encoder, nn.Module) or not isinstance(decoder, nn.Module):
        raise UserError(
            f"This method changes features between encoder and decoder, but {type(plain).__name__} has no such parts. "
            "Choose plans with one of nnU-Net's U-Nets (PlainConvUNet, ResidualEncoderUNet), or another method."
        )
    return encoder, decoder

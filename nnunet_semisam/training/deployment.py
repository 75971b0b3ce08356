"""Put the weights that will be deployed into the student's network for a validation, and take them out again."""

from __future__ import annotations

import copy
from types import TracebackType

import torch
from torch import nn

from nnunet_semisam.methods import SSLMethod


class DeployedWeights:
    """A context in which ``network`` holds the deployed weights; also usable as a pair of calls.

    nnU-Net validates ``self.network``, with its deep supervision, compilation and DDP wrapping; exchanging the weights
    below all that is simpler than exchanging the network.

    Args:
        network: The student, unwrapped.
        method: Says what is deployed; ``None``: the student itself.
    """

    def __init__(self, network: nn.Module, method: SSLMethod | None) -> None:
        self.network = network
        self.deployed = network if method is None else method.inference_network(network)
        self._student: dict[str, torch.Tensor] = {}

    def put(self) -> None:
        """Keep the student's weights aside and load the deployed ones."""
        if self.deployed is not self.network and not self._student:
            self._student = copy.deepcopy(self.network.state_dict())  # nnU-Net lists weights repeatedly: copied once
            self.network.load_state_dict(self.deployed.state_dict())

    def restore(self) -> None:
        """Load the student's weights again."""
        if self._student:
            self.network.load_state_dict(self._student)
            self._student = {}

    def __enter__(self) -> DeployedWeights:
        self.put()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

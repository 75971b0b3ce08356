"""Begin with the weights of another training, those of the segmentation layers included.

nnU-Net's own ``-pretrained_weights`` leaves the segmentation layers out, since another data set has other classes: a
network that goes on with its own data set would have to learn them anew.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.tensor_files import check_finite, numpy_scalar_types, read_tensors

REMEDY = "Name a checkpoint of the same configuration, plans and labels in the setting initial_weights."


def load_initial_weights(network: nn.Module, path: str) -> None:
    """Load all weights of a checkpoint of nnU-Net into a network.

    Args:
        network: nnU-Net's, neither wrapped nor compiled.
        path: The checkpoint; what its training deploys is taken (``network_weights``).

    Raises:
        UserError: If it is no checkpoint, damaged, or of another network.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"The setting initial_weights names {file}, which is no file. {REMEDY}")
    weights = read_tensors(file, REMEDY, numpy_scalar_types()).get("network_weights")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{file} is no checkpoint of nnU-Net: it holds no network_weights. {REMEDY}")
    own = network.state_dict()
    other = sorted(map(str, {*own} ^ {*weights})) or [name for name in own if own[name].shape != weights[name].shape]
    if other:
        raise UserError(f"{file} is of another network: its {name_some(other, 3)} differ(s). {REMEDY}")
    check_finite(weights, file, REMEDY)
    network.load_state_dict(weights)

"""What nnU-Net's commands need to know of the place where they run: folders, trainers, device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nnunet_semisam.settings.file import VARIABLE as SETTINGS
from nnunet_semisam.trainers_folder import trainers_folder

AUTO = "auto"
TRAINERS = "nnUNet_extTrainer"


def command_environment(results: Path, settings: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: this process's, with results and settings of the command's own.

    Args:
        results: Folder for ``nnUNet_results``.
        settings: The settings file of our trainers.
        variables: What the executor adds; it wins over the environment of this process.
    """
    folders = [part for part in os.environ.get(TRAINERS, "").split(os.pathsep) if part]
    return {
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: where cores are shared, spinning ones cost a lot
        **os.environ,
        **variables,
        TRAINERS: os.pathsep.join(dict.fromkeys([*folders, str(trainers_folder())])),
        "nnUNet_results": str(results),
        SETTINGS: str(settings),
    }


def device_here(device: str, variables: Mapping[str, str]) -> str:
    """Return what to give nnU-Net as ``-device`` on the machine of this process.

    It is found out here, not where the work was started: a login node has no GPU, the nodes behind it do.

    Args:
        device: ``cuda``, ``cpu``, ``mps``, or ``auto``: a GPU if there is one.
        variables: Environment variables of the command; an empty ``CUDA_VISIBLE_DEVICES`` hides every GPU.
    """
    if device != AUTO:
        return device
    if variables.get("CUDA_VISIBLE_DEVICES", "0") == "":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

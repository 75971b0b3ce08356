"""What all tasks of a benchmark share: how one ended, and the environment of its commands."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.settings.file import VARIABLE

DONE, FAILED, STARTED, NEW, BUSY = "done", "failed", "started", "new", "running elsewhere"
AUTO = "auto"
ERROR_FILE = "error.json"


def environment(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run's commands: results and settings are the run's own."""
    from nnunet_semisam.trainers_folder import trainers_folder

    trainers = [part for part in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if part]
    return {
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: where cores are shared, spinning ones cost a lot
        **os.environ,
        **variables,
        "nnUNet_extTrainer": os.pathsep.join(dict.fromkeys([*trainers, str(trainers_folder())])),
        "nnUNet_results": str(folder / "results"),
        VARIABLE: str(folder / "settings.yaml"),
    }


def device_here(device: str, variables: Mapping[str, str]) -> str:
    """Return what to give nnU-Net as ``-device`` on the machine of this process.

    It is found out here, not where the benchmark was started: a login node has no GPU, the nodes behind it do.

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


def read_json(path: Path) -> Any:
    """Return the content of one of our own json files.

    Raises:
        UserError: If it cannot be read: the disk was full, or the power was cut.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}). It must hold json, as the benchmark wrote it. Delete it and start "
            "again: what it held is made anew."
        ) from error


def read_json_object(path: Path) -> dict[str, Any] | None:
    """Return the content of one of our own json files; ``None`` if it is missing or torn, or holds no object."""
    try:
        content = read_json(path)
    except UserError:
        return None
    return content if isinstance(content, dict) else None


def record_error(folder: Path, stage: str, log: str, code: int | None = None) -> None:
    """Write down what went wrong; on a full disk not even that is possible, and the task has failed all the same."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ERROR_FILE, {"stage": stage, "status": code, "log": log})

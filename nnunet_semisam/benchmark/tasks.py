"""What all tasks of a benchmark share: how one ended, and the environment of its commands."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.settings_file import VARIABLE

DONE, FAILED, STARTED, NEW, BUSY = "done", "failed", "started", "new", "running elsewhere"


def environment(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run's commands: results and settings are the run's own."""
    from nnunet_semisam.commands.trainers_path import trainers_folder

    trainers = [part for part in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if part]
    return {
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: where cores are shared, spinning ones cost a lot
        **os.environ,
        **variables,
        "nnUNet_extTrainer": os.pathsep.join(dict.fromkeys([*trainers, str(trainers_folder())])),
        "nnUNet_results": str(folder / "results"),
        VARIABLE: str(folder / "settings.yaml"),
    }


def read_json(path: Path) -> Any:
    """Return the content of one of our own json files."""
    return json.loads(path.read_text(encoding="utf-8"))

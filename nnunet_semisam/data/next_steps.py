"""Commands that fit the data and the machine, for the lines "next:" of our commands."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.data.datasets import PLANS

SLICES = (".png", ".bmp")  # nnU-Net reads them as single slices
VOLUMES = "3d_fullres"


def is_two_dimensional(raw: Path, dataset_json: Mapping[str, Any]) -> bool:
    """Return whether a raw dataset holds single slices, of which nnU-Net plans a 2D configuration only.

    The first image of ``imagesTr`` speaks for all; one that cannot be read counts as a volume.

    Args:
        raw: ``$nnUNet_raw/DATASET``.
        dataset_json: nnU-Net's dataset.json.
    """
    ending = str(dataset_json.get("file_ending", ""))
    if ending in SLICES:
        return True
    first = min((raw / "imagesTr").glob(f"*_0000{ending}"), default=None)
    if first is None:
        return False
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(first))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
    except RuntimeError:
        return False
    return len(size) == 2 or size[2] == 1


def configurations(raw: Path, dataset_json: Mapping[str, Any]) -> list[str]:
    """Return the configurations that a first training of a dataset is about, the one to train last."""
    return ["2d"] if is_two_dimensional(raw, dataset_json) else ["2d", VOLUMES]


def device_option() -> str:
    """Return what ``nnUNetv2_train`` must be told of this machine: nothing where it has a CUDA device.

    torch is asked if it is loaded already; else the driver's files, since loading it takes seconds.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        if torch.cuda.is_available():
            return ""
    elif os.path.exists("/dev/nvidia0") or shutil.which("nvidia-smi"):
        return ""
    return " -device cpu"


def after_preprocessing(
    raw: Path, dataset_json: Mapping[str, Any], trainer: str, configuration: str = "", plans: str = PLANS
) -> list[str]:
    """Return the commands of a first training: of a narrow network where there is no GPU.

    Args:
        raw: ``$nnUNet_raw/DATASET``.
        dataset_json: nnU-Net's dataset.json.
        trainer: Class name.
        configuration: nnU-Net's configuration; empty: the last of :func:`configurations` for a GPU, else the first.
        plans: Identifier of the plans that were preprocessed; those of the narrow network are made of them.
    """
    number, device = int(raw.name[7:10]), device_option()
    configuration = configuration or configurations(raw, dataset_json)[0 if device else -1]
    train = f"nnUNetv2_train {number} {configuration} 0 -tr {trainer}"
    if not device:
        return [train + ("" if plans == PLANS else f" -p {plans}")]
    why = "no GPU was found: a narrow network; for few steps see docs/mini_plans.md"
    others = "" if plans == PLANS else f" -p {plans} --name {plans}Mini"
    return [f"nnunet-semisam plan-mini -d {number}{others}   # {why}", f"{train} -p {plans}Mini{device}"]

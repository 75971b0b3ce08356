"""The demo's plans: a network that two CPU cores can train in minutes."""

from __future__ import annotations

from pathlib import Path

from nnunet_semisam.data.datasets import PLANS
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.small_plans import narrow, write_plans

PLANS_NAME = "nnUNetPlansDemo"
PATCH = (64, 64)
BATCH = 8
FEATURES = (8, 16, 32, 64)


def write_small_plans(dataset: Path, base: str = PLANS) -> Path:
    """Write ``nnUNetPlansDemo.json`` beside nnU-Net's plans; the preprocessed data of those plans are used as they are.

    Args:
        dataset: ``$nnUNet_preprocessed/DATASET``.
        base: Name of the plans to start from.

    Returns:
        The file. Only the configuration ``2d`` is in it.
    """
    plans = read_object(dataset / f"{base}.json", "Run nnUNetv2_plan_and_preprocess again.")
    configuration = narrow(plans["configurations"]["2d"], PATCH, BATCH, FEATURES, "2d")
    plans["plans_name"], plans["configurations"] = PLANS_NAME, {"2d": configuration}
    return write_plans(dataset, plans, overwrite=True)[0]

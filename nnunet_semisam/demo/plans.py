"""Derive small plans from nnU-Net's: the same pipeline with a network that two CPU cores can train in minutes."""

from __future__ import annotations

import json
from pathlib import Path

PLANS_NAME = "nnUNetPlansDemo"
PATCH, BATCH, FEATURES = 96, 4, (8, 16, 32, 48)


def write_small_plans(dataset: Path, base: str = "nnUNetPlans") -> Path:
    """Write ``nnUNetPlansDemo.json`` beside nnU-Net's plans; the preprocessed data of those plans are used as they are.

    Args:
        dataset: ``$nnUNet_preprocessed/DATASET``.
        base: Name of the plans to start from.

    Returns:
        The file. Only the configuration ``2d`` is in it.
    """
    plans = json.loads((dataset / f"{base}.json").read_text(encoding="utf-8"))
    configuration = plans["configurations"]["2d"]
    configuration["patch_size"] = [min(size, PATCH) for size in configuration["patch_size"]]
    configuration["batch_size"] = BATCH
    network = configuration["architecture"]["arch_kwargs"]
    stages = min(len(FEATURES), network["n_stages"])
    for name in ("strides", "kernel_sizes", "n_conv_per_stage"):
        network[name] = network[name][:stages]
    network["n_conv_per_stage_decoder"] = network["n_conv_per_stage_decoder"][: stages - 1]
    network["n_stages"], network["features_per_stage"] = stages, list(FEATURES[:stages])
    plans["plans_name"], plans["configurations"] = PLANS_NAME, {"2d": configuration}
    path = dataset / f"{PLANS_NAME}.json"
    path.write_text(json.dumps(plans, indent=2), encoding="utf-8")
    return path

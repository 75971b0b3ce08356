"""A tiny dataset that nnU-Net's own planner and preprocessor have seen: what trainer tests run on.

Six labeled cases and two unlabeled ones, 8 x 40 x 40 voxels, a bright ball (label 1) with a core (label 2).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

DATASET_ID, DATASET = 901, "Dataset901_Tiny"
PLANS = "nnUNetPlans"
LABELED = [f"case{i}" for i in range(6)]
UNLABELED = [f"free{i}" for i in range(2)]
SHAPE, SPACING = (8, 40, 40), (1.5, 1.5, 6.0)
SPLITS = [
    {"train": LABELED[:2], "val": LABELED[2:3], "unlabeled": LABELED[3:]},
    {"train": LABELED[:4], "val": LABELED[4:]},
]

SHORT = {"num_epochs": 2, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1, "save_every": 1, "seed": 3}


# An untrained network knows no class and takes any area: what would rightly hold unlabeled terms back is off.
ALWAYS_ACTIVE = {"gate": {"dice": 0.0, "area_factor": 1e9}}
AT_ONCE = {"start": 0.0}  # of the method's own block
NO_PICTURES = {"preview_cases": 0}  # they take longer than the training


def always_active(method: str = "mean_teacher", **settings: Any) -> dict[str, Any]:
    """Return settings of a short training whose unlabeled terms are active from the first step.

    Args:
        method: Name of the method.
        settings: Flat settings, and blocks as dictionaries; they win over these defaults, setting by setting.
    """
    defaults: dict[str, Any] = {**SHORT, **ALWAYS_ACTIVE}
    if method != "supervised":
        defaults[method] = AT_ONCE
    if settings.get("use_sam"):
        defaults["sam"] = NO_PICTURES
    return merged(defaults, {"method": method, **settings})


def merged(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults with some settings changed, blocks setting by setting."""
    result = dict(defaults)
    for name, value in settings.items():
        result[name] = {**result.get(name, {}), **value} if isinstance(value, Mapping) else value
    return result


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image and label, ``(Z, Y, X)``."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE)
    cy, cx = rng.uniform(15, 25, 2)
    distance = np.sqrt(((z - 4) * 3) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
    label = (distance < 11).astype(np.uint8) + (distance < 6)
    return 100.0 * label + 50 + rng.normal(0, 15, SHAPE), label


def write(array: np.ndarray, path: Path) -> None:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


def write_raw(raw: Path, channels: int = 1, labels: dict | None = None, **more: object) -> None:
    folder = raw / DATASET
    for seed, case in enumerate(LABELED + UNLABELED):
        image, label = volume(seed)
        kind = "imagesTr" if case in LABELED else "imagesUl"
        for channel in range(channels):
            write((image + 10 * channel).astype(np.float32), folder / kind / f"{case}_{channel:04d}.nii.gz")
        if case in LABELED:
            write(label, folder / "labelsTr" / f"{case}.nii.gz")
    content = {
        "channel_names": {str(channel): "MRI" for channel in range(channels)},
        "labels": labels or {"background": 0, "shell": 1, "core": 2},
        "numTraining": len(LABELED),
        "file_ending": ".nii.gz",
        **more,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    (folder / "splits_final.json").write_text(json.dumps(SPLITS))


def id_of(dataset: str) -> int:
    return int(dataset.removeprefix("Dataset")[:3])


def extract_fingerprint(dataset: str = DATASET, overwrite: bool = True) -> None:
    """Do what nnU-Net's ``extract_fingerprints`` does, with fewer samples of the few voxels that there are."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

    extractor = DatasetFingerprintExtractor(id_of(dataset), num_processes=1)
    extractor.num_foreground_voxels_for_intensitystats = 10_000  # of 100 million: seconds of sorting
    extractor.run(overwrite_existing=overwrite)


def plan(preprocessed: Path, dataset: str = DATASET, patch: tuple[int, int, int] = (8, 32, 32)) -> None:
    """Plan with nnU-Net, then make the networks small: four levels, four to eight features, a small patch."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

    extract_fingerprint(dataset)
    plan_experiments([id_of(dataset)])
    file = preprocessed / dataset / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    for name in ("2d", "3d_fullres"):
        configuration = plans["configurations"][name]
        dims = len(configuration["patch_size"])
        configuration["patch_size"], configuration["batch_size"] = list(patch[-dims:]), 2
        architecture = configuration["architecture"]["arch_kwargs"]
        architecture |= {
            "n_stages": 4,
            "features_per_stage": [4, 8, 8, 8],
            "strides": [[1] * dims, [2] * dims, [2] * dims, [2 if side % 8 == 0 else 1 for side in patch[-dims:]]],
            "kernel_sizes": [[3] * dims] * 4,
            "n_conv_per_stage": [1, 1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1, 1],
        }
    file.write_text(json.dumps(plans))


def preprocess(preprocessed: Path, raw: Path, configurations: tuple[str, ...], dataset: str = DATASET) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess as stock_preprocess

    from nnunet_semisam.data.preprocess_unlabeled import preprocess_configuration

    stock_preprocess([id_of(dataset)], PLANS, configurations=configurations, num_processes=[1] * len(configurations))
    plans = json.loads((preprocessed / dataset / f"{PLANS}.json").read_text())
    dataset_json = json.loads((preprocessed / dataset / "dataset.json").read_text())
    for configuration in configurations:
        preprocess_configuration(raw / dataset, preprocessed / dataset, plans, dataset_json, configuration, 1)


def make(root: Path, configurations: tuple[str, ...] = ("2d",), **raw_options: object) -> Path:
    """Make a planned and preprocessed dataset below ``root``; nnU-Net's variables must point there already."""
    raw, preprocessed = root / "raw", root / "preprocessed"
    write_raw(raw, **raw_options)
    preprocessed.mkdir(parents=True, exist_ok=True)
    plan(preprocessed)
    preprocess(preprocessed, raw, configurations)
    return root


def environment(root: Path) -> dict[str, str]:
    """Return the variables that nnU-Net needs to work below ``root``, single-threaded."""
    folders = {f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")}
    return folders | {
        "nnUNet_n_proc_DA": "0",
        "nnUNet_semisam_threads": "1",  # tests run side by side
        "nnUNet_def_n_proc": "1",
        "nnUNet_extTrainer": str(Path(__file__).parents[1] / "trainers"),
    }


def copy_of(root: Path, target: Path) -> Path:
    """Copy a dataset for a test that changes it."""
    shutil.copytree(root, target)
    os.makedirs(target / "results", exist_ok=True)
    return target

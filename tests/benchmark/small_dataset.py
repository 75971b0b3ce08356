"""A planned dataset of a few tiny images, so small that commands which train nothing take milliseconds."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import blosc2
import numpy as np
import SimpleITK
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_semisam.data.preprocessing_recipe import RECIPE_FILE, recipe

NAME, DATASET_ID = "Dataset003_X", "3"
SHAPE = (2, 3, 4)
PATIENTS = [f"p{i}" for i in range(6)]
CASES = {f"{p}_frame{f:02d}": "Tr" for p in PATIENTS for f in (1, 9)} | {"u1_frame01": "Ul", "t1_frame01": "Ts"}
SPLITS = [
    {
        "train": ["p0_frame01", "p0_frame09"],
        "val": ["p5_frame01", "p5_frame09"],
        "unlabeled": [f"p{i}_frame{f:02d}" for i in (1, 2, 3, 4) for f in (1, 9)],
    },
    {
        "train": [f"p{i}_frame{f:02d}" for i in (0, 1, 2) for f in (1, 9)],
        "val": ["p5_frame01", "p5_frame09"],
        "unlabeled": [f"p{i}_frame{f:02d}" for i in (3, 4) for f in (1, 9)],
    },
]


def write_image(path: Path, seed: int, most: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, most, SHAPE).astype(np.int16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path))


def configuration(name: str) -> dict:
    """Plans of a network of two layers."""
    axes = 2 if name == "2d" else 3
    kinds = {"conv_op": f"torch.nn.modules.conv.Conv{axes}d", "norm_op": f"torch.nn.InstanceNorm{axes}d"}
    network = {
        "n_stages": 2,
        "features_per_stage": [2, 4],
        "kernel_sizes": [[3] * axes] * 2,
        "strides": [[1] * axes, [2] * axes],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op_kwargs": {"affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **kinds,
    }
    return {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8] * axes,
        "spacing": [1.0] * axes,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }


def preprocess(folder: Path, identifier: str) -> None:
    """Write the files of preprocessed cases as nnU-Net names them."""
    for case, part in CASES.items():
        if part == "Ts":
            continue
        target = folder / (f"{identifier}_unlabeled" if part == "Ul" else identifier)
        target.mkdir(parents=True, exist_ok=True)
        write_array(target / f"{case}.b2nd", np.ones((1, *SHAPE), np.float32))
        if part == "Tr":
            write_array(target / f"{case}_seg.b2nd", np.ones((1, *SHAPE), np.int8))
            (target / f"{case}.pkl").write_bytes(pickle.dumps({"class_locations": {1: np.zeros((1, 4), int)}}))


def write_array(path: Path, array: np.ndarray) -> None:
    path.unlink(missing_ok=True)
    blosc2.asarray(array, urlpath=str(path))


def record_recipe(folder: Path, plans: dict, name: str) -> None:
    """Write down that the unlabeled images in a folder were preprocessed with these plans."""
    digest = recipe(plans, PlansManager(plans).get_configuration(name))
    (folder / RECIPE_FILE).write_text(json.dumps({"recipe": digest}))


def make(root: Path) -> Path:
    """Write raw and preprocessed folders below ``root``; return the raw dataset."""
    raw, preprocessed = root / "raw" / NAME, root / "preprocessed" / NAME
    for seed, (case, part) in enumerate(CASES.items()):
        write_image(raw / f"images{part}" / f"{case}_0000.nii.gz", seed)
        if part != "Ul":
            write_image(raw / f"labels{part}" / f"{case}.nii.gz", seed, most=2)
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    preprocessed.mkdir(parents=True)
    for folder in (raw, preprocessed):
        (folder / "dataset.json").write_text(json.dumps(content | {"numTraining": 12}))
    names = ("2d", "3d_fullres")
    plans = {
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
        "configurations": {name: configuration(name) for name in names},
    }
    for name in names:
        preprocess(preprocessed, f"nnUNetPlans_{name}")
        record_recipe(preprocessed / f"nnUNetPlans_{name}_unlabeled", plans, name)
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    (preprocessed / "splits_final.json").write_text(json.dumps(SPLITS))
    return raw

"""A planned dataset of a few tiny images, so small that commands which train nothing take milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK

NAME, DATASET_ID = "Dataset003_X", "3"
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
    voxels = np.random.default_rng(seed).integers(0, most, (2, 3, 4)).astype(np.int16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path))


def configuration(name: str) -> dict:
    """Plans without a network: nothing can be trained with them."""
    normalization = {"normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False]}
    return {"data_identifier": f"nnUNetPlans_{name}", "architecture": {}, **normalization}


def preprocess(folder: Path, identifier: str) -> None:
    """Write images of zeros where preprocessed cases belong, and empty files beside them."""
    import blosc2

    image = blosc2.asarray(np.zeros((1, 2, 3, 4), np.float32)).to_cframe()
    for case, part in CASES.items():
        target = folder / (f"{identifier}_unlabeled" if part == "Ul" else identifier)
        target.mkdir(parents=True, exist_ok=True)
        if part != "Ts":
            (target / f"{case}.b2nd").write_bytes(image)
            (target / f"{case}.pkl").touch()


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
    plans = {"plans_name": "nnUNetPlans", "configurations": {name: configuration(name) for name in names}}
    for name in names:
        preprocess(preprocessed, f"nnUNetPlans_{name}")
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    (preprocessed / "splits_final.json").write_text(json.dumps(SPLITS))
    return raw

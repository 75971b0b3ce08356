"""The hidden labels of the tiny dataset, wherever they are, overwritten with noise."""

from __future__ import annotations

import pickle
from pathlib import Path

import blosc2
import numpy as np
import tiny_nnunet

HIDDEN = tiny_nnunet.SPLITS[0]["unlabeled"]


def overwrite(path: Path, array: np.ndarray) -> None:
    path.unlink()
    blosc2.asarray(np.ascontiguousarray(array), urlpath=str(path))


def fill_hidden_labels_with_noise(root: Path) -> None:
    rng = np.random.default_rng(0)
    for case in HIDDEN:
        _, label = tiny_nnunet.volume(0)
        noise = rng.integers(0, 3, label.shape).astype(np.uint8)
        tiny_nnunet.write(noise, root / "raw" / tiny_nnunet.DATASET / "labelsTr" / f"{case}.nii.gz")
        preprocessed = root / "preprocessed" / tiny_nnunet.DATASET
        tiny_nnunet.write(noise, preprocessed / "gt_segmentations" / f"{case}.nii.gz")
        folder = preprocessed / "nnUNetPlans_2d"
        seg = blosc2.open(str(folder / f"{case}_seg.b2nd"))[:]
        overwrite(folder / f"{case}_seg.b2nd", rng.integers(0, 3, seg.shape).astype(seg.dtype))
        properties = pickle.loads((folder / f"{case}.pkl").read_bytes())
        properties["class_locations"] = {1: np.argwhere(noise[None] == 1), 2: np.argwhere(noise[None] == 2)}
        (folder / f"{case}.pkl").write_bytes(pickle.dumps(properties))

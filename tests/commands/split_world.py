"""A small labeled dataset, and ``split`` as a user runs it."""

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_semisam.commands import split

PATIENTS = [f"p{i}" for i in range(6)]


def write_dataset(root: Path) -> Path:
    """Six patients with two frames each, one unlabeled and one test patient; images of 2 x 3 x 4 voxels."""
    folder = root / "raw" / "Dataset003_X"
    cases = {f"{p}_frame{f:02d}": "Tr" for p in PATIENTS for f in (1, 9)} | {"u1_frame01": "Ul", "t1_frame01": "Ts"}
    for seed, (case, part) in enumerate(cases.items()):
        write_image(folder / f"images{part}" / f"{case}_0000.nii.gz", seed)
        if part == "Tr":
            write_image(folder / "labelsTr" / f"{case}.nii.gz", 0, most=2)
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content | {"numTraining": 12}))
    (root / "preprocessed").mkdir()
    return folder


def write_image(path, seed, most=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, most, (2, 3, 4)).astype(np.int16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path))


def cut(*options: str, dataset: str = "3") -> None:
    parser = argparse.ArgumentParser()
    split.add_arguments(parser)
    split.run(parser.parse_args(["-d", dataset, "-np", "1", *options]))


def folds_of(raw):
    return json.loads((raw.parents[1] / "preprocessed" / raw.name / "splits_final.json").read_text())


def patients(cases):
    return {case.split("_")[0] for case in cases}

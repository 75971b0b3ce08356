"""Small raw datasets: nnU-Net's format with frames of patients, and a task of the Decathlon."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

SHAPE = (3, 6, 8)  # z y x
PATIENTS = ("p01", "p02", "p03", "p04", "p05")


def volume(seed: str, most: int = 1000, shape: tuple[int, ...] = SHAPE) -> sitk.Image:
    array = np.random.default_rng(list(seed.encode())).integers(0, most, shape)
    image = sitk.GetImageFromArray(array.astype(np.int16), isVector=False)
    image.SetSpacing((1.0, 2.0, 3.0, 1.0)[: len(shape)])
    return image


def cases(*patients: str) -> list[str]:
    return [f"{patient}_frame{frame}" for patient in patients for frame in ("01", "02")]


def write_raw(folder: Path, ending: str = ".nii.gz") -> Path:
    """Five patients of two frames with two channels, one test case, one unlabeled case, and a region."""
    for part in ("imagesTr", "labelsTr", "imagesTs", "imagesUl"):
        (folder / part).mkdir(parents=True)
    for case in cases(*PATIENTS):
        for channel in (0, 1):
            sitk.WriteImage(volume(f"{case}{channel}"), str(folder / "imagesTr" / f"{case}_{channel:04d}{ending}"))
        sitk.WriteImage(volume(f"{case}label", 3), str(folder / "labelsTr" / f"{case}{ending}"))
    for part, case in (("imagesTs", "t01_frame01"), ("imagesUl", "u01_frame01")):
        for channel in (0, 1):
            sitk.WriteImage(volume(f"{case}{channel}"), str(folder / part / f"{case}_{channel:04d}{ending}"))
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2},
        "regions_class_order": [1, 2],
        "numTraining": 10,
        "file_ending": ending,
        "licence": "none",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def write_msd(folder: Path, channels: int = 2) -> Path:
    """A task of the Decathlon: channels are the fourth axis of one file."""
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True)
    shape = SHAPE if channels == 1 else (channels, *SHAPE)
    names = [f"liver_{number}" for number in range(5)]
    for name in names:
        sitk.WriteImage(volume(name, shape=shape), str(folder / "imagesTr" / f"{name}.nii.gz"))
        sitk.WriteImage(volume(f"{name}label", 2), str(folder / "labelsTr" / f"{name}.nii.gz"))
    (folder / "imagesTr" / "._liver_0.nii.gz").write_bytes(b"junk of a Mac")
    sitk.WriteImage(volume("test", shape=shape), str(folder / "imagesTs" / "liver_9.nii.gz"))
    content = {
        "modality": {str(i): f"M{i}" for i in range(channels)},
        "labels": {"0": "background", "1": "liver"},
        "numTraining": 5,
        "tensorImageSize": "4D",
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names],
        "test": ["./imagesTs/liver_9.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder

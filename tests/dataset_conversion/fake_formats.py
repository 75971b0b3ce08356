"""Datasets of nnU-Net in other formats than 3D NIfTI: photos, tif volumes, flat images."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
import tifffile

CASES = ("c0", "c1", "c2", "c3")
SPACING_ZYX = (7.0, 2.0, 2.5)


def write_format(
    folder: Path, ending: str, channel_names: Mapping[str, str], write: Callable[[Path, int], None], **more: object
) -> Path:
    """Write four labeled cases.

    Args:
        folder: The dataset.
        ending: Of all files.
        channel_names: As in dataset.json.
        write: Called with every path and how many values there are: a thousand in images, two in labels.
        more: Further entries of dataset.json.
    """
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in CASES:
        write(folder / "imagesTr" / f"{case}_0000{ending}", 250)
        write(folder / "labelsTr" / f"{case}{ending}", 2)
    content = {
        "channel_names": channel_names,
        "labels": {"background": 0, "road": 1},
        "numTraining": len(CASES),
        "file_ending": ending,
        **more,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def random_array(path: Path, most: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the same numbers for the same name."""
    return np.random.default_rng(list(path.name.encode())).integers(0, most, shape).astype(np.uint8)


def write_photo(path: Path, array: np.ndarray) -> None:
    """Write (y, x) as gray, (y, x, 3) as colors."""
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=array.ndim == 3), str(path))


def write_photos(folder: Path) -> Path:
    """Colors in png, labels in gray."""

    def write(path: Path, most: int) -> None:
        write_photo(path, random_array(path, most, (5, 6) if most == 2 else (5, 6, 3)))

    return write_format(folder, ".png", {"0": "R", "1": "G", "2": "B"}, write)


def write_tif(path: Path, most: int, slices: int = 7) -> None:
    """Write a volume."""
    tifffile.imwrite(path, random_array(path, most, (slices, 5, 6)))


def write_tifs(
    folder: Path, ending: str = ".tif", channels: int = 1, spacing: bool = True, slices: int = 7, **more: object
) -> Path:
    """Volumes in tif with their spacing in json files beside them."""
    names = {str(i): f"T{i}" for i in range(channels)}
    write_format(folder, ending, names, lambda path, most: write_tif(path, most, slices), **more)
    for case in CASES:
        for channel in range(1, channels):
            write_tif(folder / "imagesTr" / f"{case}_{channel:04d}{ending}", 250, slices)
        for part in ("imagesTr", "labelsTr") if spacing else ():
            (folder / part / f"{case}.json").write_text(json.dumps({"spacing": SPACING_ZYX}))
    return folder


def write_flat(folder: Path, ending: str) -> Path:
    """Images with two axes."""

    def write(path: Path, most: int) -> None:
        image = sitk.GetImageFromArray(random_array(path, most, (5, 6)))
        image.SetSpacing((2.0, 3.0))
        sitk.WriteImage(image, str(path))

    return write_format(folder, ending, {"0": "X"}, write)


def write_plain_nifti(folder: Path) -> Path:
    """Volumes in files that are not compressed."""

    def write(path: Path, most: int) -> None:
        image = sitk.GetImageFromArray(random_array(path, most, (3, 5, 6)))
        image.SetSpacing((1.0, 2.0, 3.0))
        sitk.WriteImage(image, str(path))

    return write_format(folder, ".nii", {"0": "X"}, write)

"""A procedural copy of ACDC's folder layout: random voxels, so small that a conversion takes milliseconds."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

SHAPE = (3, 10, 12)  # z y x


def write_volume(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1.5, 1.5, 10.0)) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def write_patient(
    part: Path, number: str, frames: tuple[int, int] = (1, 9), with_gt: bool = True, group: str | None = None
) -> Path:
    """Write one patient's folder as the official download has it."""
    random = np.random.default_rng(int(number))
    folder = part / f"patient{number}"
    folder.mkdir(parents=True)
    lines = [f"ED: {frames[0]}", f"ES: {frames[1]}", *([f"Group: {group}"] if group else [])]
    (folder / "Info.cfg").write_text("\n".join(lines) + "\n")
    for frame in frames:
        stem = folder / f"patient{number}_frame{frame:02d}"
        write_volume(Path(f"{stem}.nii.gz"), random.integers(0, 1024, SHAPE).astype(np.int16))
        if with_gt:
            write_volume(Path(f"{stem}_gt.nii.gz"), random.integers(0, 4, SHAPE).astype(np.uint8))
    return folder


def write_database(root: Path) -> Path:
    """Labeled 099 and 038, unlabeled 050 and 100, validation 028 and 085 of the split ssl4mis."""
    for number in ("099", "038", "050", "100", "028", "085"):
        write_patient(root / "database" / "training", number)
    return root / "database"

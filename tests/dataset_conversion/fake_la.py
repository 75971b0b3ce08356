"""A procedural copy of LA's two folder layouts: random voxels with three different side lengths."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

SHAPE_XYZ = (7, 6, 5)
TRAIN = ("06SR", "0RZD", "1D7C", "1GU1", "1MHB", "23X6")
TEST = ("UPT6", "ZQPM")


def arrays(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of a case, axes x y z."""
    random = np.random.default_rng(list(case.encode()))
    return random.normal(size=SHAPE_XYZ).astype(np.float32), random.integers(0, 2, SHAPE_XYZ).astype(np.uint8)


def write_h5(folder: Path, case: str, **others: np.ndarray | None) -> Path:
    """Write ``mri_norm2.h5``; ``image`` or ``label`` can be replaced, or left out with ``None``."""
    import h5py

    image, label = arrays(case)
    (folder / case).mkdir(parents=True, exist_ok=True)
    path = folder / case / "mri_norm2.h5"
    with h5py.File(path, "w") as file:
        for key, array in {"image": image, "label": label, **others}.items():
            if array is not None:
                file.create_dataset(key, data=array, compression="gzip")
    return path


def write_nrrd(folder: Path, case: str) -> None:
    """Write ``lgemri.nrrd`` and ``laendo.nrrd`` with the label values 0 and 255."""
    image, label = arrays(case)
    (folder / case).mkdir(parents=True, exist_ok=True)
    for name, array in (("lgemri", np.abs(image * 60).astype(np.uint8)), ("laendo", label * np.uint8(255))):
        volume = sitk.GetImageFromArray(array.transpose(2, 1, 0))
        volume.SetSpacing([0.625] * 3)
        sitk.WriteImage(volume, str(folder / case / f"{name}.nrrd"))


def write_ua_mt(root: Path) -> Path:
    """Write the folder ``data`` of UA-MT and return it."""
    data = root / "data"
    for case in (*TRAIN, *TEST):
        write_h5(data / "2018LA_Seg_Training Set", case)
    (data / "train.list").write_text("\n".join(TRAIN) + "\n")
    (data / "test.list").write_text("\n".join(TEST))
    return data

"""The voxels that a file holds, where readers say something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NIFTI_ENDINGS = (".nii", ".nii.gz")


def voxels_as_stored(path: Path, read: np.ndarray) -> np.ndarray:
    """Return the voxels of an image, NaN and infinity included.

    ITK's NIfTI reader turns both into 0 without a word (SimpleITK 2.5.7), so NIfTI files of floats are read again.

    Args:
        path: The file.
        read: What a reader made of it, any shape.

    Returns:
        The same voxels; for NIfTI files of floats in the file's own axis order.
    """
    if not path.name.endswith(NIFTI_ENDINGS):
        return read
    import nibabel

    image = nibabel.load(path)
    return np.asanyarray(image.dataobj) if np.issubdtype(image.get_data_dtype(), np.floating) else read

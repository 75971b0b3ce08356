import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_semisam.data.stored_voxels import voxels_as_stored


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha"])
def test_nan_and_infinity_are_seen_in_every_format(tmp_path, ending):
    array = np.ones((2, 3, 4), np.float32)
    array[0, 0, 0], array[1, 2, 3] = np.nan, np.inf
    path = tmp_path / f"image{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    stored = voxels_as_stored(path, read)
    assert stored.size == 24
    assert np.isnan(stored).sum() == 1
    assert np.isinf(stored).sum() == 1


def test_files_of_integers_are_not_read_again(tmp_path):
    path = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)), path)
    read = np.zeros((4, 3, 2), np.float32)
    assert voxels_as_stored(path, read) is read

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_semisam.data.stored_voxels import refuse_cut_off, voxels_as_stored


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


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("missing", [1, 2000])
def test_cut_off_file_is_refused_although_the_reader_takes_it(tmp_path, ending, missing):
    path = tmp_path / f"image{ending}"
    array = np.random.default_rng(0).integers(-1000, 1000, (6, 20, 30)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=ending == ".nii.gz")
    refuse_cut_off(path)
    path.write_bytes(path.read_bytes()[:-missing])
    assert sitk.ReadImage(str(path)).GetSize() == (30, 20, 6)
    with pytest.raises(ValueError, match="it is cut off"):
        refuse_cut_off(path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_file_with_extensions_after_its_header_is_whole(tmp_path, kind):
    path = tmp_path / "image.nii.gz"
    image = kind(np.ones((4, 3, 2), np.float32), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"scanned twice"))
    nibabel.save(image, path)
    refuse_cut_off(path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["plain.nii.gz", "packed.nii"])
def test_content_and_not_the_name_says_whether_a_file_is_compressed(tmp_path, name, kind):
    array = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    array[1, 2, 0] = np.nan
    content = kind(array, np.eye(4)).to_bytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name == "packed.nii" else content)
    refuse_cut_off(path)
    np.testing.assert_array_equal(voxels_as_stored(path, np.zeros(24)), array)
    for length in (-1, 300):
        path.write_bytes(gzip.compress(content[:length]) if name == "packed.nii" else content[:length])
        with pytest.raises(ValueError, match="it is cut off"):
            refuse_cut_off(path)

"""Images that are written whole, and what lies beside them."""

import gzip

import numpy as np
import pytest
import SimpleITK

from nnunet_semisam.data.tif_spacing import spacing_file
from nnunet_semisam.data.written_images import written_image
from nnunet_semisam.errors import UserError


def write(path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 5, 6), np.uint8)), str(path))


def test_a_whole_image_replaces_the_old_one(tmp_path):
    target = tmp_path / "a.nii.gz"
    target.write_bytes(b"old")
    with written_image(target) as file:
        write(file)
        (file.parent / "a.json").write_text("not asked for")
        assert target.read_bytes() == b"old"
    assert SimpleITK.ReadImage(str(target)).GetSize() == (6, 5, 4)
    assert [each.name for each in tmp_path.iterdir()] == ["a.nii.gz"]


def write_a_part(target, left):
    with written_image(target) as file:
        if isinstance(left, int):
            write(file)
            file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:left]))
        elif left is not None:
            file.write_bytes(left)


@pytest.mark.parametrize("left", [b"", None, 200])
def test_what_is_not_whole_is_refused_and_the_old_image_stays(tmp_path, left):
    target = tmp_path / "a.nii.gz"
    target.write_bytes(b"old")
    with pytest.raises(UserError, match="is the disk full"):
        write_a_part(target, left)
    assert target.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.nii.gz"]


def test_the_spacing_of_a_tif_volume_comes_along(tmp_path):
    from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

    voxels = np.ones((4, 5, 6), np.uint8)
    with written_image(tmp_path / "a.tif", with_others=True) as file:
        Tiff3DIO().write_seg(voxels, str(file), {"spacing": (5, 0.7, 0.7)})
    assert Tiff3DIO().read_seg(str(tmp_path / "a.tif"))[1]["spacing"] == [5, 0.7, 0.7]


def test_spacing_files_are_those_of_nnunet(tmp_path):
    for name in ("a_0000.tif", "a.json", "b_0000.tif", "c_0000.nii.gz", "c.json"):
        (tmp_path / name).write_text("{}")
    assert spacing_file(tmp_path / "a_0000.tif") == tmp_path / "a.json"
    assert spacing_file(tmp_path / "b_0000.tif") is None
    assert spacing_file(tmp_path / "c_0000.nii.gz") is None

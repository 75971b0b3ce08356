"""Formats besides 3D NIfTI: what nnU-Net's reader takes from a file is what is checked, hashed and written."""

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fake_formats import (
    SPACING_ZYX,
    random_array,
    write_flat,
    write_photo,
    write_photos,
    write_plain_nifti,
    write_tifs,
)
from written_files import visible

from nnunet_semisam.errors import UserError


@pytest.fixture
def convert(convert_with):
    return lambda source, *options: convert_with("nnunet", "-i", str(source), "--labeled", "2", "--val", "1", *options)


def facts(result):
    return json.loads((result.folder / "semisam_manifest.json").read_text())["images"]


def files_of(folder, pattern):
    return sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))


def test_all_channels_of_a_photo_are_hashed(convert, tmp_path):
    colors = convert(write_photos(tmp_path / "Colors"))
    assert len(list((colors.folder / "imagesUl").iterdir())) == 1
    copies = write_photos(tmp_path / "Copies")
    path = copies / "imagesTr" / "c0_0000.png"
    red = random_array(path, 250, (5, 6, 3))[..., :1]
    write_photo(path, np.repeat(red, 3, axis=2))
    assert convert(copies, "-d", "501").fingerprint != colors.fingerprint


def test_photos_with_one_equal_channel_are_not_the_same_and_a_channel_may_be_dark(convert, tmp_path):
    source = write_photos(tmp_path / "Photos")
    for case in ("c0", "c1", "c2"):
        path = source / "imagesTr" / f"{case}_0000.png"
        array = random_array(path, 250, (5, 6, 3))
        array[..., 0] = 0
        write_photo(path, array)
    assert not [note for note in convert(source).notes if "same voxels" in note]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("imagesTr/c1_0000.png", (5, 6), r"c1_0000.png: the case has 1 of 3 channels. .* correct channel_names in"),
        ("labelsTr/c1.png", (5, 6, 3), r"labelsTr/c1.png: must be a 3D image with one value per voxel, .* 3 values"),
        ("labelsTr/c1.png", (5, 7), r"labelsTr/c1.png: size is \(7, 5, 1\), must be \(6, 5, 1\) as in c1_0000.png"),
    ],
)
def test_photo_that_nnunet_would_not_read_is_refused(convert, tmp_path, raw, name, shape, message):
    source = write_photos(tmp_path / "Photos")
    write_photo(source / name, random_array(source / name, 2, shape))
    with pytest.raises(UserError, match=rf"{message}(.|\n)*--leave-out c1"):
        convert(source)
    assert visible(raw) == []


@pytest.mark.parametrize(("ending", "channels"), [(".tif", 2), (".tiff", 1)])
def test_spacing_beside_tif_volumes_comes_along(convert, tmp_path, ending, channels):
    from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

    result = convert(write_tifs(tmp_path / "Volumes", ending, channels))
    (unlabeled,) = files_of(result.folder, "imagesUl/*.json")
    assert len(files_of(result.folder, "imagesTr/*.json")) == 3
    assert len(files_of(result.folder, "labelsTr/*.json")) == 3
    case = unlabeled.removesuffix(".json")
    images = [str(result.folder / f"{case}_{channel:04d}{ending}") for channel in range(channels)]
    assert tuple(Tiff3DIO().read_images(images)[1]["spacing"]) == SPACING_ZYX
    assert {tuple(each["spacing"]) for each in facts(result).values()} == {SPACING_ZYX[::-1]}
    manifest = json.loads((result.folder / "semisam_manifest.json").read_text())
    assert manifest["files"][unlabeled] == manifest["sources"][unlabeled]["sha256"]
    assert not [note for note in result.notes if "no json file" in note]
    (result.folder / unlabeled).write_text("{}")
    with pytest.raises(UserError, match=rf"was changed after it was made \(1 files: {unlabeled}\)"):
        convert(tmp_path / "Volumes")


def test_reader_that_dataset_json_names_decides(convert, tmp_path):
    source = write_tifs(tmp_path / "Volumes", slices=3, overwrite_image_reader_writer="Tiff3DIO")
    result = convert(source)  # without the entry, nnU-Net would take three slices for red, green and blue
    assert {tuple(each["size"]) for each in facts(result).values()} == {(6, 5, 3)}
    written = json.loads((result.folder / "dataset.json").read_text())
    assert written["overwrite_image_reader_writer"] == "Tiff3DIO"


def test_tif_volumes_without_spacing_are_reported(convert, tmp_path):
    notes = convert(write_tifs(tmp_path / "Volumes", spacing=False)).notes
    assert any(note.startswith("4 cases have no json file with their spacing beside the image") for note in notes)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labelsTr/c1.json", '{"spacing": [1, 2, 2.5]}', r"c1.tif: spacing is \(2.5, 2, 1\), must be \(2.5, 2, 7\)"),
        ("imagesTr/c1.json", '{"spacing": [7, 2]}', r"imagesTr/c1.json: spacing is \[7, 2\]. It must hold"),
        (
            "imagesTr/c1.json",
            '{"space": 7}',
            r'imagesTr/c1.json: spacing is None. It must hold \{"spacing": \[z, y, x\]\}',
        ),
    ],
)
def test_faulty_spacing_of_a_tif_volume_is_refused(convert, tmp_path, raw, file, content, message):
    source = write_tifs(tmp_path / "Volumes")
    (source / file).write_text(content)
    with pytest.raises(UserError, match=rf"{message}(.|\n)*--leave-out c1"):
        convert(source)
    assert visible(raw) == []


def test_flat_tif_among_volumes_is_refused(convert, tmp_path):
    source = write_tifs(tmp_path / "Volumes")
    write_photo(source / "imagesTr" / "c1_0000.tif", random_array(source, 250, (5, 6)))
    with pytest.raises(UserError, match=r"c1_0000.tif:? cannot be read: it has 2 axes, nnU-Net's Tiff3DIO needs 3"):
        convert(source)


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_flat_images_are_read_as_one_slice_and_copied(convert, tmp_path, ending):
    source = write_flat(tmp_path / "Flat", ending)
    result = convert(source)
    assert {tuple(each["size"]) for each in facts(result).values()} == {(6, 5, 1)}
    assert {tuple(each["spacing"]) for each in facts(result).values()} == {(2.0, 3.0, 3.0 * 999)}  # as in nnU-Net
    written = result.folder / files_of(result.folder, "labelsTr/*")[0]
    assert written.read_bytes() == (source / "labelsTr" / written.name).read_bytes()


@pytest.mark.parametrize(
    ("write", "ending", "spacing"),
    [(lambda folder: write_flat(folder, ".mha"), ".mha", (2.0, 4.0)), (write_plain_nifti, ".nii", (1.0, 2.0, 9.0))],
)
def test_label_of_other_spacing_is_refused(convert, tmp_path, raw, write, ending, spacing):
    path = write(tmp_path / "Data") / "labelsTr" / f"c1{ending}"
    label = sitk.ReadImage(str(path))
    label.SetSpacing(spacing)
    sitk.WriteImage(label, str(path))
    with pytest.raises(UserError, match=rf"c1{ending}: spacing is \({spacing[0]:g}, {spacing[1]:g}, .* must be"):
        convert(tmp_path / "Data")
    assert visible(raw) == []


def test_spacing_of_plain_nifti_is_known(convert, tmp_path):
    result = convert(write_plain_nifti(tmp_path / "Plain"))
    assert {tuple(each["spacing"]) for each in facts(result).values()} == {(1.0, 2.0, 3.0)}


def test_flat_images_that_nnunets_reader_refuses_are_refused(convert, tmp_path):
    source = write_plain_nifti(tmp_path / "Plain")
    flat = sitk.GetImageFromArray(random_array(source, 250, (5, 6)))
    sitk.WriteImage(flat, str(source / "imagesTr" / "c1_0000.nii"))
    with pytest.raises(UserError, match=r"c1_0000.nii: must be a 3D image .* has 2 axes"):  # NibabelIO needs three axes
        convert(source)

"""The geometry of cases: what SimpleITK says, in nnU-Net's axis order, without a look at a label or a ``.pkl``."""

import argparse
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
import tiny_nnunet
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_semisam.commands import preprocess
from nnunet_semisam.data.geometry import Geometry, geometry_file, preprocessed_spacing, read_geometry, write_geometry
from nnunet_semisam.data.geometry_of_images import ensure_geometry, geometry_of_files, geometry_of_properties
from nnunet_semisam.errors import UserError

SHAPE = (5, 7, 9)
SPACING_XYZ, ORIGIN_XYZ = (0.75, 1.25, 8.0), (-31.5, 12.25, 101.0)
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
PLAIN = Geometry((8.0, 1.25, 0.75), (1.0, 2.0, 3.0), IDENTITY, SHAPE)


def rotated_direction() -> np.ndarray:
    """A rotation about two axes, (x, y, z), as an oblique scan has it."""
    a, b = np.deg2rad(25), np.deg2rad(-40)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x


def oblique_image(seed: int = 0) -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32))
    image.SetSpacing(SPACING_XYZ)
    image.SetOrigin(ORIGIN_XYZ)
    image.SetDirection(rotated_direction().ravel().tolist())
    return image


def write_oblique(path: Path) -> Path:
    sitk.WriteImage(oblique_image(), str(path))
    return path


def position(geometry: Geometry, index: tuple[int, int, int]) -> np.ndarray:
    """Return where a voxel is, (x, y, z) in mm, by the formula of the module."""
    step = np.array(geometry.spacing) * index
    return (np.array(geometry.origin) + np.array(geometry.direction) @ step)[::-1]


@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO])
def test_header_gives_what_simpleitk_says_by_hand(tmp_path, reader):
    path = write_oblique(tmp_path / "case_0000.nii.gz")
    geometry = geometry_of_files([path], reader)
    np.testing.assert_allclose(geometry.spacing, (8.0, 1.25, 0.75), rtol=1e-6)
    np.testing.assert_allclose(geometry.origin, (101.0, 12.25, -31.5), rtol=1e-6)
    by_hand = rotated_direction()[::-1, ::-1]
    np.testing.assert_allclose(geometry.direction, by_hand, atol=1e-6)
    assert geometry.shape == SHAPE
    assert geometry.bbox_used_for_cropping is None


@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO])
@pytest.mark.parametrize("index", [(0, 0, 0), (4, 0, 0), (0, 6, 0), (0, 0, 8), (3, 2, 5)])
def test_formula_gives_the_position_of_every_voxel(tmp_path, reader, index):
    path = write_oblique(tmp_path / "case_0000.nii.gz")
    theirs = sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint(index[::-1])
    np.testing.assert_allclose(position(geometry_of_files([path], reader), index), theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("reader", "ending"),
    [
        (SimpleITKIO, ".nii.gz"),
        (SimpleITKIO, ".nrrd"),
        (SimpleITKIO, ".mha"),
        (NibabelIO, ".nii.gz"),
        (SimpleITKIOWithReorient, ".nii.gz"),
        (NibabelIOWithReorient, ".nii.gz"),
    ],
)
def test_header_says_the_same_as_nnunets_reader(tmp_path, reader, ending):
    path = write_oblique(tmp_path / f"case_0000{ending}")
    data, properties = reader().read_images([str(path)])
    assert geometry_of_files([path], reader) == geometry_of_properties(properties, data.shape[1:])


@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO])
def test_headers_are_read_without_voxels(tmp_path, reader, monkeypatch):
    path = tmp_path / "case_0000.nii"
    write_oblique(path)
    with path.open("r+b") as file:
        whole = file.seek(0, 2)
        file.truncate(400)
        file.truncate(whole)  # the header is there, the voxels are a hole that nobody wrote

    def refuse(*args, **kwargs):
        raise AssertionError("voxels were read")

    monkeypatch.setattr(sitk, "ReadImage", refuse)
    monkeypatch.setattr(nibabel.arrayproxy.ArrayProxy, "__array__", refuse)
    assert geometry_of_files([path], reader).shape == SHAPE


def test_flat_image_is_one_thick_slice_as_for_nnunet(tmp_path):
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))
    image.SetSpacing((0.5, 2.0))
    path = tmp_path / "case_0000.mha"
    sitk.WriteImage(image, str(path))
    data, properties = SimpleITKIO().read_images([str(path)])
    geometry = geometry_of_files([path], SimpleITKIO)
    assert geometry == geometry_of_properties(properties, data.shape[1:])
    assert (geometry.spacing, geometry.shape) == ((1998.0, 2.0, 0.5), (1, 6, 4))


def test_formats_without_a_position_lie_at_the_origin(tmp_path):
    volume, photo = tmp_path / "case_0000.tif", tmp_path / "photo_0000.png"
    tifffile.imwrite(volume, np.zeros(SHAPE, np.uint8))
    (tmp_path / "case.json").write_text('{"spacing": [4, 2, 1]}')
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((6, 4), np.uint8)), str(photo))
    geometry = geometry_of_files([volume], Tiff3DIO)
    assert geometry == Geometry((4.0, 2.0, 1.0), (0.0, 0.0, 0.0), IDENTITY, SHAPE)
    assert geometry_of_files([photo], NaturalImage2DIO).shape == (1, 6, 4)


@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO, Tiff3DIO])
def test_unreadable_image_is_named(tmp_path, reader):
    path = tmp_path / "case_0000.nii.gz"
    path.write_text("a picture of a heart")
    with pytest.raises(UserError, match=r"case_0000.nii.gz cannot be read: .*Fix or remove it"):
        geometry_of_files([path], reader)


def test_bounding_box_is_told_in_the_readers_axes():
    properties = {"spacing": [8.0, 1.25, 0.75]}
    turned = geometry_of_properties(properties, SHAPE, (1, 2, 0), [[2, 3], [1, 4], [0, 1]])
    assert turned.bbox_used_for_cropping == ((0, 1), (2, 3), (1, 4))


# --------------------------------------------------------------------------------------------- files


def test_what_was_written_is_read(tmp_path):
    path = write_oblique(tmp_path / "case_0000.nii.gz")
    geometry = geometry_of_files([path], SimpleITKIO)
    write_geometry(tmp_path, "case", geometry)
    assert read_geometry(tmp_path, "case") == geometry
    assert [file.name for file in (tmp_path / "semisam_geometry").iterdir()] == ["case.json"]


def test_missing_file_gives_none(tmp_path):
    assert read_geometry(tmp_path, "case") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda content: "{",
        lambda content: "[1]",
        lambda content: json.dumps({name: value for name, value in content.items() if name != "origin"}),
        lambda content: json.dumps(content | {"spacing": [1, 2]}),
        lambda content: json.dumps(content | {"spacing": [1, 2, 0]}),
        lambda content: json.dumps(content | {"origin": [1, 2, float("nan")]}),
        lambda content: json.dumps(content | {"direction": [1, 2, 3]}),
        lambda content: json.dumps(content | {"shape": [5, 7.5, 9]}),
        lambda content: json.dumps(content | {"bbox_used_for_cropping": [[0, 1], [0, 1]]}),
    ],
)
def test_damaged_file_is_named(tmp_path, change):
    write_geometry(tmp_path, "case", PLAIN)
    file = geometry_file(tmp_path, "case")
    file.write_text(change(json.loads(file.read_text())))
    with pytest.raises(UserError, match=r"case\.json .*Delete it and run 'nnunet-semisam preprocess'"):
        read_geometry(tmp_path, "case")


@pytest.mark.parametrize(
    ("spacing", "transpose", "expected"),
    [
        ([1.0, 1.0], (0, 1, 2), (8.0, 1.0, 1.0)),
        ([1.0, 2.0], (2, 0, 1), (0.75, 1.0, 2.0)),
        ([3.0, 1.0, 2.0], (0, 1, 2), (3.0, 1.0, 2.0)),
    ],
)
def test_plans_without_a_slice_distance_take_that_of_the_case(spacing, transpose, expected):
    assert preprocessed_spacing(PLAIN, spacing, transpose) == expected


# --------------------------------------------------------------------------------------------- a whole dataset


@pytest.fixture
def dataset(tiny_dataset) -> argparse.Namespace:
    """The tiny dataset, one of whose cases is oblique and has an empty rim, without any geometry."""
    raw, preprocessed = (tiny_dataset / name / tiny_nnunet.DATASET for name in ("raw", "preprocessed"))
    shutil.rmtree(preprocessed / "semisam_geometry")
    plans = json.loads((preprocessed / f"{tiny_nnunet.PLANS}.json").read_text())
    content = json.loads((preprocessed / "dataset.json").read_text())
    for case in ("case0", "free0"):
        folder = raw / ("imagesTr" if case == "case0" else "imagesUl")
        image = sitk.ReadImage(str(folder / f"{case}_0000.nii.gz"))
        voxels = sitk.GetArrayFromImage(image)
        voxels[:1], voxels[:, :3], voxels[..., -2:] = 0, 0, 0
        rimmed = sitk.GetImageFromArray(voxels)
        rimmed.SetSpacing(image.GetSpacing())
        rimmed.SetOrigin(ORIGIN_XYZ)
        rimmed.SetDirection(rotated_direction().ravel().tolist())
        sitk.WriteImage(rimmed, str(folder / f"{case}_0000.nii.gz"))
    return argparse.Namespace(raw=raw, preprocessed=preprocessed, plans=plans, content=content)


def run_preprocess(configuration: str = "2d") -> int:
    parser = argparse.ArgumentParser()
    preprocess.add_arguments(parser)
    return preprocess.run(parser.parse_args(["-d", str(tiny_nnunet.DATASET_ID), "-c", configuration, "-np", "1"]))


def sidecars(dataset) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (dataset.preprocessed / "semisam_geometry").iterdir()}


def test_preprocess_command_writes_the_geometry_of_all_cases(dataset):
    assert run_preprocess() == 0
    for case in [*tiny_nnunet.LABELED, *tiny_nnunet.UNLABELED]:
        geometry = read_geometry(dataset.preprocessed, case)
        assert geometry.spacing == pytest.approx(tiny_nnunet.SPACING[::-1])
        assert geometry.shape == tiny_nnunet.SHAPE
    labeled, unlabeled = (read_geometry(dataset.preprocessed, case) for case in ("case0", "free0"))
    assert labeled.origin == unlabeled.origin == pytest.approx(ORIGIN_XYZ[::-1])
    assert labeled.direction == unlabeled.direction
    assert labeled.bbox_used_for_cropping is None
    assert unlabeled.bbox_used_for_cropping == ((1, 8), (3, 40), (0, 38))


def test_configurations_agree_on_the_geometry(dataset):
    run_preprocess("2d")
    first = sidecars(dataset)
    run_preprocess("3d_fullres")
    assert sidecars(dataset) == first


@pytest.mark.parametrize("spoil", ["noise", "remove"])
def test_no_label_is_opened(dataset, spoil):
    run_preprocess()
    first = sidecars(dataset)
    shutil.rmtree(dataset.preprocessed / "semisam_geometry")
    for label in (dataset.raw / "labelsTr").iterdir():
        label.write_bytes(np.random.default_rng(1).bytes(500)) if spoil == "noise" else label.unlink()
    for folder in ("2d", "3d_fullres"):
        for file in (dataset.preprocessed / f"{tiny_nnunet.PLANS}_{folder}").iterdir():
            if file.suffix == ".pkl" or "_seg" in file.name:
                file.write_bytes(b"noise") if spoil == "noise" else file.unlink()
    run_preprocess()
    assert sidecars(dataset) == first


def test_lost_or_outdated_geometry_is_written_again(dataset):
    run_preprocess()
    first = sidecars(dataset)
    for case in ("case0", "free0"):
        geometry_file(dataset.preprocessed, case).unlink()
    geometry_file(dataset.preprocessed, "case1").write_text("{")
    write_geometry(dataset.preprocessed, "case2", PLAIN)
    run_preprocess()
    assert sidecars(dataset) == first


def test_geometry_of_a_removed_image_is_removed(dataset):
    run_preprocess()
    (dataset.raw / "imagesUl" / "free0_0000.nii.gz").unlink()
    run_preprocess()
    assert read_geometry(dataset.preprocessed, "free0") is None
    assert read_geometry(dataset.preprocessed, "case0") is not None


def test_geometry_fits_the_preprocessed_array(dataset):
    """nnU-Net's own arithmetic from raw to preprocessed size, from the sidecar alone."""
    for configuration in ("2d", "3d_fullres"):
        run_preprocess(configuration)
        geometry = read_geometry(dataset.preprocessed, "free0")
        manager = PlansManager(dataset.plans)
        spacing = preprocessed_spacing(
            geometry, manager.get_configuration(configuration).spacing, manager.transpose_forward
        )
        cropped = [high - low for low, high in geometry.bbox_used_for_cropping]
        expected = [
            round(cropped[axis] * geometry.spacing[axis] / spacing[i])
            for i, axis in enumerate(manager.transpose_forward)
        ]
        import blosc2

        folder = dataset.preprocessed / f"{tiny_nnunet.PLANS}_{configuration}_unlabeled"
        assert list(blosc2.open(str(folder / "free0.b2nd"), mode="r").shape[1:]) == expected


def ensure(dataset, cases) -> int:
    return ensure_geometry(dataset.raw, dataset.preprocessed, cases, dataset.content, dataset.plans)


def test_training_gets_what_is_missing_from_raw_headers(dataset):
    everyone = [*tiny_nnunet.LABELED, *tiny_nnunet.UNLABELED]
    assert ensure(dataset, everyone) == len(everyone)
    assert ensure(dataset, everyone) == 0
    geometry = read_geometry(dataset.preprocessed, "free0")
    assert (geometry.shape, geometry.bbox_used_for_cropping) == (tiny_nnunet.SHAPE, None)


def test_training_goes_on_without_raw_images(dataset, caplog):
    assert ensure(dataset, ["nobody"]) == 0
    (dataset.raw / "imagesTr" / "case0_0000.nii.gz").write_bytes(b"noise")
    assert ensure(dataset, ["case0", "case1"]) == 1
    assert "The geometry of case0 is not known" in caplog.text
    shutil.rmtree(dataset.raw)
    assert ensure(dataset, ["case2"]) == 0
    assert read_geometry(dataset.preprocessed, "case2") is None


def test_training_goes_on_where_nothing_may_be_written(dataset, caplog, monkeypatch):
    """A dataset that others share read-only; their own folders are those of results."""

    def refuse(*words):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("nnunet_semisam.data.geometry_of_images.write_geometry", refuse)
    assert ensure(dataset, ["case0", "case1"]) == 0
    assert caplog.text.count("Permission denied") == 1

"""The invented patients look like hearts to the converter and to geometry."""

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from nnunet_semisam import cli
from nnunet_semisam.demo import phantom
from nnunet_semisam.demo.phantom import LV, MYO, RV


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("acdc") / "database"
    phantom.write_patients(folder)
    return folder


def read(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def test_files_are_named_as_the_official_ones(database):
    patient = database / "training" / "patient099"
    assert sorted(path.name for path in patient.iterdir()) == [
        "Info.cfg",
        "patient099_frame01.nii.gz",
        "patient099_frame01_gt.nii.gz",
        "patient099_frame09.nii.gz",
        "patient099_frame09_gt.nii.gz",
    ]
    assert (patient / "Info.cfg").read_text() == "ED: 1\nES: 9\n"


def test_image_and_label_share_a_short_axis_geometry(database):
    patient = database / "training" / "patient011"
    image = SimpleITK.ReadImage(str(patient / "patient011_frame01.nii.gz"))
    label = SimpleITK.ReadImage(str(patient / "patient011_frame01_gt.nii.gz"))
    assert image.GetSpacing() == label.GetSpacing() == (1.5, 1.5, 10.0)  # SimpleITK's order is x, y, z
    assert image.GetSize() == label.GetSize() == (96, 96, 8)
    array = SimpleITK.GetArrayFromImage(image)
    assert (array.min(), array.max()) == (0, 1023)


@pytest.mark.parametrize("seed", range(5))
def test_hearts_have_the_anatomy_of_short_axis_slices(seed):
    heart = phantom.Heart.draw(np.random.default_rng(seed))
    diastole, systole = phantom.draw_labels(heart, systole=False), phantom.draw_labels(heart, systole=True)
    assert set(np.unique(diastole)) == {0, RV, MYO, LV}
    in_slice = np.ones((1, 3, 3), bool)
    neighbours = ndimage.binary_dilation(diastole == LV, in_slice)
    assert set(np.unique(diastole[neighbours])) == {MYO, LV}  # the wall is closed around the cavity
    assert (systole == LV).sum() < (diastole == LV).sum()
    areas = (diastole == LV).sum(axis=(1, 2))
    assert (np.diff(areas) <= 0).all()  # base to apex
    assert areas[-1] > 0


def test_same_seed_gives_the_same_patients_and_patients_differ(database, tmp_path):
    phantom.write_patients(tmp_path)
    name = "training/patient099/patient099_frame01.nii.gz"
    assert np.array_equal(read(tmp_path / name), read(database / name))
    assert not np.array_equal(read(database / name), read(database / name.replace("patient099", "patient038")))


def test_the_acdc_converter_takes_them(database, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert cli.main(["convert", "acdc", "-i", str(database), "-d", "27", "--labeled", "3"]) == 0
    counts = {
        part: len(list((tmp_path / "Dataset027_ACDC" / f"images{part}").iterdir())) for part in ("Tr", "Ul", "Ts")
    }
    assert counts == {"Tr": 2 * (3 + 2), "Ul": 2 * 5, "Ts": 2 * 2}  # two frames; training and validation are in Tr

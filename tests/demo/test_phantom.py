"""The invented patients look like hearts to the converter and to geometry."""

from dataclasses import replace

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
    assert image.GetSpacing() == label.GetSpacing() == (2.25, 2.25, 10.0)  # SimpleITK's order is x, y, z
    assert image.GetSize() == label.GetSize() == (64, 64, 6)
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
    assert cli.main(["convert", "acdc", "-i", str(database), "-d", "27", "--labeled", "1"]) == 0
    counts = {
        part: len(list((tmp_path / "Dataset027_ACDC" / f"images{part}").iterdir())) for part in ("Tr", "Ul", "Ts")
    }
    assert counts == {"Tr": 2 * (1 + 1), "Ul": 2 * 16, "Ts": 2 * 6}  # two frames; training and validation are in Tr


def test_other_organs_never_cover_the_heart():
    heart = phantom.Heart.draw(np.random.default_rng(0))
    label = phantom.draw_labels(heart, systole=False)
    quiet = replace(heart, noise=0.0, bias=0.0, levels=(0.05, 0.3, 0.6, 0.1, 0.9))
    for seed in range(10):
        image = phantom.draw_image(quiet, label, np.random.default_rng(seed))
        inside = ndimage.binary_erosion(label == LV, np.ones((1, 5, 5), bool))
        assert image[inside].min() > image[label == MYO].mean()


def test_organs_are_as_bright_as_blood_or_air():
    heart = phantom.Heart.draw(np.random.default_rng(0))
    air, _, rv, _, lv = heart.levels
    found = [level for seed in range(20) for _, level in phantom.other_organs(heart, np.random.default_rng(seed))]
    assert len(found) == 20 * phantom.ORGANS
    assert all(any(0.85 * known <= level <= 1.1 * known for known in (air, rv, lv)) for level in found)

"""``convert sparse``: every k-th slice of the labels that are trained on, the rest ignored."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fake_nnunet import cases, write_raw
from nnunet_semisam.dataset_conversion.sparse_slices import Slices

from nnunet_semisam.errors import UserError

IGNORE = 3
SHAPE = (12, 6, 8)


@pytest.fixture
def data(tmp_path):
    folder = write_raw(tmp_path / "Dataset007_Heart")
    rng = np.random.default_rng(0)
    for file in sorted(folder.rglob("*.nii.gz")):
        most = 3 if file.parent.name == "labelsTr" else 1000
        image = sitk.GetImageFromArray(rng.integers(0, most, SHAPE).astype(np.uint8 if most == 3 else np.int16))
        image.SetSpacing((1.0, 2.0, 3.0))
        image.SetOrigin((5.0, -3.0, 2.0))
        sitk.WriteImage(image, str(file))
    return folder


@pytest.fixture
def convert(convert_with, data):
    return lambda *options: convert_with("sparse", "-i", str(data), "--labeled", "2", "--val", "1", *options)


def read(file):
    return sitk.ReadImage(str(file))


def test_every_kth_slice_keeps_its_label_and_the_rest_is_ignored(convert, data):
    folder = convert("--every", "5").folder
    (split,) = json.loads((folder / "splits_final.json").read_text())
    for case in split["train"]:
        before, after = (read(root / "labelsTr" / f"{case}.nii.gz") for root in (data, folder))
        full, sparse = sitk.GetArrayFromImage(before), sitk.GetArrayFromImage(after)
        annotated = [z for z in range(SHAPE[0]) if (sparse[z] != IGNORE).all()]
        assert len(annotated) in (2, 3)
        assert set(np.diff(annotated)) == {5}
        np.testing.assert_array_equal(sparse[annotated], full[annotated])
        assert (np.delete(sparse, annotated, axis=0) == IGNORE).all()
        assert (after.GetSpacing(), after.GetOrigin()) == (before.GetSpacing(), before.GetOrigin())


def test_cases_that_only_validate_or_test_keep_their_whole_label(convert, data):
    folder = convert("--test", "p02").folder
    (split,) = json.loads((folder / "splits_final.json").read_text())
    for part, names in (("Tr", split["val"]), ("Ts", cases("p02"))):
        for case in names:
            full = (data / "labelsTr" / f"{case}.nii.gz").read_bytes()
            assert (folder / f"labels{part}" / f"{case}.nii.gz").read_bytes() == full


def test_with_a_cross_validation_every_label_is_sparse(convert_with, data):
    folder = convert_with("sparse", "-i", str(data), "--labeled", "3", "--val", "0").folder
    for label in (folder / "labelsTr").iterdir():
        assert sitk.GetArrayFromImage(read(label)).max() == IGNORE


def test_dataset_json_and_manifest_say_what_was_done(convert):
    folder = convert("--every", "4", "--slice-seed", "7").folder
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "whole": [1, 2], "core": 2, "ignore": IGNORE}
    assert content["regions_class_order"] == [1, 2]
    settings = json.loads((folder / "semisam_manifest.json").read_text())["settings"]
    assert (settings["every"], settings["slice_seed"]) == (4, 7)


def test_first_slices_differ_between_cases_so_that_all_parts_are_shown_alike():
    slices = Slices(5, 0, 3, frozenset({0, 1, 2}))
    shown = np.zeros(20)
    for case in range(400):
        shown[list(slices.kept(f"case{case}", 20))] += 1
    assert shown.sum() == 400 * 4
    assert 60 <= shown.min() <= shown.max() <= 100  # 80 each


def test_few_slices_leave_one_and_a_single_slice_is_refused(convert_with, tmp_path):
    slices = Slices(5, 0, 3, frozenset({0, 1, 2}))
    assert {len(slices.kept(f"case{case}", 3)) for case in range(50)} == {1}
    with pytest.raises(ValueError, match="one slice along its axis"):
        slices.applied("a", Path("a.nrrd"), sitk.GetImageFromArray(np.zeros((1, 4, 4), np.uint8)))


@pytest.mark.parametrize(("value", "kind"), [(0.999, np.float32), (np.nan, np.float32), (257, np.int16)])
def test_values_that_would_be_rounded_are_refused(convert, data, value, kind):
    """What was wrong: they were cast before anyone looked, and a label of 0.999 became background."""
    file = next(iter(sorted((data / "labelsTr").iterdir())))
    image = read(file)
    voxels = sitk.GetArrayFromImage(image).astype(kind)
    voxels[voxels == 1] = value
    nifti = nibabel.load(file)
    nibabel.save(nibabel.Nifti1Image(voxels.T, nifti.affine), file)
    with pytest.raises(UserError, match=r"it has label values .*, and allowed are 0, 1, 2"):
        convert("--every", "2", "--labeled", "all", "--val", "0")


def test_an_ignore_label_of_the_source_stays(convert, data):
    content = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(
        json.dumps(content | {"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}})
    )
    content = json.loads((convert().folder / "dataset.json").read_text())
    assert content["labels"]["ignore"] == IGNORE


def test_keeping_every_slice_is_no_sparse_annotation(convert):
    with pytest.raises(UserError, match="--every must be at least 2, got 1"):
        convert("--every", "1")

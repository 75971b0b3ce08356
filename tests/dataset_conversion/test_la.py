import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fake_la import SHAPE_XYZ, TEST, TRAIN, arrays, write_h5, write_nrrd, write_ua_mt
from nnunet_semisam.dataset_conversion.reading.la_files import read_lists
from written_files import cases, visible

from nnunet_semisam.errors import UserError

pytest.importorskip("h5py")
SCRIPT = Path(__file__).resolve().parents[2] / "dataset_conversion" / "Dataset080_LA2018.py"


@pytest.fixture
def data(tmp_path):
    return write_ua_mt(tmp_path)


@pytest.fixture
def convert(convert_with, data):
    return lambda *options, source=data: convert_with("la", "-i", str(source), *options)


def test_voxels_keep_their_axes_and_get_the_known_spacing(convert):
    folder = convert("--labeled", "2", "--val", "1").folder
    image, label = arrays("0RZD")
    written = nibabel.load(folder / "imagesTr" / "0RZD_0000.nii.gz")  # nibabel's axes are x y z, too
    np.testing.assert_array_equal(np.asarray(written.dataobj), image)
    np.testing.assert_array_equal(np.asarray(nibabel.load(folder / "labelsTr" / "0RZD.nii.gz").dataobj), label)
    as_nnunet_reads = sitk.ReadImage(str(folder / "imagesTr" / "0RZD_0000.nii.gz"))
    assert as_nnunet_reads.GetSize() == SHAPE_XYZ
    assert as_nnunet_reads.GetSpacing() == (0.625, 0.625, 0.625)
    assert as_nnunet_reads.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_labels_follow_train_list_and_its_last_cases_validate(convert, data):
    (data / "train.list").write_text("\n".join(reversed(TRAIN)))
    folder = convert("--labeled", "2", "--val", "2").folder
    assert json.loads((folder / "splits_final.json").read_text()) == [
        {"train": ["1MHB", "23X6"], "val": ["06SR", "0RZD"]}
    ]
    assert cases(folder / "imagesUl") == ["1D7C", "1GU1"]
    assert cases(folder / "labelsTr") == ["06SR", "0RZD", "1MHB", "23X6"]
    assert cases(folder / "imagesTs") == cases(folder / "labelsTs") == sorted(TEST)


def test_several_budgets_share_validation_and_hide_the_rest(convert):
    folder = convert("--labeled", "1", "2", "--val", "3").folder
    assert json.loads((folder / "splits_final.json").read_text()) == [
        {"train": ["06SR"], "val": ["1GU1", "1MHB", "23X6"], "unlabeled": ["0RZD", "1D7C"]},
        {"train": ["06SR", "0RZD"], "val": ["1GU1", "1MHB", "23X6"], "unlabeled": ["1D7C"]},
    ]


def test_without_validation_cases_the_labeled_ones_are_cut_into_folds(convert):
    splits = json.loads((convert("--labeled", "2", "--val", "0").folder / "splits_final.json").read_text())
    assert sorted((fold["train"], fold["val"]) for fold in splits) == [(["06SR"], ["0RZD"]), (["0RZD"], ["06SR"])]
    with pytest.raises(UserError, match=r"budgets would not compare. Give --val"):
        convert("--labeled", "1", "2", "--val", "0", "-d", "81")


@pytest.mark.parametrize("level", ["data", "data/2018LA_Seg_Training Set", "."])
def test_any_folder_above_the_cases_will_do(convert, tmp_path, level):
    assert convert("--labeled", "2", "--val", "1", source=tmp_path / level).conversion.cases


def test_second_run_changes_nothing_and_other_files_give_the_same_fingerprint(convert, data, tmp_path):
    first = convert("--labeled", "2", "--val", "1")
    assert convert("--labeled", "2", "--val", "1").already_there
    image, label = arrays("06SR")
    write_h5(data / "2018LA_Seg_Training Set", "06SR", image=image.astype(np.float64), label=label.astype(np.int32))
    again = convert("--labeled", "2", "--val", "1", "-d", "81")
    assert again.fingerprint == first.fingerprint


def test_labels_of_unlabeled_cases_are_never_opened(convert, data):
    write_h5(data / "2018LA_Seg_Training Set", "1GU1", label=None)
    assert "1GU1" in cases(convert("--labeled", "2", "--val", "1").folder / "imagesUl")


def test_missing_cases_are_notes_and_a_missing_labeled_case_is_an_error(convert, data):
    (data / "train.list").write_text("\n".join((*TRAIN, "3C2Q")))
    notes = convert("--labeled", "2", "--val", "1").notes
    assert "1 of the 7 training cases are not there: 3C2Q" in notes
    assert any("cropped in x and y around the ground truth" in note for note in notes)
    with pytest.raises(UserError, match="needs 3C2Q, which the data folder lacks"):
        convert("--labeled", "3C2Q", "-d", "81")


def test_cases_are_left_out_by_name_only(convert):
    with pytest.raises(UserError, match="needs 0RZD"):  # it is one of the first two
        convert("--labeled", "2", "--val", "1", "--leave-out", "0RZD")
    result = convert("--labeled", "2", "--val", "1", "--leave-out", "1GU1", "ZQPM")
    assert "left out as asked: 1GU1, ZQPM" in result.notes
    assert not list(result.folder.rglob("*1GU1*"))
    assert cases(result.folder / "imagesTs") == ["UPT6"]


def test_without_lists_the_fields_test_cases_are_known_by_name(tmp_path):
    cases = ["UZUZZT2W9IUSHL6ASOX3", "ULHWPWKKLTE921LQLH1P", "UPT6DX9IQY9JAZ7HJKA7", "06SR5RBREL16DQ6M8LWS"]
    train, test, _ = read_lists(tmp_path, cases)
    assert train == ["06SR5RBREL16DQ6M8LWS", "UZUZZT2W9IUSHL6ASOX3"]
    assert test == ["ULHWPWKKLTE921LQLH1P", "UPT6DX9IQY9JAZ7HJKA7"]


def test_official_nrrd_files_give_0_and_1_and_the_fields_test_set(convert, tmp_path):
    for case in (*TRAIN, *TEST):
        write_nrrd(tmp_path / "official" / "Training Set", case)
    (tmp_path / "official" / "Testing Set" / "AAAA").mkdir(parents=True)
    write_nrrd(tmp_path / "official" / "Testing Set", "AAAA")
    folder = convert("--labeled", "2", "--val", "1", source=tmp_path / "official").folder
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labelsTr" / "06SR.nii.gz")))
    np.testing.assert_array_equal(label.transpose(2, 1, 0), arrays("06SR")[1])
    assert cases(folder / "imagesTs") == sorted(TEST)


def test_two_forms_side_by_side_need_a_choice(convert, data):
    for case in (*TRAIN, *TEST):
        write_nrrd(data / "2018LA_Seg_Training Set", case)
    with pytest.raises(UserError, match=r"in more than one place or form.*--format h5 or --format nrrd"):
        convert("--labeled", "2", "--val", "1")
    assert convert("--labeled", "2", "--val", "1", "--format", "nrrd").conversion.settings["format"] == "nrrd"


def test_missing_h5py_says_what_to_install(convert, monkeypatch, raw):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"h5py is not installed. Run `pip install h5py` or .*nnunet-semisam\[la\]"):
        convert("--labeled", "2", "--val", "1")
    assert visible(raw) == []


def test_file_runs_as_a_script_from_a_checkout(data, raw, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(SCRIPT), "-i", str(data), "-d", "83", "--labeled", "2", "--val", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "imagesUl: 3 cases without labels" in done.stdout
    assert (raw / "Dataset083_LA2018" / "dataset.json").is_file()


@pytest.mark.realdata
def test_real_volumes_convert_and_pass_nnunets_own_check(convert, tmp_path):
    root = os.environ.get("NNUNET_SEMISAM_TEST_DATA")
    if not root:
        pytest.skip("NNUNET_SEMISAM_TEST_DATA is not set")
    source = Path(root) / "LA" / "2018LA_Seg_Training Set"
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    names = (Path(root) / "LA" / "train.list").read_text().split()[:3]
    (tmp_path / "real").mkdir()
    for name in names:
        (tmp_path / "real" / name).symlink_to(source / name)
    folder = convert("--labeled", "1", "--val", "1", source=tmp_path / "real").folder
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    for label in (folder / "labelsTr").iterdir():
        image = folder / "imagesTr" / label.name.replace(".nii.gz", "_0000.nii.gz")
        assert verify_labels(str(label), SimpleITKIO, [0, 1])
        assert check_cases([str(image)], str(label), 1, SimpleITKIO)
        voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(label)))
        assert 20_000 < voxels.sum() * 0.625**3 < 200_000  # a left atrium holds 20 to 200 ml

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fake_bhsd import (
    AFFINE,
    TEST,
    TRAIN,
    UNLABELED,
    break_file,
    image_of,
    label_of,
    make_odd,
    write,
    write_bhsd,
    write_dataset_json,
)
from written_files import cases, visible

from nnunet_semisam import cli
from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.label_budgets import group_function, read_grouping

SCRIPT = Path(__file__).resolve().parents[2] / "dataset_conversion" / "Dataset192_BHSD.py"


@pytest.fixture
def data(tmp_path):
    return write_bhsd(tmp_path)


@pytest.fixture
def convert(convert_with, data):
    return lambda *options, source=data: convert_with("bhsd", "-i", str(source), "--val", "1", *options)


def voxels(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose(2, 1, 0)  # x y z


def test_official_split_labels_and_both_unlabeled_pools(convert):
    folder = convert("--labeled", "2").folder
    assert json.loads((folder / "splits_final.json").read_text()) == [{"train": list(TRAIN[:3]), "val": [TRAIN[5]]}]
    assert cases(folder / "imagesTr") == cases(folder / "labelsTr") == sorted([*TRAIN[:3], TRAIN[5]])
    assert cases(folder / "imagesTs") == cases(folder / "labelsTs") == sorted(TEST)
    assert cases(folder / "imagesUl") == sorted([*TRAIN[3:5], *UNLABELED[:2]])
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["labels"] == {
        "background": 0,
        "epidural": 1,
        "intraparenchymal": 2,
        "intraventricular": 3,
        "subarachnoid": 4,
        "subdural": 5,
    }
    assert dataset["channel_names"] == {"0": "CT"}


def test_patients_that_test_are_not_trained_on_without_labels_either(convert):
    result = convert("--labeled", "2")
    assert not list(result.folder.glob(f"imagesUl/{UNLABELED[2]}*"))
    assert any(note.endswith(f"that validate or test: {UNLABELED[2]}") for note in result.notes)


@pytest.mark.parametrize(("number", "taken"), [("0", []), ("1", [UNLABELED[0]])])
def test_number_of_unlabeled_cases_can_be_limited(convert, number, taken):
    folder = convert("--labeled", "4", "--unlabeled", number).folder
    assert (cases(folder / "imagesUl") if (folder / "imagesUl").exists() else []) == taken


@pytest.fixture
def odd(convert, data):
    make_odd(data)
    return convert("--labeled", "4")


def test_file_without_ending_is_read_and_gets_one(odd):
    np.testing.assert_array_equal(voxels(odd.folder / "imagesTr" / f"{TRAIN[0]}_0000.nii.gz"), image_of(TRAIN[0]))
    np.testing.assert_array_equal(voxels(odd.folder / "labelsTr" / f"{TRAIN[0]}.nii.gz"), label_of(TRAIN[0]))
    assert "4 files: the name lacks the ending .nii.gz: " in "\n".join(odd.notes)


@pytest.mark.parametrize(
    ("ending", "packed"), [(".nii.gz", False), (".nii", False), (".nii", True), ("", False)], ids=str
)
def test_name_does_not_decide_whether_a_file_is_compressed(convert, data, ending, packed):
    for kind in ("images", "ground truths"):
        path = data / "label_192" / kind / f"{TRAIN[0]}.nii.gz"
        content = gzip.decompress(path.read_bytes())
        path.unlink()
        path.with_name(f"{TRAIN[0]}{ending}").write_bytes(gzip.compress(content) if packed else content)
    result = convert("--labeled", "1")
    image, label = result.folder / "imagesTr" / f"{TRAIN[0]}_0000.nii.gz", result.folder / "labelsTr" / path.name
    np.testing.assert_array_equal(voxels(image), image_of(TRAIN[0]))
    np.testing.assert_array_equal(voxels(label), label_of(TRAIN[0]))
    assert image.read_bytes()[:2] == label.read_bytes()[:2] == b"\x1f\x8b"  # both are compressed now
    assert packed or any("2 files: not compressed, whatever the name says" in note for note in result.notes)


def test_label_with_another_header_is_put_on_the_grid_of_its_image(odd):
    label = sitk.ReadImage(str(odd.folder / "labelsTr" / f"{TRAIN[3]}.nii.gz"))
    image = sitk.ReadImage(str(odd.folder / "imagesTr" / f"{TRAIN[3]}_0000.nii.gz"))
    assert label.GetOrigin() == image.GetOrigin()
    assert label.GetDirection() == image.GetDirection()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label).transpose(2, 1, 0), label_of(TRAIN[3]))
    assert f"on the image's grid: {TRAIN[3]} (label)" in "\n".join(odd.notes)


def test_uneven_slices_are_reported_and_the_affine_decides(odd):
    image = sitk.ReadImage(str(odd.folder / "imagesTr" / f"{TRAIN[4]}_0000.nii.gz"))
    assert image.GetSpacing() == (0.5, 0.5, 5.0)
    text = "\n".join(odd.notes)
    assert f"the affine was used: {TRAIN[4]} ((0.5, 0.5, 4) and (0.5, 0.5, 5) mm)" in text
    assert "slice spacing differs between cases: 5 to 7 mm" in text


def test_tilted_gantry_is_turned_to_right_angles_so_that_itk_reads_it(odd, data):
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(data / "unlabel_1980" / f"{UNLABELED[0]}.nii.gz"))
    written = odd.folder / "imagesUl" / f"{UNLABELED[0]}_0000.nii.gz"
    np.testing.assert_array_equal(voxels(written), image_of(UNLABELED[0]))
    direction = np.array(sitk.ReadImage(str(written)).GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-6)
    assert "axes are not at right angles (tilted gantry?)" in "\n".join(odd.notes)


def test_geometry_of_fixed_files_is_that_of_copied_ones(odd, data):
    """The same affine, read by ITK and by our own reader, must give the same numbers."""
    copied = sitk.ReadImage(str(odd.folder / "imagesTr" / f"{TRAIN[2]}_0000.nii.gz"))
    fixed = sitk.ReadImage(str(odd.folder / "imagesTr" / f"{TRAIN[4]}_0000.nii.gz"))
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(copied, name)(), getattr(fixed, name)(), atol=1e-6)


def test_notes_are_kept_for_later_runs(convert, odd):
    again = convert("--labeled", "4")
    assert again.already_there
    assert list(again.notes) == list(odd.notes)
    assert again.fingerprint == odd.fingerprint


def test_unreadable_file_is_an_error_that_says_how_to_leave_it_out(convert, data, raw):
    path = break_file(data)
    with pytest.raises(
        UserError, match=rf"{path.name}:? cannot be read.*(\n.*)*Or leave cases out: --leave-out {TEST[1]}"
    ):
        convert("--labeled", "2")
    assert visible(raw) == []
    result = convert("--labeled", "2", "--leave-out", TEST[1])
    assert cases(result.folder / "imagesTs") == [TEST[0]]
    assert f"left out as asked: {TEST[1]}" in result.notes


def test_file_that_the_download_lacks_is_a_note_unless_its_label_is_needed(convert, data):
    for case in (TRAIN[3], TEST[0]):
        (data / "label_192" / "images" / f"{case}.nii.gz").unlink()
    notes = convert("--labeled", "2").notes
    assert f"1 of the 6 training cases are not there: {TRAIN[3]}" in notes
    assert f"1 of the 2 test cases are not there: {TEST[0]}" in notes
    with pytest.raises(UserError, match="needs ID_03cc, which the data folder lacks"):
        convert("--labeled", "3", "-d", "193")


def window_all(data):
    for path in [*data.rglob("images/*"), *data.glob("unlabel_1980/*")]:
        image = nibabel.load(path)
        window = np.clip((np.asarray(image.dataobj) + 20) * 2.5, 0, 255).astype(np.uint8)
        write(path, window)


def test_windowed_intensities_are_detected_and_not_treated_as_ct(convert, data):
    window_all(data)
    result = convert("--labeled", "1", "2")  # several budgets are fine without the CT normalisation
    assert json.loads((result.folder / "dataset.json").read_text())["channel_names"] == {"0": "windowed_CT"}
    assert any(note.startswith("intensities are windowed: 6 of the 6 labeled images") for note in result.notes)
    manifest = json.loads((result.folder / "semisam_manifest.json").read_text())
    assert manifest["settings"]["intensities"] == "windowed"
    assert manifest["images"][f"imagesTs/{TEST[0]}_0000.nii.gz"]["minimum"] == 0


def test_images_of_both_kinds_are_an_error_that_says_how_to_leave_them_out(convert, data, raw):
    write(data / "unlabel_1980" / f"{UNLABELED[0]}.nii.gz", np.clip(image_of(UNLABELED[0]), 0, 255))
    with pytest.raises(UserError, match=rf"1 images are not hu .* no normalisation fits .*--leave-out {UNLABELED[0]}"):
        convert("--labeled", "2")
    assert visible(raw) == []
    assert convert("--labeled", "2", "--leave-out", UNLABELED[0]).conversion.channel_names == {"0": "CT"}


def test_images_all_of_the_other_kind_than_asked_for_are_a_note(convert):
    notes = convert("--labeled", "2", "--intensities", "windowed").notes
    assert any("10 images are not windowed by their range" in note for note in notes)


def test_two_studies_of_a_patient_are_on_one_side(convert, data):
    write_dataset_json(data / "dataset.json", train=(TRAIN[1], TRAIN[0], *TRAIN[3:], TRAIN[2]))
    folder = convert("--labeled", "1").folder  # the second study is the last of the list, where validation begins
    assert json.loads((folder / "splits_final.json").read_text()) == [{"train": sorted(TRAIN[1:3]), "val": [TRAIN[5]]}]
    written = read_grouping(folder)
    assert written.order == ["ID_02bb", "ID_01aa", "ID_03cc", "ID_04dd", "ID_05ee"]
    group_of = group_function(written.pattern)
    assert [group_of(case) for case in (*TRAIN[1:3], "scan7")] == ["ID_02bb", "ID_02bb", "scan7"]


def test_patient_of_the_official_training_and_test_list_is_refused_by_name(convert, data, raw):
    write_dataset_json(data / "dataset.json", train=TRAIN[:2] + TRAIN[3:], test=(TRAIN[2], *TEST))
    with pytest.raises(UserError, match=rf"1 training cases are of patients that also test: {TRAIN[1]}. .*--leave-out"):
        convert("--labeled", "2")
    assert visible(raw) == []
    assert len(convert("--labeled", "2", "--leave-out", TRAIN[1]).conversion.of_part("Ts")) == 3


def test_negative_number_of_unlabeled_cases_is_refused(convert):
    with pytest.raises(UserError, match=r"--unlabeled -1: must be 0 or a positive number"):
        convert("--labeled", "2", "--unlabeled", "-1")


def test_unlabeled_cases_that_are_still_packed_are_noticed(convert, data):
    shutil.rmtree(data / "unlabel_1980")
    (data / "unlabel_1980.zip").write_bytes(b"zip")
    with pytest.raises(UserError, match=r"BHSD/unlabel_1980.zip is there. Unpack it, or .*--unlabeled 0"):
        convert("--labeled", "2")
    assert len(convert("--labeled", "2", "--unlabeled", "0").conversion.of_part("Ul")) == 2


@pytest.mark.usefixtures("fewer_voxels")
def test_budgets_of_hounsfield_units_by_split_and_replan(convert, nnunet_folders, capsys, monkeypatch):
    """The documented way: all labels in one dataset, then budgets with plans of their own."""
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    convert("--labeled", "all", "-d", "195")
    words = ["split", "-d", "195", "--labeled", "1", "2", "-np", "1", "--overwrite"]
    assert cli.main(words) == 2
    assert "Channel CT is normalised with numbers from all labels" in capsys.readouterr().err
    assert list(nnunet_folders["nnUNet_preprocessed"].iterdir()) == []
    assert cli.main([*words, "--replan"]) == 0
    folder = nnunet_folders["nnUNet_preprocessed"] / "Dataset195_BHSD"
    first, second = json.loads((folder / "splits_final.json").read_text())
    assert (first["train"], second["train"]) == ([TRAIN[0]], list(TRAIN[:3]))  # the official order, by patient
    assert first["val"] == second["val"] == [TRAIN[5]]
    plans = json.loads((folder / "nnUNetPlansLabeled.json").read_text())["configurations"]["2d"]
    assert plans["normalization_schemes"] == ["CTNormalization"]
    assert plans["semisam_planned_on"] == [TRAIN[0], TRAIN[5]]
    text = capsys.readouterr().out
    assert "nnunet-semisam preprocess -d 195 -c 2d 3d_fullres -p nnUNetPlansLabeled" in text
    assert "nnUNetTrainerSemiSAM -p nnUNetPlansLabeled" in text


def test_intensities_that_fit_neither_need_a_word(convert, data):
    for path in [*data.glob("label_192/images/*"), *data.glob("unlabel_1980/*")]:
        write(path, np.clip(image_of(path.name.split(".")[0]), -40, 80))
    with pytest.raises(UserError, match=r"\(-40 to 79 in 4 labeled images\) are neither .* --intensities hu or"):
        convert("--labeled", "2")
    assert convert("--labeled", "2", "--intensities", "windowed").conversion.channel_names == {"0": "windowed_CT"}


def test_several_budgets_of_hounsfield_units_are_refused(convert, raw):
    with pytest.raises(UserError, match="hide labels, but channel CT is normalised with numbers from all labels"):
        convert("--labeled", "1", "2")
    assert visible(raw) == []


@pytest.mark.parametrize("inside", [".", "label_192"])
def test_folder_itself_or_label_192_will_do(convert, data, inside):
    assert len(convert("--labeled", "2", source=data / inside).conversion.of_part("Ul")) == 4


def test_mirrored_label_is_refused_not_moved(convert, data):
    mirrored = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    write(data / "label_192" / "ground truths" / f"{TRAIN[0]}.nii.gz", label_of(TRAIN[0]), mirrored)
    with pytest.raises(UserError, match=rf"{TRAIN[0]}.nii.gz: direction is"):
        convert("--labeled", "2")


def test_file_runs_as_a_script_from_a_checkout(data, raw, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(SCRIPT), "-i", str(data), "-d", "194", "--labeled", "2", "--val", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "imagesUl: 4 cases without labels" in done.stdout
    assert (raw / "Dataset194_BHSD" / "dataset.json").is_file()

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fake_acdc import write_patient
from nnunet_semisam.dataset_conversion.reading import acdc_splits
from nnunet_semisam.dataset_conversion.reading.acdc_files import Patient

from nnunet_semisam.errors import UserError

TRAINING_SCRIPT = Path(__file__).resolve().parents[2] / "dataset_conversion" / "Dataset027_ACDC.py"


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def frames(*numbers: str, ending: str = "") -> list[str]:
    return sorted(f"patient{number}_frame{frame}{ending}" for number in numbers for frame in ("01", "09"))


def read_json(path: Path):
    return json.loads(path.read_text())


def test_one_budget_puts_the_other_patients_into_images_ul_without_labels(convert, database):
    folder = convert("--labeled", "2").folder
    assert names(folder / "imagesTr") == frames("099", "038", "028", "085", ending="_0000.nii.gz")
    assert names(folder / "labelsTr") == frames("099", "038", "028", "085", ending=".nii.gz")
    assert names(folder / "imagesUl") == frames("050", "100", ending="_0000.nii.gz")
    assert names(folder) == [
        "dataset.json",
        "imagesTr",
        "imagesUl",
        "labelsTr",
        "semisam_budgets.json",
        "semisam_groups.json",
        "semisam_manifest.json",
        "splits_final.json",
    ]
    assert read_json(folder / "splits_final.json") == [{"train": frames("099", "038"), "val": frames("028", "085")}]
    assert read_json(folder / "semisam_budgets.json") == {
        "0": {"budget": 2, "labeled_patients": ["patient099", "patient038"]}
    }
    source = database / "training" / "patient099" / "patient099_frame09_gt.nii.gz"
    assert (folder / "labelsTr" / "patient099_frame09.nii.gz").read_bytes() == source.read_bytes()


def test_dataset_json_is_what_nnunet_needs(convert):
    from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme

    content = read_json(convert("--labeled", "2").folder / "dataset.json")
    assert content["labels"] == {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
    assert content["numTraining"] == 8
    assert content["file_ending"] == ".nii.gz"
    assert get_normalization_scheme(content["channel_names"]["0"]).__name__ == "ZScoreNormalization"


def test_labels_of_unlabeled_patients_are_never_opened(convert, database):
    for number in ("050", "100"):
        for path in (database / "training" / f"patient{number}").glob("*_gt.nii.gz"):
            path.unlink()
            path.symlink_to("nowhere")  # opening it fails
    folder = convert("--labeled", "2").folder
    sources = [entry["source"] for entry in read_json(folder / "semisam_manifest.json")["sources"].values()]
    assert sum("_gt" in source for source in sources) == 8
    with pytest.raises(UserError, match=r"patient050_frame01_gt"):
        convert("--labeled", "1", "2", "-d", "28")  # several budgets: every label belongs to some fold


def test_several_budgets_are_nested_folds_that_hide_labels(convert):
    folder = convert("--labeled", "1", "3", "all").folder
    everyone = ("099", "038", "050", "100", "028", "085")
    assert names(folder / "imagesTr") == frames(*everyone, ending="_0000.nii.gz")
    assert names(folder / "labelsTr") == frames(*everyone, ending=".nii.gz")
    assert not (folder / "imagesUl").exists()
    assert read_json(folder / "splits_final.json") == [
        {"train": frames("099"), "val": frames("028", "085"), "unlabeled": frames("038", "050", "100")},
        {"train": frames("099", "038", "050"), "val": frames("028", "085"), "unlabeled": frames("100")},
        {"train": frames("099", "038", "050", "100"), "val": frames("028", "085")},
    ]
    budgets = read_json(folder / "semisam_budgets.json")
    assert {fold: budget["budget"] for fold, budget in budgets.items()} == {"0": 1, "1": 3, "2": 4}
    assert budgets["1"]["labeled_patients"] == ["patient099", "patient038", "patient050"]


def test_patients_can_be_named(convert):
    folder = convert("--labeled", "patient100", "patient050").folder
    assert read_json(folder / "splits_final.json")[0]["train"] == frames("100", "050")
    assert names(folder / "imagesUl") == frames("099", "038", ending="_0000.nii.gz")


def test_all_labels_every_training_patient(convert):
    folder = convert("--labeled", "all").folder
    assert read_json(folder / "splits_final.json")[0]["train"] == frames("099", "038", "050", "100")
    assert not (folder / "imagesUl").exists()


def test_published_split_has_70_10_20_patients_in_the_published_order():
    train, val, test = acdc_splits.SSL4MIS_TRAIN, acdc_splits.SSL4MIS_VAL, acdc_splits.SSL4MIS_TEST
    assert (len(train), len(val), len(test)) == (70, 10, 20)
    assert sorted({*train, *val, *test}) == [f"patient{number:03d}" for number in range(1, 101)]
    assert train[:7] == tuple(f"patient{number}" for number in ("099", "038", "050", "100", "058", "021", "049"))


def test_missing_patients_are_reported_and_only_a_labeled_one_is_an_error(convert):
    notes = convert("--labeled", "2").conversion.notes
    assert [note.partition(" are not there")[0] for note in notes] == [
        "66 of the 70 training patients of ssl4mis",
        "8 of the 10 validation patients of ssl4mis",
        "20 of the 20 test patients of ssl4mis",
    ]
    with pytest.raises(UserError, match="--labeled 5 needs patient058, which the data folder lacks"):
        convert("--labeled", "5", "-d", "28")


def test_patient_outside_the_published_lists_is_left_out_and_reported(convert, database):
    write_patient(database / "training", "123")
    result = convert("--labeled", "2")
    assert "not in the lists of ssl4mis and left out: patient123" in result.conversion.notes
    assert not list(result.folder.rglob("*patient123*"))


def test_patient_is_left_out_by_name_of_patient_or_case(convert, database):
    (database / "training" / "patient100" / "patient100_frame01.nii.gz").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cannot be read: (.|\n)*--leave-out patient100_frame01"):
        convert("--labeled", "2")
    result = convert("--labeled", "2", "--leave-out", "patient100_frame01")
    assert "left out as asked: patient100" in result.notes
    assert not list(result.folder.rglob("*patient100*"))


def test_split_without_any_validation_patient_is_refused(convert, database):
    for number in ("028", "085"):
        shutil.rmtree(database / "training" / f"patient{number}")
    with pytest.raises(UserError, match="None of the validation patients"):
        convert("--labeled", "2")


def test_test_patients_of_the_split_go_to_images_ts_with_labels(convert, database):
    write_patient(database / "training", "011")
    write_patient(database / "testing", "101", with_gt=False)
    write_patient(database / "testing", "102")
    folder = convert("--labeled", "2").folder
    assert names(folder / "imagesTs") == frames("011", "101", "102", ending="_0000.nii.gz")
    assert names(folder / "labelsTs") == frames("011", "102", ending=".nii.gz")
    assert read_json(folder / "semisam_test_sets.json") == {
        "ssl4mis": frames("011"),
        "official": frames("101", "102"),
    }
    assert read_json(folder / "dataset.json")["numTraining"] == 8


def test_four_dimensional_files_are_ignored(convert, database):
    (database / "training" / "patient099" / "patient099_4d.nii.gz").write_bytes(b"not looked at")
    assert names(convert("--labeled", "2").folder / "imagesTr") == frames(
        "099", "038", "028", "085", ending="_0000.nii.gz"
    )


@pytest.mark.parametrize(("labeled", "folds"), [("2", 2), ("4", 4), ("6", 5)])
def test_5fold_cuts_the_labeled_patients_and_leaves_the_rest_unlabeled(convert, database, labeled, folds):
    result = convert("--labeled", labeled, "--split", "5fold")
    splits = read_json(result.folder / "splits_final.json")
    assert len(splits) == folds
    for split in splits:
        assert not {case[:10] for case in split["train"]} & {case[:10] for case in split["val"]}
        assert len(split["train"] + split["val"]) == 2 * int(labeled)
    assert len(result.conversion.of_part("Ul")) == 2 * (6 - int(labeled))
    budget = result.conversion.budgets[0]
    assert budget.count == len(splits[0]["train"]) / 2 == len(budget.labeled_groups)


def test_5fold_with_one_patient_validates_on_it_and_says_so(convert):
    result = convert("--labeled", "patient050", "--split", "5fold")
    assert read_json(result.folder / "splits_final.json") == [{"train": frames("050"), "val": frames("050")}]
    assert "patient050, validates on itself" in result.conversion.notes[0]


def test_5fold_refuses_several_budgets(convert):
    with pytest.raises(UserError, match="5fold takes one number, got --labeled 1 3"):
        convert("--labeled", "1", "3", "--split", "5fold")


def patients_with_groups(*groups: str | None) -> dict[str, Patient]:
    info = [{"Group": group} if group else {} for group in groups]
    return {f"patient{i:03d}": Patient(f"patient{i:03d}", Path(), info=each) for i, each in enumerate(info)}


def test_order_of_5fold_takes_turns_between_the_diagnoses():
    groups = ["NOR"] * 10 + ["DCM"] * 2 + ["HCM", "MINF", "RV"]
    patients = patients_with_groups(*groups)
    for seed in range(5):
        order = acdc_splits.seeded_order(patients, seed)
        assert {patients[name].info["Group"] for name in order[:5]} == {"NOR", "DCM", "HCM", "MINF", "RV"}
        assert sorted(order) == sorted(patients)


def test_order_of_5fold_depends_on_the_seed_alone():
    patients = patients_with_groups(*[None] * 10)
    backwards = dict(reversed(patients.items()))
    assert acdc_splits.seeded_order(patients, 1) == acdc_splits.seeded_order(backwards, 1)
    assert acdc_splits.seeded_order(patients, 1) != acdc_splits.seeded_order(patients, 2)


def test_one_missing_diagnosis_makes_it_one_shuffle():
    """Half-known diagnoses must not order patients by who has one."""
    some = patients_with_groups("NOR", "DCM", *[None] * 8)
    none = patients_with_groups(*[None] * 10)
    assert acdc_splits.seeded_order(some, 3) == acdc_splits.seeded_order(none, 3)


def test_file_runs_as_a_script_from_a_checkout(database, raw, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(TRAINING_SCRIPT), "-i", str(database), "-d", "31", "--labeled", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "imagesUl: 4 cases without labels" in done.stdout
    assert (raw / "Dataset031_ACDC" / "dataset.json").is_file()
    done = subprocess.run([*command[:-1], "0"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert "a number must be between 1 and 70" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.realdata
def test_real_patients_convert_and_pass_nnunets_own_check(convert, raw, tmp_path):
    root = os.environ.get("NNUNET_SEMISAM_TEST_DATA")
    if not root:
        pytest.skip("NNUNET_SEMISAM_TEST_DATA is not set")
    training = Path(root) / "ACDC" / "database" / "training"
    if not training.is_dir():
        pytest.skip(f"{training} is not there")
    (tmp_path / "real" / "training").mkdir(parents=True)
    for number in ("099", "038", "028", "050"):
        (tmp_path / "real" / "training" / f"patient{number}").symlink_to(training / f"patient{number}")
    folder = convert("--labeled", "2", source=tmp_path / "real").folder
    assert len(names(folder / "imagesTr")) == len(names(folder / "labelsTr")) == 6
    assert len(names(folder / "imagesUl")) == 2
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    for label in (folder / "labelsTr").iterdir():
        image = folder / "imagesTr" / label.name.replace(".nii.gz", "_0000.nii.gz")
        assert verify_labels(str(label), SimpleITKIO, [0, 1, 2, 3])
        assert check_cases([str(image)], str(label), 1, SimpleITKIO)
        assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(label))))) == {0, 1, 2, 3}

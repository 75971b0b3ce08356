import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fake_nnunet import PATIENTS, cases, volume, write_msd, write_raw
from written_files import cases as names
from written_files import visible

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.label_budgets import read_grouping

OTHERS = ("t01_frame01", "u01_frame01")  # of no patient p01 to p05
SCRIPT = Path(__file__).resolve().parents[2] / "dataset_conversion" / "from_nnunet.py"


@pytest.fixture
def data(tmp_path):
    return write_raw(tmp_path / "Dataset007_Heart")


@pytest.fixture
def convert(convert_with, data):
    return lambda *options, source=data: convert_with("nnunet", "-i", str(source), *options)


def splits_of(folder):
    return json.loads((folder / "splits_final.json").read_text())


def test_frames_of_a_patient_stay_together(convert):
    folder = convert("--labeled", "p02", "p04", "--val", "p01").folder
    assert splits_of(folder) == [{"train": cases("p02", "p04"), "val": cases("p01")}]
    assert names(folder / "imagesTr") == names(folder / "labelsTr") == cases("p01", "p02", "p04")
    assert names(folder / "imagesUl") == [*cases("p03", "p05"), "u01_frame01"]
    assert names(folder / "imagesTs") == ["t01_frame01"]
    assert len(list((folder / "imagesUl").iterdir())) == 2 * 5  # both channels


def test_dataset_json_keeps_regions_and_counts_labeled_cases(convert, data):
    result = convert("--labeled", "p02", "--val", "p01")
    assert result.folder.name == "Dataset500_Heart"
    content = json.loads((result.folder / "dataset.json").read_text())
    before = json.loads((data / "dataset.json").read_text())
    assert content == before | {"numTraining": 4, "converted_by": "nnunet-semisam"}
    copied = result.folder / "labelsTr" / "p02_frame01.nii.gz"
    assert copied.read_bytes() == (data / "labelsTr" / "p02_frame01.nii.gz").read_bytes()


def test_several_budgets_are_nested_and_share_validation(convert):
    first, second = splits_of(convert("--labeled", "1", "3").folder)
    assert set(first["train"]) < set(second["train"])
    assert len(first["train"]) == 2
    assert len(second["train"]) == 6
    assert first["val"] == second["val"]
    assert len(first["val"]) == 2  # a fifth of five patients
    for fold in (first, second):
        sides = [{case[:3] for case in fold[part]} for part in ("train", "val", "unlabeled")]
        assert sorted(set.union(*map(set, sides))) == [p for p in PATIENTS if any(p in side for side in sides)]
        assert sum(map(len, sides)) == len(set.union(*sides))


def test_order_depends_on_the_seed_and_can_be_a_file(convert, tmp_path):
    (tmp_path / "order.txt").write_text("p05_frame02\n\np03\n")  # a case stands for its patient
    by_file = convert("--labeled", "2", "--val", "1", "--order", str(tmp_path / "order.txt"))
    assert by_file.conversion.budgets[0].labeled_groups == ["p05", "p03"]
    orders = {
        tuple(
            convert("--labeled", "4", "--val", "1", "--seed", str(seed), "-d", str(600 + seed))
            .conversion.budgets[0]
            .labeled_groups
        )
        for seed in range(3)
    }
    assert len(orders) > 1


def test_groups_can_be_named_by_an_expression(convert):
    result = convert("--labeled", "1", "--val", "1", "--group", r"frame(\d+)$", "--leave-out", "t01_frame01")
    assert set(result.conversion.settings["labeled_patients"][0]) <= {"01", "02"}
    assert len(splits_of(result.folder)[0]["train"]) == 5


def add_images(source, part, *cases):
    """Add the two channels of cases."""
    for case in cases:
        for channel in (0, 1):
            sitk.WriteImage(volume(f"{case}{channel}"), str(source / f"images{part}" / f"{case}_{channel:04d}.nii.gz"))


def test_grouping_is_written_down_for_later_commands(convert):
    folder = convert("--labeled", "2", "--val", "p01", "--group", r"^([a-z]\d+)_").folder
    written = read_grouping(folder)
    assert (written.pattern, written.val) == (r"^([a-z]\d+)_", ["p01"])
    assert sorted({*written.order, "p01"}) == sorted({*PATIENTS})
    assert written.order[-1] == "p01"
    again = convert("--labeled", "1", "-d", "501", source=folder).conversion
    assert again.grouping.pattern == written.pattern
    assert again.grouping.order[0] == written.order[0]  # the order of the source, and its validation patient
    assert again.grouping.val == ["p01"]


def test_test_cases_of_patients_that_train_are_refused_by_name(convert, data, raw):
    add_images(data, "Ts", "p02_frame09", "t02_frame01")
    with pytest.raises(UserError, match=r"1 test cases are of patients .* p02_frame09. .* --leave-out p02_frame09"):
        convert("--labeled", "1")
    assert visible(raw) == []
    result = convert("--labeled", "1", "--leave-out", "p02_frame09")
    assert names(result.folder / "imagesTs") == ["t01_frame01", "t02_frame01"]


def test_whole_patients_can_be_held_out_for_testing(convert):
    result = convert("--labeled", "1", "2", "--val", "1", "--test", "2")
    tested = {case[:3] for case in names(result.folder / "labelsTs")}
    assert len(names(result.folder / "labelsTs")) == 4
    used = {case[:3] for fold in splits_of(result.folder) for part in fold.values() for case in part}
    assert used == {*PATIENTS} - tested
    assert set(result.conversion.settings["test_patients"]) == tested
    sets = json.loads((result.folder / "semisam_test_sets.json").read_text())
    assert sets == {"held_out": names(result.folder / "labelsTs")}  # images without labels judge nothing
    other = convert("--labeled", "1", "--test", "p03", "--val", "p01", "-d", "501")
    assert names(other.folder / "labelsTs") == cases("p03")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--test", "5"), "--test 5: must be between 0 and 4"),
        (("--test", "-1"), "--test -1: must be between 0 and 4"),
        (("--test", "p03", "--val", "p03"), "--val p03: not among the 4 that can be chosen"),
    ],
)
def test_impossible_test_patients_are_refused(convert, words, message):
    with pytest.raises(UserError, match=message):
        convert("--labeled", "1", *words)


def test_patients_called_by_numbers_can_be_named(convert, data):
    """The groups of p01 to p05 are 01 to 05; 01 and 02 are told from 1 and 2 patients."""
    result = convert("--labeled", "02", "--val", "03", "--test", "04", "--group", "p([0-9]+)", "--leave-out", *OTHERS)
    (fold,) = splits_of(result.folder)
    assert (fold["train"], fold["val"]) == (cases("p02"), cases("p03"))
    assert names(result.folder / "labelsTs") == cases("p04")
    again = convert("--labeled", "02", "-d", "501", source=result.folder).conversion
    assert again.grouping.val == ["03"]  # of the source, which is a name as well


def test_header_that_nnunet_accepts_with_a_warning_is_a_note(convert, data):
    for case, move in (("p02_frame01", 0.01), ("p03_frame01", 7.0)):
        path = data / "labelsTr" / f"{case}.nii.gz"
        label = sitk.ReadImage(str(path))
        label.SetOrigin((move, 0.0, 0.0))
        sitk.WriteImage(label, str(path))
    (note,) = [note for note in convert("--labeled", "all").notes if note.startswith("origin differs between label")]
    assert "2 files: p02_frame01.nii.gz by 0.01, p03_frame01.nii.gz by 7" in note


def test_names_that_end_in_a_number_and_mirrored_axes_are_converted(convert, data):
    """As in FLARE22_Tr_0001: the number of a channel is 0000 at the end of a file's name only."""
    new = {case: f"FLARE22_Tr_{number:04d}" for number, case in enumerate(cases(*PATIENTS), start=1)}
    for path in [*(data / "imagesTr").iterdir(), *(data / "labelsTr").iterdir()]:
        image = sitk.ReadImage(str(path))
        image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1))
        path.unlink()
        sitk.WriteImage(image, str(path.with_name(path.name.replace(path.name[:11], new[path.name[:11]]))))
    folder = convert("--labeled", "all").folder
    assert sorted(path.name for path in (folder / "labelsTr").iterdir()) == [f"{name}.nii.gz" for name in new.values()]
    image = sitk.ReadImage(str(folder / "imagesTr" / "FLARE22_Tr_0001_0001.nii.gz"))
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, -1)


def test_a_blank_channel_is_a_note_and_a_blank_case_an_error(convert, data):
    for case in ("p02_frame01", "p03_frame01"):  # an empty mask, say
        path = data / "imagesTr" / f"{case}_0001.nii.gz"
        sitk.WriteImage(sitk.ReadImage(str(path)) * 0, str(path))
    (note,) = [note for note in convert("--labeled", "all").notes if "one value everywhere" in note]
    assert "2 channels have one value everywhere, beside others that vary: p02_frame01_0001.nii.gz, p03" in note
    path = data / "imagesTr" / "p03_frame01_0000.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path)) * 0 + 3, str(path))
    with pytest.raises(UserError, match=r"p03_frame01_0000\.nii\.gz: every voxel is 3; such an image shows nothing"):
        convert("--labeled", "all", "-d", "501")


def test_test_images_that_a_decathlon_task_lists_and_lacks_are_reported(convert, tmp_path):
    source = write_msd(tmp_path / "Task03_Liver")
    (source / "imagesTs" / "liver_9.nii.gz").unlink()
    notes = convert("--labeled", "1", source=source).notes
    assert "1 of the 1 test images of dataset.json are not there: liver_9.nii.gz" in notes


def test_unlabeled_cases_of_validation_patients_are_left_out(convert, data):
    add_images(data, "Ul", "p01_frame09")
    result = convert("--labeled", "p02", "--val", "p01")
    assert "left out of imagesUl, their patients validate or test: p01_frame09" in result.notes
    assert not list(result.folder.rglob("p01_frame09*"))


def test_cases_without_a_label_file_become_unlabeled_and_are_reported(convert, data):
    for case in cases("p03", "p04", "p05"):
        (data / "labelsTr" / f"{case}.nii.gz").unlink()
    result = convert("--labeled", "p02", "--val", "p01")
    assert names(result.folder / "imagesUl") == [*cases("p03", "p04", "p05"), "u01_frame01"]
    assert any(
        note.startswith("6 cases of imagesTr have no label and go to imagesUl: p03_frame01") for note in result.notes
    )


def test_dataset_is_found_by_id_and_by_name(convert, raw):
    write_raw(raw / "Dataset008_Spleen")
    assert convert("--labeled", "1", source="8").folder.name == "Dataset500_Spleen"
    assert (
        convert("--labeled", "1", "--name", "S-2", "-d", "501", source="Dataset008_Spleen").folder.name
        == "Dataset501_S-2"
    )
    with pytest.raises(UserError, match=r"is the source itself. Choose another id"):
        convert("--labeled", "1", "-d", "8", source="8")


def test_images_that_lie_differently_are_reported(convert, data):
    for channel in (0, 1):
        path = data / "imagesUl" / f"u01_frame01_{channel:04d}.nii.gz"
        image = sitk.ReadImage(str(path))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(path))
    notes = convert("--labeled", "1").notes
    assert any("lead different ways" in note and "RAS: 2 images, for example imagesUl/u01" in note for note in notes)


def test_second_run_changes_nothing(convert):
    first = convert("--labeled", "1", "2")
    again = convert("--labeled", "1", "2")
    assert again.already_there
    assert again.fingerprint == first.fingerprint


def test_another_order_of_labeling_is_another_dataset(convert):
    convert("--labeled", "p01", "--val", "p02", "--seed", "1")
    with pytest.raises(UserError, match=r"Dataset500_Heart exists with other content: its grouping differ. \(order\)"):
        convert("--labeled", "p01", "--val", "p02", "--seed", "7")


def test_output_can_be_the_source_of_the_next_conversion(convert):
    first = convert("--labeled", "p02", "p03", "--val", "p01")
    second = convert("--labeled", "p02", "--val", "p01", "-d", "501", "--name", "Less", source=first.folder)
    assert names(second.folder / "imagesUl") == [*cases("p03", "p04", "p05"), "u01_frame01"]


def test_explicit_list_of_files_in_dataset_json_is_followed(convert, data):
    (data / "elsewhere").mkdir()
    entries = {}
    for case in cases("p01", "p02", "p03"):
        for path in [*data.glob(f"imagesTr/{case}_*"), data / "labelsTr" / f"{case}.nii.gz"]:
            path.rename(data / "elsewhere" / path.name)
        entries[case] = {
            "images": [f"elsewhere/{case}_0000.nii.gz", f"elsewhere/{case}_0001.nii.gz"],
            "label": f"elsewhere/{case}.nii.gz",
        }
    content = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**content, "dataset": entries}))
    folder = convert("--labeled", "p02", "--val", "p01").folder
    assert names(folder / "imagesUl") == [*cases("p03"), "u01_frame01"]
    assert "dataset" not in json.loads((folder / "dataset.json").read_text())


@pytest.mark.parametrize("channels", [1, 2])
def test_decathlon_channels_become_files(convert, tmp_path, channels):
    source = write_msd(tmp_path / "Task03_Liver", channels)
    folder = convert("--labeled", "liver_1", "--val", "liver_0", source=source).folder
    assert folder.name == "Dataset500_Liver"
    assert json.loads((folder / "dataset.json").read_text()) == {
        "channel_names": {str(i): f"M{i}" for i in range(channels)},
        "labels": {"background": 0, "liver": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "converted_by": "nnunet-semisam",
    }
    assert len(list((folder / "imagesUl").iterdir())) == 3 * channels
    whole = sitk.GetArrayFromImage(sitk.ReadImage(str(source / "imagesTr" / "liver_1.nii.gz")))
    for channel in range(channels):
        image = sitk.ReadImage(str(folder / "imagesTr" / f"liver_1_{channel:04d}.nii.gz"))
        assert image.GetSpacing() == (1.0, 2.0, 3.0)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), whole if channels == 1 else whole[channel])


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_other_file_endings_are_kept(convert, tmp_path, ending):
    source = write_raw(tmp_path / "Other", ending)
    folder = convert("--labeled", "1", source=source).folder
    assert json.loads((folder / "dataset.json").read_text())["file_ending"] == ending
    assert all(path.name.endswith(ending) for path in (folder / "imagesTr").iterdir())


def test_file_runs_as_a_script_from_a_checkout(data, raw, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(SCRIPT), "-i", str(data), "-d", "510", "--labeled", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (raw / "Dataset510_Heart" / "dataset.json").is_file()


def test_without_chosen_patients_no_frame_of_one_that_validates_is_unlabeled(convert, data):
    """In a cross-validation each labeled patient validates once, so the pool of that fold must not show it."""
    add_images(data, "Ul", "p01_frame09")
    result = convert("--labeled", "p01", "p02", "--val", "0")
    assert any("left out of imagesUl" in note and "p01_frame09" in note for note in result.notes)
    assert not list(result.folder.rglob("p01_frame09*"))

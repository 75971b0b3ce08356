"""Names are data: whatever a list or a folder calls a case, nothing is written outside of the new dataset."""

import shutil
from pathlib import Path

import fake_bhsd
import fake_la
import pytest
from fake_bhsd import change_json
from fake_nnunet import PATIENTS, cases, write_msd, write_raw
from written_files import visible

from nnunet_semisam.errors import UserError

HOSTILE = {
    "another dataset": "../../Dataset002_Victim/labelsTr/v1",
    "another folder": "../labelsTr/p02_frame01",
    "absolute": "/tmp/escaped",
    "folder below": "a/b",
    "backslash": "..\\b",
    "parent": "..",
    "empty": "",
    "hidden": ".hidden",
    "NUL": "a\0b",
    "line end": "a\nb",
    "terminal": "\x1b[31mred",
    "blank": "p9 ",
    "segmentation": "p9_seg",
    "channel": "p9_0000",
    "long": "x" * 300,
}


@pytest.fixture
def data(tmp_path):
    return write_raw(tmp_path / "Dataset007_Heart")


@pytest.fixture
def victim(raw):
    folder = raw / "Dataset002_Victim" / "labelsTr"
    folder.mkdir(parents=True)
    (folder / "v1.nii.gz").write_bytes(b"the label of another dataset")
    return folder.parent


@pytest.fixture
def convert(convert_with):
    return lambda source, *options: convert_with("nnunet", "-i", str(source), "--val", "p02", *options)


def list_cases(data, **names):
    """Let dataset.json list all cases, some of them under another name."""
    entries = {
        names.get(case, case): {
            "images": [f"imagesTr/{case}_0000.nii.gz", f"imagesTr/{case}_0001.nii.gz"],
            "label": f"labelsTr/{case}.nii.gz",
        }
        for case in cases(*PATIENTS)
    }
    change_json(data / "dataset.json", lambda content: content.update(dataset=entries))
    return entries


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_listed_name_that_is_none_writes_nothing_anywhere(convert, data, raw, victim, tmp_path, name):
    list_cases(data, p01_frame01=name)
    before = content(tmp_path)
    with pytest.raises(UserError, match="cannot be the name of a case"):
        convert(data, "--labeled", "p03")
    assert {path: each for path, each in content(tmp_path).items() if path.name != ".lock"} == before
    assert visible(raw) == [victim.name]


@pytest.mark.parametrize("name", ["p9_seg", "p9_0000", "p\n9", " p9", "\x1b[31mred", "y" * 200])
@pytest.mark.parametrize("part", ["Tr", "Ul", "Ts"])
def test_file_whose_stem_is_no_name_is_refused(convert, data, raw, part, name):
    case = {"Tr": "p01_frame01", "Ul": "u01_frame01", "Ts": "t01_frame01"}[part]
    for channel in ("0000", "0001"):
        path = data / f"images{part}" / f"{case}_{channel}.nii.gz"
        path.rename(path.with_name(f"{name}_{channel}.nii.gz"))
    (data / "labelsTr" / "p01_frame01.nii.gz").rename(data / "labelsTr" / "x") if part == "Tr" else None
    with pytest.raises(UserError, match=r"cannot be the name of a case: .* Rename it"):
        convert(data, "--labeled", "p03")
    assert visible(raw) == []


def test_names_that_are_one_file_on_other_machines_are_refused(convert, data, raw):
    list_cases(data, p01_frame01="P02_frame01")
    with pytest.raises(UserError, match="P02_frame01 and p02_frame01"):
        convert(data, "--labeled", "p03")
    assert visible(raw) == []


@pytest.mark.parametrize("name", ["a\nb", "", " core", "x" * 300])
def test_labels_and_channels_have_names_that_can_be_printed(convert, data, raw, name):
    change_json(data / "dataset.json", lambda content: content.update(channel_names={"0": name, "1": "T2"}))
    with pytest.raises(UserError, match=r"dataset.json: .* cannot be the name of a channel"):
        convert(data, "--labeled", "p03")
    change_json(
        data / "dataset.json",
        lambda content: content.update(channel_names={"0": "T1", "1": "T2"}, labels={"background": 0, name: [1, 2]}),
    )
    with pytest.raises(UserError, match=r"dataset.json: .* cannot be the name of a label"):
        convert(data, "--labeled", "p03")
    assert visible(raw) == []


def test_name_of_the_new_dataset_fits_into_a_folder(convert, data):
    with pytest.raises(UserError, match=r"cannot be the name .* Choose another with --name"):
        convert(data, "--labeled", "p03", "--name", "a" * 300)


@pytest.mark.parametrize("ending", ["/../x.nii.gz", ".", "x", ".nii.gz/..", 5])
def test_file_ending_is_an_ending(convert, data, raw, ending):
    change_json(
        data / "dataset.json",
        lambda content: content.update(file_ending=ending, overwrite_image_reader_writer="SimpleITKIO"),
    )
    with pytest.raises(UserError, match=r"dataset.json.*file_ending"):
        convert(data, "--labeled", "p03")
    assert visible(raw) == []


def test_folder_of_la_and_file_of_bhsd_need_names_as_well(convert_with, tmp_path, raw):
    pytest.importorskip("h5py")
    source = fake_la.write_ua_mt(tmp_path)
    for name in ("train.list", "test.list"):
        (source / name).unlink()
    folder = source / "2018LA_Seg_Training Set"
    (folder / "0RZD").rename(folder / "\x1b[31mred")
    with pytest.raises(UserError, match="cannot be the name of a case"):
        convert_with("la", "-i", str(source), "--labeled", "2", "--val", "1")
    source = fake_bhsd.write_bhsd(tmp_path)
    path = source / "unlabel_1980" / f"{fake_bhsd.UNLABELED[0]}.nii.gz"
    path.rename(path.with_name("head_seg.nii.gz"))
    with pytest.raises(UserError, match="'head_seg' cannot be the name of a case"):
        convert_with("bhsd", "-i", str(source), "--labeled", "2", "--val", "1")
    assert visible(raw) == []


def test_lists_read_where_nnunet_reads(convert, data, tmp_path, monkeypatch):
    entries = list_cases(data)
    shutil.move(data / "labelsTr", tmp_path / "elsewhere")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("LABELS_OF_HEARTS", str(tmp_path / "elsewhere"))
    places = ["../elsewhere", str(tmp_path / "elsewhere"), "$LABELS_OF_HEARTS", "linked"]
    for number, (case, entry) in enumerate(entries.items()):
        entry["label"] = f"{places[number % len(places)]}/{case}.nii.gz"
    change_json(data / "dataset.json", lambda content: content.update(dataset=entries))
    result = convert(data, "--labeled", "p03")
    assert all(path.is_file() and not path.is_symlink() for path in (result.folder / "labelsTr").iterdir())


def test_link_in_the_place_of_the_new_dataset_is_not_followed(convert, data, raw, victim):
    before = content(victim)
    (raw / "Dataset500_Heart").symlink_to(victim.name)
    with pytest.raises(UserError, match="Dataset500_Heart exists and was not made by this command"):
        convert(data, "--labeled", "p03")
    assert content(victim) == before


def test_two_folders_of_one_id_are_not_chosen_between(convert, raw, tmp_path):
    for name in ("Dataset012_A", "Dataset012_B"):
        write_raw(raw / name)
    with pytest.raises(UserError, match=r"-i 12 is the id of Dataset012_A, Dataset012_B"):
        convert("12", "--labeled", "p03")
    with pytest.raises(UserError, match=r"-i \* must be a dataset"):
        convert("*", "--labeled", "p03")
    with pytest.raises(UserError, match=r"-i y.* must be a dataset"):
        convert(Path("y" * 5000), "--labeled", "p03")


@pytest.mark.parametrize("name", ["../../etc/x.nii.gz", "imagesTr/.x.nii.gz", "", "a\0b", 5, None])
def test_decathlon_lists_files_and_nothing_else(convert_with, tmp_path, raw, name):
    task = write_msd(tmp_path / "Task03_Liver")
    change_json(task / "dataset.json", lambda content: content["training"][0].update(image=name))
    with pytest.raises(UserError, match=r"x.nii.gz: is missing|dataset.json must list training cases"):
        convert_with("nnunet", "-i", str(task), "--labeled", "2")
    assert visible(raw) == []

"""What the doctor finds in a raw dataset that is not planned yet: names and dataset.json only."""

from __future__ import annotations

import json

import pytest

from nnunet_semisam import cli
from nnunet_semisam.commands import doctor

NAME = "Dataset101_Mine"
CONTENT = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "a": 1},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", ())
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    folder = tmp_path / "raw" / NAME
    for part in ("imagesTr", "labelsTr", "imagesUl"):
        (folder / part).mkdir(parents=True)
    for case in ("a", "b"):
        (folder / "imagesTr" / f"{case}_0000.nii.gz").touch()
        (folder / "labelsTr" / f"{case}.nii.gz").touch()
    (folder / "imagesUl" / "u_0000.nii.gz").touch()
    (folder / "dataset.json").write_text(json.dumps(CONTENT))
    return folder


def said(capsys):
    assert cli.main(["doctor", "-d", "101", "-c", "2d"]) == 1
    return capsys.readouterr().out


def test_a_dataset_that_can_be_planned_only_lacks_the_plans(raw, capsys):
    text = said(capsys)
    assert "2 cases in imagesTr, 1 cases in imagesUl, 2 with labels" in text
    assert "Plan the labeled cases first: nnUNetv2_plan_and_preprocess -d 101" in text
    assert "1 would stop a training, 0 to note, 1 ok" in text


def test_without_dataset_json_the_doctor_shows_one(raw, capsys):
    (raw / "dataset.json").unlink()
    text = said(capsys)
    assert f"there is no {raw / 'dataset.json'}" in text
    assert '"numTraining": 3' in text


def test_all_that_would_stop_or_be_left_out_is_said_at_once(raw, capsys):
    (raw / "imagesTr" / "b_0000.nii.gz").unlink()
    (raw / "imagesTs").mkdir()
    for file in (
        "Tr/c_0000",
        "Tr/a_0001",
        "Tr/._a_0000",
        "Ul/u_0001",
        "Ul/a_0000",
        "Ul/t_0000",
        "Ul/scan",
        "Ts/t_0000",
    ):
        (raw / f"images{file}.nii.gz").touch()
    (raw / "dataset.json").write_text(json.dumps(CONTENT | {"numTraining": 5}))
    text = " ".join(said(capsys).split())
    for words in (
        "[ stops ] imagesTr nnU-Net takes every file with .nii.gz for a channel of a case: ._a_0000.nii.gz",
        "[ stops ] imagesTr without a label: c",
        "[ stops ] imagesTr not 1 channel(s): a",
        "[ note ] labelsTr without an image, and so not used: b",
        "[ note ] dataset.json numTraining is 5, of 2 cases",
        "[ note ] imagesUl not 1 channel(s): u",
        "[ note ] imagesUl no images of a case, and so left out: scan.nii.gz",
        "[ note ] imagesUl also in imagesTr: a",
        "[ note ] imagesUl also in imagesTs: t",
        "4 would stop a training, 6 to note",  # the fourth: there are no plans
    ):
        assert words in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": None}, "it has no labels"),
        ({"numTraining": None}, "it has no numTraining"),
        ({"dataset": {"a": {"images": ["gone.nii.gz"], "label": "labelsTr/a.nii.gz"}}}, "gone.nii.gz"),
    ],
)
def test_what_the_planner_would_stumble_over_stops(raw, capsys, change, words):
    content = {key: value for key, value in (CONTENT | change).items() if value is not None}
    (raw / "dataset.json").write_text(json.dumps(content))
    (line,) = [line for line in said(capsys).splitlines() if line.startswith("[ stops ]") and "dataset 101" not in line]
    assert words in line


def test_images_without_a_number_of_their_channel_are_no_cases(raw, capsys):
    for case in ("a", "b"):
        (raw / "imagesTr" / f"{case}_0000.nii.gz").rename(raw / "imagesTr" / f"{case}.nii.gz")
    text = said(capsys)
    assert "for a channel of a case: a.nii.gz, b.nii.gz" in text
    assert "no case has an image" in text


def test_a_photo_holds_all_its_colours(raw, capsys):
    colours = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "file_ending": ".png"}
    (raw / "dataset.json").write_text(json.dumps(CONTENT | colours))
    for file in list(raw.rglob("*.nii.gz")):
        file.rename(file.with_name(file.name.replace(".nii.gz", ".png")))
    assert "1 would stop a training, 0 to note, 1 ok" in said(capsys)


def test_a_dataset_json_that_nnunet_could_not_read_is_one_line(raw, capsys):
    (raw / "dataset.json").write_text(json.dumps(CONTENT | {"file_ending": 7}))
    assert "file_ending must be a text" in said(capsys)

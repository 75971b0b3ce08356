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
    (raw / "imagesTr" / "c_0000.nii.gz").touch()
    (raw / "imagesUl" / "u_0001.nii.gz").touch()
    (raw / "imagesUl" / "a_0000.nii.gz").touch()
    (raw / "imagesUl" / "t_0000.nii.gz").touch()
    (raw / "imagesTs").mkdir()
    (raw / "imagesTs" / "t_0000.nii.gz").touch()
    (raw / "imagesTr" / "a_0001.nii.gz").touch()
    (raw / "imagesUl" / "scan.nii.gz").touch()
    (raw / "dataset.json").write_text(json.dumps(CONTENT | {"numTraining": 5}))
    text = said(capsys)
    for words in (
        "labels without an image, which nobody uses: b",
        "images of imagesTr without a label: c",
        "numTraining is 5, and 2 cases have labels",
        "cases of imagesTr that have not 1 channel(s): a",
        "cases of imagesUl that have not 1 channel(s): u",
        "files that are no images of a case: scan.nii.gz",
        "cases that are also in imagesTr: a",
        "cases that are also in imagesTs: t",
    ):
        assert words in text
    assert "4 would stop a training, 5 to note" in text  # the plans, too, are not there


def test_a_dataset_json_that_nnunet_could_not_read_is_one_line(raw, capsys):
    (raw / "dataset.json").write_text(json.dumps(CONTENT | {"file_ending": 7}))
    assert "file_ending must be a text" in said(capsys)

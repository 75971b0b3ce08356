"""``split`` on datasets that are written otherwise than usual, or cannot be split at all."""

import gzip
import json
import os

import pytest
from split_world import PATIENTS, cut, folds_of, write_image

from nnunet_semisam.commands import split
from nnunet_semisam.errors import UserError
from nnunet_semisam.splits import replan


def change_dataset_json(raw, **changes):
    content = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps(content | changes))


def test_listed_cases_are_split_wherever_they_lie_and_no_others(raw):
    """nnU-Net preprocesses the listed cases only: folds of others would stop the training."""
    (raw / "elsewhere").mkdir()
    entries = {}
    for case in [f"{p}_frame01" for p in PATIENTS]:
        image = (raw / "imagesTr" / f"{case}_0000.nii.gz").rename(raw / "elsewhere" / f"{case}.nii.gz")
        entries[case] = {"images": [f"elsewhere/{image.name}"], "label": f"labelsTr/{image.name}"}
    change_dataset_json(raw, dataset=entries)
    cut("--labeled", "1", "3")
    for fold in folds_of(raw):
        assert sorted(case for cases in fold.values() for case in cases) == sorted(entries)
    entries["p0_frame01"]["images"] = entries["p1_frame01"]["images"]
    change_dataset_json(raw, dataset=entries)
    with pytest.raises(UserError, match=r"imagesTr/p[01]_frame01 .* hold the same image"):
        cut("--labeled", "p0", "--val", "p1", "--overwrite")
    change_dataset_json(raw, dataset={})
    with pytest.raises(UserError, match=r'the list "dataset" of .*dataset.json holds no labels.* Add some'):
        cut("--labeled", "1", "--overwrite")


def test_hidden_files_of_file_managers_are_no_cases(raw):
    for name in ("imagesTr/._p0_frame01_0000", "labelsTr/._p0_frame01"):
        (raw / f"{name}.nii.gz").write_bytes(b"junk of a Mac")
    cut("--labeled", "all")
    (fold,) = folds_of(raw)
    assert len(fold["train"] + fold["val"]) == 12
    assert not any(case.startswith(".") for case in fold["train"] + fold["val"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": ["MRI"]}, r"dataset.json: channel_names must be like .* got \['MRI'\]. Correct it"),
        ({"channel_names": {"0": 5}}, r"dataset.json: channel_names must be like .* got \{'0': 5\}. Correct it"),
        ({"file_ending": 7}, r"dataset.json: file_ending must be a text .* got 7. Correct it"),
    ],
)
def test_malformed_dataset_json_is_refused(raw, changes, message):
    change_dataset_json(raw, **changes)
    with pytest.raises(UserError, match=message):
        cut("--labeled", "1")
    assert list((raw.parents[1] / "preprocessed").iterdir()) == []


def test_channels_under_their_old_name_are_ct_too(raw):
    content = json.loads((raw / "dataset.json").read_text())
    del content["channel_names"]
    (raw / "dataset.json").write_text(json.dumps({**content, "modality": {"0": "CT"}}))
    with pytest.raises(UserError, match="Channel CT is normalised with numbers from all labels"):
        cut("--labeled", "1")


@pytest.mark.parametrize("options", [(), ("--replan",)])
def test_preprocessed_folder_below_a_file_is_refused(raw, monkeypatch, tmp_path, options):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "file" / "preprocessed"))
    with pytest.raises(UserError, match=r"must be a folder, but .*/file is a file. Let nnUNet_preprocessed name"):
        cut("--labeled", "1", *options)
    assert (tmp_path / "file").read_text() == "mine"


def test_folder_that_cannot_be_made_is_an_error_of_its_own(raw, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(split.Path, "mkdir", refuse)
    with pytest.raises(
        UserError, match=r"cannot be written to .*Dataset003_X .*Permission denied.* nothing was changed"
    ):
        cut("--labeled", "1")


# ------------------------------------------------------------------------------------------ nothing lost in silence


def test_images_without_labels_are_counted(raw, capsys):
    write_image(raw / "imagesTr" / "extra_0000.nii.gz", 77)
    (raw / "labelsTr" / "extra.nii").touch()  # another ending is no label
    cut("--labeled", "1")
    assert "1 image(s) of" in (text := capsys.readouterr().out)
    assert "in no fold: extra. Move them to imagesUl" in text


def test_case_among_labeled_and_unlabeled_images_is_refused(raw):
    write_image(raw / "imagesUl" / "p0_frame01_0000.nii.gz", 77)
    with pytest.raises(UserError, match=r"1 case\(s\) are in .*imagesUl and among the labeled cases, too: p0_frame01"):
        cut("--labeled", "1")


def test_all_unreadable_images_are_named_and_pipes_are_not_waited_for(raw):
    pipe, half = (raw / "imagesTr" / f"p{i}_frame01_0000.nii.gz" for i in (1, 2))
    pipe.unlink()
    os.mkfifo(pipe)
    half.write_bytes(half.read_bytes()[:90])
    with pytest.raises(UserError, match=r"p1_frame01_0000\.nii\.gz is a pipe.*\n.*p2_frame01_0000\.nii\.gz.*remove"):
        cut("--labeled", "1")
    assert list((raw.parents[1] / "preprocessed").iterdir()) == []


def test_half_an_uncompressed_image_is_not_read_as_zeros(raw):
    change_dataset_json(raw, file_ending=".nii")
    for file in raw.glob("*/*.nii.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    path = raw / "imagesTr" / "p1_frame01_0000.nii"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"p1_frame01_0000\.nii cannot be read: it is cut off"):
        cut("--labeled", "1")


def test_validation_groups_that_are_gone_are_counted(raw, capsys):
    groups = {"pattern": None, "order": [*PATIENTS, "gone"], "val": ["p5", "gone"]}
    (raw / "semisam_groups.json").write_text(json.dumps(groups))
    cut("--labeled", "1")
    assert (
        "1 validation group(s) of the converter have no labels here and are left out: gone" in capsys.readouterr().out
    )


def test_planner_that_stops_is_an_error_that_says_so(raw, monkeypatch):
    def stop(*args: object) -> None:
        raise RuntimeError("Some background worker is 6 feet under.")

    monkeypatch.setattr(replan, "_run_planner", stop)
    with pytest.raises(UserError, match=r"nnU-Net's planner stopped \(RuntimeError: Some background worker.*labels of"):
        cut("--labeled", "1", "--replan")
    assert list((raw.parents[1] / "preprocessed").iterdir()) == []

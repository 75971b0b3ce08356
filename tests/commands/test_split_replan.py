"""``split --replan``: plans and numbers of the cases that may be seen, and of no others."""

import argparse
import json

import numpy as np
import pytest
import tiny_nnunet
from split_world import cut

from nnunet_semisam.commands import split
from nnunet_semisam.splits.replan import PLANNED_ON, was_planned_without


@pytest.mark.usefixtures("fewer_voxels")
def test_replanning_sees_labeled_and_validation_cases_only(tiny_dataset, monkeypatch):
    """The plans' intensities are those of the cases they may see, by a calculation of our own."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    labels = tiny_dataset / "raw" / tiny_nnunet.DATASET / "labelsTr"
    for case in tiny_nnunet.LABELED[4:]:
        (labels / f"{case}.nii.gz").write_bytes(b"a hidden label that must not even be opened")
    parser = argparse.ArgumentParser()
    split.add_arguments(parser)
    options = ["--labeled", "1", "2", "--val", "case3", "--order", str(tiny_dataset / "order"), "--overwrite"]
    (tiny_dataset / "order").write_text("case0\ncase1\n")
    split.run(parser.parse_args(["-d", str(tiny_nnunet.DATASET_ID), "-np", "1", "--replan", *options]))
    plans = json.loads((tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "nnUNetPlansLabeled.json").read_text())
    configuration = plans["configurations"]["2d"]
    assert configuration[PLANNED_ON] == ["case0", "case3"]
    assert configuration["data_identifier"] == "nnUNetPlansLabeled_2d"
    assert was_planned_without(configuration, ["case1", "case2"])
    assert not was_planned_without(configuration, ["case3"])
    seen = [tiny_nnunet.volume(int(case[-1])) for case in ("case0", "case3")]
    foreground = np.concatenate([image.astype(np.float32)[label > 0] for image, label in seen])
    found = plans["foreground_intensity_properties_per_channel"]["0"]
    assert found["min"] == pytest.approx(foreground.min(), abs=1.0)  # the planner draws voxels with replacement
    assert found["mean"] == pytest.approx(foreground.mean(), abs=1.0)


def list_files_elsewhere(raw):
    """Let dataset.json name the files, as nnU-Net allows, and nothing lie in the folders."""
    for kind in ("imagesTr", "labelsTr"):
        (raw / kind).rename(raw / f"my_{kind}")
    entries = {
        case: {"images": [f"my_imagesTr/{case}_0000.nii.gz"], "label": f"my_labelsTr/{case}.nii.gz"}
        for case in tiny_nnunet.LABELED
    }
    content = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**content, "dataset": entries}))


@pytest.mark.usefixtures("fewer_voxels")
def test_fingerprint_of_some_cases_is_never_taken_for_that_of_all(tiny_dataset, monkeypatch, capsys):
    """nnU-Net's trainers need the file, which they copy; its planner would take it for the whole dataset's."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    folder = tiny_dataset / "preprocessed" / tiny_nnunet.DATASET
    whole = json.loads((folder / "dataset_fingerprint.json").read_text())
    list_files_elsewhere(tiny_dataset / "raw" / tiny_nnunet.DATASET)
    for name in ("dataset_fingerprint.json", "nnUNetPlans.json"):
        (folder / name).unlink()
    cut("--labeled", "1", "--val", "case3", "--replan", "--overwrite", dataset=str(tiny_nnunet.DATASET_ID))
    assert f"nnUNetv2_plan_and_preprocess -d {tiny_nnunet.DATASET_ID} --clean" in capsys.readouterr().out
    assert len(json.loads((folder / "nnUNetPlansLabeled_fingerprint.json").read_text())["spacings"]) == 2
    assert (folder / "dataset_fingerprint.json").is_file()
    tiny_nnunet.extract_fingerprint(overwrite=False)  # as without --clean
    with pytest.raises(KeyError, match="spacings"):
        plan_experiments([tiny_nnunet.DATASET_ID])
    assert not (folder / "nnUNetPlans.json").exists()
    tiny_nnunet.extract_fingerprint()
    assert json.loads((folder / "dataset_fingerprint.json").read_text()) == whole

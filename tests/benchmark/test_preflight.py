"""What would stop a trainer days later stops the benchmark before its first run."""

import gzip
import json
import os
import pickle
import re
import shutil
from collections import namedtuple

import numpy as np
import pytest
import SimpleITK
import small_dataset
import torch
from small_dataset import write_image

from nnunet_semisam import cli
from nnunet_semisam.benchmark import held_out, preflight
from nnunet_semisam.checks import places
from nnunet_semisam.checks.dataset import DatasetCheck
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.data.preprocessing_recipe import RECIPE_FILE
from nnunet_semisam.errors import UserError
from nnunet_semisam.sam.checkpoints import PACKAGED_WEIGHTS
from nnunet_semisam.settings import Settings


@pytest.fixture
def preprocessed(raw):
    return raw.parents[1] / "preprocessed" / small_dataset.NAME


def check(study):
    made = study()
    return preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs())


def test_complete_data_pass(study):
    assert check(study) == []


CASES, UNLABELED = "nnUNetPlans_2d", "nnUNetPlans_2d_unlabeled"
FILES = [f"{CASES}/p0_frame01.b2nd", f"{CASES}/p0_frame09_seg.b2nd", f"{CASES}/p5_frame01_seg.b2nd"]
FILES += [f"{CASES}/p5_frame09.pkl", f"{CASES}/p1_frame01.b2nd", f"{UNLABELED}/u1_frame01.b2nd"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["gone", "empty", "header only", "torn", "pipe", "text"])
def test_preprocessed_file_that_no_training_could_read(study, preprocessed, name, harm):
    path = preprocessed / name
    content = path.read_bytes()
    path.unlink()
    if harm == "pipe":
        os.mkfifo(path)
    elif harm != "gone":
        kept = {"empty": b"", "header only": content[:20], "torn": content[:-1], "text": b"<html>log in</html>"}
        path.write_bytes(kept[harm])
    image_is_gone = harm == "gone" and "_seg" not in name and path.suffix == ".b2nd"
    expected = "p[01]_frame01|None of the 1 unlabeled cases" if image_is_gone else re.escape(name)
    with pytest.raises(UserError, match=expected) as caught:
        check(study)
    assert image_is_gone or "preprocess" in str(caught.value)
    assert "could not start, so no run was started" in str(caught.value)


def other_shape(folder):
    small_dataset.write_array(folder / "p0_frame01_seg.b2nd", np.ones((1, 2, 3, 5), np.int8))


def two_channels(folder):
    small_dataset.write_array(folder / "p0_frame01.b2nd", np.ones((2, 2, 3, 4), np.float32))


def label_of_floats(folder):
    small_dataset.write_array(folder / "p0_frame01_seg.b2nd", np.ones((1, 2, 3, 4), np.float32))


def three_axes(folder):
    small_dataset.write_array(folder / "p0_frame01.b2nd", np.ones((2, 3, 4), np.float32))


def foreign_pickle(folder):
    (folder / "p0_frame01.pkl").write_bytes(pickle.dumps({"spacing": [1, 1, 1]}))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (other_shape, "has the shape"),
        (two_channels, "has 2 channels, dataset.json has 1"),
        (label_of_floats, "needed are 4 axes"),
        (three_axes, "needed are 4 axes"),
        (foreign_pickle, "class_locations is missing"),
    ],
)
def test_arrays_that_do_not_belong_to_the_dataset(study, preprocessed, harm, words):
    harm(preprocessed / CASES)
    with pytest.raises(UserError, match=f"p0_frame01.*{words}"):
        check(study)


def test_a_pickle_is_looked_at_and_never_run(study, preprocessed, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "was_run"),))

    (preprocessed / CASES / "p0_frame01.pkl").write_bytes(pickle.dumps({"class_locations": Evil()}))
    with pytest.raises(
        UserError, match=r"p0_frame01\.pkl names posix\.mkdir, which nnU-Net does not write and would run"
    ):
        check(study)
    assert not (tmp_path / "was_run").exists()


def test_voxels_that_no_training_could_learn_from_are_found_if_all_are_read(study, preprocessed):
    voxels = np.ones((1, 2, 3, 4), np.float32)
    voxels[0, 1, 2, 3] = np.nan
    small_dataset.write_array(preprocessed / CASES / "p0_frame01.b2nd", voxels)
    small_dataset.write_array(preprocessed / CASES / "p0_frame09_seg.b2nd", np.full((1, 2, 3, 4), 7, np.int8))
    made = study()
    dataset = open_dataset("3", "nnUNetPlans")
    assert preflight.check_runs(made, dataset, made.runs()) == []
    with pytest.raises(UserError, match=r"(?s)p0_frame01.*not finite.*p0_frame09_seg.*does not know: 7"):
        preflight.check_runs(made, dataset, made.runs(), deep=True)


def test_everything_that_is_wrong_is_named_at_once(study, preprocessed):
    (preprocessed / CASES / "p0_frame01.b2nd").write_bytes(b"")
    (preprocessed / CASES / "p0_frame09.pkl").unlink()
    (preprocessed / UNLABELED / "u1_frame01.b2nd").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        check(study)
    assert all(name in str(caught.value) for name in ("p0_frame01.b2nd", "p0_frame09.pkl", "u1_frame01.b2nd"))
    assert str(caught.value).count("p0_frame01.b2nd cannot be read") == 1  # of four runs that would meet it


def no_class(plans, configuration):
    configuration["architecture"]["network_class_name"] = "no.such.Network"


def a_function(plans, configuration):
    configuration["architecture"]["network_class_name"] = "os.path.join"


def no_architecture(plans, configuration):
    del configuration["architecture"]


def too_many_stages(plans, configuration):
    configuration["architecture"]["arch_kwargs"]["n_stages"] = 9


def patch_does_not_fit(plans, configuration):
    configuration["patch_size"] = [9, 7]


def patch_is_a_text(plans, configuration):
    configuration["patch_size"] = "8x8"


def no_batch(plans, configuration):
    configuration["batch_size"] = 0


def circle(plans, configuration):
    configuration["inherits_from"] = "2d"


def configuration_is_null(plans, configuration):
    plans["configurations"]["2d"] = None


def other_name(plans, configuration):
    plans["plans_name"] = "nnUNetResEncUNetMPlans"


def no_name(plans, configuration):
    del plans["plans_name"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (no_class, "the network of configuration 2d cannot be built"),
        (a_function, "the network of configuration 2d cannot be built"),
        (too_many_stages, "the network of configuration 2d cannot be built"),
        (no_architecture, "cannot be"),
        (patch_does_not_fit, r"patches of \[9, 7\] do not fit"),
        (patch_is_a_text, "patch_size must be two or three whole numbers"),
        (no_batch, "batch_size must be a whole number above 0, got 0"),
        (circle, "cannot be used for 2d"),
        (configuration_is_null, "the configuration 2d must hold an object"),
        (other_name, "calls itself 'nnUNetResEncUNetMPlans'"),
        (no_name, "calls itself None"),
    ],
)
def test_plans_that_nothing_could_be_trained_with(study, preprocessed, harm, words):
    path = preprocessed / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    harm(plans, plans["configurations"]["2d"])
    path.write_text(json.dumps(plans))
    with pytest.raises(UserError, match=rf"nnUNetPlans\.json.*{words}"):
        check(study)


@pytest.mark.parametrize(
    ("labels", "words"),
    [(None, "dataset.json cannot be used"), ({"background": 0, "a": 1, "b": 7}, r"must be 0, 1, 2 .*got \[0, 1, 7\]")],
)
def test_labels_that_nothing_could_be_trained_with(study, preprocessed, labels, words):
    path = preprocessed / "dataset.json"
    content = json.loads(path.read_text())
    content |= {"labels": labels}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        check(study)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("nano: {channel: 3}", "names a channel that the images lack: they have 1, counted from 0"),
        ("nano: {view: volume}", "makes images of 3 axes"),
        ("nano: {checkpoint: WEIGHTS}", "weights.pt.*not finite"),
        ("nano: {checkpoint: TORN}", "torn.pt.*cannot be read"),
        ("nano: {checkpoint: OTHER}", "other.pt does not hold weights"),
    ],
)
def test_stage_that_would_fail_when_its_first_round_begins(study, tmp_path, lines, words):
    state = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    next(iter(state.values())).view(-1)[0] = float("nan")
    torch.save(state, tmp_path / "weights.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "weights.pt").read_bytes()[:-9])
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pt")
    for name in ("weights", "torn", "other"):
        lines = lines.replace(name.upper(), str(tmp_path / f"{name}.pt"))
    (tmp_path / "s.yaml").write_text(lines)
    made = study("--settings", str(tmp_path / "s.yaml"), trainers=["nnUNetTrainerSemiSAM"])
    with pytest.raises(UserError, match=rf"could not start.*{words}"):
        preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs())


def test_a_row_of_self_training_whose_sams_could_not_be_calibrated_stops_the_benchmark(study, tmp_path):
    (tmp_path / "s.yaml").write_text("num_epochs: 4\nsam: {mirror: false}\n")
    made = study("--settings", str(tmp_path / "s.yaml"), trainers=["SelfTraining1_nnUNetTrainerSemiSAM"])
    with pytest.raises(UserError, match=r"SelfTraining1.*could not start.*leaves out the prediction of mirrored"):
        preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs())


def test_a_row_of_self_training_without_a_pool_stops_the_benchmark(study, preprocessed, tmp_path):
    (tmp_path / "s.yaml").write_text("num_epochs: 4\n")
    made = study("--settings", str(tmp_path / "s.yaml"), trainers=["SelfTraining1_nnUNetTrainerSupervised"])
    assert preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs()) == []
    shutil.rmtree(preprocessed / UNLABELED)
    splits = preprocessed / "splits_final.json"
    folds = [{**fold, "unlabeled": []} for fold in json.loads(splits.read_text())]
    splits.write_text(json.dumps(folds))
    with pytest.raises(UserError, match=r"SelfTraining1.*nothing to train itself on"):
        preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs())


def test_damaged_geometry_stops_only_trainers_that_read_it(study, preprocessed):
    (preprocessed / "semisam_geometry").mkdir()
    (preprocessed / "semisam_geometry" / "p0_frame01.json").write_text("{")
    assert check(study) == []
    with pytest.raises(UserError, match=r"semisam_geometry/p0_frame01\.json cannot be read"):
        check(lambda: study(trainers=["nnUNetTrainerSemiSAM"]))


def test_disk_without_room_for_one_run_is_refused_and_for_all_is_told(study, monkeypatch):
    usage = namedtuple("usage", "free")
    need = places.CHECKPOINT_COPIES * places.FILES_AT_ONCE
    made = study()
    dataset = open_dataset("3", "nnUNetPlans")
    weights = bytes_of_network(dataset)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(weights * need - 1))
    with pytest.raises(UserError, match=r"0\.00 GiB free; the checkpoints of one run take"):
        preflight.check_runs(made, dataset, made.runs())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(weights * need))
    (note,) = preflight.check_runs(made, dataset, made.runs())
    assert "the checkpoints of 4 runs take" in note


def bytes_of_network(dataset):
    check = DatasetCheck(dataset, "nnUNetPlans")
    check.training(Settings(), "2d", 0)
    return check.weights


def label_is_torn(raw):
    path = raw / "labelsTs" / "t1_frame01.nii.gz"
    path.write_bytes(path.read_bytes()[:40])


def label_is_cut_off(raw):
    path = raw / "labelsTs" / "t1_frame01.nii.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-4]))


def label_of_another_size(raw):
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(np.ones((2, 3, 5), np.uint8)), str(raw / "labelsTs" / "t1_frame01.nii.gz")
    )


def label_without_meaning(raw):
    write_image(raw / "labelsTs" / "t1_frame01.nii.gz", 0, most=90)


def further_channel(raw):
    shutil.copy(raw / "imagesTs" / "t1_frame01_0000.nii.gz", raw / "imagesTs" / "t1_frame01_0001.nii.gz")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (label_is_torn, "cannot be read"),
        (label_is_cut_off, "cannot be read"),
        (label_of_another_size, "has the shape"),
        (label_without_meaning, "labels that dataset.json does not know"),
        (further_channel, "has 2 of 1 channels"),
    ],
)
def test_held_out_case_that_could_not_be_evaluated_after_all_trainings(study, raw, harm, words):
    harm(raw)
    with pytest.raises(UserError, match=rf"t1_frame01.*{words}.*take the case out"):
        check(study)


def test_label_that_is_called_like_the_mean_over_labels_is_refused_before_a_training(study, preprocessed):
    path = preprocessed / "dataset.json"
    content = json.loads(path.read_text())
    name = next(name for name in content["labels"] if name != "background")
    content["labels"]["mean"] = content["labels"].pop(name)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"dataset\.json: a label is called 'mean'.*Rename it"):
        check(study)


def test_held_out_pipe_is_refused_in_time(study, raw):
    path = raw / "imagesTs" / "t1_frame01_0000.nii.gz"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"t1_frame01_0000\.nii\.gz is a pipe"):
        held_out.pin(study(), open_dataset("3", "nnUNetPlans"))


def test_unlabeled_images_that_are_not_preprocessed(study, preprocessed):
    shutil.rmtree(preprocessed / "nnUNetPlans_2d_unlabeled")
    with pytest.raises(UserError, match=r"Teacher__2d__fold_0__seed_0 could not start, so no run was started\. None"):
        check(study)
    made = study(trainers=["nnUNetTrainerSupervised"])  # which needs none
    assert preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs()) == []


def test_images_that_were_added_later_are_told(study, raw):
    write_image(raw / "imagesUl" / "u2_0000.nii.gz", 9)
    (note,) = check(study)
    assert "1 of 2 unlabeled cases" in note


def test_labeled_case_that_is_not_preprocessed(study, preprocessed):
    for path in (preprocessed / "nnUNetPlans_2d").glob("p0_frame01.*"):
        path.unlink()
    with pytest.raises(UserError, match=r"train cases that are not among .* p0_frame01"):
        check(study)


def test_data_of_other_plans(study, preprocessed):
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    more = {"transpose_forward": [0, 1, 2], "foreground_intensity_properties_per_channel": {}}
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans | more | {"image_reader_writer": "SimpleITKIO"}))
    (preprocessed / "nnUNetPlans_2d_unlabeled" / RECIPE_FILE).write_text('{"recipe": "another"}')
    with pytest.raises(UserError, match="were preprocessed with other plans"):
        check(study)


def test_plans_that_have_seen_hidden_labels_stop_every_trainer(study, raw, preprocessed, tmp_path, capsys):
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"]["normalization_schemes"] = ["CTNormalization"]
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    words = ["benchmark", "-d", "3", "-c", "2d", "--trainers", "nnUNetTrainerMeanTeacher", "-np", "1"]
    assert cli.main([*words, "-o", str(tmp_path / "out")]) == 2
    assert "Supervised__2d__fold_0__seed_0 could not start" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_weights_of_sam(study, tmp_path):
    (tmp_path / "s.yaml").write_text("sam: {models: [vit_b]}\nvit_b: {checkpoint: /nowhere/sam.pth}\n")
    made = study("--settings", str(tmp_path / "s.yaml"), trainers=["nnUNetTrainerSemiSAM"])
    with pytest.raises(UserError, match=r"SemiSAM__2d.*could not start.*/nowhere/sam\.pth, which is no file"):
        preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs())

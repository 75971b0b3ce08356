"""Export on checkpoints that nnU-Net's own trainer wrote after a real step."""

import json
import os
import pickle
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import prepared_process
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_semisam import cli
from nnunet_semisam.errors import UserError
from nnunet_semisam.model_export import check_weights, export_model, read_checkpoint
from nnunet_semisam.self_training.teacher import Teacher

DATASET_JSON = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "RV": 1, "MYO": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def small_plans():
    """Plans of a three-stage 2D network, with the fields that nnU-Net 2.8.1 reads for training and prediction."""
    network = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * 3,
        "strides": [[1, 1], [2, 2], [2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 16],
        "median_image_size_in_voxels": [16, 16],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
        "batch_dice": True,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    return {
        "dataset_name": "Dataset999_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, 16, 16],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A results folder with one stock checkpoint: a real step, a real validation, nnU-Net's own log and writer."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("nnUNet_results", "nnUNet_preprocessed", "nnUNet_raw"):
            patch.setenv(name, str(results))
        patch.setenv("nnUNet_compile", "0")
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        plans = small_plans() | {"continue_training": False}
        trainer = nnUNetTrainer(plans, "2d", 0, DATASET_JSON, torch.device("cpu"))
        preprocessed = results / "Dataset999_Tiny" / "nnUNetPlans_2d"
        preprocessed.mkdir()
        (preprocessed / "case.b2nd").touch()  # nnU-Net reads off the files' names how they are stored
        trainer.initialize()
        target = torch.randint(0, 3, (2, 1, 16, 16)).float()
        batch = {"data": torch.randn(2, 1, 16, 16), "target": [target, target[..., ::2, ::2]]}
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        trainer.on_train_epoch_end([trainer.train_step(batch)])
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(batch)])
        trainer.on_epoch_end()
        trainer.save_checkpoint(os.path.join(trainer.output_folder, "checkpoint_final.pth"))
    model = results / "Dataset999_Tiny" / "nnUNetTrainer__nnUNetPlans__2d"
    (model / "plans.json").write_text(json.dumps(small_plans()))
    (model / "dataset.json").write_text(json.dumps(DATASET_JSON))
    return results


@pytest.fixture
def results(trained_once, tmp_path, monkeypatch):
    """A copy to change, in which the checkpoint is one of our trainer's, with two folds."""
    shutil.copytree(trained_once, tmp_path / "results")
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    dataset = tmp_path / "results" / "Dataset999_Tiny"
    model = (dataset / "nnUNetTrainer__nnUNetPlans__2d").rename(dataset / "nnUNetTrainerSemiSAM__nnUNetPlans__2d")
    change(
        model / "fold_0" / "checkpoint_final.pth",
        trainer_name="nnUNetTrainerSemiSAM",
        semisam={"settings": {"method": "mean_teacher"}, "student": {"weight": torch.ones(1000)}},
    )
    shutil.copytree(model / "fold_0", model / "fold_1")
    return tmp_path / "results"


@pytest.fixture
def model(results):
    return results / "Dataset999_Tiny" / "nnUNetTrainerSemiSAM__nnUNetPlans__2d"


def change(path, **entries):
    torch.save(read_checkpoint(path) | entries, path)


def test_a_checkpoint_of_nnunet_is_read_without_running_code(trained_once):
    path = trained_once / "Dataset999_Tiny/nnUNetTrainer__nnUNetPlans__2d/fold_0/checkpoint_final.pth"
    checkpoint = read_checkpoint(path)
    with pytest.raises(pickle.UnpicklingError):  # else the list of allowed types would be for nothing
        torch.load(path, weights_only=True)
    assert isinstance(checkpoint["logging"]["mean_fg_dice"][0], np.floating)
    assert checkpoint["init_args"]["configuration"] == "2d"
    assert checkpoint["optimizer_state"]["state"]


def test_a_checkpoint_of_numpy_1_is_read(tmp_path):
    content = {"network_weights": {}, "init_args": {}, "trainer_name": "x", "logging": [np.float32(0.5)]}
    torch.save(content, tmp_path / "new.pth", _use_new_zipfile_serialization=False)
    old = (tmp_path / "new.pth").read_bytes().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    (tmp_path / "old.pth").write_bytes(old)
    assert b"numpy.core.multiarray\n" in old
    assert read_checkpoint(tmp_path / "old.pth")["logging"] == [0.5]


def test_export_is_a_stock_model_that_predicts_as_ours(model, tmp_path, monkeypatch):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    assert export_model(model, tmp_path / "out") == ["0", "1"]
    predictor = nnUNetPredictor(device=torch.device("cpu"), verbose=False)
    predictor.initialize_from_trained_model_folder(str(tmp_path / "out"), (0, 1))
    assert predictor.trainer_name == "nnUNetTrainer"
    weights = read_checkpoint(model / "fold_0" / "checkpoint_final.pth")["network_weights"]
    for parameters in predictor.list_of_parameters:
        assert all(torch.equal(parameters[name], value) for name, value in weights.items())


def test_export_keeps_provenance_and_drops_what_nobody_reads(model, tmp_path):
    (model / "fold_0" / "validation").mkdir()
    (model / "fold_0" / "validation" / "summary.json").touch()
    export_model(model, tmp_path / "out", ["0"])
    checkpoint = read_checkpoint(tmp_path / "out" / "fold_0" / "checkpoint_final.pth")
    assert "optimizer_state" not in checkpoint
    assert set(checkpoint["semisam"]) == {"trainer_name", "settings", "exported_by"}
    assert checkpoint["semisam"]["trainer_name"] == "nnUNetTrainerSemiSAM"
    assert checkpoint["semisam"]["settings"] == {"method": "mean_teacher"}
    assert checkpoint["logging"]["train_losses"]
    assert not (tmp_path / "out" / "fold_1").exists()
    files = {path.name for path in (tmp_path / "out" / "fold_0").rglob("*") if path.is_file()}
    assert files == {"checkpoint_final.pth", "progress.png"}  # no summary.json, which names cases and paths


def test_a_second_network_becomes_a_fold_that_stock_prediction_averages(model, tmp_path):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    path = model / "fold_0" / "checkpoint_final.pth"
    first = read_checkpoint(path)["network_weights"]
    second = {name: value + 0.1 for name, value in first.items()}
    change(path, semisam={"settings": {"method": "cps"}, "method": {"other": second}, "ensemble_members": ["other"]})
    assert export_model(model, tmp_path / "out", ["0"]) == ["0", "1"]
    assert export_model(model, tmp_path / "both", ["0", "1"]) == ["0", "1", "2"]  # fold 1 has one network
    provenance = read_checkpoint(tmp_path / "out" / "fold_1" / "checkpoint_final.pth")["semisam"]
    assert (provenance["network"], provenance["of_fold"]) == ("other", "0")
    predictor = nnUNetPredictor(device=torch.device("cpu"), verbose=False, allow_tqdm=False, use_mirroring=False)
    predictor.initialize_from_trained_model_folder(str(tmp_path / "out"), (0, 1))
    image = torch.randn(1, 1, 16, 16)
    together = predictor.predict_logits_from_preprocessed_data(image)
    alone = []
    for weights in (first, second):
        predictor.list_of_parameters = [weights]
        alone.append(predictor.predict_logits_from_preprocessed_data(image))
    torch.testing.assert_close(together, (alone[0] + alone[1]) / 2)


def test_checked_weights_are_copied_by_who_loads_them_next(model):
    """torch notes "assign" in the state dict itself; a network that is given it then shares its memory."""
    path = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = read_checkpoint(path)
    check_weights(model, checkpoint, path)
    metadata = getattr(checkpoint["network_weights"], "_metadata", {})
    assert not any("assign_to_params_buffers" in entry for entry in metadata.values())


def test_optimizer_stays_on_request(model, tmp_path):
    export_model(model, tmp_path / "out", ["0"], keep_optimizer=True)
    assert read_checkpoint(tmp_path / "out/fold_0/checkpoint_final.pth")["optimizer_state"]["state"]


def test_weights_of_another_network_are_refused_and_nothing_is_left(model, tmp_path):
    change(model / "fold_1" / "checkpoint_final.pth", network_weights={"foreign": torch.ones(1)})
    with pytest.raises(UserError, match="do not fit the network that stock nnU-Net builds"):
        export_model(model, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(model, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "was_run"),))

    path = model / "fold_0" / "checkpoint_final.pth"
    torch.save(read_checkpoint(path) | {"extra": Evil()}, path)
    with pytest.raises(UserError, match=r"is no file of plain weights: .*because a pickle can run any code"):
        export_model(model, tmp_path / "out")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_torn_checkpoint_is_refused(model, tmp_path, size):
    path = model / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match="cannot be read"):
        export_model(model, tmp_path / "out")


def test_another_file_of_torch_is_no_checkpoint(tmp_path):
    torch.save({"weights": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="lacks init_args, network_weights, trainer_name"):
        read_checkpoint(tmp_path / "x.pth")


def test_missing_things_are_named_with_what_is_there(model, tmp_path):
    with pytest.raises(UserError, match="Trained models of this data set: nnUNetTrainerSemiSAM__nnUNetPlans__2d"):
        export_model(model.with_name("nnUNetTrainerOther__nnUNetPlans__2d"), tmp_path / "out")
    with pytest.raises(UserError, match=r"No fold in .* has a checkpoint_other\.pth"):
        export_model(model, tmp_path / "out", checkpoint_name="checkpoint_other.pth")
    with pytest.raises(UserError, match=r"no checkpoint .*fold_4"):
        export_model(model, tmp_path / "out", ["0", "4"])
    (model / "plans.json").unlink()
    with pytest.raises(UserError, match=r"lacks plans\.json"):
        export_model(model, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_existing_output_is_never_overwritten(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UserError, match="exists already"):
        export_model(model, tmp_path / "out")
    (tmp_path / "out" / "mine.txt").unlink()
    export_model(model, tmp_path / "out", ["0"])  # an empty folder is fine
    assert (tmp_path / "out" / "plans.json").is_file()


def test_command_takes_the_named_checkpoint_and_says_how_to_predict(model, tmp_path, capsys):
    change(model / "fold_1" / "checkpoint_best.pth", current_epoch=77)
    arguments = ["-d", "999", "-c", "2d", "-f", "1", "--checkpoint", "checkpoint_best.pth", "-o", str(tmp_path / "out")]
    assert cli.main(["export", *arguments]) == 0
    assert f"-m {tmp_path / 'out'} -f 1" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "out" / "fold_1" / "checkpoint_final.pth")["current_epoch"] == 77


def test_command_reports_mistakes_without_a_traceback(results, tmp_path, capsys):
    assert cli.main(["export", "-d", "4", "-c", "2d", "-o", str(tmp_path / "out")]) == 2
    assert "There is no trained model of dataset 4 in" in capsys.readouterr().err
    arguments = ["-d", "999", "-c", "2d", "-o", str(tmp_path / "out"), "--checkpoint", "fold_0/checkpoint_final.pth"]
    assert cli.main(["export", *arguments]) == 2
    assert "not a path" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["export", "-d", "999", "-c", "2d", "-o", str(tmp_path / "out"), "-f", "first"])


CHECKPOINT = "fold_0/checkpoint_final.pth"


def plans_without_class(model):
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["architecture"]["network_class_name"] = "no.such.Network"
    (model / "plans.json").write_text(json.dumps(plans))


def name_in_architecture(model, where, value):
    plans = json.loads((model / "plans.json").read_text())
    architecture = plans["configurations"]["2d"]["architecture"]
    if where == "network_class_name":
        folder = model / "hub"
        folder.mkdir()
        (folder / "hubconf.py").write_text(f"open({str(model / 'was_run')!r}, 'w')\ndef m(**kwargs): pass\n")
        arguments = {"repo_or_dir": str(folder), "model": "m", "source": "local", "trust_repo": True}
        architecture |= {"network_class_name": value, "arch_kwargs": arguments, "_kw_requires_import": []}
    else:
        architecture["arch_kwargs"][where] = value
    (model / "plans.json").write_text(json.dumps(plans))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("network_class_name", "torch.hub.load"),
        ("network_class_name", "dynamic_network_architectures.architectures.unet.torch.hub.load"),
        ("nonlin", "torch.nn.functional.torch.hub.load"),
        ("conv_op", "os.system"),
    ],
)
def test_plans_that_name_a_function_run_nothing(model, tmp_path, where, value):
    """nnU-Net calls what the architecture names, with the arguments in the plans."""
    name_in_architecture(model, where, value)
    with pytest.raises(UserError, match=r"the architecture of configuration 2d names .*only classes of dynamic"):
        export_model(model, tmp_path / "out", ["0"])
    assert not (model / "was_run").exists()


def test_plans_of_an_absurd_depth_build_nothing(model, tmp_path):
    name_in_architecture(model, "n_conv_per_stage", [10**9, 2])
    with pytest.raises(UserError, match=r"has n_conv_per_stage \[1000000000, 2\]. At most 100"):
        export_model(model, tmp_path / "out", ["0"])


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def test_a_teacher_runs_nothing_that_its_checkpoint_or_its_plans_name(model, tmp_path):
    """A folder of self-training that somebody else began is continued with the models in it."""
    run = SimpleNamespace(model_folder=model, fold="0")
    whole = torch.load(model / CHECKPOINT, weights_only=False)
    torch.save(whole | {"init_args": Evil(tmp_path / "was_run")}, model / CHECKPOINT)
    with pytest.raises(UserError, match=r"checkpoint_final\.pth is no file of plain weights"):
        Teacher(run, "cpu", mirroring=False)
    torch.save(whole, model / CHECKPOINT)
    name_in_architecture(model, "network_class_name", "torch.hub.load")
    with pytest.raises(UserError, match=r"names 'torch\.hub\.load'"):
        Teacher(run, "cpu", mirroring=False)
    assert not (tmp_path / "was_run").exists()
    assert not (model / "was_run").exists()


def absurd_network(model):
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 10**9]
    (model / "plans.json").write_text(json.dumps(plans))


def torn_plans(model):
    (model / "plans.json").write_text('{"a')


def dataset_without_labels(model):
    (model / "dataset.json").write_text("{}")


def not_finite(model):
    weights = read_checkpoint(model / CHECKPOINT)["network_weights"]
    next(iter(weights.values())).view(-1)[0] = float("nan")
    change(model / CHECKPOINT, network_weights=weights)


def member_not_finite(model):
    weights = read_checkpoint(model / CHECKPOINT)["network_weights"]
    other = {name: value * float("inf") for name, value in weights.items()}
    change(model / CHECKPOINT, semisam={"method": {"other": other}, "ensemble_members": ["other"]})


def member_unknown(model):
    change(model / CHECKPOINT, semisam={"method": {}, "ensemble_members": ["other"]})


def member_number(model):
    change(model / CHECKPOINT, semisam={"method": {}, "ensemble_members": 5})


def pipe(model):
    (model / CHECKPOINT).unlink()
    os.mkfifo(model / CHECKPOINT)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (plans_without_class, r"plans\.json: the architecture of configuration 2d names 'no\.such\.Network'"),
        (absurd_network, r"do not fit the network .*plans\.json"),
        (torn_plans, r"plans\.json cannot be read as json"),
        (dataset_without_labels, r"dataset\.json cannot be used"),
        (not_finite, r"checkpoint_final\.pth holds values that are not finite"),
        (member_not_finite, r"checkpoint_final\.pth holds values that are not finite"),
        (member_unknown, r"names networks .*'other'.* that it does not hold"),
        (member_number, r"names networks .*5.* that it does not hold"),
        (pipe, "No fold in .* has a checkpoint_final|is a pipe"),
        (lambda model: change(model / CHECKPOINT, network_weights=[1]), "network_weights is a list, not a dict"),
        (lambda model: change(model / CHECKPOINT, network_weights={1: torch.ones(1)}), "do not fit the network"),
        (lambda model: change(model / CHECKPOINT, network_weights={"a": "b"}), "do not fit the network"),
        (lambda model: change(model / CHECKPOINT, init_args=[]), "init_args is a list"),
        (lambda model: change(model / CHECKPOINT, init_args={}), "init_args names no configuration"),
        (lambda model: change(model / CHECKPOINT, semisam="x"), "the entry semisam must be a dict"),
    ],
)
def test_what_cannot_be_exported_is_named_by_its_own_file_and_nothing_is_left(model, tmp_path, harm, words):
    harm(model)
    with pytest.raises(UserError, match=words) as caught:
        export_model(model, tmp_path / "out", ["0"])
    assert ".tmp" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.floats(0, 1), length=st.integers(0, 200), content=st.binary(max_size=200), cut=st.booleans())
def test_damaged_bytes_are_read_as_they_were_or_refused(tmp_path, start, length, content, cut):
    path = tmp_path / "checkpoint.pth"
    torch.save({"network_weights": {"a": torch.arange(9.0)}, "init_args": {}, "trainer_name": "x"}, path)
    whole = path.read_bytes()
    place = int(start * len(whole))
    path.write_bytes(whole[:place] + content + (b"" if cut else whole[place + length :]))
    try:
        checkpoint = read_checkpoint(path)
    except UserError as refusal:
        checkpoint, message = None, str(refusal)
    assert str(path) in message if checkpoint is None else isinstance(checkpoint["network_weights"], dict)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_full_disk_leaves_nothing(model, tmp_path, monkeypatch, error):
    def full(*arguments, **options):
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"out could not be written .*nothing is left of it\. Make room"):
        export_model(model, tmp_path / "out", ["0"])
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_output_in_the_trained_model_is_refused(model):
    with pytest.raises(UserError, match="lies in the trained model"):
        export_model(model, model / "fold_0" / "out", ["0"])


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "FILE/out"],
        ["-o", "FILE"],
        ["-o", ""],
        ["-o", "x" * 300],
        ["-o", "new", "-tr", "../x"],
        ["-o", "new", "-p", ""],
        ["-o", "new", "-c", ".."],
        ["-o", "new", "--checkpoint", ""],
        ["-o", "new", "--checkpoint", ".."],
    ],
)
def test_odd_arguments_end_in_one_paragraph(model, tmp_path, monkeypatch, capsys, words):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    words = [word.replace("FILE", "file") for word in words]
    assert cli.main(["export", "-d", "999", "-c", "2d", *words]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("nnunet-semisam export: ")
    assert "\n" not in message


def export_and_die(model, out):
    torch.save = lambda *words, **options: os.kill(os.getpid(), signal.SIGKILL)
    export_model(model, out, ["0"])


def test_a_killed_export_leaves_no_folder_of_its_name_and_the_next_one_clears_up(model, tmp_path):
    log, words = tmp_path / "results" / "log", (model, tmp_path / "out")
    status = prepared_process.run(export_and_die, *words, environment=os.environ, log=log)
    assert status == -signal.SIGKILL, log.read_text()
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out.*.tmp"))
    export_model(model, tmp_path / "out", ["0"])
    assert {path.name for path in tmp_path.iterdir()} == {"results", "out"}

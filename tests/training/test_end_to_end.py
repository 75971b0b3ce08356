"""The main job through nnU-Net's own predictor: what a user does after training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_nnunet
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_semisam.settings.config import SemiSAMConfig


@pytest.mark.parametrize("settings", [{"method": "mean_teacher"}, {"method": "mean_teacher", "use_sam": True}])
def test_stock_prediction_needs_nothing_but_the_class_name(build_trainer, tiny_dataset, settings, tmp_path):
    trainer = build_trainer(**settings, sam_start=0.0, sam_preview_cases=1)
    trainer.run_training()
    checkpoint_file = Path(trainer.output_folder) / "checkpoint_final.pth"
    checkpoint = torch.load(checkpoint_file, weights_only=False)
    name = "nnUNetTrainerSemiSAM" if settings.get("use_sam") else "nnUNetTrainerMeanTeacher"
    torch.save(checkpoint | {"trainer_name": name}, checkpoint_file)  # the test's own class has no file to be found in
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    image, properties = predictor.plans_manager.image_reader_writer_class().read_images(
        [str(tiny_dataset / "raw" / tiny_nnunet.DATASET / "imagesUl" / "free0_0000.nii.gz")]
    )
    label = predictor.predict_single_npy_array(image, properties)
    assert label.shape == tiny_nnunet.SHAPE
    assert set(np.unique(label)) <= {0, 1, 2}


@pytest.mark.usefixtures("sam_active")
def test_sam_stage_runs_between_epochs_and_leaves_its_traces(build_trainer):
    trainer = build_trainer(method="mean_teacher", use_sam=True, sam_start=0.0, sam_preview_cases=1, num_epochs=3)
    trainer.run_training()
    log = next(Path(trainer.output_folder).glob("training_log*.txt")).read_text()
    assert "SAM calibration on labeled cases" in log
    assert trainer.pseudo_labels.current_round == 2
    assert set(trainer.pseudo_labels.store.rounds()) >= {2}
    assert list((Path(trainer.output_folder) / "semisam_previews").glob("round_002_*.png"))
    assert {"sam", "sam_weight", "sam_weighted", "sam_trusted"} <= trainer.semisam_log.rows[0].keys()


@pytest.mark.usefixtures("sam_active")
def test_sam_masks_change_the_student(build_trainer):
    """The SAM term has a gradient that arrives: the same run with another weight ends elsewhere."""
    ends = []
    for weight in (0.5, 0.0):
        settings = {"use_sam": True, "sam_start": 0.0, "sam_trust_threshold": 0.0, "sam_preview_cases": 0}
        trainer = build_trainer(method="mean_teacher", sam_weight=weight, consistency_weight=0.0, **settings)
        trainer.run_training()
        ends.append(trainer.network.state_dict())
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize("use_sam", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"channels": 2}, id="two channels"),
        pytest.param(
            {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}, id="regions"
        ),
        pytest.param({"labels": {"background": 0, "shell": 1, "core": 2, "ignore": 3}}, id="ignore label"),
    ],
)
@pytest.mark.usefixtures("sam_active")
def test_every_kind_of_dataset_trains(tmp_path_factory, monkeypatch, options, use_sam, configuration):
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

    root = _special_dataset(tmp_path_factory, options, monkeypatch)
    settings = {"num_epochs": 1, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1, "seed": 0}
    settings |= {"maturity_dice": 0.0, "area_prior_factor": 1e9, "consistency_start": 0.0, "sam_start": 0.0}

    class nnUNetTrainerTest(SemiSupervisedTrainer):  # noqa: N801
        config = replace(SemiSAMConfig(), use_sam=use_sam, sam_preview_cases=0, **settings)

    folder = root / "preprocessed" / tiny_nnunet.DATASET
    plans = json.loads((folder / f"{tiny_nnunet.PLANS}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainerTest(plans, configuration, 0, dataset_json, torch.device("cpu"))
    trainer.run_training()
    row = trainer.semisam_log.rows[0]
    assert row["consistency"] > 0
    assert np.isfinite(list(row.values())).all()


_MADE: dict[str, Path] = {}


def _special_dataset(factory: pytest.TempPathFactory, options: dict, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make each kind of dataset once."""
    key = str(sorted(options))
    root = _MADE.get(key) or factory.mktemp("special")
    for name, value in tiny_nnunet.environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *args: None)
    if key not in _MADE:
        monkeypatch.setenv("nnUNet_n_proc_DA", "1")
        tiny_nnunet.make(root, ("2d", "3d_fullres"), **options)
        monkeypatch.setenv("nnUNet_n_proc_DA", "0")
        _MADE[key] = root
    return root

"""BHSD with all its oddities, from the download to a segmentation of its test cases, with nnU-Net in between."""

from __future__ import annotations

import json
from pathlib import Path

import fake_bhsd
import numpy as np
import pytest
import SimpleITK
import tiny_nnunet
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_semisam.settings import Settings

DATASET = "Dataset192_BHSD"


@pytest.fixture
def converted(tmp_path, monkeypatch, convert_with) -> Path:
    """The odd download, with a file that cannot be read left out, planned and preprocessed; returns nnU-Net's root."""
    monkeypatch.setattr(fake_bhsd, "SHAPE_XYZ", (40, 36, 6))  # nnU-Net plans nothing for the usual 10 x 8 x 4
    for name, value in tiny_nnunet.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
    download = fake_bhsd.write_bhsd(tmp_path)
    fake_bhsd.make_odd(download)
    broken = fake_bhsd.break_file(download).name.removesuffix(".nii.gz")
    convert_with("bhsd", "-i", str(download), "--val", "1", "--labeled", "2", "--leave-out", broken)
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")  # the planner refuses 0
    tiny_nnunet.plan(tmp_path / "preprocessed", DATASET, patch=(4, 32, 32))
    tiny_nnunet.preprocess(tmp_path / "preprocessed", tmp_path / "raw", ("3d_fullres",), DATASET)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    return tmp_path


@pytest.mark.usefixtures("sam_active")
def test_odd_download_trains_with_sam_and_predicts_its_test_cases(converted, monkeypatch):
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *args: None)

    class nnUNetTrainerSemiSAM(SemiSupervisedTrainer):  # noqa: N801
        settings = Settings.of(
            num_epochs=1,
            num_iterations_per_epoch=2,
            num_val_iterations_per_epoch=1,
            seed=0,
            use_sam=True,
            mean_teacher={"start": 0.0},
            gate={"dice": 0.0, "area_factor": 1e9},
            sam={"start": 0.0, "preview_cases": 0},
        )

    folder = converted / "preprocessed" / DATASET
    plans = json.loads((folder / f"{tiny_nnunet.PLANS}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainerSemiSAM(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
    trainer.run_training()
    assert trainer.semisam_log.rows[0]["unlabeled_loss"] > 0
    assert trainer.pseudo_labels.current_round == 0

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    raw, predictions = converted / "raw" / DATASET, converted / "predictions"
    predictions.mkdir()
    predictor.predict_from_files_sequential(str(raw / "imagesTs"), str(predictions))
    ground_truths = sorted((raw / "labelsTs").iterdir())
    assert [path.name for path in sorted(predictions.glob("*.nii.gz"))] == [path.name for path in ground_truths]
    for ground_truth in ground_truths:
        prediction = SimpleITK.ReadImage(str(predictions / ground_truth.name))
        assert prediction.GetSize() == SimpleITK.ReadImage(str(ground_truth)).GetSize()
        assert set(np.unique(SimpleITK.GetArrayFromImage(prediction))) <= set(range(6))

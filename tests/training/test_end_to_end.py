"""The main job through nnU-Net's own predictor: what a user does after training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_nnunet
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from small_nano import ANY_MASK

PSEUDO_LABEL_COLUMNS = [
    "pseudo_label_loss",
    "pseudo_label_weight",
    "pseudo_label_weighted",
    "pseudo_label_confident",
]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("nnUNetTrainerMeanTeacher", {"method": "mean_teacher"}),
        ("nnUNetTrainerFixMatch", {"method": "fixmatch"}),
        ("nnUNetTrainerCPS", {"method": "cps"}),
        ("nnUNetTrainerBCP", {"method": "bcp"}),
        ("nnUNetTrainerCPCSAM", {"method": "cpc_sam"}),
        ("nnUNetTrainerUAMT", {"method": "ua_mt"}),
        ("nnUNetTrainerDAN", {"method": "dan"}),
        ("nnUNetTrainerICT", {"method": "ict"}),
        ("nnUNetTrainerURPC", {"method": "urpc"}),
        ("nnUNetTrainerUniMatch", {"method": "unimatch"}),
        ("nnUNetTrainerMCICSAM", {"method": "mcicsam", "use_sam": True, "sam": {"preview_cases": 0}}),
        ("nnUNetTrainerSSS", {"method": "sss", "use_sam": True, "nano": {"filter": "chains", "prompt": "box"}}),
        (
            "nnUNetTrainerSemiSAMPlus",
            {"use_sam": True, "sam": {"loss": "confidence_aware"}, "nano": {"further_prompts": ["mask"]}},
        ),
        ("nnUNetTrainerSemiSAM", {"use_sam": True, "sam": {"start": 0.0, "preview_cases": 1}}),
        ("nnUNetTrainerSemiSAM_paper", {"use_sam": True, "sam": {"start": 0.0, "loss": "mse"}}),
    ],
)
def test_stock_prediction_needs_nothing_but_the_class_name(build_trainer, tiny_dataset, name, settings):
    trainer = build_trainer(**settings)
    trainer.run_training()
    checkpoint_file = Path(trainer.output_folder) / "checkpoint_final.pth"
    checkpoint = torch.load(checkpoint_file, weights_only=False)
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
    trainer = build_trainer(use_sam=True, sam={"start": 0.0, "preview_cases": 1}, num_epochs=3)
    trainer.run_training()
    assert (Path(trainer.output_folder) / "semisam_rounds.jsonl").is_file()
    assert trainer.pseudo_labels.current_round == 2
    assert set(trainer.pseudo_labels.store.rounds()) >= {2}
    assert list((Path(trainer.output_folder) / "semisam_previews").glob("round_002_*.png"))
    assert set(PSEUDO_LABEL_COLUMNS) <= trainer.semisam_log.rows[0].keys()


@pytest.mark.usefixtures("sam_active")
def test_sam_masks_change_the_student(build_trainer):
    """The SAM term has a gradient that arrives: the same run with another weight ends elsewhere."""
    ends = []
    for weight in (0.5, 0.0):
        sam = {"start": 0.0, "confidence_threshold": 0.0, "preview_cases": 0, "weight": weight}
        trainer = build_trainer(use_sam=True, sam=sam, mean_teacher={"weight": 0.0})
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
@pytest.mark.usefixtures("sam_active", "small_sam")
def test_every_kind_of_dataset_trains_with_and_without_sam(
    tmp_path_factory, monkeypatch, options, use_sam, configuration
):
    from nnunet_semisam.settings import Settings
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

    root = _special_dataset(tmp_path_factory, options, monkeypatch)
    sam = {"sam": {"start": 0.0, "preview_cases": 0}, **ANY_MASK} if use_sam else {}

    class nnUNetTrainerTest(SemiSupervisedTrainer):  # noqa: N801
        settings = Settings.of(**tiny_nnunet.always_active(num_epochs=1, seed=0, use_sam=use_sam, **sam))

    folder = root / "preprocessed" / tiny_nnunet.DATASET
    plans = json.loads((folder / f"{tiny_nnunet.PLANS}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainerTest(plans, configuration, 0, dataset_json, torch.device("cpu"))
    trainer.run_training()
    row = trainer.semisam_log.rows[0]
    assert row["unlabeled_loss"] > 0
    assert np.isfinite(list(row.values())).all()


@pytest.mark.usefixtures("sam_active")
def test_prototypes_train_and_what_they_remember_is_resumed(build_trainer):
    settings = {
        "use_sam": True,
        "sam": {"models": ["prototypes"], "start": 0.0, "preview_cases": 1},
        "prototypes": {"where": "everywhere"},
        "num_epochs": 2,
    }
    trainer = build_trainer(**settings)
    trainer.run_training()
    assert trainer.pseudo_labels.current_round == 1
    remembered = trainer.pseudo_labels.stage.ensemble.members[0].memory.cases
    assert set(remembered) == set(trainer.pseudo_labels._last_round)
    resumed = build_trainer(**settings)
    resumed.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    resumed._build_unlabeled_loader()
    again = resumed.pseudo_labels.stage.ensemble.members[0].memory.cases
    assert again.keys() == remembered.keys()
    for case, summary in again.items():
        assert torch.allclose(summary.prototypes, remembered[case].prototypes, atol=1e-3)


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


@pytest.mark.parametrize("method", ["fixmatch", "cps"])
@pytest.mark.usefixtures("sam_active", "small_sam")
def test_a_student_with_deep_supervision_prompts_and_goes_on_training(build_trainer, method):
    trainer = build_trainer(
        method=method, use_sam=True, sam={"start": 0.0, "preview_cases": 0}, num_epochs=2, **ANY_MASK
    )
    trainer.run_training()
    assert trainer.pseudo_labels.current_round == 1
    assert trainer.network.decoder.deep_supervision
    assert np.isfinite(trainer.semisam_log.rows[-1]["pseudo_label_loss"])

"""Labeled cases of which only some voxels are annotated, or none: nnU-Net's ignore label."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK
import tiny_nnunet
import torch

from nnunet_semisam.gate.class_gate import ClassGate, GateSettings
from nnunet_semisam.labels import Labels
from nnunet_semisam.training.partial_annotation import judge_annotation

IGNORE = 3
LABELS = {"background": 0, "shell": 1, "core": 2, "ignore": IGNORE}
TRAINED = tiny_nnunet.SPLITS[0]["train"]


class Cases:
    """Preprocessed labeled cases that are in memory."""

    def __init__(self, *labels):
        self.labels, self.identifiers = labels, [str(index) for index in range(len(labels))]

    def load_case(self, case):
        return None, self.labels[int(case)][None], None, {}


def judged(*labels, has_ignore_label=True):
    gate, told = ClassGate(GateSettings(), Labels.of_classes(3)), []
    manager = SimpleNamespace(has_ignore_label=has_ignore_label, ignore_label=IGNORE)
    judge_annotation(Cases(*labels), manager, gate, told.append)
    return gate.area.fair, told


def sparse(*kept):
    label = np.full((20, 6, 6), IGNORE)
    label[list(kept)] = 0
    return label


def test_evenly_spread_slices_tell_shares_and_middle_slices_or_scribbles_only_bounds():
    assert judged(sparse(2, 7, 12, 17)) == (True, [])
    assert judged(np.zeros((4, 6, 6))) == (True, [])
    fair, told = judged(sparse(9, 10, 11), sparse(10))
    assert not fair
    assert "bounds only" in told[0]
    scribbles = np.full((20, 6, 6), IGNORE)
    scribbles[:, 2, 2:4] = 1
    assert not judged(scribbles)[0]


def test_without_an_ignore_label_nothing_is_read():
    assert judged(None, has_ignore_label=False) == (True, [])


@pytest.mark.usefixtures("sam_active")
def test_training_in_2d_with_a_sparse_case_and_one_without_any_labeled_slice(tmp_path, monkeypatch):
    """Nothing crashes, every number is finite, and what is under the ignore label has no influence."""
    for name, value in tiny_nnunet.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *args: None)
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    tiny_nnunet.write_raw(tmp_path / "raw", labels=LABELS)
    raw = tmp_path / "raw" / tiny_nnunet.DATASET
    for case, kept in ((TRAINED[0], [1, 4, 7]), (TRAINED[1], [])):
        file = raw / "labelsTr" / f"{case}.nii.gz"
        label = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
        hidden = np.full_like(label, IGNORE)
        hidden[kept] = label[kept]
        tiny_nnunet.write(hidden, file)
    (tmp_path / "preprocessed").mkdir()
    tiny_nnunet.plan(tmp_path / "preprocessed")
    tiny_nnunet.preprocess(tmp_path / "preprocessed", tmp_path / "raw", ("2d",))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")

    from nnunet_semisam.settings import Settings
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

    class nnUNetTrainerTest(SemiSupervisedTrainer):  # noqa: N801
        settings = Settings.of(
            **tiny_nnunet.always_active(
                num_epochs=1, num_iterations_per_epoch=4, use_sam=True, sam={"start": 0.0, "preview_cases": 0}
            )
        )

    folder = tmp_path / "preprocessed" / tiny_nnunet.DATASET
    plans = json.loads((folder / f"{tiny_nnunet.PLANS}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainerTest(plans, "2d", 0, dataset_json, torch.device("cpu"))
    with pytest.warns(UserWarning, match="No annotated pixels"):
        trainer.run_training()
    assert os.path.exists(os.path.join(trainer.output_folder, "checkpoint_final.pth"))
    assert trainer.gate.area.fair  # slices 1, 4 and 7 of eight
    row = trainer.semisam_log.rows[0]
    assert row["unlabeled_loss"] > 0
    assert row["pseudo_label_weight"] > 0
    assert np.isfinite(list(row.values())).all()

"""A whole training with a tiny SAM 2: single slices, objects followed, labels that travel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_nnunet
from tiny_sam2 import build_tiny_sam2

from nnunet_semisam.pseudo_labels import round_log

MODELS = ["sam2.1_tiny", "propagation", "label_propagation"]


@pytest.fixture
def settings(tmp_path):
    weights = tmp_path / "sam2"
    build_tiny_sam2().save_pretrained(weights)
    return {
        "method": "sss",
        "use_sam": True,
        "sam": {"models": MODELS, "start": 0.0, "preview_cases": 1},
        "sam2.1_tiny": {"checkpoint": str(weights), "filter": "chains", "prompt": "box", "refinement": "none"},
        "propagation": {"checkpoint": str(weights), "prompt": "box", "max_slices": 2},
        "label_propagation": {"checkpoint": str(weights), "memory_slices": 2, "labeled_cases": 1, "insertions": 1},
        "num_epochs": 2,
        "num_iterations_per_epoch": 1,
    }


@pytest.fixture
def read_labels(monkeypatch) -> list[str]:
    """Names of the cases whose labels were read for the stage."""
    from nnunet_semisam.pseudo_labels.labeled_cases import LabeledCases

    read, load = [], LabeledCases.load_label
    monkeypatch.setattr(LabeledCases, "load_label", lambda self, case: read.append(case) or load(self, case))
    return read


def stop_after_the_first_epoch(trainer) -> None:
    trainer.on_epoch_end = lambda end=trainer.on_epoch_end: (end(), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()


@pytest.mark.usefixtures("sam_active")
def test_sss_trains_with_sam_2_and_its_memory_and_goes_on_after_a_stop(build_trainer, settings, read_labels):
    first = build_trainer(**settings)
    stop_after_the_first_epoch(first)
    folder = Path(first.output_folder)
    assert first.pseudo_labels.current_round == 0
    resumed = build_trainer(resume=True, **settings)
    resumed.load_checkpoint(str(folder / "checkpoint_latest.pth"))
    resumed.run_training()
    assert [member.name for member in resumed.pseudo_labels.stage.ensemble.members] == MODELS
    assert resumed.pseudo_labels.current_round == 1
    assert (folder / "checkpoint_final.pth").is_file()
    assert np.isfinite([value for row in resumed.semisam_log.rows for value in row.values()]).all()
    training = set(resumed.pseudo_labels.labeled.cases)
    assert set(read_labels) <= training
    assert not training & set(tiny_nnunet.UNLABELED)


def test_the_calibration_leaves_out_a_sam_of_random_weights(build_trainer, settings):
    trainer = build_trainer(**settings | {"num_epochs": 1})
    trainer.run_training()
    (record,) = round_log.read(Path(trainer.output_folder)).calibrations
    assert [(entry.generalist, entry.name) for entry in record.classes] == [(m, c) for m in MODELS for c in "12"]
    assert all(entry.weight == 0 for entry in record.classes)
    assert all(entry.dice_generalist < 0.6 for entry in record.classes)

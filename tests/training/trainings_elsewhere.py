"""Trainings on a device that is not the CPU; ``test_other_device.py`` runs them in a process of their own.

Every tensor must be where it belongs, or a training stops. The results are those of the CPU, bit for bit, since the
device computes as the CPU does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import other_device
import pytest
import torch
from small_nano import ANY_MASK
from tiny_students import LEARNING

from nnunet_semisam.generalists.case_memory import CaseMemory, CaseSummary

SETTINGS = {
    "use_sam": True,
    **ANY_MASK,
    "sam": {"start": 0.0, "preview_cases": 1, "confidence_threshold": 0.0},
    "num_epochs": 2,
    "mean_teacher": {
        "histogram_matching_probability": 1.0,
        "labeled_mix_probability": 1.0,
        "deep_supervision": True,
        "confidence": 0.0,
    },
}


@pytest.mark.usefixtures("sam_active", "small_sam")
def test_a_training_and_its_resumption_are_those_of_the_cpu(monkeypatch, build_trainer, tmp_path):
    elsewhere = other_device.use(monkeypatch)
    rows, weights = [], []
    for device in (torch.device("cpu"), elsewhere):
        monkeypatch.setenv("nnUNet_results", str(tmp_path / device.type))
        first = build_trainer(device=device, **SETTINGS)
        first.run_training()
        resumed = build_trainer(device=device, resume=True, **SETTINGS)
        resumed.load_checkpoint(str(Path(first.output_folder) / "checkpoint_final.pth"))
        resumed.num_epochs = 3
        resumed.run_training()
        rows.append(resumed.semisam_log.rows)
        weights.append({key: value.cpu() for key, value in resumed.network.state_dict().items()})
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3
    assert rows[1][-1]["pseudo_label_loss"] > 0
    torch.testing.assert_close(*weights, rtol=0, atol=0)


@pytest.mark.parametrize("method", LEARNING)
@pytest.mark.usefixtures("small_sam")
def test_every_method_trains(monkeypatch, build_trainer, method):
    device = other_device.use(monkeypatch)
    trainer = build_trainer(method=method, device=device, picture=True, **{method: {"confidence": 0.0}})
    trainer.run_training()
    rows = trainer.semisam_log.rows
    assert [row["epoch"] for row in rows] == [0, 1]
    for row in rows:  # adversarial and pyramid losses are further losses, and know no confidence
        assert row["unlabeled_extra"] > 0 or (row["unlabeled_loss"] > 0 and row["unlabeled_confidence"] > 0)
    assert np.isfinite([list(row.values()) for row in rows]).all()


def test_what_a_checkpoint_remembers_is_compared_on_the_cpu(monkeypatch):
    """nnU-Net reads checkpoints to the device of the training; features of cases lie on the CPU."""
    device = other_device.use(monkeypatch)
    memory, resumed = CaseMemory("sam"), CaseMemory("sam")
    near, far = torch.tensor([1.0, 0.1]), torch.tensor([0.0, 1.0])
    memory.cases = {name: CaseSummary(each[None], each, 0.1) for name, each in (("near", near), ("far", far))}
    state = memory.state_dict()
    for content in state["cases"].values():
        content |= {name: content[name].to(device) for name in ("prototypes", "overall")}
    resumed.load_state_dict(state)
    ((nearest, _),) = resumed.neighbours("new", torch.tensor([1.0, 0.0]), 0.5, {}, 1)
    torch.testing.assert_close(nearest.overall, near, atol=1e-3, rtol=0)

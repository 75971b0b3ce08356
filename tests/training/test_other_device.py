"""Trainings on a device that is not the CPU: every tensor must be where it belongs, or the training stops.

The results are those of the CPU, bit for bit, since the device computes as the CPU does.
"""

from __future__ import annotations

from pathlib import Path

import other_device
import pytest
import torch

SETTINGS = {
    "use_sam": True,
    "sam": {"start": 0.0, "preview_cases": 1, "confidence_threshold": 0.0},
    "num_epochs": 2,
    "mean_teacher": {
        "histogram_matching_probability": 1.0,
        "labeled_mix_probability": 1.0,
        "deep_supervision": True,
        "confidence": 0.0,
    },
}


@pytest.mark.usefixtures("sam_active")
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

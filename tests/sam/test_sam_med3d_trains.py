"""SAM-Med3D beside nano in a training, from settings to pseudo-labels, and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_semisam.trainers.nnUNetTrainerSemiSAMPlus import nnUNetTrainerSemiSAMPlus
from small_backends import SMALL

from nnunet_semisam.generalists.tiled_sam import TiledSAMGeneralist
from nnunet_semisam.pseudo_labels.round_log import FILE_NAME
from nnunet_semisam.sam.families import FAMILIES

PLUS = nnUNetTrainerSemiSAMPlus.settings


def rounds_of(trainer) -> list[dict]:
    lines = (Path(trainer.output_folder) / FILE_NAME).read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.usefixtures("sam_active")
def test_two_generalists_teach_together_and_go_on_after_a_stop(build_trainer, tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "sam_med3d", SMALL["sam_med3d"].row)
    weights = SMALL["sam_med3d"].save(tmp_path / "sam_med3d.pth")
    plus = PLUS.block("sam")
    settings = {
        "use_sam": True,
        "sam": {
            "models": ["nano", "sam_med3d"],
            "loss": plus.loss,
            "cases_per_refresh": 1,
            "calibration_cases": 1,
            "preview_cases": 1,
        },
        "nano": {"prompt": "points"},
        "sam_med3d": {"checkpoint": str(weights)},
        "components": {"max_components": 2},
        "rejection": {"factor": 1e9},  # random weights draw no mask of the right size
        "num_epochs": 2,
    }
    first = build_trainer("3d_fullres", **settings)

    def stop() -> None:
        if first.current_epoch == 1:
            raise KeyboardInterrupt
        on_epoch_end()

    on_epoch_end, first.on_epoch_end = first.on_epoch_end, stop
    with pytest.raises(KeyboardInterrupt):
        first.run_training()
    names = [member.name for member in first.pseudo_labels.stage.ensemble.members]
    assert names == ["nano", "sam_med3d"]
    assert isinstance(first.pseudo_labels.stage.ensemble.members[1], TiledSAMGeneralist)
    calibration = next(line for line in rounds_of(first) if line["kind"] == "calibration")
    assert {entry["generalist"] for entry in calibration["classes"]} == set(names)
    cached = list(Path(first.preprocessed_dataset_folder_base).rglob("tiles64-1.5mm-0.5-channel0/*-tile0000.npz"))
    assert len(cached) >= 2
    case = next(line for line in rounds_of(first) if line["kind"] == "case")
    assert sum(case["prompts"]) > 0

    resumed = build_trainer("3d_fullres", resume=True, **settings)
    resumed.load_checkpoint(str(Path(first.output_folder) / "checkpoint_latest.pth"))
    assert resumed.current_epoch == 1
    resumed.run_training()
    assert [line["round"] for line in rounds_of(resumed) if line["kind"] == "round"] == [0, 1, 1]
    assert set(resumed.pseudo_labels.stage.calibration.generalists) == set(names)
    assert np.isfinite(list(resumed.semisam_log.rows[-1].values())).all()
    assert all(torch.isfinite(parameter).all() for parameter in resumed.network.parameters())

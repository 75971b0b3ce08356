"""``kill -9`` at the worst moments: ``--c`` goes on with teacher and store, and no file is torn."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import killed_training
import prepared_process
import pytest
import tiny_nnunet
import torch

from nnunet_semisam.pseudo_labels.store import PseudoLabelStore

SETTINGS = """
num_epochs: 4
num_iterations_per_epoch: 2
num_val_iterations_per_epoch: 1
save_every: 1
seed: 1
gate: {dice: 0.0, area_factor: 1.0e+9}
mean_teacher: {start: 0.0}
sam: {start: 0.0, refresh_epochs: 1, cases_per_refresh: 2, preview_cases: 0}
rejection: {factor: 1.0e+9}
"""
ARGUMENTS = [str(tiny_nnunet.DATASET_ID), "2d", "0", "-tr", "nnUNetTrainerSemiSAM", "-device", "cpu"]


def train(tmp_path: Path, moment: str | None, calls: int, *more: str) -> tuple[int, str]:
    environment = {**os.environ, "nnUNet_semisam_config": str(tmp_path / "settings.yaml"), "OMP_NUM_THREADS": "1"}
    log = tmp_path / "training.log"
    words = [*ARGUMENTS, *more]
    status = prepared_process.run(
        killed_training.train, moment, calls, tmp_path, words, environment=environment, log=log
    )
    return status, log.read_text()[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "calls"), [("step", 6), ("refresh", 6), ("checkpoint", 4)])
def test_a_killed_training_goes_on(tiny_dataset, tmp_path, moment, calls):
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    status, log = train(tmp_path, moment, calls)
    assert status == -signal.SIGKILL, log
    folder = next((tiny_dataset / "results" / tiny_nnunet.DATASET).glob("nnUNetTrainerSemiSAM__*")) / "fold_0"
    before = torch.load(folder / "checkpoint_latest.pth", weights_only=False)  # whole, whenever the kill came
    assert 1 <= before["current_epoch"] <= 3
    store = PseudoLabelStore(folder / "semisam_store")
    assert before["semisam"]["pseudo_labels"]["round"] in {None, *store.rounds()}

    status, log = train(tmp_path, None, 0, "--c")
    assert status == 0, log
    final = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert final["current_epoch"] == 4
    assert [row["epoch"] for row in final["semisam"]["log"]] == [0, 1, 2, 3]
    assert final["semisam"]["method"]["teacher"]["step"] == 8  # two steps in each of four epochs: none lost or twice
    assert not list(folder.glob(".*.tmp"))
    assert not list(store.root.glob("*.partial"))
    for round_index in store.rounds():
        assert json.loads((store.folder(round_index) / "provenance.json").read_text())["round"] == round_index
    assert final["semisam"]["pseudo_labels"]["round"] in {None, *store.rounds()}

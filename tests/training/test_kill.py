"""``kill -9`` at the worst moments: ``--c`` goes on with teacher and store, and no file is torn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

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
"""
ARGUMENTS = [str(tiny_nnunet.DATASET_ID), "2d", "0", "-tr", "nnUNetTrainerSemiSAM", "-device", "cpu"]

# Runs nnU-Net's own training command; `moment` names the function that kills the process, and at which call.
DRIVER = """
import multiprocessing, os, signal, sys

def arm(moment, calls):
    import nnunet_semisam.training.trainer, nnunet_semisam.pseudo_labels.stage
    owner, name = {
        "step": (nnunet_semisam.training.trainer.SemiSupervisedStep, "__call__"),
        "refresh": (nnunet_semisam.pseudo_labels.stage.PseudoLabelStage, "refresh_case"),
        "checkpoint": (os, "replace"),
    }[moment]
    original, count = getattr(owner, name), 0
    def counted(*args, **kwargs):
        nonlocal count
        count += name != "replace" or os.path.basename(args[1]).startswith("checkpoint_")
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(owner, name, counted)

if __name__ == "__main__":  # a process that nnU-Net spawns imports this file again
    import threads_for_pools
    threads_for_pools.install()
    multiprocessing.cpu_count = lambda: 1
    from nnunetv2.run.run_training import run_training_entry
    from nnunetv2.training.logging.nnunet_logger import LocalLogger
    LocalLogger.plot_progress_png = lambda *args: None  # pictures take longer than these epochs
    import nnunet_semisam.training.training_log
    nnunet_semisam.training.training_log.write_progress_picture = lambda *args: None
    moment, calls = sys.argv.pop(1), int(sys.argv.pop(1))
    if moment != "never":
        arm(moment, calls)
    # make SAM active: on an untrained network the calibration rightly switches it off
    from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable
    from nnunet_semisam.generalists.weights import GeneralistWeights
    CalibrationTable.weights = property(lambda table: (GeneralistWeights.unmeasured(len(table.classes)),))
    run_training_entry()
"""


def train(tmp_path: Path, moment: str, calls: int, *more: str) -> subprocess.CompletedProcess:
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3])),  # of tests and of the checkout
        "nnUNet_semisam_config": str(tmp_path / "settings.yaml"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(driver), moment, str(calls), *ARGUMENTS, *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "calls"), [("step", 6), ("refresh", 6), ("checkpoint", 4)])
def test_a_killed_training_goes_on(tiny_dataset, tmp_path, moment, calls):
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    killed = train(tmp_path, moment, calls)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    folder = next((tiny_dataset / "results" / tiny_nnunet.DATASET).glob("nnUNetTrainerSemiSAM__*")) / "fold_0"
    before = torch.load(folder / "checkpoint_latest.pth", weights_only=False)  # whole, whenever the kill came
    assert 1 <= before["current_epoch"] <= 3
    store = PseudoLabelStore(folder / "semisam_store")
    assert before["semisam"]["pseudo_labels"]["round"] in {None, *store.rounds()}

    resumed = train(tmp_path, "never", 0, "--c")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    final = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert final["current_epoch"] == 4
    assert [row["epoch"] for row in final["semisam"]["log"]] == [0, 1, 2, 3]
    assert final["semisam"]["method"]["teacher"]["step"] == 8  # two steps in each of four epochs: none lost or twice
    assert not list(folder.glob(".*.tmp"))
    assert not list(store.root.glob("*.partial"))
    for round_index in store.rounds():
        assert json.loads((store.folder(round_index) / "provenance.json").read_text())["round"] == round_index
    assert final["semisam"]["pseudo_labels"]["round"] in {None, *store.rounds()}

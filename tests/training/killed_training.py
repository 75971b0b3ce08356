"""nnU-Net's own training command, killed at a chosen moment; ``test_kill.py`` calls it in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path


def train(moment: str | None, calls: int, weights: Path, words: list[str]) -> None:
    """Run ``nnUNetv2_train`` with the words, and kill this process at a call of what ``moment`` names, if any.

    The SAM is the small one, whose weights are written to the folder ``weights``.
    """
    import threads_for_pools

    threads_for_pools.install()
    multiprocessing.cpu_count = lambda: 1
    import pytest
    import small_nano

    small_nano.use(pytest.MonkeyPatch(), weights)
    from nnunetv2.run.run_training import run_training_entry
    from nnunetv2.training.logging.nnunet_logger import LocalLogger

    import nnunet_semisam.training.training_log
    from nnunet_semisam.generalists.weights import GeneralistWeights
    from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable

    # pictures take longer than these epochs
    LocalLogger.plot_progress_png = lambda *args: None
    nnunet_semisam.training.training_log.write_progress_picture = lambda *args: None
    if moment is not None:
        _kill_at(moment, calls)
    # make SAM active: on an untrained network the calibration rightly switches it off
    CalibrationTable.weights = property(lambda table: (GeneralistWeights.unmeasured(len(table.classes)),))
    sys.argv = ["nnUNetv2_train", *words]
    run_training_entry()


def _kill_at(moment: str, calls: int) -> None:
    import nnunet_semisam.pseudo_labels.stage
    import nnunet_semisam.training.trainer

    owner, name = {
        "step": (nnunet_semisam.training.trainer.SemiSupervisedStep, "__call__"),
        "refresh": (nnunet_semisam.pseudo_labels.stage.PseudoLabelStage, "refresh_case"),
        "checkpoint": (os, "replace"),
    }[moment]
    original, count = getattr(owner, name), 0

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal count
        count += name != "replace" or os.path.basename(args[1]).startswith("checkpoint_")
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, counted)

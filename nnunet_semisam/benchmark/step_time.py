"""Measure the seconds of a training step on this machine: two short epochs of a trainer, the second one counts.

Called by ``equal_time.py`` as ``python -m nnunet_semisam.benchmark.step_time REPORT.json DATASET CONFIGURATION FOLD
TRAINER PLANS DEVICE``. No checkpoint is written and no case is validated.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.jobs.parent import end_with_parent
from nnunet_semisam.threads import limit_threads

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def main(argv: Sequence[str]) -> None:
    """Train for a moment, and write ``{"seconds_per_step": ...}``."""
    end_with_parent()

    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    report, dataset, configuration, fold, name, plans, device = argv
    limit_threads()
    torch.set_num_threads(multiprocessing.cpu_count() if device == "cpu" else 1)  # as nnUNetv2_train does
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True  # likewise
    trainer = get_trainer_from_args(dataset, configuration, int(fold), name, plans, device=torch.device(device))
    trainer.disable_checkpointing = True
    trainer.on_train_start()
    train_epoch(trainer)  # the first one warms up
    seconds = train_epoch(trainer)
    trainer.on_train_end()
    write_json(Path(report), {"seconds_per_step": seconds / trainer.num_iterations_per_epoch})


def train_epoch(trainer: nnUNetTrainer) -> float:
    """Carry out an epoch as nnU-Net's ``run_training`` does, and return the seconds that its training steps took.

    At the end of the training part losses are on the CPU, so the GPU has finished.
    """
    import torch

    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    start = time.perf_counter()
    steps = range(trainer.num_iterations_per_epoch)
    trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train)) for _ in steps])
    seconds = time.perf_counter() - start
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        steps = range(trainer.num_val_iterations_per_epoch)
        trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val)) for _ in steps])
    trainer.on_epoch_end()
    return seconds


if __name__ == "__main__":
    main(sys.argv[1:])

"""Measure the seconds of a training step on this machine: two short epochs of a trainer, the second one counts.

Called by ``equal_time.py`` as ``python -m nnunet_semisam.benchmark.step_time REPORT.json DATASET CONFIGURATION FOLD
TRAINER PLANS DEVICE``. No checkpoint is written and no case is validated.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.jobs.parent import end_with_parent
from nnunet_semisam.jobs.threads import limit_threads


def main(argv: Sequence[str]) -> None:
    """Train for a moment, and write ``{"seconds_per_step": ...}``."""
    end_with_parent()

    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    report, dataset, configuration, fold, name, plans, device = argv
    limit_threads()
    torch.set_num_threads(multiprocessing.cpu_count() if device == "cpu" else 1)  # as nnUNetv2_train does
    trainer = get_trainer_from_args(dataset, configuration, int(fold), name, plans, device=torch.device(device))
    trainer.disable_checkpointing = True
    times: list[float] = []
    for hook in ("on_train_epoch_start", "on_train_epoch_end"):
        setattr(trainer, hook, _timed(getattr(trainer, hook), times))
    trainer.run_training()
    seconds = (times[-1] - times[-2]) / trainer.num_iterations_per_epoch
    write_json(Path(report), {"seconds_per_step": seconds})


def _timed(hook: Callable, times: list[float]) -> Callable:
    """Return a hook that notes the time when it is done: losses are on the CPU then, so the GPU has finished."""

    def timed(*args: Any) -> Any:
        result = hook(*args)
        times.append(time.perf_counter())
        return result

    return timed


if __name__ == "__main__":
    main(sys.argv[1:])

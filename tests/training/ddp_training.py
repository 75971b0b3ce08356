"""nnU-Net's own training of two processes (``-num_gpus 2``), on the CPU; ``test_two_processes.py`` calls it.

nnU-Net's code for several GPUs runs as it is; what insists on CUDA is replaced: device, backend, the choice of a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

from nnunet_semisam import ranks

CPU = torch.device("cpu")
WORLD = 2
PATIENCE = timedelta(minutes=3)  # a process that waits in vain fails the test


def train(folder: Path, words: tuple[str, str, str], resume: bool = False) -> list[dict[str, Any]]:
    """Train dataset, configuration and fold in two processes, and return what each of them ended with.

    Args:
        folder: Gets the weights of the small SAM, what processes end with, and what they print.
        words: Dataset, configuration, and name of the trainer; fold 0 is trained.
        resume: As ``--c``.
    """
    from nnunetv2.run.run_training import find_free_network_port

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(find_free_network_port())
    torch.multiprocessing.spawn(_process, args=(str(folder), words, resume), nprocs=WORLD)
    return [torch.load(folder / f"rank_{rank}.pth", weights_only=True) for rank in range(WORLD)]


def _process(rank: int, folder: str, words: tuple[str, str, str], resume: bool) -> None:
    own = Path(folder) / f"process_{rank}"
    own.mkdir(exist_ok=True)
    os.dup2(os.open(own / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    torch.set_num_threads(1)
    import pytest
    import small_nano
    import threads_for_pools

    threads_for_pools.install()
    ranks.PATIENCE = PATIENCE
    small_nano.use(pytest.MonkeyPatch(), own)
    import nnunetv2.run.run_training as nnunet

    _on_the_cpu(nnunet)
    _end_with(Path(folder) / f"rank_{rank}.pth")
    dataset, configuration, trainer = words
    nnunet.run_ddp(
        rank, dataset, configuration, 0, trainer, "nnUNetPlans", False, resume, False, None, False, False, WORLD
    )


def _on_the_cpu(nnunet: Any) -> None:
    import torch.distributed as dist
    from nnunetv2.training.logging.nnunet_logger import LocalLogger
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnUNetModule

    import nnunet_semisam.training.training_log
    from nnunet_semisam.generalists.weights import GeneralistWeights
    from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable

    stock, wrapped, get = nnUNetModule.nnUNetTrainer, nnUNetModule.DDP, nnunet.get_trainer_from_args
    before: Callable[..., None] = stock.__init__

    def init(self: Any, plans: dict, configuration: str, fold: int, dataset_json: dict, device: Any = None) -> None:
        before(self, plans, configuration, fold, dataset_json, device)
        self.device, self.grad_scaler = CPU, None

    stock.__init__ = init
    stock.plot_network_architecture = lambda self: None
    stock.perform_actual_validation = lambda self, *words: None
    nnUNetModule.DDP = lambda network, device_ids=None: wrapped(network)
    nnunet.get_trainer_from_args = lambda *words, device=None: get(*words, device=CPU)
    nnunet.setup_ddp = lambda rank, world: dist.init_process_group(
        "gloo", rank=rank, world_size=world, timeout=PATIENCE
    )
    torch.cuda.set_device = lambda *words: None
    LocalLogger.plot_progress_png = lambda *words: None
    nnunet_semisam.training.training_log.write_progress_picture = lambda *words: None
    CalibrationTable.weights = property(lambda table: (GeneralistWeights.unmeasured(len(table.classes)),))


def _end_with(file: Path) -> None:
    from nnunet_semisam.methods.parts.networks import unwrap
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

    before, step = SemiSupervisedTrainer.on_train_end, SemiSupervisedTrainer.train_step
    seen: list[torch.Tensor] = []

    def train_step(self: Any, batch: dict) -> dict:
        seen.append(batch["data"].clone())
        return step(self, batch)

    def on_train_end(self: Any) -> None:
        parts = {name: part.state_dict() for name, part in self.method.state_parts().items()}
        session = None if self.pseudo_labels is None else self.pseudo_labels.current_round
        torch.save(
            {
                "student": unwrap(self.network).state_dict(),
                "parts": parts,
                "gate": self.gate.state_dict(),
                "round": session,
                "rows": self.semisam_log.rows,
                "seen": seen,
            },
            file,
        )
        before(self)

    SemiSupervisedTrainer.train_step, SemiSupervisedTrainer.on_train_end = train_step, on_train_end

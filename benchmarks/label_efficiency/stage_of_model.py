"""The pseudo-label stage of a trained model, without its training: for measurements."""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.file_path_utilities import parse_dataset_trainer_plans_configuration_from_path

from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.yaml_files import read_mapping
from nnunet_semisam.methods.parts.networks import unwrap
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable
from nnunet_semisam.pseudo_labels.session import PseudoLabelSession
from nnunet_semisam.settings import Settings
from nnunet_semisam.training import checkpoint as checkpoints
from nnunet_semisam.training.build_loader import collect_unlabeled
from nnunet_semisam.training.nnunet_attributes import training_context
from nnunet_semisam.training.trainer import SemiSupervisedTrainer

REMEDY = "Name the folder of a fold in nnUNet_results, with plans.json beside it."


class ModelStage:
    """A session of pseudo-labels around the network that a checkpoint deploys (the teacher, where there is one).

    Labels of unlabeled cases are read by :meth:`hidden_label` only, to judge: no training has this class.

    Args:
        fold_folder: nnU-Net's folder of a fold; ``nnUNet_preprocessed`` must be the one it was trained with, and
            ``nnUNet_results`` a folder for what a training would write.
        checkpoint: Name of the checkpoint in it.
        settings: What differs from the defaults, as in a settings file.
    """

    def __init__(self, fold_folder: Path, checkpoint: str = "checkpoint_final.pth", settings: Mapping | None = None):
        model = fold_folder.parent
        configuration = parse_dataset_trainer_plans_configuration_from_path(str(model))[-1]
        plans, dataset_json = (read_object(model / name, REMEDY) for name in ("plans.json", "dataset.json"))
        changed = dict(settings or {})
        changed["sam"] = {"cache_gb": 0, "preview_cases": 0, **changed.get("sam", {})}
        plans["continue_training"] = False  # nnU-Net's command says so, and its trainer reads it
        fold, device = int(fold_folder.name.removeprefix("fold_")), torch.device("cpu")
        trainer_class = type("StageOnly", (SemiSupervisedTrainer,), {"settings": Settings.of(use_sam=True, **changed)})
        self.trainer = trainer = trainer_class(plans, configuration, fold, dataset_json, device)
        trainer.print_to_log_file = lambda *args, **kwargs: None
        trainer.initialize()
        content = checkpoints.read(fold_folder / checkpoint, device)
        student = unwrap(trainer.network)
        network = trainer.method.prompting_network(student)
        for each in (student, network):
            each.load_state_dict(content["network_weights"])
        self.epoch = int(content["current_epoch"])
        self.gate: ClassGate = trainer.gate
        cases = trainer.fold_cases()
        self.context = training_context(trainer, trainer.settings, cases)
        self.pool = collect_unlabeled(self.context.data, cases)
        self.session = PseudoLabelSession(self.context, self.pool, network, self.gate)

    @property
    def labels(self) -> Any:
        """What the network's output channels mean."""
        return self.context.labels

    def some_cases(self, count: int) -> list[str]:
        """Return that many cases of the pool, the same ones each time."""
        return sorted(self.pool.files, key=lambda case: zlib.crc32(case.encode()))[:count]

    def calibrate(self, unlabeled: Sequence[str]) -> CalibrationTable:
        """Calibrate on all labeled cases as a training does, and use it; ``unlabeled`` tell the Dice to expect."""
        table = self.session._calibrate(0, self.epoch, self.session.labeled.cases, list(unlabeled))
        self.session.stage.use_calibration(table)
        print(table.log_text(), file=sys.stderr)
        return table

    def hidden_label(self, case: str) -> np.ndarray:
        """Return the hidden label map of an unlabeled case, ``(Z, Y, X)``, int16."""
        dataset = self.trainer.dataset_class(self.trainer.preprocessed_dataset_folder, [case])
        return np.maximum(dataset.load_case(case)[1][0], 0).astype(np.int16)


def fold_parser(about: str, cases: int) -> argparse.ArgumentParser:
    """Return what studies of a trained model have in common: the fold, its checkpoint, settings, number of cases."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fold", type=Path, help="a fold's folder in nnUNet_results")
    parser.add_argument("--checkpoint", default="checkpoint_final.pth", help="its name, or a path")
    parser.add_argument("--settings", type=Path, nargs="*", default=[], help="settings files, a result for each")
    parser.add_argument("--cases", type=int, default=cases, help="unlabeled cases (default: %(default)s)")
    return parser


def named_settings(files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return the content of settings files by their names; without any, the defaults."""
    return {file.stem: dict(read_mapping(file, "Write a settings file.")) for file in files} or {"default": {}}

"""What is compared: arms, each a trainer with settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.plan import BASELINE
from nnunet_semisam.benchmark.trainers import settings_of_trainer
from nnunet_semisam.checks.trainers import check_trainers
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.yaml_files import read_mapping
from nnunet_semisam.sam.families import FAMILIES

ARMS_FILE = Path(__file__).with_name("arms.yaml")
KEYS = {"trainer", "settings", "self_training", "adapted"}
SELF_TRAINING = {"rounds", "final_trainer", "threshold", "select", "mirroring", "sam"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
OF_THE_QUEUE = {"num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "save_every", "seed"}
START = "start"  # the supervised training from which all arms of a protocol go on


@dataclass(frozen=True)
class Arm:
    """One thing to compare.

    Attributes:
        name: For options, folders and tables.
        trainer: Class name.
        settings: What differs from the trainer's defaults: flat settings by name, and blocks by name.
        self_training: ``None``, or what differs from the defaults of a self-training that ``trainer`` begins: any of
            :data:`SELF_TRAINING`. The steps of a trial are those of all its trainings together.
        adapted: SAMs that are adapted to the labeled cases of the fold before the training.
    """

    name: str
    trainer: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    self_training: Mapping[str, Any] | None = None
    adapted: tuple[str, ...] = ()

    @property
    def trainers(self) -> list[str]:
        """Class names of the trainers of all trainings."""
        return [self.trainer] if self.self_training is None else [self.trainer, self.final_trainer]

    @property
    def final_trainer(self) -> str:
        """Class name of the trainer of what is judged."""
        return self.trainer if self.self_training is None else self.self_training.get("final_trainer", BASELINE)

    @property
    def trainings(self) -> int:
        """How many trainings share the steps."""
        return 1 if self.self_training is None else 1 + self.self_training.get("rounds", 1)

    def tagged(self, tag: str | None) -> Arm:
        """Return the same arm under the name ``NAME@TAG``: another state of the code is another arm."""
        return self if tag is None else replace(self, name=f"{self.name}@{tag}")


START_ARM = Arm(START, BASELINE)


def read_arms(path: Path = ARMS_FILE) -> dict[str, Arm]:
    """Return name -> arm.

    Raises:
        UserError: If the file cannot be read, an entry is malformed, or a name cannot be that of a folder.
    """
    remedy = "Write entries like 'cps: {trainer: nnUNetTrainerCPS, settings: {cps: {weight: 0.5}}}'."
    arms = {}
    for name, content in read_mapping(path, remedy).items():
        where = f"The arm {name!r} of {path}"
        if not NAME.fullmatch(name) or name == START:
            raise UserError(f"{where} must have a name of letters, digits, '.', '+' and '-', and not {START!r}.")
        if not isinstance(content, dict) or "trainer" not in content or content.keys() - KEYS:
            raise UserError(
                f"{where} must have a trainer, may have settings, self_training and adapted, and nothing else. {remedy}"
            )
        self_training = content.get("self_training")
        if self_training is not None and (not isinstance(self_training, dict) or self_training.keys() - SELF_TRAINING):
            raise UserError(f"{where}: self_training may set {', '.join(sorted(SELF_TRAINING))}. {remedy}")
        settings = content.get("settings") or {}
        taken = OF_THE_QUEUE & settings.keys()
        if taken:
            raise UserError(f"{where} sets {', '.join(sorted(taken))}, which the queue sets for all arms. Remove it.")
        adapted = _adapted(content.get("adapted", []), where)
        if adapted and self_training is not None:
            raise UserError(f"{where} has both self_training and adapted, which no trial takes together. Choose one.")
        arms[name] = Arm(name, str(content["trainer"]), settings, self_training, adapted)
    return arms


def _adapted(given: Any, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or any(name not in FAMILIES for name in given):
        raise UserError(f"{where}: adapted is {given!r}. Name models of `nnunet-semisam sam list`: 'adapted: [nano]'.")
    return tuple(given)


def choose_arms(names: Sequence[str], tag: str | None = None, path: Path = ARMS_FILE) -> list[Arm]:
    """Return arms by name, checked: their trainers exist and take the settings.

    Raises:
        UserError: If there is no such arm, or its trainer or a setting does not exist.
    """
    known = read_arms(path)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"--arms {','.join(unknown)}: {path} has {', '.join(known)}. Add an entry, or correct the name."
        )
    if tag is not None and not NAME.fullmatch(tag):
        raise UserError(f"--tag {tag!r} must be of letters, digits, '.', '+' and '-'.")
    arms = [known[name] for name in names]
    check_trainers([name for arm in arms for name in arm.trainers], "--arms")
    for arm in arms:
        settings_of_trainer(arm.trainer, arm.settings)
    return [arm.tagged(tag) for arm in arms]

"""One trial: a training of one arm, the prediction of the judged patients, and their Dice.

Everything is in the trial's folder, and what is finished there is never repeated: ``settings.yaml``, ``trial.json``
(what the trial is), ``results/`` (nnU-Net's), ``attempts/`` (time and memory of every start), ``predictions/``,
``result.json`` (the trial is done). The commands are those of ``nnunet-semisam benchmark``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.label_efficiency.arms import START_ARM, Arm
from benchmarks.label_efficiency.draws import Draw, Draws
from benchmarks.label_efficiency.prepare import Prepare
from benchmarks.label_efficiency.protocols import PLANS, STEPS_PER_EPOCH, Protocol
from benchmarks.label_efficiency.results import RESULT_FILE, TrialResult
from nnunet_semisam.adaptation.adapt import ADAPTER
from nnunet_semisam.benchmark.cost import cost_of
from nnunet_semisam.commands._sam_adapt import NOTHING_WRITTEN
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import Status, Task, TaskError
from nnunet_semisam.jobs.nnunet_command import command_environment
from nnunet_semisam.runs.attempts import Attempt, read_attempts, software_of
from nnunet_semisam.runs.model_run import ModelRun
from nnunet_semisam.self_training.plan import SelfTraining, begin, equal_parts, load_plan, make_plan
from nnunet_semisam.self_training.rounds import final_models, models_of
from nnunet_semisam.self_training.tasks import attempts_of, work_through
from nnunet_semisam.training.cpu_speed import has_bfloat16_instructions

SECONDS_PER_HOUR = 3600
ADAPT = "adapt"
SELF_TRAINING = "self_training"  # folder of all trainings of a self-training
START_SEED = 0
POLL_SECONDS = 5
NOT_NEEDED = ("checkpoint_best.pth", "checkpoint_latest.pth")  # of a trial that is done
REMEDY = "Remove the folder of the trial to make it again."
THREADS = {"OMP_NUM_THREADS": "1", "nnUNet_semisam_threads": "1", "nnUNet_compile": "f"}


@dataclass(frozen=True)
class Machine:
    """How trials run; none of it is part of what a trial is.

    Attributes:
        device: For nnU-Net's ``-device``.
        augmenters: nnU-Net's ``nnUNet_n_proc_DA``: processes that augment; 0 augments between steps.
    """

    device: str = "cpu"
    augmenters: int = 0

    def variables(self) -> dict[str, str]:
        """Return the environment variables of a trial's commands."""
        return {**THREADS, "nnUNet_n_proc_DA": str(self.augmenters)}


@dataclass(frozen=True)
class Trial(Task):
    """A trial to be carried out.

    Attributes:
        out: Folder of all trials and data sets.
        protocol: How to train and judge.
        data: The prepared data set.
        arm: What to train.
        draw: Name of the draw.
        budget: Number of labeled patients.
        seed: Seed of the training.
        steps: Optimiser steps.
        machine: How to run it.
    """

    out: Path
    protocol: Protocol
    data: Prepare
    arm: Arm
    draw: str
    budget: int
    seed: int
    steps: int
    machine: Machine = Machine()

    @property
    def name(self) -> str:
        """Name for messages, and of the folder."""
        cell = f"draw_{self.draw}__labeled_{self.budget}__seed_{self.seed}__steps_{self.steps}"
        return f"{self.protocol.name}/{self.arm.name}__{cell}"

    @property
    def folder(self) -> Path:
        """Folder of the trial."""
        return self.out / "runs" / self.name

    @property
    def predictions(self) -> Path:
        """Folder with the segmentations of the judged cases, as soon as there are all."""
        return self.folder / "predictions"

    @property
    def model(self) -> ModelRun:
        """The model that is trained and judged; in self-training, the one that it ends with."""
        data = self.data
        if self.arm.self_training is not None:
            plan = self._self_training_plan()
            if plan is None:
                raise UserError(f"{self.folder} has not begun. {REMEDY}")
            return final_models(plan)[self.fold]
        return ModelRun(
            self.folder, data.dataset, self.arm.trainer, PLANS, data.data.configuration, self.fold, self.machine.device
        )

    @property
    def fold(self) -> int:
        """Index of the fold."""
        return self.data.data.fold(self.draw, self.budget)

    def start(self) -> Trial | None:
        """Return the supervised training from which this one goes on, or ``None`` if it begins from scratch."""
        if not self.protocol.start_steps or self.arm == START_ARM:
            return None
        if self.arm.self_training is not None:
            raise UserError(
                f"{self.arm.name} trains itself from scratch, and {self.protocol.name} goes on from a start."
            )
        steps = self.protocol.start_steps
        return Trial(
            self.out, self.protocol, self.data, START_ARM, self.draw, self.budget, START_SEED, steps, self.machine
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings of the training."""
        length = {
            "num_epochs": self.steps // STEPS_PER_EPOCH,
            "num_iterations_per_epoch": STEPS_PER_EPOCH,
            "num_val_iterations_per_epoch": 2,
            "save_every": 1,
            "seed": self.seed,
            "cpu_bfloat16": has_bfloat16_instructions(),
        }
        of_protocol = {} if self.arm == START_ARM else self.protocol.settings
        return {**length, **of_protocol, **self.arm.settings}

    def finished(self) -> bool:
        """Return whether the judged cases have their Dice.

        Raises:
            UserError: If the folder holds a trial with another trainer or other settings.
        """
        self._refuse_other_trial()
        return (self.folder / RESULT_FILE).is_file()

    def work(self, variables: Mapping[str, str]) -> None:
        """Train, predict and judge: what of it is not done yet."""
        start = self.start()
        if start is not None:
            _finish(start)
        variables = {**variables, **self.machine.variables(), **self.data.environment()}
        if not (self.folder / "trial.json").is_file():
            write_json(self.folder / "trial.json", self._identity())
        if self.arm.self_training is not None:
            self._self_train(variables)
        elif not self.model.is_trained():
            begins = {} if start is None else {"initial_weights": str(start.model.checkpoint)}
            adapters = self._adapt(variables)
            self.model.train({**with_adapters(self.settings(), adapters), **begins}, variables)
        if not self.predictions.is_dir():
            self._predict(variables)
        self._judge()
        for model in self._models():
            for name in NOT_NEEDED:
                (model.training_folder / name).unlink(missing_ok=True)

    def _self_train(self, variables: Mapping[str, str]) -> None:
        """Carry out all trainings of a self-training, which share the steps in equal parts."""
        data, arm = self.data, self.arm
        dataset = open_dataset(data.dataset, PLANS, data.raw, data.preprocessed)
        given = dict(arm.self_training or {})
        options = {
            "folder": self.folder / SELF_TRAINING,
            "configuration": data.data.configuration,
            "trainer": arm.trainer,
            "final_trainer": arm.final_trainer,
            "settings": self.settings(),
            "rounds": arm.trainings - 1,
            "epochs": equal_parts(self.steps // STEPS_PER_EPOCH, arm.trainings),
            "device": self.machine.device,
            "environment": data.environment(),
            "sam": given.get("sam", False),
            **{name: given[name] for name in ("threshold", "select", "mirroring") if name in given},
        }
        plan = make_plan(dataset, PLANS, [self.fold], options)
        begin(plan)
        work_through(plan, variables)

    def _adapt(self, variables: Mapping[str, str]) -> dict[str, Path]:
        """Adapt the SAMs of the arm, and return those that gained on their hold-out: model -> file."""
        if not self.arm.adapted:
            return {}
        settings, names = self.folder / "adapt.yaml", {"cpu_bfloat16", "adaptation", *self.arm.adapted}
        write_text(settings, yaml.safe_dump({n: value for n, value in self.settings().items() if n in names}))
        environment = command_environment(self.folder / "results", settings, variables)
        where = ["-d", self.data.dataset, "-p", PLANS, "-c", self.data.data.configuration, "-f", str(self.fold)]
        where += ["--device", self.machine.device]
        found = {}
        for model in self.arm.adapted:
            folder, log = self.folder / "adapters" / model, self.folder / f"adapt_{model}.log"
            file = folder / ADAPTER
            if not file.is_file() and not _gained_nothing(log):
                command = ["nnunet-semisam", "sam", "adapt", *where, "--model", model, "-o", str(folder)]
                program = str(Path(sys.executable).with_name(command[0]))
                try:
                    processes.run_checked([program, *command[1:]], environment, log, ADAPT)
                except processes.CommandFailedError:
                    if not _gained_nothing(log):
                        raise
            if file.is_file():
                found[model] = file
        return found

    def _identity(self) -> dict[str, Any]:
        return {"trainer": self.arm.trainer, "settings": self.settings(), **self._recipe()}

    def _recipe(self) -> dict[str, Any]:
        adapted = {"adapted": list(self.arm.adapted)} if self.arm.adapted else {}
        return adapted if self.arm.self_training is None else {"self_training": dict(self.arm.self_training)}

    def _refuse_other_trial(self) -> None:
        path = self.folder / "trial.json"
        if path.is_file() and read_object(path, REMEDY) != self._identity():
            raise UserError(
                f"{self.folder} holds a trial of {self.arm.name!r} with another trainer or other settings. An arm that "
                "has changed needs another name: add an entry to arms.yaml, or use --tag."
            )

    def _predict(self, variables: Mapping[str, str]) -> None:
        images = self.data.images_of(self._draw(self.data.draws()).judged_set)
        self.model.predict(images, self.predictions, variables, ["--disable_tta", "-npp", "1", "-nps", "1"])

    def _draw(self, draws: Draws) -> Draw:
        return draws.find(self.draw, self.budget)

    def _judge(self) -> None:
        from nnunet_semisam.benchmark.metrics import score_case

        draws = self.data.draws()
        draw = self._draw(draws)
        raw = self.data.raw / self.data.dataset
        dataset_json = read_object(raw / "dataset.json", REMEDY)
        ending = dataset_json["file_ending"]
        dice: dict[str, dict[str, float | None]] = {}
        for case in draws.judged[draw.judged_set]:
            label = raw / "labelsTr" / f"{case}{ending}"
            scores = score_case(self.predictions / f"{case}{ending}", label, dataset_json)
            dice[case] = {score.label: score.scored for score in scores if score.metric == "dice"}
        attempts = [*self._self_training_attempts(), *read_attempts(self.folder)]
        cost = cost_of(attempts)
        settings, gate_step = self._of_checkpoint()
        result = TrialResult(
            protocol=self.protocol.name,
            arm=self.arm.name,
            trainer=self.arm.trainer,
            draw=self.draw,
            budget=self.budget,
            seed=self.seed,
            steps=self.steps,
            labeled=draw.labeled,
            judged=draw.judged_set,
            settings={**self.settings(), **self._recipe()},
            settings_sha256=sha256_of_json({**self._comparable(settings), **self._recipe()}),
            commits=list(dict.fromkeys(_commit(software.versions) for software in software_of(attempts))),
            variables=attempts[-1].software.variables if attempts else {},
            train_seconds=round(cost.train_hours * SECONDS_PER_HOUR, 1),
            predict_seconds=round(cost.predict_hours * SECONDS_PER_HOUR, 1),
            starts=sum(attempt.stage == "train" for attempt in attempts),
            gate_step=gate_step,
            patient={case: draws.patient[case] for case in dice},
            dice=dice,
        )
        write_json(self.folder / RESULT_FILE, result.to_json())

    def _comparable(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings of a checkpoint without seed and files, in which the trials of an arm differ."""
        without_adapters = {model: {**settings[model], "adapter": None} for model in self.arm.adapted}
        return {**settings, **without_adapters, "seed": None, "initial_weights": None}

    def _self_training_plan(self) -> SelfTraining | None:
        plan = None if self.arm.self_training is None else load_plan(self.folder / SELF_TRAINING)
        return plan and replace(plan, device=self.machine.device, environment=self.data.environment())

    def _self_training_attempts(self) -> list[Attempt]:
        plan = self._self_training_plan()
        return [] if plan is None else attempts_of(plan)

    def _models(self) -> list[ModelRun]:
        plan = self._self_training_plan()
        return [self.model] if plan is None else models_of(plan)

    def _of_checkpoint(self) -> tuple[dict[str, Any], int | None]:
        """Return all settings of the training, and the step at which the gate opened; ``None`` if it never did."""
        import torch

        from nnunet_semisam.training import checkpoint

        content = checkpoint.read(self.model.checkpoint, torch.device("cpu"))
        entry = content[checkpoint.ENTRY]
        opened_at = entry.get("gate", {}).get("opened_at")
        return entry["settings"], None if opened_at is None else round(opened_at * self.steps)


def _finish(start: Trial) -> None:
    """Carry out the training from which others go on, or wait for who carries it out."""
    while start() == Status.BUSY:
        time.sleep(POLL_SECONDS)
    if not start.finished():
        error = TaskError.read(start.folder)
        raise UserError(f"{start.name}, from which this trial goes on, has failed. {error.log if error else ''}")


def with_adapters(settings: Mapping[str, Any], adapters: Mapping[str, Path]) -> dict[str, Any]:
    """Return settings in which each of these models uses its adapter."""
    blocks = {model: {**settings.get(model, {}), "adapter": str(file)} for model, file in adapters.items()}
    return {**settings, **blocks}


def _gained_nothing(log: Path) -> bool:
    """Return whether an adaptation has ended without an adapter: the model is used as it is."""
    return log.is_file() and NOTHING_WRITTEN in log.read_text(encoding="utf-8")


def _commit(versions: Mapping[str, str]) -> str:
    return versions.get("nnunet-semisam commit", versions["nnunet-semisam"])

"""One run: nnU-Net's own training, its prediction of held-out cases, and their scores.

Everything is in the run's folder, that of its :class:`~nnunet_semisam.runs.model_run.ModelRun`. What is finished there
is never repeated:

========================  ==========================================================================
``settings.yaml`` ...     the training (see ``runs/model_run.py``)
``self_training/``        in its place, the trainings of a self-training (see ``self_training/rounds.py``)
``predictions/``          segmentations of the held-out cases; renamed into place when all are there
``scores.json``           scores of the held-out cases: the run is done
``error.json``            what went wrong at the last start
========================  ==========================================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.equal_time import epochs_of
from nnunet_semisam.benchmark.held_out import gather, held_out_cases
from nnunet_semisam.benchmark.plan import BASELINE, Study
from nnunet_semisam.benchmark.records import Equal, Run, Score
from nnunet_semisam.benchmark.trainers import Recipe, recipe_of
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.typed_records import FileName, RecordError, read_value
from nnunet_semisam.jobs.base import Task
from nnunet_semisam.runs.attempts import Attempt, read_attempts
from nnunet_semisam.runs.model_run import REMEDY, ModelRun
from nnunet_semisam.self_training.plan import SelfTraining, begin, equal_parts, load_plan, make_plan
from nnunet_semisam.self_training.rounds import final_models, models_of
from nnunet_semisam.self_training.tasks import attempts_of, work_through

SELF_TRAINING = "self_training"


@dataclass(frozen=True)
class PerformRun(Task):
    """A run to be carried out; plain data, so that it travels to another machine.

    Attributes:
        study: The benchmark.
        run: The run.
    """

    study: Study
    run: Run

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.name

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.study.folder_of(self.run)

    @property
    def recipe(self) -> Recipe:
        """What is trained."""
        return recipe_of(self.run.trainer)

    @property
    def model(self) -> ModelRun:
        """The model that is evaluated: in self-training the one that it ends with, as soon as it has begun."""
        study, run = self.study, self.run
        plan = self.self_training()
        if plan is not None:
            return final_models(plan)[run.fold]
        trainer = self.recipe.trainer
        return ModelRun(self.folder, study.dataset, trainer, study.plans, run.configuration, run.fold, study.device)

    def self_training(self) -> SelfTraining | None:
        """Return the self-training that was begun; ``None`` if there is none, or its record is torn."""
        if not self.recipe.rounds:
            return None
        with contextlib.suppress(UserError):
            plan = load_plan(self.folder / SELF_TRAINING)
            return plan and replace(plan, device=self.study.device)
        return None

    @property
    def predictions(self) -> Path:
        """Folder with the segmentations of the held-out cases, as soon as there are all."""
        return self.folder / "predictions"

    @property
    def scores_file(self) -> Path:
        """File with the scores of the held-out cases: the run is done."""
        return self.folder / "scores.json"

    @property
    def training_folder(self) -> Path:
        """nnU-Net's output folder of the run's fold."""
        return self.model.training_folder

    def finished(self) -> bool:
        """Return whether the training is finished and the held-out cases have scores; a torn file is none."""
        if not self.scores_file.is_file() or not self.model.is_trained():
            return False
        try:
            self.scores()
        except UserError:
            return False
        return True

    def started(self) -> bool:
        """Return whether the run has settings."""
        return self.model.settings_file.is_file() or (self.folder / SELF_TRAINING).is_dir()

    def work(self, variables: Mapping[str, str]) -> None:
        """Train, predict and score: what of it is not done yet."""
        if self.recipe.rounds:
            self._self_train(variables)
        elif not self.model.is_trained():
            self.model.train(settings_of(self.study, self.run), variables, about={"run": asdict(self.run)})
        if not self._is_predicted():
            self._predict(variables)
        self._score()

    def steps(self) -> int | None:
        """Return the optimizer steps of the training, or of all trainings; ``None`` while they are not finished.

        Raises:
            UserError: If the file that says so is damaged.
        """
        plan = self.self_training()
        steps = [model.steps() for model in ([self.model] if plan is None else models_of(plan))]
        return None if None in steps else sum(steps)

    def attempts(self) -> list[Attempt]:
        """Return the reports of all starts of all commands."""
        plan = self.self_training()
        return [*read_attempts(self.folder), *([] if plan is None else attempts_of(plan))]

    def scores(self) -> dict[str, list[Score]]:
        """Return case -> its scores, of a run that is done.

        Raises:
            UserError: If the file is damaged.
        """
        content = read_object(self.scores_file, REMEDY)
        try:
            return read_value(dict[FileName, list[Score]], content, "it")
        except RecordError as error:
            raise UserError(f"{self.scores_file} cannot be read: {error} {REMEDY}") from error

    def plan_self_training(self) -> SelfTraining:
        """Return the self-training that this run is; together its trainings have the epochs of the settings.

        Raises:
            UserError: If the fold cannot be used for it.
        """
        study, run = self.study, self.run
        settings = settings_of(study, run)
        options = {
            "folder": self.folder / SELF_TRAINING,
            "configuration": run.configuration,
            "trainer": self.recipe.trainer,
            "final_trainer": BASELINE,
            "settings": settings,
            "rounds": self.recipe.rounds,
            "epochs": equal_parts(settings["num_epochs"], self.recipe.trainings),
            "device": study.device,
        }
        return make_plan(open_dataset(study.dataset, study.plans), study.plans, [run.fold], options)

    def _self_train(self, variables: Mapping[str, str]) -> None:
        plan = self.plan_self_training()
        begin(plan)
        work_through(plan, variables)

    def _is_predicted(self) -> bool:
        """Return whether there is a segmentation of every held-out case: one that was lost is no failure of the run."""
        dataset = open_dataset(self.study.dataset, self.study.plans)
        ending = dataset.dataset_json["file_ending"]
        cases = held_out_cases(self.study, dataset, self.run.fold)
        return all((self.predictions / f"{case}{ending}").is_file() for case in cases)

    def _predict(self, variables: Mapping[str, str]) -> None:
        cases = gather(self.study, open_dataset(self.study.dataset, self.study.plans), self.run.fold)
        self.model.predict(cases.images, self.predictions, variables)

    def _score(self) -> None:
        from nnunet_semisam.benchmark.metrics import score_case

        dataset = open_dataset(self.study.dataset, self.study.plans)
        ending = dataset.dataset_json["file_ending"]
        cases = gather(self.study, dataset, self.run.fold)
        scores: dict[str, list[dict[str, Any]]] = {}
        for case in cases.cases:
            found = score_case(self.predictions / f"{case}{ending}", cases.label(case, ending), dataset.dataset_json)
            scores[case] = [asdict(score) for score in found]
        write_json(self.scores_file, scores)


def settings_of(study: Study, run: Run) -> dict[str, Any]:
    """Return the settings of a run: those of the benchmark, its seed, and its length if trainers get equal time."""
    settings = {**study.settings, "seed": run.seed}
    if study.equal == Equal.TIME:
        settings["num_epochs"] = epochs_of(study, run)
    return settings

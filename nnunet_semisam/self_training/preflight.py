"""What would stop a training is found before the first one."""

from __future__ import annotations

from nnunet_semisam.checks.dataset import DatasetCheck
from nnunet_semisam.checks.findings import Finding, Level, looked_at
from nnunet_semisam.checks.places import check_room
from nnunet_semisam.checks.trainers import settings_of_trainer
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.build import refuse_leaking_adapters
from nnunet_semisam.methods import METHODS
from nnunet_semisam.self_training.plan import SOURCE, SelfTraining
from nnunet_semisam.self_training.pseudo_label import count_of
from nnunet_semisam.settings import Settings

MOST_SHOWN = 20


def check(plan: SelfTraining, dataset: PlannedDataset, fetch: bool = True) -> list[str]:
    """Check all that could stop the first trainings, with the code that a training itself uses.

    Args:
        plan: What is to be done.
        dataset: Its dataset.
        fetch: Whether published weights of SAMs may be downloaded.

    Returns:
        Notes, each once.

    Raises:
        UserError: If a training could not start, or would have nothing to learn from.
    """
    final = settings_of_trainer(plan.final_trainer, plan.settings, SOURCE)
    method = METHODS.get(final.run.method)
    largest = max(map(plan.share_of, range(1, plan.rounds + 1)))
    for fold, cases in plan.folds.items():
        if method.uses_unlabeled and count_of(largest, len(cases.pool)) >= len(cases.pool):
            raise UserError(
                f"--final-trainer {plan.final_trainer} learns from cases without labels, but with --select {largest:g} "
                f"all {len(cases.pool)} of the pool of fold {fold} get some. Use nnUNetTrainerSupervised, or select a "
                "smaller share."
            )
    settings = settings_of_trainer(plan.trainer, plan.settings, SOURCE)
    look = DatasetCheck(dataset, plan.plans, fetch=fetch)
    findings = [one for fold in plan.folds for one in look.training(settings, plan.configuration, fold)]
    findings += check_labels(plan, look)
    trainings = len(plan.folds) * (plan.rounds + 1)
    findings += looked_at("room", lambda: check_room(plan.folder, look.weights, trainings))
    problems = [one.found for one in findings if one.level == Level.STOPS]
    if problems:
        raise UserError("\n".join(["Nothing was started: a training would stop.", *problems[:MOST_SHOWN]]))
    notes = [f"{one.found}: {one.fix}" if one.fix else one.found for one in findings if one.level == Level.NOTE]
    return list(dict.fromkeys(notes))


def check_labels(plan: SelfTraining, look: DatasetCheck) -> list[Finding]:
    """Check what asks SAMs for the labels of the pool, if any are asked.

    Raises:
        UserError: If the calibration cannot work, or an adapter has learned from cases whose labels the fold hides.
    """
    if not plan.sam:
        return []
    asked = settings_of_labels(plan)
    for cases in plan.folds.values():
        withheld = {*cases.val, *cases.hidden} - {*cases.labeled}
        refuse_leaking_adapters(asked, plan.dataset, sorted(withheld))
    return [one for fold in plan.folds for one in look.pseudo_labels(asked, plan.configuration, fold)]


def settings_of_labels(plan: SelfTraining) -> Settings:
    """Return the settings with which SAMs are asked for labels: those of the first training, in all rounds.

    Raises:
        UserError: If they leave out what the calibration needs.
    """
    settings = settings_of_trainer(plan.trainer, plan.settings, SOURCE).replace({"use_sam": True}, "--sam")
    refuse_without_mirrors(settings)
    return settings


def refuse_without_mirrors(settings: Settings) -> None:
    """Refuse settings of SAMs that leave out what the calibration of a round needs.

    Raises:
        UserError: If mirrored images are not predicted.
    """
    if not settings.block("sam").mirror:
        raise UserError(
            "sam: {mirror: false} leaves out the prediction of mirrored images, with which the calibration estimates "
            "how good the teacher is on unseen cases. Remove it, or label without SAMs: `self-train --no-sam`."
        )

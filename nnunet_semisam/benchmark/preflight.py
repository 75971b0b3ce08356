"""What would stop a run is found before the first one: a baseline may train for days before others begin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nnunet_semisam.benchmark import held_out
from nnunet_semisam.benchmark.metrics import MEAN, label_values
from nnunet_semisam.benchmark.plan import Study
from nnunet_semisam.benchmark.records import Run
from nnunet_semisam.benchmark.runs import PerformRun
from nnunet_semisam.benchmark.trainers import recipe_of, settings_of_trainer
from nnunet_semisam.checks.dataset import DatasetCheck
from nnunet_semisam.checks.findings import Finding, Level, looked_at, stops
from nnunet_semisam.checks.places import check_room
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.self_training.preflight import check_labels

MOST_SHOWN = 20


def check_runs(
    study: Study, dataset: PlannedDataset, runs: Sequence[Run], deep: bool = False, fetch: bool = True
) -> list[str]:
    """Check all that could stop a run that is not done, with the code that the training itself uses.

    Args:
        study: The benchmark.
        dataset: Its dataset.
        runs: What is to be carried out.
        deep: Whether every preprocessed voxel is read.
        fetch: Whether published weights of SAMs may be downloaded.

    Returns:
        Notes, each once.

    Raises:
        UserError: If a run could not start, or would stop; all that was found is named.
    """
    settings = {trainer: settings_of_trainer(trainer, study.settings) for trainer in {run.trainer for run in runs}}
    check = DatasetCheck(dataset, study.plans, deep, fetch=fetch)
    findings: dict[Finding, str] = {}
    for run in runs:
        for finding in check.training(settings[run.trainer], run.configuration, run.fold):
            findings.setdefault(finding, run.name)
        if recipe_of(run.trainer).rounds:
            for finding in looked_at("self-training", partial(_check_self_training, PerformRun(study, run), check)):
                findings.setdefault(finding, run.name)
    if runs:
        for finding in looked_at("room", lambda: check_room(study.folder, check.weights, len(runs))):
            findings.setdefault(finding, runs[0].name)
    if runs:
        for finding in looked_at("held-out cases", lambda: _check_held_out(study, dataset)):
            findings.setdefault(finding, runs[0].name)
    problems = [(run, finding.found) for finding, run in findings.items() if finding.level == Level.STOPS]
    if problems:
        raise UserError(_refusal(problems))
    notes = [f"{one.found}: {one.fix}" if one.fix else one.found for one in findings if one.level == Level.NOTE]
    return list(dict.fromkeys(notes))


def _check_self_training(run: PerformRun, check: DatasetCheck) -> list[Finding]:
    return check_labels(run.plan_self_training(), check)


def _check_held_out(study: Study, dataset: PlannedDataset) -> list[Finding]:
    problems = held_out.check_readable(study, dataset)
    if MEAN in label_values(dataset.dataset_json)[0]:
        problems.append(
            f"{dataset.raw / 'dataset.json'}: a label is called {MEAN!r}, which is the name of the mean over labels in "
            "tables. Rename it there and in the preprocessed dataset.json."
        )
    return [stops("held-out cases", problem) for problem in problems]


def _refusal(problems: Sequence[tuple[str, str]]) -> str:
    """Return what is wrong, the run that would meet it first in front, and what is left of it in further lines."""
    (run, first), *others = problems
    lines = [f"{run} could not start, so no run was started. {first}"]
    lines += [f"{run}, too: {found}" for run, found in others[: MOST_SHOWN - 1]]
    if len(problems) > MOST_SHOWN:
        lines.append(f"And {len(problems) - MOST_SHOWN} more.")
    return "\n".join(lines)

"""``nnunet-semisam self-train``: train, label the pool, train again from scratch on both, for some rounds."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.commands import _executors, _options
from nnunet_semisam.errors import UserError

if TYPE_CHECKING:
    from nnunet_semisam.data.datasets import PlannedDataset
    from nnunet_semisam.jobs.base import Status, Task
    from nnunet_semisam.self_training.plan import SelfTraining

HELP = "Train, label the pool with the model, train again from scratch on both; as often as you say."
EXAMPLE = "nnunet-semisam self-train -d 27 -c 2d -f 0 --rounds 2 --settings length.yaml -o self_training"
MOST_ROUNDS = 100
BY_OPTION = {"method": "--trainer", "use_sam": "--trainer"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _options.add(parser, "dataset")
    _options.add(parser, "configuration", required=True)
    _options.add(parser, "out", required=True, help="where everything is written")
    _options.add(parser, "folds", type=int, default=[0], help="folds (default: 0)")
    _options.add(parser, "plans")
    parser.add_argument("--rounds", type=int, default=1, metavar="R", help="label the pool and train again R times (1)")
    _options.add(parser, "trainer", help="trainer of the first training (default: %(default)s)")
    parser.add_argument(
        "--final-trainer",
        default="nnUNetTrainerSupervised",
        metavar="TRAINER",
        help="trainer of all others (default: %(default)s, which is plain nnU-Net with settings)",
    )
    parser.add_argument("--settings", type=Path, metavar="YAML", help="settings of every training, its length too")
    parser.add_argument(
        "--total-epochs", type=int, metavar="N", help="epochs of all trainings together, in equal parts"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="voxels that the teacher is less sure of are ignored (default: 0.7)",
    )
    parser.add_argument(
        "--select",
        nargs="+",
        type=float,
        default=[1.0],
        metavar="SHARE",
        help="share of the pool, best estimated quality first; one number for each round, or for all (default: 1)",
    )
    parser.add_argument(
        "--sam",
        action=argparse.BooleanOptionalAction,
        help="let SAMs take part in labels, where a calibration lets them (default: if the first trainer uses them)",
    )
    parser.add_argument("--no-mirroring", action="store_true", help="the teacher predicts without mirroring")
    _executors.add_arguments(parser)
    parser.add_argument("--label-jobs", type=int, default=1, metavar="N", help="label a pool in N tasks (default: 1)")
    _options.add(parser, "processes", help="processes that preprocess (default: %(default)s)")
    _options.add(parser, "dry_run")


def run(args: argparse.Namespace) -> int:
    """Carry out what is not done yet; exit status 1 if something failed."""
    check_options(args)
    dataset = _executors.prepare(args)  # before torch is imported: what is missing is said at once
    from nnunet_semisam.self_training import preflight, tasks
    from nnunet_semisam.self_training.plan import begin, refuse_other_plan
    from nnunet_semisam.self_training.rounds import final_models

    plan = make(args, dataset)
    refuse_other_plan(plan)
    if args.dry_run:
        show(plan, args)
        print("\n".join(estimate(plan, dataset)))

        def what_would_stop() -> list[str]:
            _executors.check_places(args, plan.folder)
            return preflight.check(plan, dataset, fetch=False)

        return _executors.would_start(what_would_stop)
    _executors.check_places(args, plan.folder)
    for line in preflight.check(plan, dataset):
        print(f"note: {line}")
    begin(plan)
    show(plan, args)

    def report(name: str, status: Status) -> None:
        print(f"{name}: {status}", flush=True)

    def execute(to_do: Sequence[Task]) -> None:
        _executors.execute(args, to_do, report, plan.folder / _executors.JOBS)

    done = tasks.carry_out(plan, execute, args.label_jobs, args.num_processes)
    print("\n".join(describe_rounds(plan)))
    if not done:
        print("\n".join(why_unfinished(plan, args)))
        return 1
    model = next(iter(final_models(plan).values()))
    folds = " ".join(map(str, plan.folds))
    print(f"Models: {model.model_folder}")
    print(
        f"Predict: nnUNet_results={shlex.quote(str(model.results))} nnUNetv2_predict -d {plan.dataset} "
        f"-c {plan.configuration} -tr {plan.final_trainer} -p {plan.plans} -f {folds} -i IMAGES -o SEGMENTATIONS"
    )
    return 0


def check_options(args: argparse.Namespace) -> None:
    """Check what needs no dataset.

    Raises:
        UserError: If options contradict each other or themselves.
    """
    if len(set(args.folds)) < len(args.folds):
        raise UserError(f"-f names a fold twice: {' '.join(map(str, args.folds))}. Name each once.")
    if args.rounds > MOST_ROUNDS:
        raise UserError(f"--rounds must be at most {MOST_ROUNDS}, got {args.rounds}.")
    for name, value, least in (
        ("--rounds", args.rounds, 1),
        ("--label-jobs", args.label_jobs, 1),
        ("--total-epochs", args.total_epochs, args.rounds + 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} must be at least {least}, got {value}.")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold must be between 0 and 1, got {args.threshold}.")
    wrong = [share for share in args.select if not 0 < share <= 1]
    if wrong or len(args.select) > args.rounds:
        raise UserError(
            f"--select {' '.join(map(str, args.select))}: give a share above 0 and at most 1, once or for each of "
            f"the {args.rounds} rounds."
        )
    _executors.check_options(args)


def make(args: argparse.Namespace, dataset: PlannedDataset) -> SelfTraining:
    """Return the self-training that the options describe.

    Raises:
        UserError: If options, settings, trainers or folds do not fit.
    """
    from nnunet_semisam.checks.trainers import check_trainers
    from nnunet_semisam.runs.shared_settings import read_settings
    from nnunet_semisam.self_training.plan import THRESHOLD, equal_parts, make_plan

    check_trainers([args.trainer], "--trainer")
    check_trainers([args.final_trainer], "--final-trainer")
    options = {
        "folder": args.out.resolve(),
        "configuration": args.configuration,
        "trainer": args.trainer,
        "final_trainer": args.final_trainer,
        "settings": read_settings(args.settings, BY_OPTION),
        "rounds": args.rounds,
        "epochs": equal_parts(args.total_epochs, args.rounds + 1) if args.total_epochs else [],
        "threshold": THRESHOLD if args.threshold is None else args.threshold,
        "select": args.select,
        "mirroring": not args.no_mirroring,
        "sam": args.sam,
        "device": args.device,
    }
    return make_plan(dataset, args.plans, args.folds, options)


def show(plan: SelfTraining, args: argparse.Namespace) -> None:
    """Print all tasks and what is known of each."""
    from nnunet_semisam.self_training.preflight import settings_of_labels
    from nnunet_semisam.self_training.tasks import stages

    print(f"Self-training of {plan.dataset}, {plan.configuration}, in {plan.folder}: {plan.rounds + 1} trainings")
    for fold, cases in plan.folds.items():
        print(
            f"  fold {fold}: {len(cases.labeled)} labeled, {len(cases.pool)} in the pool, {len(cases.val)} to validate"
        )
    if plan.sam:
        models = ", ".join(settings_of_labels(plan).block("sam").models)
        print(f"  SAMs in labels, where a calibration on labeled cases lets them: {models}; --no-sam leaves them out")
    for stage in stages(plan, args.label_jobs):
        for task in stage:
            print(f"  {task.name}: {task.status()}")


def estimate(plan: SelfTraining, dataset: PlannedDataset) -> list[str]:
    """Return lines on the hours and the disk space of the trainings that are not finished."""
    from nnunet_semisam.runs.estimate import Training, describe, places_of_logs
    from nnunet_semisam.self_training.rounds import RoundOfFold

    trainings = []
    for index in range(plan.rounds + 1):
        settings = plan.settings_of(index)
        steps = settings["num_epochs"] * settings["num_iterations_per_epoch"]
        for fold in plan.folds:
            if not RoundOfFold(plan, index, fold).model.is_trained():
                trainings.append(Training(plan.trainer_of(index), plan.configuration, steps))
    results = places_of_logs(*plan.folder.glob("round_*/results"))
    return describe(trainings, dataset.plans, plan.dataset, results, plan.folder)


def describe_rounds(plan: SelfTraining) -> list[str]:
    """Return a line on the labels of every round that has a dataset."""
    from nnunet_semisam.self_training.rounds import RoundOfFold
    from nnunet_semisam.self_training.summary import summary_of

    lines = []
    for index in range(1, plan.rounds + 1):
        for fold in plan.folds:
            place = RoundOfFold(plan, index, fold)
            found = summary_of(place)
            if found is not None:
                lines.append(f"{place.name}: {found}")
    return lines


def why_unfinished(plan: SelfTraining, args: argparse.Namespace) -> list[str]:
    """Return a line about every task that failed: the end of its error, and where all of it stands."""
    from nnunet_semisam.jobs.base import ERROR_FILE, TaskError
    from nnunet_semisam.self_training.tasks import stages

    lines = []
    for stage in stages(plan, args.label_jobs):
        for task in stage:
            error = None if task.finished() else TaskError.read(task.folder)
            if error is not None:
                lines.append(f"{task.name}: {_executors.reason_of(error.log)} (more: {task.folder / ERROR_FILE})")
    return lines or ["Not finished: start again to go on."]

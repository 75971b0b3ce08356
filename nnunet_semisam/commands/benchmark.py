"""``nnunet-semisam benchmark``: trainers x label budgets x seeds x configurations, evaluated on held-out cases."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.commands import _executors, _options
from nnunet_semisam.errors import UserError

if TYPE_CHECKING:
    from nnunet_semisam.benchmark.plan import Study
    from nnunet_semisam.benchmark.records import Interval, Run, RunRecord
    from nnunet_semisam.benchmark.results_files import Results
    from nnunet_semisam.data.datasets import PlannedDataset
    from nnunet_semisam.jobs.base import Status, Task

HELP = "Train a grid of trainers, label budgets, seeds and configurations; evaluate all on held-out cases."
LARGEST_SEED = 2**32  # numpy's
MOST_LINES = 24  # of runs; more are counted
EXAMPLE = "nnunet-semisam benchmark -d 28 -c 2d --trainers nnUNetTrainerMeanTeacher --labeled 1 3 -o benchmark"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _options.add(parser, "dataset")
    _options.add(parser, "configurations", required=True)
    parser.add_argument(
        "-tr",
        "--trainers",
        dest="trainers",
        nargs="+",
        required=True,
        help="trainers, SelfTraining2_TRAINER for two rounds, or all of this package; nnUNetTrainerSupervised is added",
    )
    _options.add(parser, "out", required=True, help="where everything is written")
    _options.add(parser, "plans")
    parser.add_argument("--labeled", nargs="+", type=int, metavar="N", help="label budgets (default: all folds)")
    _options.add(parser, "folds", type=int, help="folds (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="seeds (default: 0)")
    parser.add_argument("--settings", type=Path, metavar="YAML", help="settings of every run, its length for example")
    parser.add_argument("--equal", choices=("steps", "time"), default="steps", help="in common (default: %(default)s)")
    parser.add_argument(
        "--cases", choices=("test", "val"), default="test", help="evaluate on imagesTs, or on validation cases"
    )
    parser.add_argument("--test-set", metavar="NAME", help="one of several test sets of the dataset")
    _executors.add_arguments(parser)
    _options.add(parser, "dry_run")
    parser.add_argument("--deep", action="store_true", help="before the first run, read every preprocessed voxel")
    _options.add(parser, "processes", help="processes that compare images (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Carry out what is not done yet; exit status 1 if a run failed."""
    check_options(args)
    dataset = _executors.prepare(args)  # before torch is imported: what is missing is said at once
    from nnunet_semisam.benchmark import equal_time, held_out, plan, preflight
    from nnunet_semisam.benchmark.records import Equal
    from nnunet_semisam.benchmark.results import write_results
    from nnunet_semisam.benchmark.runs import PerformRun

    study = make_study(args, dataset)
    if args.dry_run:
        show(study)
        print("\n".join(estimate(study, dataset)))
        return _executors.would_start(lambda: what_would_stop(study, dataset, args))
    study = held_out.pin(study, dataset)
    together = plan.refuse_other_study(study)  # with the runs that were begun before
    to_do = [run for run in together.runs() if not PerformRun(together, run).finished()]
    _executors.check_places(args, study.folder)
    for note in preflight.check_runs(study, dataset, to_do, args.deep):
        print(f"note: {note}")
    checked = held_out.check_leaks(study, dataset, args.num_processes)
    study = plan.begin(study)
    held_out.record_leaks(study, checked)
    show(study)
    try_to_write(study)
    if study.equal == Equal.TIME:
        execute(args, study, equal_time.measurements(study), one_at_a_time=True)
    tasks = [PerformRun(study, run) for run in study.runs()]
    execute(args, study, [task for task in tasks if not task.finished()])
    results = write_results(study)
    # Another benchmark may have added runs since: they are no failure of this one.
    ours = {run.name for run in study.runs()}
    unfinished = [record for record in results.runs if not record.is_done and record.name in ours]
    print("\n".join([*table(results), *map(why_unfinished, unfinished)]))
    print(f"{study.folder / 'results.csv'} and results.json hold every number.")
    return 1 if unfinished else 0


def what_would_stop(study: Study, dataset: PlannedDataset, args: argparse.Namespace) -> list[str]:
    """Return notes of the checks that a start makes; nothing is written or fetched.

    Raises:
        UserError: If a run could not start.
    """
    from nnunet_semisam.benchmark import held_out, plan, preflight
    from nnunet_semisam.benchmark.runs import PerformRun

    study = held_out.pin(study, dataset)
    together = plan.refuse_other_study(study)
    _executors.check_places(args, study.folder)
    to_do = [run for run in together.runs() if not PerformRun(together, run).finished()]
    notes = preflight.check_runs(study, dataset, to_do, args.deep, fetch=False)
    held_out.check_leaks(study, dataset, args.num_processes)
    return notes


def check_options(args: argparse.Namespace) -> None:
    """Check what needs no dataset.

    Raises:
        UserError: If options contradict each other or themselves.
    """
    for name in ("configurations", "trainers", "seeds", "labeled", "folds"):
        given = getattr(args, name) or []
        if len(set(given)) < len(given):
            raise UserError(f"{name} names something twice: {' '.join(map(str, given))}. Name each once.")
    wrong = [seed for seed in args.seeds if not 0 <= seed < LARGEST_SEED]
    if wrong:
        raise UserError(f"--seeds {wrong[0]}: a seed must be at least 0 and below 2**32.")
    _executors.check_options(args)
    if args.cases == "val" and args.test_set:
        raise UserError("--test-set chooses among test cases, but --cases val evaluates on validation cases. Drop one.")


def make_study(args: argparse.Namespace, dataset: PlannedDataset) -> Study:
    """Return the benchmark that the options describe.

    Raises:
        UserError: If options, settings, trainers or plans do not fit.
    """
    from nnunet_semisam.benchmark import plan
    from nnunet_semisam.benchmark.records import CaseSet, Equal
    from nnunet_semisam.benchmark.trainers import NOT_SHARED, check_rows, named
    from nnunet_semisam.io.hashes import sha256_of
    from nnunet_semisam.runs.shared_settings import read_settings
    from nnunet_semisam.splits.label_budgets import recorded_pattern

    for configuration in args.configurations:
        dataset.check_configuration(configuration)
    settings = read_settings(args.settings, NOT_SHARED)
    trainers = named([plan.BASELINE, *args.trainers])
    check_rows(trainers, settings, args.equal == Equal.TIME.value)
    return plan.Study(
        folder=args.out.resolve(),
        dataset=dataset.raw.name,
        plans=args.plans,
        plans_sha256=sha256_of(dataset.preprocessed / f"{args.plans}.json"),
        trainers=trainers,
        configurations=args.configurations,
        folds=plan.choose_folds(dataset, args.labeled, args.folds),
        seeds=args.seeds,
        settings=settings,
        equal=Equal(args.equal),
        cases=CaseSet(args.cases),
        test_set=args.test_set,
        group=recorded_pattern(dataset.preprocessed, dataset.raw),
        device=args.device,
    )


def execute(args: argparse.Namespace, study: Study, tasks: Sequence[Task], one_at_a_time: bool = False) -> None:
    """Carry tasks out as the options say; after each, write the results of all that are done by then.

    So a benchmark that is killed has a report of what it has found.
    """

    def report(name: str, status: Status) -> None:
        print(f"{name}: {status}", flush=True)
        try_to_write(study)

    _executors.execute(args, tasks, report, study.folder / _executors.JOBS, one_at_a_time)


def try_to_write(study: Study) -> None:
    """Write the results of now; where that fails, trainings must not end for it."""
    from nnunet_semisam.benchmark.results import write_results
    from nnunet_semisam.checks.findings import cause_of

    try:
        write_results(study)
    except Exception as error:  # a full disk, for example
        print(f"note: the results of now could not be written ({cause_of(error)}); they will be after the next run.")


def show(study: Study) -> None:
    """Print the runs and what is known of each."""
    from nnunet_semisam.benchmark.records import CaseSet
    from nnunet_semisam.benchmark.runs import PerformRun
    from nnunet_semisam.jobs.base import Status

    statuses = {run: PerformRun(study, run).status() for run in study.runs()}
    done = sum(status == Status.DONE for status in statuses.values())
    print(f"{len(statuses)} runs in {study.folder}, {done} done, device {study.device}, equal {study.equal.value}:")
    print("\n".join(_status_lines(statuses)))
    if study.cases == CaseSet.VAL:
        print("note: runs are evaluated on validation cases. Nothing of a training depends on them, but its plans may.")


def _status_lines(statuses: Mapping[Run, Status]) -> list[str]:
    """Return a line per run; of many runs one per trainer and configuration, with counts."""
    if len(statuses) <= MOST_LINES:
        return [f"  {run.name} ({run.budget} labeled): {status}" for run, status in statuses.items()]
    rows: dict[tuple[str, str], Counter[str]] = {}
    for run, status in statuses.items():
        rows.setdefault((run.trainer, run.configuration), Counter())[str(status)] += 1
    return [
        f"  {trainer}, {configuration}: {', '.join(f'{count} {status}' for status, count in counts.items())}"
        for (trainer, configuration), counts in rows.items()
    ]


def estimate(study: Study, dataset: PlannedDataset) -> list[str]:
    """Return lines on the hours and the disk space of the runs that are not done."""
    from nnunet_semisam.benchmark.runs import PerformRun
    from nnunet_semisam.benchmark.trainers import recipe_of
    from nnunet_semisam.runs.estimate import Training, describe, places_of_logs

    steps = study.settings["num_epochs"] * study.settings["num_iterations_per_epoch"]
    trainings = [
        Training(recipe_of(run.trainer).trainer, run.configuration, steps)
        for run in study.runs()
        if not PerformRun(study, run).finished()
    ]
    results = places_of_logs(*study.folder.glob("runs/*/results"))
    return describe(trainings, dataset.plans, study.dataset, results, study.folder)


def table(results: Results) -> list[str]:
    """Return lines with the mean Dice of every trainer, and its difference to the baseline."""
    lines = []
    for summary in results.summaries:
        if (summary.label, summary.metric) != ("mean", "dice"):
            continue
        text = f"{summary.configuration}, {summary.budget} labeled, {summary.trainer}: Dice {in_percent(summary)}"
        difference = summary.difference
        if difference is not None:
            text += f", against the baseline {in_percent(difference, sign='+')}"
            if difference.p is not None:
                text += f" (p {difference.p:.3g})"
        lines.append(f"{text}; {summary.cases} cases, {summary.failures} failures")
    return lines


def why_unfinished(record: RunRecord) -> str:
    """Return a line about a run that is not done: the end of its error, or what to do."""
    return f"{record.name} {record.status}: {_executors.reason_of(record.error or 'start again to go on')}"


def in_percent(interval: Interval, sign: str = "") -> str:
    """Return a mean and its interval in percent; ``sign`` is ``+`` for differences."""
    if interval.mean is None:
        return "undefined"
    text = f"{100 * interval.mean:{sign}.1f}"
    if interval.low is None:
        return text
    return f"{text} [{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]"

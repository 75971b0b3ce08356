"""Options of commands that carry out many tasks: where, how many at once, with what."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.commands import _options
from nnunet_semisam.errors import UserError, shown

if TYPE_CHECKING:
    from nnunet_semisam.data.datasets import PlannedDataset
    from nnunet_semisam.jobs.base import Task
    from nnunet_semisam.jobs.executors import Report

JOBS = "jobs"  # folder of submitit's files
TIME_LIMITS = {"timeout_min", "slurm_time"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _options.add(
        parser,
        "device",
        choices=("auto", "cuda", "cpu", "mps"),
        metavar=None,
        default="auto",
        help="auto (default): cuda if there is one where a run trains, else cpu",
    )
    parser.add_argument(
        "--executor", choices=("serial", "local", "slurm"), default="serial", help="(default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, metavar="N", help="local: trainings at once (default: one per GPU)")
    parser.add_argument("--gpus", nargs="+", default=[], metavar="GPU", help="local: GPUs to share out")
    parser.add_argument("--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="slurm: submitit's parameters")


def prepare(args: argparse.Namespace) -> PlannedDataset:
    """Check where the work shall be written (``--out``), and return its dataset, with splits.

    Raises:
        UserError: If the folder or the dataset cannot be used.
    """
    from nnunet_semisam.checks.places import check_target, refuse_inside_data
    from nnunet_semisam.data.datasets import open_dataset
    from nnunet_semisam.splits.default_splits import ensure_splits

    args.out = check_target(args.out, "--out")
    refuse_inside_data(args.out, "--out")
    dataset = open_dataset(args.dataset, args.plans)
    for message in ensure_splits(dataset.preprocessed, dataset.raw):
        print(message)
    return dataset


def would_start(check: Callable[[], Sequence[str]]) -> int:
    """Print what a start would say, after a dry run; the exit status is 1 if it would be refused.

    Args:
        check: Returns notes, and raises UserError where a start would.
    """
    try:
        notes = check()
    except UserError as error:
        print(f"It would not start. {error}")
        return 1
    for each in notes:
        print(f"note: {each}")
    return 0


def check_options(args: argparse.Namespace) -> None:
    """Check that the options fit each other.

    Raises:
        UserError: If they do not.
    """
    if args.processes is not None and args.processes < 1:
        raise UserError(f"--processes must be at least 1, got {args.processes}.")
    if args.executor != "local" and (args.gpus or args.processes):
        raise UserError(f"--gpus and --processes are for --executor local, got --executor {args.executor}.")
    if args.executor != "slurm" and args.slurm:
        raise UserError(f"--slurm is for --executor slurm, got --executor {args.executor}.")
    check_time_limit(args.executor, slurm_options(args.slurm))


def check_time_limit(executor: str, options: dict[str, Any]) -> None:
    """Check that jobs of a cluster are given the time of a training.

    Raises:
        UserError: If no limit is given: submitit's own is five minutes, which no training meets.
    """
    if executor == "slurm" and not options.keys() & TIME_LIMITS:
        raise UserError(
            "--executor slurm without timeout_min: submitit would end every job after 5 minutes. Give the minutes "
            "that a run may take, training and prediction together, for example: --slurm timeout_min=1440 "
            "gpus_per_node=1. A run that takes longer is submitted again, three times at most, and goes on where it "
            "stopped."
        )


def check_places(args: argparse.Namespace, folder: Path) -> None:
    """Check that tasks could be carried out where the options say; nothing is written.

    Args:
        args: With the options of :func:`add_arguments`.
        folder: That of the whole.

    Raises:
        UserError: If torch does not see the device, or jobs cannot be submitted from this machine.
    """
    from nnunet_semisam.jobs import cluster

    check_device(args.device, args.executor, args.gpus)
    if args.executor == "slurm":
        cluster.check(folder / JOBS, slurm_options(args.slurm))


def reason_of(log: str) -> str:
    """Return the end of the log of a task that failed, as one line: what the command said, and how it ended."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " | ".join(lines[-2:])


def check_device(device: str, executor: str, gpus: Sequence[str] = ()) -> None:
    """Check that runs on this machine find the device that they are given; those of a cluster look for it there.

    Raises:
        UserError: If torch does not see it.
    """
    import torch

    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(device, lambda: True)
    if executor != "slurm" and not there():
        raise UserError(f"--device {device}: torch sees no such device on this machine. Use --device auto or cpu.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wrong = [gpu for gpu in gpus if count == 0 or (gpu.isdecimal() and int(gpu) >= count)]
    if wrong:
        raise UserError(
            f"--gpus {shown(wrong[0])}: torch sees {count} GPUs on this machine, numbered from 0. Leave it out."
        )


def slurm_options(words: Sequence[str]) -> dict[str, Any]:
    """Return submitit's parameters of ``KEY=VALUE`` words; whole numbers become numbers.

    Raises:
        UserError: If a word has no ``=``.
    """
    options: dict[str, Any] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise UserError(f"--slurm {word}: write KEY=VALUE, for example slurm_partition=gpu.")
        options[key] = int(value) if value.isascii() and value.isdecimal() else value
    return options


def execute(
    args: argparse.Namespace, tasks: Sequence[Task], report: Report, folder: Path, one_at_a_time: bool = False
) -> None:
    """Carry tasks out as the options say.

    Args:
        args: With the options of :func:`add_arguments`.
        tasks: What to do.
        report: Told of every task that ended.
        folder: For submitit's files.
        one_at_a_time: Whether tasks on this machine wait for each other, so that times can be compared.
    """
    from nnunet_semisam.jobs import cluster, executors

    if args.executor == "local":
        executors.local(tasks, report, args.processes or max(1, len(args.gpus)), args.gpus, one_at_a_time)
    elif args.executor == "slurm":
        cluster.slurm(tasks, report, folder, slurm_options(args.slurm))
    else:
        executors.serial(tasks, report)

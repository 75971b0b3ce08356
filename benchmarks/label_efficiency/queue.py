"""Carry out trials, one after the other or several at a time; what is done is skipped, what was killed goes on.

Call it as ``python -m benchmarks.label_efficiency.queue --help`` in the root of a checkout. See README.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.label_efficiency.arms import ARMS_FILE, choose_arms
from benchmarks.label_efficiency.prepare import Prepare
from benchmarks.label_efficiency.protocols import PROTOCOLS, STEPS_PER_EPOCH, Protocol, find_protocol
from benchmarks.label_efficiency.results import collect
from benchmarks.label_efficiency.trial import Machine, Trial
from nnunet_semisam.errors import UserError
from nnunet_semisam.jobs.base import Status, TaskError
from nnunet_semisam.jobs.executors import local


def selection_parser() -> argparse.ArgumentParser:
    """Return the options that select trials; a line of a list has the same."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--protocol", choices=PROTOCOLS, help="how to train and judge")
    parser.add_argument("--arms", type=_words, default=["baseline"], help=f"entries of {ARMS_FILE.name}")
    parser.add_argument("--draws", type=_words, default=["0", "1", "2"], help="0 to 9 (default: 0,1,2), or field")
    parser.add_argument("--budgets", type=_numbers, help="labeled patients (default: those of the protocol)")
    parser.add_argument("--seeds", type=_numbers, default=[0, 1, 2, 3], help="(default: 0,1,2,3)")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: those of the protocol)")
    parser.add_argument("--tag", help="arms are called NAME@TAG: another state of the code")
    return parser


def build_parser() -> argparse.ArgumentParser:
    """Return all options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.label_efficiency.queue",
        parents=[selection_parser()],
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything is written")
    parser.add_argument("--source", type=Path, metavar="DIR", help="raw data; needed once for each data set")
    parser.add_argument("--list", type=Path, metavar="FILE", help="selections, one per line, worked off in this order")
    parser.add_argument("--arms-file", type=Path, default=ARMS_FILE, metavar="YAML", help="other arms")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="trials at once (default: 2)")
    parser.add_argument("--device", default="cpu", help="for -device (default: cpu)")
    parser.add_argument("--augmenters", type=int, default=0, metavar="N", help="nnUNet_n_proc_DA (default: 0)")
    parser.add_argument("--dry-run", action="store_true", help="show the trials and what is done; start nothing")
    return parser


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in _words(text)]


def read_selections(args: argparse.Namespace) -> list[argparse.Namespace]:
    """Return what to select: the options, or every line of the list, as it is now.

    Raises:
        UserError: If there is neither protocol nor list, or the list cannot be read.
    """
    if args.list is None:
        selections = [args]
    else:
        try:
            lines = args.list.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--list {args.list} cannot be read ({error}).") from error
        words = [shlex.split(line, comments=True) for line in lines]
        selections = [selection_parser().parse_args(line) for line in words if line]
    if any(selection.protocol is None for selection in selections):
        raise UserError("Say what to do: --protocol NAME, also in every line of --list.")
    return selections


def trials_of(selection: argparse.Namespace, args: argparse.Namespace) -> list[Trial]:
    """Return the trials of a selection: all arms of a cell before the next cell, all cells before the next seed.

    Raises:
        UserError: If an arm, draw, budget or length does not exist.
    """
    protocol = find_protocol(selection.protocol)
    steps = protocol.steps if selection.steps is None else selection.steps
    if steps < STEPS_PER_EPOCH or steps % STEPS_PER_EPOCH:
        raise UserError(f"--steps {steps} must be a multiple of {STEPS_PER_EPOCH}.")
    budgets = selection.budgets or list(protocol.budgets)
    _refuse_unknown("--draws", selection.draws, protocol.data.draws())
    _refuse_unknown("--budgets", budgets, protocol.data.budgets)
    arms = choose_arms(selection.arms, selection.tag, args.arms_file)
    short = [arm.name for arm in arms if steps < STEPS_PER_EPOCH * arm.trainings]
    if short:
        raise UserError(f"--steps {steps} are too few for the trainings of {', '.join(short)}: 100 each at least.")
    machine = Machine(args.device, args.augmenters)
    data = prepare_task(protocol, args)
    return [
        Trial(args.out.resolve(), protocol, data, arm, draw, budget, seed, steps, machine)
        for seed in selection.seeds
        for budget in budgets
        for draw in selection.draws
        for arm in arms
    ]


def _refuse_unknown(option: str, given: Sequence[object], known: Sequence[object]) -> None:
    unknown = [str(each) for each in given if each not in known]
    if unknown:
        raise UserError(f"{option} {','.join(unknown)}: there are {', '.join(map(str, known))}.")


def prepare_task(protocol: Protocol, args: argparse.Namespace) -> Prepare:
    """Return the preparation of a protocol's data."""
    return Prepare(protocol.data, args.out.resolve() / "data" / protocol.data.name, args.source)


def plan(args: argparse.Namespace) -> list[Trial]:
    """Return all trials that are asked for now, each once, in their order; starts come before what goes on from them.

    As many starts as there are processes come together: what goes on from the first would wait for it otherwise.

    Raises:
        UserError: If something is asked for that does not exist, or a trial was begun as something else.
    """
    asked = [trial for selection in read_selections(args) for trial in trials_of(selection, args)]
    starts = {start.name: start for start in (trial.start() for trial in asked) if start is not None}
    names = list(starts)
    trials: dict[str, Trial] = {}
    for trial in asked:
        start = trial.start()
        if start is not None:
            first = names.index(start.name)
            for name in names[first : first + args.processes]:
                trials.setdefault(name, starts[name])
        trials.setdefault(trial.name, trial)
    return list(trials.values())


def work_off(args: argparse.Namespace) -> int:
    """Carry out all trials; read the list again when all are done, since it may have grown.

    Returns:
        How many trials failed.
    """
    failed: set[str] = set()
    while True:
        trials = [trial for trial in plan(args) if trial.name not in failed and not trial.finished()]
        if not trials:
            return len(failed)
        for data in dict.fromkeys(trial.data for trial in trials):
            if data() != Status.DONE:
                error = TaskError.read(data.folder)
                raise UserError(f"{data.name} has failed. {error.log if error else 'It runs elsewhere.'}")
        statuses: dict[str, Status] = {}

        def report(name: str, status: Status, statuses: dict[str, Status] = statuses) -> None:
            statuses[name] = status
            print(f"{name}: {status}", flush=True)
            collect(args.out)

        local(trials, report, args.processes)
        failed |= {name for name, status in statuses.items() if status != Status.DONE}


def main(argv: Sequence[str] | None = None) -> int:
    """Show or carry out trials; exit status 1 if one failed, 2 if the options do not fit."""
    args = build_parser().parse_args(argv)
    try:
        if args.processes < 1:
            raise UserError(f"--processes must be at least 1, got {args.processes}.")
        if args.dry_run:
            for trial in plan(args):
                print(f"{trial.name}: {trial.status()}")
            return 0
        failed = work_off(args)
        print(f"{len(collect(args.out))} results in {args.out}; {failed} trials failed or run elsewhere.")
        return 1 if failed else 0
    except UserError as error:
        print(f"queue: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

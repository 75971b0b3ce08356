"""``nnunet-semisam doctor``: what is set, what is found, what would stop a training, and how to fix it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from functools import partial

from nnunet_semisam.checks.findings import Finding, Level, looked_at, note, stops
from nnunet_semisam.commands import _options
from nnunet_semisam.commands._checks import CHECKS
from nnunet_semisam.errors import UserError

HELP = "Say what is set and found, what would stop a training, and how to fix it; exit status 1 if something would."
EXAMPLE = "nnunet-semisam doctor -d 27 -c 3d_fullres"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the short ones are those of nnUNetv2_train."""
    text = "also check what a training needs of these datasets: ids or names"
    _options.add(parser, "datasets", required=False, default=[], help=text)
    _options.add(parser, "configuration", help="configuration (default: all that are preprocessed)")
    _options.add(parser, "fold", help="fold: a number or 'all' (default: all of splits_final.json)")
    _options.add(parser, "trainer", default=None, help="trainer (default: nnUNetTrainerSemiSAM)")
    _options.add(parser, "plans", default=None, help="plans identifier (default: nnUNetPlans)")
    parser.add_argument("--deep", action="store_true", help="read every preprocessed voxel of the dataset")


def report(findings: Iterable[Finding]) -> str:
    """Return the findings as text, a line each, with a second one that says how to fix it."""
    findings = list(findings)
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"[{finding.level.value:^7}] {finding.subject:<{width}}  {finding.found}")
        if finding.fix:
            lines.append(f"{'':9} {'':<{width}}  -> {finding.fix}")
    counts = Counter(finding.level for finding in findings)
    lines.append(f"\n{counts[Level.STOPS]} would stop a training, {counts[Level.NOTE]} to note, {counts[Level.OK]} ok")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Print all findings; the exit status is 1 if something would stop a training."""
    if not args.datasets:
        given = {"-c": args.configuration, "-f": args.fold, "-tr": args.trainer, "-p": args.plans}
        alone = [option for option, value in given.items() if value is not None] + ["--deep"] * args.deep
        if alone:
            raise UserError(f"{alone[0]} says what to check of a dataset. Name one with -d.")
    findings = [finding for check in CHECKS for finding in looked_at(_title(check), check)]
    for name in args.datasets:
        findings += looked_at(f"dataset {name}", partial(check_dataset, name, args))
    print(report(findings))
    return 1 if any(finding.level == Level.STOPS for finding in findings) else 0


def _title(check: object) -> str:
    return getattr(check, "__name__", "check").removeprefix("check_")


def check_dataset(name: str, args: argparse.Namespace) -> list[Finding]:
    """Return what would stop trainings of a dataset.

    Args:
        name: Its id or name.
        args: The options.

    Raises:
        UserError: If there is no such dataset, fold or trainer.
    """
    import nnunet_semisam.training.trainer  # noqa: F401  registers every block of settings
    from nnunet_semisam.checks.dataset import DatasetCheck, configurations_with_data, folds_of
    from nnunet_semisam.checks.raw import look_at_raw
    from nnunet_semisam.checks.trainers import check_trainers, trainer_class
    from nnunet_semisam.data.datasets import PLANS, environment_folder, find_dataset_name, open_dataset
    from nnunet_semisam.settings.file import from_environment

    plans = PLANS if args.plans is None else args.plans
    trainer = "nnUNetTrainerSemiSAM" if args.trainer is None else args.trainer
    try:
        dataset = open_dataset(name, plans)
    except UserError as error:  # not planned: what would stop the planner is said first
        raw = environment_folder("nnUNet_raw")
        return [*look_at_raw(raw / find_dataset_name(raw, name)), stops(f"dataset {name}", str(error))]
    check_trainers([trainer], "-tr")
    own = trainer_class(trainer).settings
    try:
        settings = from_environment(own)
    except UserError:  # what is wrong with the file is said among the checks of the machine
        settings, told = own, [note("settings", f"of the file are not looked at: below, those of {trainer}")]
    else:
        told = []
    check = DatasetCheck(dataset, plans, args.deep)
    configurations = [args.configuration] if args.configuration is not None else configurations_with_data(dataset)
    folds = [args.fold] if args.fold is not None else folds_of(dataset)
    return told + [
        finding
        for configuration in configurations
        for fold in folds
        for finding in check.training(settings, configuration, fold)
    ]

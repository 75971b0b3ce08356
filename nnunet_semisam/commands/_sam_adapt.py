"""``nnunet-semisam sam adapt``: adapt a SAM to the labeled cases of a fold."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnunet_semisam.commands import _options
from nnunet_semisam.errors import UserError
from nnunet_semisam.sam.families import FAMILIES

if TYPE_CHECKING:
    from nnunet_semisam.adaptation.adapt import Outcome

TEXT = "Adapt a SAM to the labeled cases of a fold; resumes. Settings: the blocks `adaptation` and of the model."
EXAMPLE = "adapt -d 27 -f 0 --model nano"

NOTHING_WRITTEN = "nothing was written. Use it without an adapter."
DEVICE = "cpu or cuda (default: cuda where there is one)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_fold(parser)
    parser.add_argument(
        "--model", default="nano", choices=tuple(FAMILIES), metavar="MODEL", help="see sam list (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=None, help="largest number of steps (default: adaptation.steps)")
    _options.add(parser, "out", help="folder (default: beside the trainings of the data set)")
    _options.add(parser, "device", help=DEVICE)


def add_fold(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name a fold."""
    _options.add(parser, "dataset", "plans")
    _options.add(parser, "fold", required=True)
    _options.add(parser, "configuration", help="configuration (default: the one that is preprocessed)")


def run(args: argparse.Namespace, device: Callable[[str | None], Any]) -> int:
    """Adapt, and say where the result is.

    Args:
        args: The options.
        device: Returns the device that an option names.

    Returns:
        1 if the hold-out was never better than with the model as it was, and nothing was written; else 0.
    """
    import nnunet_semisam.training.trainer  # noqa: F401  registers every block of settings
    from nnunet_semisam.adaptation.adapt import adapt, default_folder
    from nnunet_semisam.adaptation.fold_data import open_fold
    from nnunet_semisam.checks.places import check_target
    from nnunet_semisam.settings import Settings
    from nnunet_semisam.settings.file import from_environment

    if args.out is not None:
        args.out = check_target(args.out, "-o")
    settings = from_environment(Settings())
    if args.steps is not None:
        if args.steps < 1:
            raise UserError(f"--steps must be at least 1, got {args.steps}.")
        settings = settings.replace({"adaptation": {"steps": args.steps}}, "--steps")
    data = open_fold(args.dataset, args.plans, args.configuration, args.fold)
    folder = default_folder(data, args.model) if args.out is None else args.out
    outcome = adapt(data, args.model, settings, device(args.device), folder)
    print(report(outcome, args.model))
    return 0 if outcome.file else 1


def report(outcome: Outcome, model: str) -> str:
    """Return what came of an adaptation, as text."""
    adapted = outcome.adapted
    lines = [
        f"Dice with simulated prompts on the hold-out ({adapted.held_out}):",
        "",
        "| class | as it was | adapted |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {dice:.3f} | {adapted.after[name]:.3f} |" for name, dice in adapted.before.items()]
    if outcome.file is None:
        lines += ["", f"No step was better than {model} as it is: {NOTHING_WRITTEN}"]
    else:
        lines += ["", f"Best after {adapted.steps} steps. Use it with the setting {model}: {{adapter: {outcome.file}}}"]
    return "\n".join(lines)

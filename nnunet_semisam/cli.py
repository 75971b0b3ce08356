"""The console command ``nnunet-semisam``: one sub-command per module of :mod:`nnunet_semisam.commands`.

Every command module holds ``HELP`` (a line), ``EXAMPLE`` (a command line), ``add_arguments(parser)`` and
``run(args) -> int | None``. Modules import torch and nnU-Net inside ``run`` only, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from nnunet_semisam import __version__
from nnunet_semisam.errors import UserError

COMMANDS = {
    "convert": "convert",
    "split": "split",
    "preprocess": "preprocess",
    "plan-mini": "plan_mini",
    "trainers-path": "trainers_path",
    "register": "register",
    "unregister": "unregister",
    "doctor": "doctor",
    "sam": "sam",
    "benchmark": "benchmark",
    "report": "report",
    "export": "export",
    "demo": "demo",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="nnunet-semisam",
        description="Train nnU-Net v2 on labeled and unlabeled cases, with Segment Anything pseudo-labels.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module_name in COMMANDS.items():
        module = importlib.import_module(f"nnunet_semisam.commands.{module_name}")
        subparser = subparsers.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"example: {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; errors that the user can fix are printed without a traceback (exit status 2)."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f"nnunet-semisam {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"nnunet-semisam {args.command}: interrupted; run the same command again to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""The console command ``nnunet-semisam``: one sub-command per module of :mod:`nnunet_semisam.commands`.

Every command module holds ``HELP`` (a line), ``EXAMPLE`` (a command line), ``add_arguments(parser)`` and
``run(args) -> int | None``. Modules import torch and nnU-Net inside ``run`` only, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

from nnunet_semisam import __version__
from nnunet_semisam.commands._parser import Parser
from nnunet_semisam.errors import UserError, shown

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
    "self-train": "self_train",
    "benchmark": "benchmark",
    "report": "report",
    "export": "export",
    "predict": "predict",
    "pseudo-labels": "pseudo_labels",
    "suggest": "suggest",
    "demo": "demo",
}
PLANNING = "nnUNetv2_plan_and_preprocess -d 27 -c 3d_fullres"
# What one expects here, and nnU-Net's own commands do.
STOCK = {
    "train": "nnUNetv2_train 27 3d_fullres 0 -tr nnUNetTrainerSemiSAM",
    "plan": PLANNING,
    "plan-and-preprocess": PLANNING,
    "plan_and_preprocess": PLANNING,
}
# What a disk or the rights of a user refuse in the middle of any command, and what to do.
ROOM = "Make room on that disk."
RIGHTS = "Give this user the right to it, or name another place."
PLACES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.EROFS: RIGHTS,
    errno.ENOENT: "Name a folder that is there, or that can be made.",
    errno.ENOTDIR: "Name a folder.",
    errno.EEXIST: "Name a folder, or a name that is not taken.",
    errno.EISDIR: "Name a file.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Remove the link that leads back to itself.",
    errno.ESTALE: "The network drive has changed beneath: run this again.",
    errno.EIO: "The disk fails: check it, and restore the file.",
    errno.EMFILE: "Allow more open files: ulimit -n 65536.",
}


def build_parser(only: str | None = None) -> Parser:
    """Return the parser of all sub-commands.

    Args:
        only: The sub-command whose module is loaded, so that it answers at once; ``None``: all.
    """
    parser = Parser(
        prog="nnunet-semisam",
        description="Train nnU-Net v2 on labeled and unlabeled cases, with Segment Anything pseudo-labels.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS if only is None else (only,):
        module = importlib.import_module(f"nnunet_semisam.commands.{COMMANDS[name]}")
        subparser = subparsers.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"example: {module.EXAMPLE}",
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; errors that the user can fix are printed without a traceback (exit status 2)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that this terminal cannot show must not end the command
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in STOCK:
        return _refuse(words[0], f"that is a command of nnU-Net, for example: {STOCK[words[0]]}")
    args = build_parser(words[0] if words and words[0] in COMMANDS else None).parse_args(words)
    try:
        if getattr(args, "num_processes", 1) < 1:
            raise UserError(f"-np must be at least 1, got {args.num_processes}.")
        return args.run(args) or 0
    except UserError as error:
        return _refuse(args.command, str(error))
    except KeyboardInterrupt:
        print(f"nnunet-semisam {args.command}: interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read the output, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in PLACES:
            raise
        place = f": {shown(error.filename)}" if error.filename is not None else ""
        return _refuse(args.command, f"{error.strerror}{place}. {PLACES[error.errno]} Then run the same command again.")


def _refuse(command: str, message: str) -> int:
    print(f"nnunet-semisam {command}: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

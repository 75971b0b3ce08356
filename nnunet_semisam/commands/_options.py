"""One table of options: an option is spelled, stored and described alike in every command that has it.

The spellings are nnU-Net's first (``-d``, ``-tr``, ``-device``), then the long ones of this package.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_semisam.data.datasets import PLANS


@dataclass(frozen=True)
class Option:
    """An option.

    Attributes:
        names: All spellings; the first one is what help texts and messages say.
        settings: What ``argparse`` is told.
    """

    names: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


DATASET = {"metavar": "DATASET", "help": "dataset id or name"}
PLANS_OPTION = {"default": PLANS, "metavar": "PLANS", "help": "plans identifier (default: %(default)s)"}
OPTIONS = {
    "dataset": Option(("-d",), {"dest": "dataset", "required": True, **DATASET}),
    "datasets": Option(
        ("-d",), {"dest": "datasets", "nargs": "+", "required": True, **DATASET, "help": "ids or names of datasets"}
    ),
    "configuration": Option(
        ("-c",), {"dest": "configuration", "metavar": "CONFIGURATION", "help": "configuration, for example 3d_fullres"}
    ),
    "configurations": Option(
        ("-c",),
        {"dest": "configurations", "nargs": "+", "metavar": "CONFIGURATION", "help": "configurations, for example 2d"},
    ),
    "trainer": Option(
        ("-tr", "--trainer"),
        {"dest": "trainer", "default": "nnUNetTrainerSemiSAM", "help": "trainer (default: %(default)s)"},
    ),
    "plans": Option(("-p",), {"dest": "plans", **PLANS_OPTION}),
    "plans_name": Option(
        ("-p", "-plans_name"), {"dest": "plans", **PLANS_OPTION}
    ),  # nnUNetv2_preprocess says the second
    "fold": Option(("-f", "--fold"), {"dest": "fold", "metavar": "FOLD", "help": "fold: a number or 'all'"}),
    "folds": Option(("-f", "--folds"), {"dest": "folds", "nargs": "+", "metavar": "FOLD", "help": "folds"}),
    "out": Option(("-o", "--out"), {"dest": "out", "type": Path, "metavar": "FOLDER", "help": "where to write"}),
    "device": Option(("-device", "--device"), {"dest": "device", "metavar": "DEVICE", "help": "cpu, cuda or mps"}),
    "checkpoint": Option(("-chk", "--checkpoint"), {"dest": "checkpoint", "metavar": "FILE", "help": "checkpoint"}),
    "processes": Option(
        ("-np",), {"dest": "num_processes", "type": int, "default": 4, "help": "processes (default: %(default)s)"}
    ),
    "dry_run": Option(
        ("--dry-run",),
        {"action": "store_true", "help": "show what would be done, with hours and disk space; start nothing"},
    ),
}


def add(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """Give a parser options of the table.

    Args:
        parser: Of the command.
        names: Keys of :data:`OPTIONS`.
        changes: What ``argparse`` is told otherwise than the table says, for all of them.

    Example:
        >>> import argparse
        >>> parser = argparse.ArgumentParser()
        >>> add(parser, "dataset", "trainer")
        >>> add(parser, "device", default="cpu")
        >>> parser.parse_args(["-d", "27", "-tr", "nnUNetTrainerCPS", "-device", "cuda"])
        Namespace(dataset='27', trainer='nnUNetTrainerCPS', device='cuda')
    """
    for name in names:
        option = OPTIONS[name]
        parser.add_argument(*option.names, **{**option.settings, **changes})

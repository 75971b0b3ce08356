"""``nnunet-semisam unregister``: take back what ``register`` wrote."""

from __future__ import annotations

import argparse

from nnunet_semisam.commands import _pth

HELP = "Remove what `nnunet-semisam register` wrote."
EXAMPLE = "nnunet-semisam unregister"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no option."""


def run(args: argparse.Namespace) -> None:
    """Remove the start-up files and say which."""
    folder = _pth.site_packages()
    removed = _pth.remove_startup_files(folder)
    for path in removed:
        print(f"Removed {path}")
    if not removed:
        print(f"Nothing to remove: {folder / _pth.PTH_NAME} does not exist.")

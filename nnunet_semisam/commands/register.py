"""``nnunet-semisam register``: make our trainers findable in this environment, once and without a variable."""

from __future__ import annotations

import argparse

from nnunet_semisam.commands import _pth
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

HELP = "Make our trainers findable for every nnU-Net command of this environment, without a variable."
EXAMPLE = "nnunet-semisam register"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no option."""


def run(args: argparse.Namespace) -> None:
    """Write the start-up file and say where it is."""
    trainers = trainers_folder()
    path = _pth.write_startup_files(trainers, _pth.site_packages())
    print(
        f"Wrote {path}\nFrom now on every Python of this environment appends {trainers} to {_pth.VARIABLE} when it "
        "starts.\nUndo it before uninstalling the package: nnunet-semisam unregister\n\n"
        "nnUNetv2_train -tr takes one of these names, written exactly so (of another, nnU-Net says that it could not "
        "find it):"
    )
    print("\n".join(f"  {name}" for name in trainer_names(trainers)))

"""``nnunet-semisam trainers-path``: the folder that nnU-Net must search for our trainers."""

from __future__ import annotations

import argparse

from nnunet_semisam.trainers_folder import trainers_folder

HELP = "Print the folder with our trainers, for nnU-Net's variable nnUNet_extTrainer."
EXAMPLE = 'export nnUNet_extTrainer="$(nnunet-semisam trainers-path)"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no option."""


def run(args: argparse.Namespace) -> None:
    """Print the folder, and nothing else: the output is meant for a shell variable."""
    print(trainers_folder())

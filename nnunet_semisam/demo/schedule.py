"""How long the demo trains, and the settings that say so."""

from __future__ import annotations

import json
import math
from pathlib import Path

DEFAULT_STEPS = 1500
CONTINUED = 0.5  # steps of each continued training, as a share of those of the common start
MOST_EPOCHS = 5  # nnU-Net draws a large picture after each: more would take longer than the steps of so small a network


def continued_steps(steps: int) -> int:
    """Return the steps of each training that goes on from one of ``steps`` steps."""
    return math.ceil(CONTINUED * steps)


def training_length(steps: int) -> tuple[int, int]:
    """Return epochs and iterations per epoch of a training of at least ``steps`` optimizer steps."""
    epochs = min(MOST_EPOCHS, steps)
    return epochs, -(-steps // epochs)


def steps_of(epochs: int, iterations: int) -> int:
    """Return the optimizer steps of a training."""
    return epochs * iterations


def start_yaml(steps: int) -> str:
    """Return the settings of the common start: its length, and a seed."""
    epochs, iterations = training_length(steps)
    return (
        "# nnunet-semisam demo: a training of minutes\n"
        f"num_epochs: {epochs}\n"
        f"num_iterations_per_epoch: {iterations}\n"
        "num_val_iterations_per_epoch: 2\n"
        f"save_every: {epochs}\n"
        "seed: 1\n"
    )


def continued_yaml(steps: int, network: Path) -> str:
    """Return the settings of both trainings that go on from the checkpoint ``network``, made in ``steps`` steps."""
    gate = "" if steps >= DEFAULT_STEPS else "gate: {dice: 0.0}  # so short a training does not wait for the network\n"
    return start_yaml(continued_steps(steps)) + (
        f"initial_weights: {json.dumps(str(network))}  # all of them: -pretrained_weights leaves the last layers out\n"
        f"{gate}"
        "sam:\n"
        "  refresh_epochs: 1\n"
        "  cases_per_refresh: 8\n"
    )

"""The protocols: which data, which labeled patients, how long, from what start. See README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nnunet_semisam.errors import UserError

PLANS = "nnUNetPlansMini"
STEPS_PER_EPOCH = 100
NUM_DRAWS = 10
CHOICE_DRAWS, CHOICE_BUDGET = 4, 3  # choices are made on the first draws, with so many labeled patients at most
FIELD = "field"  # the published order of labeling and the published validation patients: for final tables only


@dataclass(frozen=True)
class DataSet:
    """Data that protocols share: how they are made, and who is judged.

    Attributes:
        name: Name of its folder.
        number: nnU-Net's number.
        source: Folder of the raw data below ``--source``.
        convert: Words of ``nnunet-semisam convert``, without input and number.
        configuration: nnU-Net's configuration.
        budgets: Numbers of labeled patients; with the draws they are the folds, so they are never changed.
        num_judged: How many patients are kept out of the pool of all draws, to judge on.
        left_out: Patients of no draw: those that the field validates on, and copies of others.
        never_labeled: Patients that are in the pool of every draw and labeled in none: those that final tables label.
        has_field: Whether there is a published order (see :data:`FIELD`).
        chosen_on: Data set on whose draws choices are made: who is judged there, or labeled in the
            first :data:`CHOICE_DRAWS` of them, is in the pool here, neither labeled nor judged.
    """

    name: str
    number: int
    source: str
    convert: tuple[str, ...]
    configuration: str
    budgets: tuple[int, ...]
    num_judged: int
    left_out: tuple[str, ...] = ()
    never_labeled: tuple[str, ...] = ()
    has_field: bool = False
    chosen_on: DataSet | None = None

    def draws(self) -> list[str]:
        """Return the names of all draws."""
        return [*map(str, range(NUM_DRAWS)), *([FIELD] if self.has_field else [])]

    def fold(self, draw: str, budget: int) -> int:
        """Return which fold of ``splits_final.json`` a draw with a label budget is."""
        return self.draws().index(draw) * len(self.budgets) + self.budgets.index(budget)


@dataclass(frozen=True)
class Protocol:
    """One way to train and judge.

    Attributes:
        name: For ``--protocol``.
        data: The data.
        steps: Optimiser steps unless ``--steps`` says otherwise.
        budgets: Numbers of labeled patients unless ``--budgets`` says otherwise.
        settings: Settings of all arms; an arm may change them.
        start_steps: Steps of a supervised training from which all arms go on, one for each draw and budget; 0: all
            start from scratch.
        choices: Whether choices are made on it, in words, for tables.
    """

    name: str
    data: DataSet
    steps: int
    budgets: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    start_steps: int = 0
    choices: str = "development draws: choices are made on these patients"


ACDC = DataSet(
    name="acdc2d",
    number=127,
    source="ACDC/database",
    convert=("acdc", "--labeled", "1", "3", "7"),
    configuration="2d",
    budgets=(1, 3, 7),
    num_judged=30,
    left_out=(  # the field's validation patients, and patient076, whose volumes are those of patient074
        *(f"patient{number:03d}" for number in (2, 19, 28, 30, 39, 45, 78, 82, 85, 87)),
        "patient076",
    ),
    never_labeled=tuple(f"patient{number:03d}" for number in (99, 38, 50, 100, 58, 21, 49)),
    has_field=True,
)
ACDC_UNSEEN = replace(ACDC, name="acdc2d_unseen", number=128, num_judged=12, has_field=False, chosen_on=ACDC)
HIPPOCAMPUS = DataSet(
    name="hippocampus",
    number=104,
    source="Task04_Hippocampus",
    convert=("nnunet", "--labeled", "1", "2", "4", "8"),
    configuration="3d_fullres",
    budgets=(1, 2, 4, 8),
    num_judged=60,
)
HIPPOCAMPUS2D = replace(HIPPOCAMPUS, name="hippocampus2d", number=105, configuration="2d")
LA = DataSet(
    name="la3d",
    number=180,
    source="LA",
    convert=("la", "--labeled", "2", "4"),
    configuration="3d_fullres",
    budgets=(1, 2, 4),
    num_judged=10,
)
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("acdc2d", ACDC, steps=2000, budgets=(1, 3)),
        Protocol(
            "acdc2d_unseen",
            ACDC_UNSEEN,
            steps=2000,
            budgets=(1, 3),
            choices="for final tables only: no training that decided a choice was judged on these patients",
        ),
        Protocol(
            "acdc2d_memorised",
            ACDC,
            steps=1500,
            budgets=(1, 3),
            settings={"initial_lr": 0.003},
            start_steps=5000,
        ),
        Protocol("hippocampus", HIPPOCAMPUS, steps=2000, budgets=(1, 4)),
        Protocol(
            "hippocampus_memorised",
            HIPPOCAMPUS,
            steps=500,
            budgets=(1, 4),
            settings={"initial_lr": 0.003},
            start_steps=2000,
        ),
        Protocol("hippocampus2d", HIPPOCAMPUS2D, steps=2000, budgets=(1, 4)),
        Protocol("la3d", LA, steps=5000, budgets=(2, 4)),
    )
}


def find_protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises:
        UserError: If there is none.
    """
    if name not in PROTOCOLS:
        raise UserError(f"--protocol {name}: there are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]

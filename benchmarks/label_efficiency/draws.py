"""Draws: who is labeled, who is in the pool without labels, and who is judged.

In the draws 0 to 9 other patients are labeled, in other orders, and the same patients are judged: they are neither
labeled nor in the pool. The draw ``field`` is the published one, with all its training patients and its validation
patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.label_efficiency.protocols import CHOICE_BUDGET, CHOICE_DRAWS, FIELD, NUM_DRAWS, DataSet
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.splits.case_assignment import CaseAssignment, assignment_from_order, last_groups, make_folds
from nnunet_semisam.splits.folds import Split
from nnunet_semisam.splits.label_budgets import Grouping, group_order

JUDGED_SEED = 2023
FIRST_DRAW_SEED = 7000
DEVELOPMENT = "development"
DRAWS_FILE = "draws.json"


@dataclass(frozen=True)
class Draw:
    """One choice of labeled patients.

    Attributes:
        name: ``0`` to ``9``, or ``field``.
        budget: How many patients are labeled.
        fold: Index in ``splits_final.json``.
        labeled: The labeled patients, in the order in which labels are given out.
        judged_set: ``development`` or ``field``: who is judged.
    """

    name: str
    budget: int
    fold: int
    labeled: list[str]
    judged_set: str


@dataclass(frozen=True)
class Draws:
    """All draws of a data set.

    Attributes:
        draws: The draws.
        splits: The folds of ``splits_final.json``: nnU-Net's own validation at the end of a training sees one judged
            patient, since its result is not used.
        judged: Name of a set -> its cases.
        patient: Case -> its patient, of all judged cases.
    """

    draws: list[Draw]
    splits: list[Split]
    judged: dict[str, list[str]]
    patient: dict[str, str]

    def find(self, name: str, budget: int) -> Draw:
        """Return one of the draws."""
        return next(draw for draw in self.draws if (draw.name, draw.budget) == (name, budget))

    @classmethod
    def read(cls, folder: Path) -> Draws:
        """Return the draws of a prepared data set."""
        content = read_object(folder / DRAWS_FILE, "Remove the folder of the data set and prepare it again.")
        return cls(**{**content, "draws": [Draw(**draw) for draw in content["draws"]]})


def make_draws(data: DataSet, members: Mapping[str, Sequence[str]], grouping: Grouping) -> Draws:
    """Return all draws of a data set.

    Args:
        data: The data set.
        members: Patient -> cases, of all patients.
        grouping: What the converter wrote about patients.

    Raises:
        UserError: If there are too few patients.
    """
    draws: list[Draw] = []
    splits: list[Split] = []
    judged: dict[str, list[str]] = {}
    patient: dict[str, str] = {}
    for name, assignment in _assignments(data, members, grouping):
        judged_set = FIELD if name == FIELD else DEVELOPMENT
        judged[judged_set] = sorted(case for group in assignment.val for case in members[group])
        patient |= {case: group for group in assignment.val for case in members[group]}
        folds, _ = make_folds(assignment, lambda group: list(members[group]), hide=True)
        for budget, fold, labeled in zip(data.budgets, folds, assignment.labeled, strict=True):
            draws.append(Draw(name, budget, data.fold(name, budget), labeled, judged_set))
            splits.append({**fold, "val": list(members[sorted(assignment.val)[0]])})
    return Draws(draws, splits, judged, patient)


def _assignments(
    data: DataSet, members: Mapping[str, Sequence[str]], grouping: Grouping
) -> Iterator[tuple[str, CaseAssignment]]:
    """Yield name of a draw, and who is labeled, unlabeled and judged in it; in the order of ``data.draws()``."""
    budgets = [str(budget) for budget in data.budgets]
    last = [group for group in data.never_labeled if group in members]
    judged, rest, seen = _judged_and_rest(data, members, grouping)
    for number in range(NUM_DRAWS):
        order = [*group_order(rest, FIRST_DRAW_SEED + number, None), *seen, *last, *judged]
        yield str(number), assignment_from_order(budgets, judged, order, members=members)
    if data.has_field:
        yield FIELD, assignment_from_order(budgets, grouping.val, grouping.order, members=members)


def _judged_and_rest(
    data: DataSet, members: Mapping[str, Sequence[str]], grouping: Grouping
) -> tuple[list[str], dict[str, Sequence[str]], list[str]]:
    """Return who is judged, who may be labeled, and whose labels are hidden in all draws since choices saw them."""
    seen = _seen(data.chosen_on, members, grouping) if data.chosen_on else []
    aside = {*data.left_out, *data.never_labeled, *seen}
    candidates = {group: members[group] for group in members if group not in aside}
    judged = last_groups("num_judged", [f"+{data.num_judged}"], group_order(candidates, JUDGED_SEED, None), members)
    return judged, {group: candidates[group] for group in candidates if group not in judged}, seen


def _seen(data: DataSet, members: Mapping[str, Sequence[str]], grouping: Grouping) -> list[str]:
    seen: set[str] = set()
    for _, assignment in islice(_assignments(data, members, grouping), CHOICE_DRAWS):
        seen.update(assignment.val, *(labeled for labeled in assignment.labeled if len(labeled) <= CHOICE_BUDGET))
    return sorted(seen)

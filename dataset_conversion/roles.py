"""Which group (patient, or case) plays which part: who keeps labels, who validates, and the folds that follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_semisam.data.splits import make_splits
from nnunet_semisam.errors import UserError


@dataclass(frozen=True)
class Roles:
    """Which group plays which part.

    Attributes:
        labeled: Labeled groups per budget, in the order in which labels are given out.
        train: All groups that are there for training, labeled or not.
        val: Groups to validate on; if there are none, the labeled ones are cut into folds.
        test: Groups to test on.
        notes: Sentences for the user.
    """

    labeled: list[list[str]]
    train: list[str]
    val: list[str]
    test: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def with_labels(self) -> list[str]:
        """Groups whose labels are written to labelsTr: with several budgets all, their folds hide the others."""
        return [*(self.train if len(self.labeled) > 1 else self.labeled[0]), *self.val]


def roles_from_order(
    labeled: Sequence[str], val: Sequence[str], order: Sequence[str], missing: Collection[str] = ()
) -> Roles:
    """Take the labeled groups from the start of an order and the validation groups from its end.

    Args:
        labeled: ``--labeled``: numbers, ``all``, or names.
        val: ``--val``: one number, or names; ``0`` cuts the labeled groups into folds instead.
        order: Every group that may train or validate.
        missing: Groups of ``order`` whose files are not there.

    Raises:
        UserError: If the numbers and names do not fit the order, or several budgets have no validation group.
    """
    present = [group for group in order if group not in missing]
    chosen = _validation(val, present)
    rest = [group for group in order if group not in chosen]
    budgets = choose_labeled(labeled, rest, missing)
    if not chosen and len(budgets) > 1:
        raise UserError(
            f"--labeled {' '.join(labeled)} with --val 0: folds of a cross-validation differ in their validation "
            "cases, so budgets would not compare. Give --val, or one number and one dataset id per number."
        )
    notes = []
    if not chosen and len(budgets[0]) == 1:
        notes.append(f"the only labeled one, {budgets[0][0]}, validates on itself: its Dice says nothing about others")
    return Roles(budgets, [group for group in rest if group not in missing], chosen, notes=notes)


def make_folds(
    roles: Roles, cases_of: Callable[[str], list[str]]
) -> tuple[list[dict[str, list[str]]], list[dict[str, Any]]]:
    """Return the folds, and for each how many and which groups it trains on.

    Without validation groups, the labeled ones are cut into ``min(5, n)`` folds.

    Args:
        roles: Who plays which part.
        cases_of: Returns the case identifiers of a group.
    """
    if roles.val:
        several = len(roles.labeled) > 1
        folds = [
            fold_of_budget(
                labeled, [name for name in roles.train if several and name not in labeled], roles.val, cases_of
            )
            for labeled in roles.labeled
        ]
    else:
        group_of = {case: name for name in roles.labeled[0] for case in cases_of(name)}
        folds = make_splits(list(group_of), group_of.__getitem__)
    order = max(roles.labeled, key=len)
    trained = [[name for name in order if set(cases_of(name)) & set(fold["train"])] for fold in folds]
    return folds, [{"budget": len(names), "labeled_patients": names} for names in trained]


def fold_of_budget(
    labeled: Sequence[str], others: Sequence[str], val: Sequence[str], cases_of: Callable[[str], list[str]]
) -> dict[str, list[str]]:
    """Return the fold in which some groups are labeled and ``others`` hide their labels.

    Args:
        labeled: Groups to train on.
        others: Groups for the ``"unlabeled"`` list; if there are none, the fold has no such list.
        val: Groups to validate on.
        cases_of: Returns the case identifiers of a group.
    """

    def cases(groups: Sequence[str]) -> list[str]:
        return sorted(case for group in groups for case in cases_of(group))

    fold = {"train": cases(labeled), "val": cases(val)}
    return {**fold, "unlabeled": cases(others)} if others else fold


def choose_labeled(tokens: Sequence[str], order: Sequence[str], missing: Collection[str] = ()) -> list[list[str]]:
    """Resolve ``--labeled`` into groups (patients), one list per budget.

    Args:
        tokens: Numbers and ``all`` (each takes the first groups of ``order``), or names of groups (one list).
        order: Every group that may be labeled, in the order in which labels are given out.
        missing: Groups of ``order`` whose files are not there: ``all`` leaves them out, everything else may not ask
            for them, since the budget would then be another one than its name says.

    Raises:
        UserError: If numbers and names are mixed, a number is too large or below 1, something is named twice, or a
            labeled group is missing.
    """
    is_count = [token == "all" or token.isdecimal() for token in tokens]
    if any(is_count) and not all(is_count):
        raise UserError(f"--labeled takes numbers or names, not both; got {' '.join(tokens)}.")
    if not any(is_count):
        chosen = [_named(tokens, order)]
    else:
        present = [group for group in order if group not in missing]
        chosen = [present if token == "all" else list(order[: _count(token, len(order))]) for token in tokens]
    if len(set(map(tuple, chosen))) < len(chosen):
        raise UserError(f"--labeled {' '.join(tokens)} asks for the same number twice. Give each number once.")
    if absent := sorted({group for groups in chosen for group in groups} & set(missing)):
        raise UserError(
            f"--labeled {' '.join(tokens)} needs {', '.join(absent)}, which the data folder lacks. Add the files, or "
            "name other patients."
        )
    return chosen


def check_left_out(names: Sequence[str], known: Collection[str], folder: Path) -> list[str]:
    """Return the cases of ``--leave-out``, sorted.

    Raises:
        UserError: If one of them does not exist: a misspelt name must not go unnoticed.
    """
    if unknown := sorted(set(names) - set(known)):
        raise UserError(f"--leave-out {' '.join(unknown)}: no such case in {folder}. Correct or remove the name.")
    return sorted(set(names))


def missing_notes(train: list[str], test: list[str], here: list[str], left_out: list[str]) -> list[str]:
    """Return a sentence for each list that is not complete, and one for what was left out on purpose."""
    notes = [f"left out as asked: {', '.join(left_out)}"] if left_out else []
    for kind, names in (("training", train), ("test", test)):
        if absent := [name for name in names if name not in here and name not in left_out]:
            notes.append(f"{len(absent)} of the {len(names)} {kind} cases are not there: {name_some(absent)}")
    if extra := sorted(set(here) - {*train, *test}):
        notes.append(f"in none of the lists and left out: {name_some(extra)}")
    return notes


def name_some(names: Sequence[str], most: int = 20) -> str:
    """Return names in one line, not more of them than can be read."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _count(token: str, available: int) -> int:
    if token.startswith("0") or not 1 <= int(token) <= available:
        raise UserError(
            f"--labeled {token}: a number must be between 1 and {available}, without leading zeros. To choose certain "
            "patients, write their whole names."
        )
    return int(token)


def _named(names: Sequence[str], order: Sequence[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise UserError(f"--labeled names something twice: {' '.join(names)}. Name each once.")
    if unknown := [name for name in names if name not in order]:
        raise UserError(
            f"--labeled {' '.join(unknown)}: not among the {len(order)} that may be labeled ({', '.join(order[:5])}"
            f"{', ...' if len(order) > 5 else ''}). Validation and test patients cannot be labeled for training."
        )
    return list(names)


def _validation(val: Sequence[str], present: Sequence[str]) -> list[str]:
    if len(val) == 1 and val[0].isdecimal():
        if int(val[0]) >= len(present):
            raise UserError(
                f"--val {val[0]} leaves nothing to train on: there are {len(present)}. Give a smaller number, or names."
            )
        return list(present[len(present) - int(val[0]) :])
    if len(set(val)) < len(val):
        raise UserError(f"--val names something twice: {' '.join(val)}. Name each once.")
    if unknown := [name for name in val if name not in present]:
        raise UserError(
            f"--val {' '.join(unknown)}: not among the {len(present)} that are there ({', '.join(present[:5])}"
            f"{', ...' if len(present) > 5 else ''}). Give one number, or names of these."
        )
    return list(val)

"""Which group (patient, or case) plays which part: who keeps labels, who validates, and the folds that follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.folds import make_splits
from nnunet_semisam.splits.group_selection import ALL, numbers_or_groups

VALIDATION_SHARE = 5  # a fifth, as in nnU-Net's five folds


@dataclass(frozen=True)
class CaseAssignment:
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

    @property
    def order(self) -> list[str]:
        """Groups in the order in which labels are given out; those that validate come last."""
        return [*dict.fromkeys([*max(self.labeled, key=len), *self.train]), *self.val]


def assignment_from_order(
    labeled: Sequence[str],
    val: Sequence[str] | None,
    order: Sequence[str],
    missing: Collection[str] = (),
    members: Mapping[str, Sequence[str]] | None = None,
) -> CaseAssignment:
    """Take the labeled groups from the start of an order and the validation groups from its end.

    Args:
        labeled: ``--labeled``: numbers, ``all``, or names (see :mod:`nnunet_semisam.splits.group_selection`).
        val: ``--val``: one number, or names; ``0`` cuts the labeled groups into folds instead; ``None`` is a fifth.
        order: Every group that may train or validate.
        missing: Groups of ``order`` whose files are not there.
        members: Group -> cases: the name of a case stands for its group.

    Raises:
        UserError: If the numbers and names do not fit the order, or several budgets have no validation group.
    """
    present = [group for group in order if group not in missing]
    if val is None:
        val = [f"+{max(1, round(len(present) / VALIDATION_SHARE)) if len(present) > 1 else 0}"]
    chosen = last_groups("--val", val, present, members)
    rest = [group for group in order if group not in chosen]
    budgets = choose_labeled(labeled, rest, missing, members)
    if not chosen and len(budgets) > 1:
        raise UserError(
            f"--labeled {' '.join(labeled)} with --val 0: folds of a cross-validation differ in their validation "
            "cases, so budgets would not compare. Give --val, or one number and one dataset id per number."
        )
    notes = []
    if not chosen and len(budgets[0]) == 1:
        notes.append(f"the only labeled one, {budgets[0][0]}, validates on itself: its Dice says nothing about others")
    return CaseAssignment(budgets, [group for group in rest if group not in missing], chosen, notes=notes)


def make_folds(
    assignment: CaseAssignment, cases_of: Callable[[str], list[str]], hide: bool | None = None
) -> tuple[list[dict[str, list[str]]], list[dict[str, Any]]]:
    """Return the folds, and for each how many and which groups it trains on.

    Without validation groups, the labeled ones are cut into ``min(5, n)`` folds.

    Args:
        assignment: Which group is labeled, unlabeled, for validation or for testing.
        cases_of: Returns the case identifiers of a group.
        hide: Whether other groups are there with labels that ``"unlabeled"`` lists must hide; by default they are
            where there are several budgets.
    """
    hide = len(assignment.labeled) > 1 if hide is None else hide

    def others(labeled: Sequence[str]) -> list[str]:
        return [name for name in assignment.train if hide and name not in labeled]

    if assignment.val:
        folds = [fold_of_budget(labeled, others(labeled), assignment.val, cases_of) for labeled in assignment.labeled]
    else:
        group_of = {case: name for name in assignment.labeled[0] for case in cases_of(name)}
        hidden = sorted(case for name in others(assignment.labeled[0]) for case in cases_of(name))
        folds = make_splits(list(group_of), group_of.__getitem__)
        folds = [{**fold, "unlabeled": hidden} for fold in folds] if hidden else folds
    order = max(assignment.labeled, key=len)
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


def choose_labeled(
    tokens: Sequence[str],
    order: Sequence[str],
    missing: Collection[str] = (),
    members: Mapping[str, Sequence[str]] | None = None,
) -> list[list[str]]:
    """Resolve ``--labeled`` into groups (patients), one list per budget.

    Args:
        tokens: Numbers and ``all`` (each takes the first groups of ``order``), or names of groups (one list).
        order: Every group that may be labeled, in the order in which labels are given out.
        missing: Groups of ``order`` whose files are not there: ``all`` leaves them out, everything else may not ask
            for them, since the budget would then be another one than its name says.
        members: Group -> cases, of all groups.

    Raises:
        UserError: If numbers and names are mixed or cannot be told apart, a number is too large or below 1, something
            is named twice, or a labeled group is missing.
    """
    words = numbers_or_groups("--labeled", tokens, order, members or {}, one_number=False)
    if isinstance(words[0], str):
        chosen = [_named("--labeled", words, order)]
    else:
        present = [group for group in order if group not in missing]
        chosen = [
            present if token == ALL else list(order[: _positive(number, len(order))])
            for token, number in zip(tokens, words, strict=True)
        ]
    if len(set(map(tuple, chosen))) < len(chosen):
        raise UserError(f"--labeled {' '.join(tokens)} asks for the same number twice. Give each number once.")
    if absent := sorted({group for groups in chosen for group in groups} & set(missing)):
        raise UserError(
            f"--labeled {' '.join(tokens)} needs {', '.join(absent)}, which the data folder lacks. Add the files, or "
            "name other patients."
        )
    return chosen


def last_groups(
    option: str, tokens: Sequence[str], order: Sequence[str], members: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Return the groups that ``--val`` or ``--test`` takes away from training.

    Args:
        option: Its name, for messages.
        tokens: One number (that many groups, from the end of the order), or names of groups.
        order: Groups that may be chosen.
        members: Group -> cases, of all groups.

    Raises:
        UserError: If no group is left to train on, a name is unknown or comes twice, or a word may be a number or a
            name.
    """
    words = numbers_or_groups(option, tokens, order, members or {}, one_number=True)
    if not words:
        return []
    if isinstance(words[0], str):
        chosen = _named(option, words, order)
        if len(chosen) == len(order):
            raise UserError(f"{option} names every group, so nothing is left to train on. Leave some out.")
        return chosen
    if len(words) > 1:
        raise UserError(f"{option} takes one number, or names; got {' '.join(tokens)}. Give one number.")
    if not 0 <= words[0] < len(order):
        raise UserError(
            f"{option} {words[0]}: must be between 0 and {max(0, len(order) - 1)}, or nothing is left to train on: "
            f"there are {len(order)} groups (patients) with labels. Give another number, or names."
        )
    return list(order[len(order) - words[0] :])


def _positive(number: int, available: int) -> int:
    if number < 0:
        raise UserError(f"--labeled {number}: a number must be positive: between 1 and {available}. Give another.")
    if not 1 <= number <= available:
        raise UserError(
            f"--labeled {number}: a number must be between 1 and {available}. Give a smaller or larger one, or names."
        )
    return number


def _named(option: str, names: Sequence[str], order: Sequence[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise UserError(f"{option} names something twice: {' '.join(names)}. Name each once.")
    if unknown := [name for name in names if name not in order]:
        raise UserError(
            f"{option} {' '.join(unknown)}: not among the {len(order)} that can be chosen ({', '.join(order[:5])}"
            f"{', ...' if len(order) > 5 else ''}). Labeled, validation and test patients must differ. Give numbers, "
            "or names of these."
        )
    return list(names)

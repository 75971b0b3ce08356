"""Which groups (patients, or cases) are labeled, unlabeled, validated or tested on, and the folds that follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.folds import Split, make_splits
from nnunet_semisam.splits.group_selection import ALL, select_groups
from nnunet_semisam.splits.label_budgets import LabelBudget

VALIDATION_SHARE = 5  # a fifth, as in nnU-Net's five folds


@dataclass(frozen=True)
class CaseAssignment:
    """Which group is used for what.

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
        labeled = self.train if len(self.labeled) > 1 else self.labeled[0]
        return [*labeled, *self.val]

    @property
    def unlabeled(self) -> list[str]:
        """Groups that train without labels in every fold, so that their images go to imagesUl."""
        with_labels = set(self.with_labels)
        return [group for group in self.train if group not in with_labels]

    @property
    def order(self) -> list[str]:
        """Groups in the order in which labels are given out; those that validate come last."""
        largest = max(self.labeled, key=len)
        return [*dict.fromkeys([*largest, *self.train]), *self.val]


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

    Example:
        >>> found = assignment_from_order(["1", "2"], ["1"], ["anna", "ben", "cleo", "dora"])
        >>> found.labeled, found.train, found.val
        ([['anna'], ['anna', 'ben']], ['anna', 'ben', 'cleo'], ['dora'])
    """
    present = [group for group in order if group not in missing]
    if val is None:
        val = [f"+{_fifth(len(present))}"]
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


def _fifth(available: int) -> int:
    """Return how many groups validate by default: a fifth, at least one, but never the only one."""
    if available <= 1:
        return 0
    return max(1, round(available / VALIDATION_SHARE))


def make_folds(
    assignment: CaseAssignment, cases_of: Callable[[str], list[str]], hide: bool | None = None
) -> tuple[list[Split], list[LabelBudget]]:
    """Return the folds, and for each the groups that it is labeled with.

    Without validation groups, the labeled ones are cut into ``min(5, n)`` folds.

    Args:
        assignment: Which group is used for what.
        cases_of: Returns the case identifiers of a group.
        hide: Whether other groups are there with labels that ``"unlabeled"`` lists must hide; by default they are
            where there are several budgets.
    """
    if hide is None:
        hide = len(assignment.labeled) > 1

    def others(labeled: Sequence[str]) -> list[str]:
        return [group for group in assignment.train if group not in labeled] if hide else []

    if assignment.val:
        folds = [fold_of_budget(labeled, others(labeled), assignment.val, cases_of) for labeled in assignment.labeled]
    else:
        labeled = assignment.labeled[0]
        folds = _cross_validation(labeled, others(labeled), cases_of)
    order = max(assignment.labeled, key=len)
    return folds, [_budget_of(fold, order, cases_of) for fold in folds]


def _cross_validation(
    labeled: Sequence[str], others: Sequence[str], cases_of: Callable[[str], list[str]]
) -> list[Split]:
    group_of = {}
    for group in labeled:
        for case in cases_of(group):
            group_of[case] = group
    hidden = _cases(others, cases_of)
    folds = make_splits(list(group_of), group_of.__getitem__)
    if not hidden:
        return folds
    return [{**fold, "unlabeled": hidden} for fold in folds]


def _budget_of(fold: Split, order: Sequence[str], cases_of: Callable[[str], list[str]]) -> LabelBudget:
    trained_on = set(fold["train"])
    return LabelBudget([group for group in order if not trained_on.isdisjoint(cases_of(group))])


def fold_of_budget(
    labeled: Sequence[str], others: Sequence[str], val: Sequence[str], cases_of: Callable[[str], list[str]]
) -> Split:
    """Return the fold in which some groups are labeled and ``others`` hide their labels.

    Args:
        labeled: Groups to train on.
        others: Groups for the ``"unlabeled"`` list; if there are none, the fold has no such list.
        val: Groups to validate on.
        cases_of: Returns the case identifiers of a group.
    """
    fold = {"train": _cases(labeled, cases_of), "val": _cases(val, cases_of)}
    if others:
        fold["unlabeled"] = _cases(others, cases_of)
    return fold


def _cases(groups: Sequence[str], cases_of: Callable[[str], list[str]]) -> list[str]:
    return sorted(case for group in groups for case in cases_of(group))


def choose_labeled(
    words: Sequence[str],
    order: Sequence[str],
    missing: Collection[str] = (),
    members: Mapping[str, Sequence[str]] | None = None,
) -> list[list[str]]:
    """Resolve ``--labeled`` into groups (patients), one list per budget.

    Args:
        words: Numbers and ``all`` (each takes the first groups of ``order``), or names of groups (one list).
        order: Every group that may be labeled, in the order in which labels are given out.
        missing: Groups of ``order`` whose files are not there: ``all`` leaves them out, everything else may not ask
            for them, since the budget would then be another one than its name says.
        members: Group -> cases, of all groups.

    Raises:
        UserError: If numbers and names are mixed or cannot be told apart, a number is too large or below 1, something
            is named twice, or a labeled group is missing.
    """
    selection = select_groups("--labeled", words, order, members or {}, one_number=False)
    if selection.names:
        chosen = [_named("--labeled", selection.names, order)]
    else:
        present = [group for group in order if group not in missing]
        chosen = [
            present if word == ALL else list(order[: _positive(number, len(order))])
            for word, number in zip(words, selection.numbers, strict=True)
        ]
    if len({tuple(groups) for groups in chosen}) < len(chosen):
        raise UserError(f"--labeled {' '.join(words)} asks for the same number twice. Give each number once.")
    absent = sorted({group for groups in chosen for group in groups} & set(missing))
    if absent:
        raise UserError(
            f"--labeled {' '.join(words)} needs {', '.join(absent)}, which the data folder lacks. Add the files, or "
            "name other patients."
        )
    return chosen


def last_groups(
    option: str, words: Sequence[str], order: Sequence[str], members: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Return the groups that ``--val`` or ``--test`` takes away from training.

    Args:
        option: Its name, for messages.
        words: One number (that many groups, from the end of the order), or names of groups.
        order: Groups that may be chosen.
        members: Group -> cases, of all groups.

    Raises:
        UserError: If no group is left to train on, a name is unknown or comes twice, or a word may be a number or a
            name.
    """
    selection = select_groups(option, words, order, members or {}, one_number=True)
    if selection.names:
        chosen = _named(option, selection.names, order)
        if len(chosen) == len(order):
            raise UserError(f"{option} names every group, so nothing is left to train on. Leave some out.")
        return chosen
    if not selection.numbers:
        return []
    if len(selection.numbers) > 1:
        raise UserError(f"{option} takes one number, or names; got {' '.join(words)}. Give one number.")
    number = selection.numbers[0]
    if not 0 <= number < len(order):
        raise UserError(
            f"{option} {number}: must be between 0 and {max(0, len(order) - 1)}, or nothing is left to train on: "
            f"there are {len(order)} groups (patients) with labels. Give another number, or names."
        )
    return list(order[len(order) - number :])


def _positive(number: int, available: int) -> int:
    if number < 0:
        raise UserError(f"--labeled {number}: a number must be positive: between 1 and {available}. Give another.")
    if not 1 <= number <= available:
        raise UserError(
            f"--labeled {number}: a number must be between 1 and {available}. Give another number, or names."
        )
    return number


def _named(option: str, names: Sequence[str], order: Sequence[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise UserError(f"{option} names something twice: {' '.join(names)}. Name each once.")
    unknown = [name for name in names if name not in order]
    if unknown:
        more = ", ..." if len(order) > 5 else ""
        raise UserError(
            f"{option} {' '.join(unknown)}: not among the {len(order)} that can be chosen ({', '.join(order[:5])}"
            f"{more}). Labeled, validation and test patients must differ. Give numbers, or names of these."
        )
    return list(names)

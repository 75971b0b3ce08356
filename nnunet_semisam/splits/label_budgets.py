"""Which cases belong together, and in which order labels are given out: one rule for converters, splits, benchmarks."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.splits.folds import default_group

BUDGETS_FILE = "semisam_budgets.json"
SPLIT_FILE = "semisam_split.json"
GROUPS_FILE = "semisam_groups.json"
TEST_SETS_FILE = "semisam_test_sets.json"
MANIFEST_FILE = "semisam_manifest.json"
SEED = 12345  # nnU-Net's own, for its folds


@dataclass(frozen=True)
class Grouping:
    """What a converter knew about the groups (patients) of a dataset; ``semisam_groups.json`` in its raw folder.

    Attributes:
        pattern: For :func:`group_function`.
        order: Groups with labels, in the order in which labels are given out; those that validate come last.
        val: Groups that validate; empty if folds are a cross-validation.
    """

    pattern: str | None = None
    order: list[str] = field(default_factory=list)
    val: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LabelBudget:
    """The groups (patients) that one fold is labeled with; an entry of ``semisam_budgets.json``.

    Attributes:
        labeled_groups: In the order in which labels are given out.
    """

    labeled_groups: list[str]

    @property
    def count(self) -> int:
        """How many groups are labeled: the budget."""
        return len(self.labeled_groups)


def budgets_as_json(budgets: Sequence[LabelBudget]) -> dict[str, dict[str, Any]]:
    """Return the content of ``semisam_budgets.json``: number of the fold -> its budget."""
    return {
        str(fold): {"budget": budget.count, "labeled_patients": budget.labeled_groups}
        for fold, budget in enumerate(budgets)
    }


def read_grouping(raw: Path) -> Grouping:
    """Return what ``semisam_groups.json`` says; the defaults for a dataset that no converter of ours made.

    Raises:
        UserError: If the file cannot be read.
    """
    path = raw / GROUPS_FILE
    if not path.is_file():
        return Grouping()
    remedy = "Run the converter again under another id."
    content = read_object(path, remedy)
    try:
        found = Grouping(content["pattern"], list(content["order"]), list(content["val"]))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} lacks an entry ({error!r}). {remedy}") from error
    if found.pattern is not None and not isinstance(found.pattern, str):
        raise UserError(f"{path}: pattern must be a text or null, got {found.pattern!r}. {remedy}")
    return found


def write_grouping(raw: Path, grouping: Grouping) -> None:
    """Write ``semisam_groups.json`` into a raw dataset."""
    write_json(raw / GROUPS_FILE, asdict(grouping))


def group_function(pattern: str | None) -> Callable[[str], str]:
    """Return the function that tells the group (patient) of a case.

    Args:
        pattern: Regular expression that is searched in a case identifier. Its first bracketed part is the group, or
            all that it matches if it has no brackets. ``None`` cuts off frame numbers.

    Raises:
        UserError: If the expression is malformed; the function raises it for a case that does not match.
    """
    if pattern is None:
        return default_group
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"--group {pattern!r} is no regular expression ({error}). Example: --group '(patient[0-9]+)_'."
        ) from error

    def group_of(case: str) -> str:
        match = expression.search(case)
        group = match and match.group(1 if expression.groups else 0)
        if not group:
            raise UserError(
                f"--group {pattern!r} finds no group in the case {case!r}. Every case must belong to one, or a patient "
                "could end up on both sides: widen the expression, for example to ^([^_]+) for what stands before the "
                "first underscore."
            )
        return group

    return group_of


def members_of(cases: Iterable[str], group_of: Callable[[str], str]) -> dict[str, list[str]]:
    """Return group -> its cases, both sorted."""
    members: dict[str, list[str]] = {}
    for case in sorted(cases):
        members.setdefault(group_of(case), []).append(case)
    return dict(sorted(members.items()))


def as_groups(names: Sequence[str], members: Mapping[str, Sequence[str]]) -> list[str]:
    """Return names with cases replaced by their groups; unknown names and repeated ones stay as they are."""
    group_of_case = {case: group for group, cases in members.items() for case in cases}
    groups = [name if name in members else group_of_case.get(name, name) for name in names]
    if len(set(names)) < len(names):
        return groups  # something is named twice: the caller says so
    return list(dict.fromkeys(groups))  # two cases of one group


def labeling_order(
    grouping: Grouping, members: Mapping[str, Sequence[str]], pattern: str | None, seed: int | None, file: Path | None
) -> tuple[list[str], list[str] | None]:
    """Return groups in the order in which labels are given out, and those that validate unless the user says more.

    The converter's order holds where the user asks for no other grouping, seed or file.

    Args:
        grouping: What the converter wrote.
        members: Group -> cases, of all groups that have labels.
        pattern: ``--group``.
        seed: ``--seed``.
        file: ``--order``.

    Returns:
        The order, and the validation groups; ``None`` if the converter named none.
    """
    if not grouping.order or seed is not None or file is not None or pattern not in (None, grouping.pattern):
        return group_order(members, SEED if seed is None else seed, file), None
    val = [group for group in grouping.val if group in members]
    first = [group for group in grouping.order if group in members and group not in val]
    added = group_order({group: members[group] for group in members if group not in {*first, *val}}, SEED, None)
    return [*first, *added, *val], val or None


def group_order(members: Mapping[str, Sequence[str]], seed: int, file: Path | None) -> list[str]:
    """Return groups in the order in which labels are given out: those that a file names, then a seeded shuffle.

    Args:
        members: Group -> cases, of all groups that have labels.
        seed: Seed of the shuffling.
        file: Text file with a group per line, or a case that stands for its group; ``#`` begins a comment.

    Raises:
        UserError: If the file cannot be read, or names something unknown or twice.
    """
    shuffled = sorted(members)
    random.Random(seed).shuffle(shuffled)
    if file is None:
        return shuffled
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--order {file} cannot be read as text ({error}). Write a group per line.") from error
    without_comments = [line.split("#")[0].strip() for line in lines]
    names = [name for name in without_comments if name]
    if not names:
        raise UserError(f"--order {file} names no group. Write a group (patient) or case per line.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"--order {file} names something twice: {', '.join(repeated)}. Name each once.")
    first = as_groups(names, members)
    unknown = [name for name in first if name not in members]
    if unknown:
        raise UserError(
            f"--order {file} names groups without labels: {name_some(unknown, 5)}. Known are, for example, "
            f"{', '.join(sorted(members)[:5])}. Correct the names, or say with --group how cases are grouped."
        )
    return first + [name for name in shuffled if name not in first]

"""Which cases belong together, and in which order labels are given out: one rule for converters, splits, benchmarks."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.names import check_text_name
from nnunet_semisam.io.regular_files import MIB, read_text
from nnunet_semisam.splits.folds import default_group

BUDGETS_FILE = "semisam_budgets.json"
SPLIT_FILE = "semisam_split.json"
GROUPS_FILE = "semisam_groups.json"
TEST_SETS_FILE = "semisam_test_sets.json"
MANIFEST_FILE = "semisam_manifest.json"
MOST_PATTERN = 500
MOST_ORDER = 16 * MIB
MOST_REPETITIONS = 4  # names have at most 150 letters
TOKEN = re.compile(  # of an expression without classes of characters and escapes
    r"\((?:\?(?:P?<[^>]*>|[:=!]))?"  # a bracket opens
    r"|\)(?:(?P<again>[*+]|\{[0-9]*,[0-9]*\})|\{(?P<times>[0-9]+)\})?"
    r"|\||(?:[*+?]|\{[0-9]*,[0-9]*\})[?+]?"
)
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
    if not os.path.lexists(path):
        return Grouping()
    remedy = "Run the converter again under another id."
    content = read_object(path, remedy)
    try:
        found = Grouping(content["pattern"], content["order"], content["val"])
    except KeyError as error:
        raise UserError(f"{path} lacks the entry {error}. {remedy}") from error
    _check_pattern(found.pattern, path, remedy)
    for name, groups in (("order", found.order), ("val", found.val)):
        if not isinstance(groups, list):
            raise UserError(f"{path}: {name} must be a list of groups, got {shown(groups)}. {remedy}")
        for group in groups:
            check_text_name(group, "group", f"{path}, {name}", remedy)
        if len(set(groups)) < len(groups):
            raise UserError(f"{path}: {name} names a group twice. {remedy}")
    return found


def recorded_pattern(preprocessed: Path, raw: Path | None) -> str | None:
    """Return the pattern that finds the groups: that of ``nnunet-semisam split``, or else that of the converter.

    Args:
        preprocessed: ``$nnUNet_preprocessed/DATASET``.
        raw: ``$nnUNet_raw/DATASET``; ``None`` where it is not known.

    Raises:
        UserError: If a file cannot be read.
    """
    path = preprocessed / SPLIT_FILE
    if not os.path.lexists(path):
        return None if raw is None else read_grouping(raw).pattern
    remedy = "Run nnunet-semisam split again."
    content = read_object(path, remedy)
    if "group" not in content:
        raise UserError(f"{path} does not say how cases are grouped. {remedy}")
    _check_pattern(content["group"], path, remedy)
    return content["group"]


def _check_pattern(pattern: Any, path: Path, remedy: str) -> None:
    if pattern is not None and not isinstance(pattern, str):
        raise UserError(f"{path}: the pattern must be a text or null, got {shown(pattern)}. {remedy}")
    group_function(pattern, f"{path}: the pattern")


def write_grouping(raw: Path, grouping: Grouping) -> None:
    """Write ``semisam_groups.json`` into a raw dataset."""
    write_json(raw / GROUPS_FILE, asdict(grouping))


def group_function(pattern: str | None, source: str = "--group") -> Callable[[str], str]:
    """Return the function that tells the group (patient) of a case.

    Args:
        pattern: Regular expression that is searched in a case identifier. Its first bracketed part is the group, or
            all that it matches if it has no brackets. ``None`` cuts off frame numbers.
        source: Where it was given, for errors.

    Raises:
        UserError: If the expression is malformed, too long, or could take for ever; the function raises it for a case
            that does not match.
    """
    if pattern is None:
        return default_group
    name = f"{source} {shown(pattern)}"
    if len(pattern) > MOST_PATTERN:
        raise UserError(f"{name} has {len(pattern)} characters, at most {MOST_PATTERN} are allowed. Shorten it.")
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{name} is no regular expression ({error}). Example: --group '(patient[0-9]+)_'.") from error
    ways = _ways_to_match(pattern)
    if ways is None:
        raise UserError(
            f"{name} repeats a bracket in which something is repeated or chosen, such as (a+)+, which can take for "
            "ever. Write it without, for example [a-z0-9]+ for ([a-z]+|[0-9]+)+."
        )
    if ways > MOST_REPETITIONS:
        raise UserError(
            f"{name} repeats or leaves out something in {ways} places (*, +, ?, {{n,m}}), which can take for ever; at "
            f"most {MOST_REPETITIONS} are allowed. Write it shorter, for example ^([^_]+_[^_]+) for two parts."
        )

    def group_of(case: str) -> str:
        match = expression.search(case)
        group = match and match.group(1 if expression.groups else 0)
        if not group:
            raise UserError(
                f"{name} finds no group in the case {shown(case)}. Every case must belong to one, or a patient "
                "could end up on both sides: widen the expression, for example to ^([^_]+) for what stands before the "
                "first underscore."
            )
        return group

    return group_of


def _ways_to_match(pattern: str) -> int | None:
    """Return how often an expression repeats something or leaves it out; ``None`` if that may be without bound.

    Python's expressions may try every way to cut a name into as many parts: with a bracket that is repeated without
    bound and holds a repetition or a choice that takes years for 40 letters, else ``length ** ways`` steps.
    """
    without_classes = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]])*\]", "x", pattern, flags=re.DOTALL)
    ways, choices = [0], [False]  # for each bracket that is open
    for match in TOKEN.finditer(without_classes):
        if match[0].startswith("("):
            ways.append(0)
            choices.append(False)
        elif match[0].startswith(")") and len(ways) > 1:
            inner, choice = ways.pop(), choices.pop()
            if match["again"] and (inner or choice):
                return None
            times = int(match["times"] or 1)
            ways[-1] += inner * times + (choice * times if times > 1 else 0) + bool(match["again"])
            choices[-1] |= choice
        elif match[0] == "|":
            choices[-1] = True
        else:
            ways[-1] += 1
    return sum(ways)


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
        lines = read_text(file, "Write a group per line.", MOST_ORDER).splitlines()
    except UserError as error:
        raise UserError(f"--order {error}") from error
    without_comments = [line.split("#")[0].strip() for line in lines]
    names = [name for name in without_comments if name]
    if not names:
        raise UserError(f"--order {file} names no group. Write a group (patient) or case per line.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"--order {file} names something twice: {name_some(repeated, 5)}. Name each once.")
    first = as_groups(names, members)
    unknown = [name for name in first if name not in members]
    if unknown:
        raise UserError(
            f"--order {file} names groups without labels: {name_some(unknown, 5)}. Known are, for example, "
            f"{name_some(sorted(members)[:5])}. Correct the names, or say with --group how cases are grouped."
        )
    return first + [name for name in shuffled if name not in first]

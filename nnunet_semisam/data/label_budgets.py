"""Label budgets as folds: who gets a label first, who validates, and whose labels stay hidden."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nnunet_semisam.data.splits import default_group
from nnunet_semisam.errors import UserError

BUDGETS_FILE = "semisam_budgets.json"
SPLIT_FILE = "semisam_split.json"
VALIDATION_SHARE = 5  # a fifth, as in nnU-Net's five folds


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
                "could end up on both sides: widen the expression."
            )
        return group

    return group_of


def group_order(groups: Sequence[str], seed: int, order_file: Path | None) -> list[str]:
    """Return groups in the order in which labels are given out.

    Args:
        groups: All groups that have labels.
        seed: Seed of the shuffling.
        order_file: Text file with a group per line (``#`` begins a comment). They come first, in the file's order;
            groups that it does not name follow, shuffled.

    Raises:
        UserError: If the file cannot be read, or names an unknown group or one twice.
    """
    shuffled = sorted(groups)
    random.Random(seed).shuffle(shuffled)
    if order_file is None:
        return shuffled
    try:
        lines = order_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--order {order_file} cannot be read as text ({error}). Write a group per line.") from error
    first = [name for line in lines if (name := line.split("#")[0].strip())]
    if not first:
        raise UserError(f"--order {order_file} names no group. Write a group (patient) per line.")
    if repeated := sorted({name for name in first if first.count(name) > 1}):
        raise UserError(f"--order {order_file} names more than once: {', '.join(repeated)}. Name each once.")
    if unknown := [name for name in first if name not in shuffled]:
        raise UserError(
            f"--order {order_file} names groups without labels: {', '.join(unknown[:5])}. Known are, for example, "
            f"{', '.join(sorted(groups)[:5])}. Correct the names, or say with --group how cases are grouped."
        )
    return first + [name for name in shuffled if name not in first]


def choose_validation(tokens: Sequence[str] | None, order: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the groups that validate from those that may be labeled.

    Args:
        tokens: ``--val``: one number (that many groups, from the end of the order), names of groups, or ``None`` for
            a fifth of the groups.
        order: All groups, in the order in which labels are given out.

    Returns:
        Groups for validation, and the others in their order.

    Raises:
        UserError: If there are fewer than two groups, or the tokens do not fit them.
    """
    if len(order) < 2:
        raise UserError(
            f"A split needs two groups (patients) with labels, one to train and one to validate; got {len(order)}: "
            f"{', '.join(order)}. Add labeled cases to labelsTr, or correct --group."
        )
    if tokens is not None and not (len(tokens) == 1 and tokens[0].isdecimal()):
        return _named_validation(tokens, order)
    count = max(1, round(len(order) / VALIDATION_SHARE)) if tokens is None else int(tokens[0])
    if not 1 <= count < len(order):
        raise UserError(f"--val {count}: must be between 1 and {len(order) - 1}, since one group at least must train.")
    return list(order[-count:]), list(order[:-count])


def _named_validation(names: Sequence[str], order: Sequence[str]) -> tuple[list[str], list[str]]:
    if unknown := [name for name in names if name not in order]:
        raise UserError(
            f"--val {' '.join(unknown)}: no such group among the {len(order)} with labels ({', '.join(order[:5])}, "
            "...). Give one number, or names of groups."
        )
    if len(set(names)) < len(names):
        raise UserError(f"--val names a group twice: {' '.join(names)}. Name each once.")
    rest = [name for name in order if name not in names]
    if not rest:
        raise UserError("--val names every group, so none is left to train on. Leave some out.")
    return list(names), rest


def budget_record(budgets: Sequence[Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Return what is written to ``semisam_budgets.json``: per fold, how many groups are labeled, and which."""
    return {str(fold): {"budget": len(groups), "labeled_patients": list(groups)} for fold, groups in enumerate(budgets)}

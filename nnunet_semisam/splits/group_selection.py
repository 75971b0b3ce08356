"""What a word of ``--labeled``, ``--val`` or ``--test`` means: how many groups, or who.

Patients may be called by numbers. A count that was meant as a name, or the other way round, would not be seen: it
changes who trains. So a word that can mean both is an error, and ``+10`` and ``name:10`` say which is meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.label_budgets import as_groups

NAME, ALL = "name:", "all"
NUMBER = re.compile(r"[+-]?[0-9]+")


def numbers_or_groups(
    option: str, words: Sequence[str], order: Sequence[str], members: Mapping[str, Sequence[str]], one_number: bool
) -> list[int] | list[str]:
    """Return how many groups each word asks for, or the groups that the words name.

    Args:
        option: Its name, for messages.
        words: Numbers, or names; the name of a case stands for its group, and ``all`` is the number of all groups.
        order: Groups that may be chosen.
        members: Group -> cases, of all groups, also those that may not be chosen: their names are no numbers either.
        one_number: Whether the option takes one number only, so that several words are names.

    Raises:
        UserError: If a word may be a number or a name, begins with zeros and is no name, or both kinds are mixed.
    """
    names = {*order, *members, *(case for cases in members.values() for case in cases)}
    is_name = {word: _is_name(word, names, len(order)) for word in words}
    if True in is_name.values() or (one_number and len(words) > 1):
        is_name = {word: True if known is None else known for word, known in is_name.items()}
    if unclear := [word for word, known in is_name.items() if known is None]:
        raise UserError(
            f"{option} {' '.join(words)}: {unclear[0]} may be a number or a name, since there is a group (patient) or "
            f"case of that name. Write +{unclear[0]} for the number, or {NAME}{unclear[0]} for the name."
        )
    if len(set(is_name.values())) > 1:
        raise UserError(
            f"{option} takes numbers or names, not both; got {' '.join(words)}. Give numbers, or names that are known."
        )
    if all(is_name.values()):
        return as_groups([word.removeprefix(NAME) for word in words], members)
    return [_number(option, word, len(order)) for word in words]


def as_name(name: str) -> str:
    """Return the word that means this name whatever else it may look like."""
    return f"{NAME}{name}" if NUMBER.fullmatch(name) or name == ALL else name


def _is_name(word: str, names: Collection[str], available: int) -> bool | None:
    """Return whether a word is a name; ``None`` if it may be a number, too."""
    if word == ALL:
        return False
    if not NUMBER.fullmatch(word):
        return True
    if word not in names:
        return False
    return True if _has_leading_zeros(word) or int(word) > available else None


def _number(option: str, word: str, available: int) -> int:
    if word == ALL:
        return available
    if _has_leading_zeros(word):
        raise UserError(
            f"{option} {word}: a number has no leading zeros, and no group (patient) or case is called so. To choose "
            "certain patients, write their whole names."
        )
    return int(word)


def _has_leading_zeros(word: str) -> bool:
    return len(word) > 1 and word.startswith("0")

"""What the words of ``--labeled``, ``--val`` or ``--test`` select: a number of groups, or groups by name.

Patients may be called by numbers. A count that was meant as a name, or the other way round, would go unnoticed, and it
changes which cases are trained on. So a word that can mean both is an error, and ``+10`` and ``name:10`` say which is
meant.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.label_budgets import as_groups

NAME_PREFIX = "name:"
ALL = "all"
NUMBER = re.compile(r"[+-]?[0-9]+")


class Meaning(enum.Enum):
    """What one word of an option can mean."""

    NUMBER = "number"
    NAME = "name"
    EITHER = "either"


@dataclass(frozen=True)
class GroupSelection:
    """What the words of an option select: numbers or names, never both.

    Attributes:
        numbers: How many groups each word asks for, in the order of the words.
        names: The groups that the words name.
    """

    numbers: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def select_groups(
    option: str, words: Sequence[str], order: Sequence[str], members: Mapping[str, Sequence[str]], one_number: bool
) -> GroupSelection:
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
    names = {*order, *members}
    for cases in members.values():
        names.update(cases)
    meanings = {word: _meaning(word, names, len(order)) for word in words}
    if Meaning.NAME in meanings.values() or (one_number and len(words) > 1):
        for word, meaning in meanings.items():
            if meaning is Meaning.EITHER:
                meanings[word] = Meaning.NAME  # beside a name, or where one number is taken, it can only be a name
    _refuse_unclear(option, words, meanings)
    if set(meanings.values()) == {Meaning.NAME}:
        return GroupSelection(names=as_groups([word.removeprefix(NAME_PREFIX) for word in words], members))
    return GroupSelection(numbers=[_number(option, word, len(order)) for word in words])


def as_name(name: str) -> str:
    """Return the word that means this name whatever else it may look like."""
    return f"{NAME_PREFIX}{name}" if NUMBER.fullmatch(name) or name == ALL else name


def _refuse_unclear(option: str, words: Sequence[str], meanings: Mapping[str, Meaning]) -> None:
    unclear = [word for word, meaning in meanings.items() if meaning is Meaning.EITHER]
    if unclear:
        raise UserError(
            f"{option} {' '.join(words)}: {unclear[0]} may be a number or a name, since there is a group (patient) or "
            f"case of that name. Write +{unclear[0]} for the number, or {NAME_PREFIX}{unclear[0]} for the name."
        )
    if len(set(meanings.values())) > 1:
        raise UserError(
            f"{option} takes numbers or names, not both; got {' '.join(words)}. Give numbers, or names that are known."
        )


def _meaning(word: str, names: Collection[str], available: int) -> Meaning:
    if word == ALL:
        return Meaning.NUMBER
    if not NUMBER.fullmatch(word):
        return Meaning.NAME
    if word not in names:
        return Meaning.NUMBER
    if _has_leading_zeros(word) or int(word) > available:
        return Meaning.NAME
    return Meaning.EITHER


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

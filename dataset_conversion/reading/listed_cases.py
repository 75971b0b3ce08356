"""Cases that a list names and that are not there, and cases that the user leaves out: nothing goes unsaid."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from nnunet_semisam.errors import UserError, name_some


def check_left_out(names: Sequence[str], known: Collection[str], folder: Path) -> list[str]:
    """Return the cases of ``--leave-out``, sorted.

    Raises:
        UserError: If one of them does not exist: a misspelt name must not go unnoticed.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UserError(f"--leave-out {' '.join(unknown)}: no such case in {folder}. Correct or remove the name.")
    return sorted(set(names))


def missing_notes(train: list[str], test: list[str], here: list[str], left_out: list[str]) -> list[str]:
    """Return a sentence for each list that is not complete, and one for what was left out on purpose."""
    notes = [f"left out as asked: {', '.join(left_out)}"] if left_out else []
    there = {*here, *left_out}
    for kind, names in (("training", train), ("test", test)):
        absent = [name for name in names if name not in there]
        if absent:
            notes.append(f"{len(absent)} of the {len(names)} {kind} cases are not there: {name_some(absent)}")
    extra = sorted(set(here) - {*train, *test})
    if extra:
        notes.append(f"in none of the lists and left out: {name_some(extra)}")
    return notes

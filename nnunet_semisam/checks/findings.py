"""Findings: what a check has to say, in one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from nnunet_semisam.errors import UserError, printable

MOST_OF_TEXT = 2000
MOST_OF_CAUSE = 300  # characters of the error of another program


class Level(str, Enum):
    """How serious a finding is."""

    OK = "ok"
    NOTE = "note"
    """It works, but is worth knowing."""
    STOPS = "stops"
    """Training will not work."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Attributes:
        level: How serious it is.
        subject: What was looked at.
        found: What was found.
        fix: What to do; empty if there is nothing to do, or ``found`` says it.
    """

    level: Level
    subject: str
    found: str
    fix: str = ""


def _line(text: str) -> str:
    """Return a text in one line that can be printed everywhere."""
    return printable(" ".join(text.split()), MOST_OF_TEXT)


def ok(subject: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(Level.OK, subject, _line(found))


def note(subject: str, found: str, fix: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(Level.NOTE, subject, _line(found), _line(fix))


def stops(subject: str, found: str, fix: str = "") -> Finding:
    """Return a finding that training fails with."""
    return Finding(Level.STOPS, subject, _line(found), _line(fix))


def cause_of(error: BaseException) -> str:
    """Return what an error of another program says, in one line."""
    text = " ".join(str(error).split())
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__, MOST_OF_CAUSE)


def looked_at(subject: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what a check finds; what stops the check itself is a finding, too.

    Whatever is inspected may raise anything, and ask the program to end: the report goes on with the next check.
    """
    try:
        return list(look())
    except UserError as error:
        return [stops(subject, str(error))]
    except (Exception, SystemExit) as error:
        return [stops(subject, f"could not be looked at ({cause_of(error)})")]

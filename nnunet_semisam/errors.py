"""The error that console commands print without a traceback: the user can mend it."""

from collections.abc import Sequence


class UserError(ValueError):
    """Bad input or a missing step: the message says what we got, what is allowed and what to do."""


def name_some(names: Sequence[str], most: int = 20) -> str:
    """Return names in one line, not more of them than can be read."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

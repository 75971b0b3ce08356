"""The error that console commands print without a traceback: the user can fix it."""

from collections.abc import Sequence


class UserError(ValueError):
    """Bad input or a missing step: the message says what we got, what is allowed and what to do."""


def name_some(names: Sequence[str], most: int = 20) -> str:
    """Return names in one line, not more of them than can be read."""
    text = ", ".join(names[:most])
    if len(names) > most:
        text += f" and {len(names) - most} more"
    return text

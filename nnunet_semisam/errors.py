"""The error that console commands print without a traceback: the user can fix it."""

import reprlib
from collections.abc import Sequence
from typing import Any

MOST_CHARACTERS = 8000  # of a message: longer than any of ours, shorter than a damaged file
MOST_OF_VALUE = 100  # characters of a value from a file
MOST_OF_NAME = 400  # of a name in a list, which may be a path with a remark


class UserError(ValueError):
    """Bad input or a missing step: the message says what we got, what is allowed and what to do.

    The message can be printed everywhere: what a file's names hold beside printable characters and line ends (terminal
    sequences, halves of surrogate pairs) is written as an escape, and a message never grows with the file.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, MOST_CHARACTERS))


def printable(text: str, most: int = MOST_OF_VALUE) -> str:
    r"""Return a text with escapes for what cannot be printed, and without its middle if it is longer than ``most``.

    Example:
        >>> printable("a\x1b[31m\ud800b")
        'a\\x1b[31m\\ud800b'
        >>> printable("0123456789" * 10, most=20)
        '0123456 ... 3456789'
    """
    if len(text) > most:
        half = max((most - 5) // 2, 1)
        text = f"{text[:half]} ... {text[-half:]}"
    if all(character.isprintable() or character == "\n" for character in text):
        return text
    return "".join(
        character if character.isprintable() or character == "\n" else _escape(character) for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


_REPR = reprlib.Repr()  # lists within lists double with each level
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxdict, _REPR.maxset = 4, 20, 20, 20, 20
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200


def shown(value: Any) -> str:
    """Return a value from a file as Python writes it, not more of it than can be read."""
    return printable(_REPR.repr(value) if isinstance(value, list | tuple | dict | set) else repr(value))


def name_some(names: Sequence[str], most: int = 10) -> str:
    """Return names in one line, not more of them, and of each, than can be read."""
    text = ", ".join(printable(name, MOST_OF_NAME) for name in names[:most])
    if len(names) > most:
        text += f" and {len(names) - most} more"
    return text

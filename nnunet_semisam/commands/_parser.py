"""A parser that answers a mistake with the word that was probably meant."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from nnunet_semisam.errors import printable

NUMBER = re.compile(r"-[0-9.]")
CLOSE = 0.7  # -npp is not -p


class Parser(argparse.ArgumentParser):
    """``argparse``'s parser, whose messages are short and make suggestions.

    Example:
        >>> parser = Parser(prog="command")
        >>> _ = parser.add_argument("--labeled")
        >>> parser.suggestion(["--labelled", "3"])
        'Instead of --labelled, did you mean --labeled?'
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)  # examples stay one line
        super().__init__(*args, **kwargs)
        self._words: Sequence[str] = ()
        self.set_defaults(_parser=self)  # of sub-commands, the innermost one's counts

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        """Return the options; what the innermost sub-command does not know, that one answers."""
        found, unknown = self.parse_known_args(args, namespace)
        parser = found.__dict__.pop("_parser", self)
        if unknown:
            parser.error(f"unknown: {' '.join(unknown)}")
        return found

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and keep the words for a suggestion."""
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._words, namespace)

    def suggestion(self, words: Sequence[str]) -> str:
        """Return a sentence about the first option among the words that this parser does not know; empty if none."""
        for word in (word.split("=")[0] for word in words):
            if not word.startswith("-") or NUMBER.match(word) or word in ("-", "--") or self._knows(word):
                continue
            close = get_close_matches(word, self._option_string_actions, n=1, cutoff=CLOSE)
            return f"Instead of {word}, did you mean {close[0]}?" if close else f"There is no option {word}."
        return ""

    def _knows(self, word: str) -> bool:
        attached = re.fullmatch(r"-[a-zA-Z][0-9]+", word)  # -d27
        known = self._option_string_actions
        return any(option.startswith(word) for option in known) or (attached is not None and word[:2] in known)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, what was probably meant, and where help is; exit status 2."""
        text = " ".join(filter(None, (_sentence(printable(message, 2000)), self.suggestion(self._words))))
        self.exit(2, f"{self.prog}: {text}\nSee: {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            close = get_close_matches(str(value), [str(choice) for choice in action.choices or ()], n=1)
            if not close:
                raise
            what = "command" if isinstance(action, argparse._SubParsersAction) else "choice"
            raise argparse.ArgumentError(action, f"no {what} {value!r}, did you mean {close[0]}?") from error


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."

"""A name for every interchangeable part, so that a configuration can choose one with a string."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from nnunet_semisam.errors import UserError, printable, shown

T = TypeVar("T")
Member = TypeVar("Member", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Maps names to classes or functions of one kind, for example methods or SAM backends.

    Args:
        kind: What the registry holds, in the singular and as a user would say it. Used in error messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Member], Member]:
        """Return a decorator that files a class or function under ``name``.

        Raises:
            ValueError: If ``name`` is taken. Registering twice is a mistake, never an update.
        """

        def add(member: Member) -> Member:
            if name in self._members:
                raise ValueError(f"The {self.kind} {name!r} is already {self._members[name].__qualname__}.")
            self._members[name] = member
            return member

        return add

    def get(self, name: str) -> Callable[..., Any]:
        """Return the class or function filed under ``name``.

        Raises:
            UserError: If there is none; the message lists the names there are.
        """
        if name not in self._members:
            close = difflib.get_close_matches(printable(str(name)), self._members, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UserError(f"Unknown {self.kind} {shown(name)}.{hint} Available: {', '.join(self.names())}.")
        return self._members[name]

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._members)

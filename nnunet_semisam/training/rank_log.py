"""The training log of several processes: process 0 writes it, and what others met must be in it, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnunet_semisam import ranks


class RankLog:
    """Takes lines for the training log; those of other processes reach it at the end of an epoch.

    Args:
        write: Writes a line, in process 0.
        rank: This process.

    Example:
        >>> log = RankLog(print, rank=0)
        >>> log("case_7 is damaged")
        case_7 is damaged
    """

    def __init__(self, write: Callable[[str], Any], rank: int) -> None:
        self.write, self.rank = write, rank
        self._waiting: list[str] = []

    def __call__(self, line: str) -> None:
        """Write a line, or keep it for process 0."""
        if self.rank == 0:
            self.write(line)
        else:
            self._waiting.append(line)

    def end_epoch(self) -> None:
        """Let process 0 write the lines of the others; all of them must call this."""
        of_ranks, self._waiting = ranks.gathered(self._waiting), []
        if self.rank == 0:
            for rank, lines in enumerate(of_ranks):
                for line in lines:
                    self.write(f"Process {rank}: {line}")

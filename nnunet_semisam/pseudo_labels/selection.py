"""Which cases a round refreshes, and which process works on which of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence


def cases_for_round(pool: Sequence[str], last_round: Mapping[str, int], cases_per_refresh: int) -> list[str]:
    """Return the cases of a round: those that no round had yet first, then those whose turn is longest ago.

    Cases that waited equally long come in an order that neighbours in the alphabet (images of one patient) do not
    share, the same in every process and every training: by the CRC-32 of their names.

    Args:
        pool: All unlabeled cases.
        last_round: Number of the last round that had a case; cases that no round had are not in it.
        cases_per_refresh: How many to take; all if there are fewer.
    """
    waiting = sorted(pool, key=lambda case: (last_round.get(case, -1), zlib.crc32(case.encode()), case))
    return waiting[:cases_per_refresh]


def rolling_window(cases: Sequence[str], index: int, size: int) -> list[str]:
    """Return ``size`` of the sorted cases, going on with each ``index`` where the one before ended; all if fewer."""
    ordered = sorted(cases)
    if size >= len(ordered):
        return ordered
    start = index * size
    return [ordered[(start + i) % len(ordered)] for i in range(size)]


def shard(cases: Sequence[str], rank: int, world_size: int) -> list[str]:
    """Return the cases that process ``rank`` of ``world_size`` works on: every case on exactly one process."""
    return list(cases[rank::world_size])

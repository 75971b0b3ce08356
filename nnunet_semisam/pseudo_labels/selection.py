"""Which cases a round refreshes, and which process works on which of them."""

from __future__ import annotations

from collections.abc import Sequence


def cases_for_round(pool: Sequence[str], round_index: int, cases_per_refresh: int | None) -> list[str]:
    """Return the cases of a round: the window of the sorted pool that rolls on with each round.

    Args:
        pool: All unlabeled cases.
        round_index: Number of the round, from 0.
        cases_per_refresh: Size of the window; ``None``, or more than there are, takes all.
    """
    ordered = sorted(pool)
    if cases_per_refresh is None or cases_per_refresh >= len(ordered):
        return ordered
    start = round_index * cases_per_refresh
    return [ordered[(start + i) % len(ordered)] for i in range(cases_per_refresh)]


def shard(cases: Sequence[str], rank: int, world_size: int) -> list[str]:
    """Return the cases that process ``rank`` of ``world_size`` works on: every case on exactly one process."""
    return list(cases[rank::world_size])

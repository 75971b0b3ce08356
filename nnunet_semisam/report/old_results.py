"""Results of an older version: what its summary lacks is computed anew from the scores in ``results.csv``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_semisam.benchmark.plan import Run
from nnunet_semisam.benchmark.results import without_nan
from nnunet_semisam.benchmark.summary import Scores, summarize


def is_old(content: Mapping[str, Any]) -> bool:
    """Return whether a summary was written before differences told how many pairs of runs they rest on."""
    return any(cell["difference"] is not None and "pairs" not in cell["difference"] for cell in content["summary"])


def summary_of(content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the summary as this version computes it.

    Args:
        content: ``results.json``.
        rows: ``results.csv``, with ``None`` where a field is empty.
    """
    scores: Scores = {}
    for row in rows:
        run = Run(row["trainer"], row["configuration"], row["fold"], row["budget"], row["seed"])
        numbers = {name: math.nan if row[name] is None else row[name] for name in ("value", "scored")}
        score = {name: row[name] for name in ("label", "metric", "unit", "status")} | numbers
        scores.setdefault(run, {}).setdefault(row["case"], []).append(score)
    groups = {row["case"]: row["group"] for row in rows}
    study = content["study"]
    return without_nan(list(summarize(scores, groups, study["configurations"], study["trainers"])))

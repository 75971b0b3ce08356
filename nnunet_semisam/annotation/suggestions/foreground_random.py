"""Chance, among cases in which the model sees something: what every other rule has to beat (nnActive, TMLR 2025)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_semisam.annotation.suggestions.base import RULES, CaseEvidence, Request, Suggestion


@RULES.register("random")
def by_chance(evidence: Sequence[CaseEvidence], request: Request) -> list[Suggestion]:
    """Return cases drawn at random; those without predicted foreground come last."""
    rng = np.random.default_rng(request.seed)
    ordered = sorted(evidence, key=lambda each: each.case)
    draws = rng.random(len(ordered))
    shown = [any(each.class_voxels) for each in ordered]
    order = sorted(range(len(ordered)), key=lambda index: (not shown[index], -draws[index]))
    reason = {True: "drawn at random", False: "drawn at random, the model shows nothing"}
    return [Suggestion(ordered[i].case, float(draws[i]), reason[shown[i]]) for i in order[: request.count]]

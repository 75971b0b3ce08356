"""Class by class and with noise: the rule of ClaSP PE (TMLR 2026) at the level of cases.

Most of the budget is spread over the classes, the rest goes by the entropy of the whole case; a case is ranked by the
logarithm of its entropy plus Gumbel noise of scale 1 / beta. Without noise the first cases of a ranking are alike, and
say the same twice (Kirsch et al. 2023, Stochastic Batch Acquisition, https://arxiv.org/abs/2106.12059).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nnunet_semisam.annotation.suggestions.base import RULES, CaseEvidence, Request, Suggestion

SMALLEST = 1e-6  # of an entropy: its logarithm is finite


@RULES.register("class_stratified")
def by_class(evidence: Sequence[CaseEvidence], request: Request) -> list[Suggestion]:
    """Return cases chosen class by class, in turn, and then by the whole case.

    Classes take turns from the least certain one on. A case that does not show a class is none of its candidates.
    """
    rng = np.random.default_rng(request.seed)
    left = {each.case: each for each in sorted(evidence, key=lambda each: each.case)}
    turns = _turns(list(left.values()), request)
    chosen: list[Suggestion] = []
    for number in range(min(request.count, len(left))):
        channel = turns[number % len(turns)] if turns and number < _stratified(request) else None
        entropies = {case: _entropy(each, channel) for case, each in left.items()}
        known = {case: value for case, value in entropies.items() if value is not None}
        if not known:
            channel, known = None, {case: each.entropy for case, each in left.items()}
        noise = dict(zip(known, rng.gumbel(0, 1 / request.beta, len(known)), strict=True))
        scores = {case: math.log(max(value, SMALLEST)) + noise[case] for case, value in known.items()}
        case = max(scores, key=lambda name: (scores[name], name))
        what = "the whole case" if channel is None else request.class_names[channel]
        chosen.append(Suggestion(case, scores[case], f"for {what}: entropy {known[case]:.3f}, with noise"))
        del left[case]
    return chosen


def _stratified(request: Request) -> int:
    return math.ceil(request.class_share * request.count)


def _turns(evidence: Sequence[CaseEvidence], request: Request) -> list[int]:
    """Return the channels that some case shows, the least certain one first."""
    found = {}
    for channel in range(len(request.class_names)):
        values = [value for each in evidence if (value := _entropy(each, channel)) is not None]
        if values:
            found[channel] = float(np.mean(values))
    return sorted(found, key=lambda channel: (-found[channel], channel))


def _entropy(each: CaseEvidence, channel: int | None) -> float | None:
    if channel is None:
        return each.entropy
    return each.class_entropy[channel] if each.class_voxels[channel] else None

"""The cases that are least like those that are labeled, and least like each other.

The greedy cover of Sener and Savarese (Core-Set, ICLR 2018, https://arxiv.org/abs/1708.00489): the case farthest from
all labeled and chosen ones is next, by the network's deepest features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_semisam.annotation.suggestions.base import RULES, CaseEvidence, Request, Suggestion
from nnunet_semisam.errors import UserError


@RULES.register("diversity")
def by_diversity(evidence: Sequence[CaseEvidence], request: Request) -> list[Suggestion]:
    """Return the cases that cover the pool, each the farthest from the labeled ones and those before it.

    Raises:
        UserError: If the network has no encoder whose features could be compared.
    """
    if any(not each.features for each in evidence):
        raise UserError(
            "The rule 'diversity' compares the encoder's features, and this network has none. Take another."
        )
    ordered = sorted(evidence, key=lambda each: each.case)
    features = _unit(np.array([each.features for each in ordered]))
    if len(request.labeled_features):
        distance = _distances(features, _unit(np.array(request.labeled_features))).min(axis=1)
    else:  # the first is the one in the middle
        distance = -_distances(features, features.mean(axis=0, keepdims=True))[:, 0]
    chosen: list[Suggestion] = []
    taken = np.zeros(len(ordered), dtype=bool)
    for _ in range(min(request.count, len(ordered))):
        index = int(np.where(taken, -np.inf, distance).argmax())
        far = abs(float(distance[index]))
        chosen.append(
            Suggestion(ordered[index].case, far, f"distance {far:.3f} from the nearest labeled or chosen case")
        )
        to_new = _distances(features, features[index : index + 1])[:, 0]
        first = not chosen[1:] and not len(request.labeled_features)
        distance = to_new if first else np.minimum(distance, to_new)
        taken[index] = True
    return chosen


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first[:, None] - second[None], axis=2)

"""What a generalist remembers of the cases of earlier rounds, and who may correct an uncertain case.

Shapes in this file: ``P`` sides (see ``class_prototypes.py``), ``c`` feature channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class CaseSummary:
    """What is remembered of a case.

    Attributes:
        prototypes: Mean feature of each side in this case, by its label or the specialist's prediction, ``(P, c)``.
        overall: Mean feature of the whole case, normalised, ``(c,)``.
        uncertainty: Mean entropy of the specialist's prediction, in [0, 1]; 0 for labeled cases.
    """

    prototypes: Tensor
    overall: Tensor
    uncertainty: float


class CaseMemory:
    """Summaries of unlabeled cases, of the last round that had each.

    During a round nothing changes, so that the order of cases, and which process has which, makes no difference.

    Args:
        fingerprint: Digest of the SAM whose features are remembered; those of another one are not used.
    """

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.cases: dict[str, CaseSummary] = {}

    def update(self, cases: Mapping[str, CaseSummary]) -> None:
        """Remember the cases of a round, with the precision in which they are stored: a resumed run knows the same."""
        self.cases.update({name: _stored(each) for name, each in cases.items()})

    def threshold(self, uncertain_share: float) -> float | None:
        """Return the uncertainty from which a case counts as uncertain; ``None`` if no case is remembered."""
        if not self.cases:
            return None
        values = [summary.uncertainty for summary in self.cases.values()]
        return float(np.quantile(values, 1 - uncertain_share))

    def neighbours(
        self, case: str, overall: Tensor, threshold: float, labeled: Mapping[str, CaseSummary], count: int
    ) -> list[tuple[CaseSummary, float]]:
        """Return the labeled and certain cases that are most alike, with their cosine.

        Args:
            case: Name of the uncertain case, which is no neighbour of itself.
            overall: Its mean feature, ``(c,)``, normalised.
            threshold: Uncertainty below which a case is certain.
            labeled: The labeled cases.
            count: How many to return.

        Returns:
            ``count`` summaries, the most alike first; none if there are fewer, or none is alike at all.
        """
        certain = {name: each for name, each in self.cases.items() if each.uncertainty < threshold and name != case}
        candidates = {**certain, **labeled}
        if len(candidates) < count:
            return []
        cosines = {name: max(0.0, float(overall @ each.overall)) for name, each in candidates.items()}
        best = sorted(candidates, key=lambda name: (-cosines[name], name))[:count]
        found = [(candidates[name], cosines[name]) for name in best]
        return found if sum(cosine for _, cosine in found) > 0 else []

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors, in half precision."""
        cases = {
            name: {
                "prototypes": each.prototypes.half(),
                "overall": each.overall.half(),
                "uncertainty": each.uncertainty,
            }
            for name, each in self.cases.items()
        }
        return {"fingerprint": self.fingerprint, "cases": cases}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what :meth:`state_dict` returned.

        Raises:
            ValueError: If it is of another SAM, or holds something else; nothing is changed then.
        """
        if state["fingerprint"] != self.fingerprint:
            raise ValueError("it is of another SAM")
        found = {str(name): _summary(content) for name, content in state["cases"].items()}
        if len({tuple(each.prototypes.shape) for each in found.values()}) > 1:
            raise ValueError("its cases have prototypes of different shapes")
        self.cases = found


def _stored(summary: CaseSummary) -> CaseSummary:
    return replace(summary, prototypes=summary.prototypes.half().float(), overall=summary.overall.half().float())


def _summary(content: Mapping[str, Any]) -> CaseSummary:
    prototypes, overall, uncertainty = (content[name] for name in ("prototypes", "overall", "uncertainty"))
    shapes = prototypes.ndim, overall.ndim
    if shapes != (2, 1) or prototypes.shape[1] != len(overall) or not 0 <= float(uncertainty) <= 1:
        raise ValueError("it holds something else than summaries of cases")
    if not (torch.isfinite(prototypes).all() and torch.isfinite(overall).all()):
        raise ValueError("it holds NaN or infinity")
    # A checkpoint is read to the device of the training; what is compared with these lies on the CPU.
    return CaseSummary(prototypes.float().cpu(), overall.float().cpu(), float(uncertainty))

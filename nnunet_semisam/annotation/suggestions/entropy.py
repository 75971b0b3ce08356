"""The cases of which the model is least sure: the best of the simple rules in nnActive (TMLR 2025)."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_semisam.annotation.suggestions.base import RULES, CaseEvidence, Request, Suggestion, best


@RULES.register("entropy")
def by_entropy(evidence: Sequence[CaseEvidence], request: Request) -> list[Suggestion]:
    """Return the cases of the largest mean entropy around the foreground."""
    scores = {each.case: each.entropy for each in evidence}
    reasons = {each.case: f"entropy {each.entropy:.3f}, disagreement {each.disagreement:.3f}" for each in evidence}
    return best(scores, reasons, request.count)

"""The cases in which model and SAM contradict each other most: one of the two must be wrong."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_semisam.annotation.suggestions.base import RULES, CaseEvidence, Request, Suggestion, best
from nnunet_semisam.errors import UserError


@RULES.register("disagreement")
def by_disagreement(evidence: Sequence[CaseEvidence], request: Request) -> list[Suggestion]:
    """Return the cases of the smallest mean Dice between model and SAM.

    A case in which the model shows nothing cannot be prompted. It has Dice 0 here: either it is empty, which takes a
    moment to say, or the model has missed everything.

    Raises:
        UserError: If no SAM was asked.
    """
    if all(dice is None for each in evidence for dice in each.generalist_dice) and any(
        sum(each.class_voxels) for each in evidence
    ):
        raise UserError("The rule 'disagreement' needs a SAM's opinion. Add --sam nano, or another model.")
    scores, reasons = {}, {}
    for each in evidence:
        found = [dice for dice in each.generalist_dice if dice is not None]
        scores[each.case] = 1 - (sum(found) / len(found) if found else 0.0)
        named = [
            f"{name} {dice:.2f}"
            for name, dice in zip(request.class_names, each.generalist_dice, strict=True)
            if dice is not None
        ]
        reasons[each.case] = f"Dice of model and SAM: {', '.join(named)}" if named else "the model shows nothing"
    return best(scores, reasons, request.count)

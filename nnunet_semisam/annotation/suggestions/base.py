"""What a rule is given of each case, and what it returns.

Shapes in this file: ``F`` foreground classes or regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nnunet_semisam.errors import UserError
from nnunet_semisam.registry import Registry


@dataclass(frozen=True)
class CaseEvidence:
    """What a trained model says of an unlabeled case; no label is part of it.

    Attributes:
        case: Its name.
        entropy: Mean entropy where the model sees, or may see, foreground, in [0, 1].
        disagreement: Mean disagreement of its networks and mirrored images there, in [0, 1].
        class_entropy: Mean entropy where each class is predicted, weighted by its probability; ``F`` numbers.
        class_voxels: Predicted voxels of each class at the spacing of the plans; ``F`` numbers.
        generalist_dice: Dice of model and SAM for each class; ``None`` for a class that neither shows, and for all
            classes if no SAM was asked; ``F`` numbers.
        features: The deepest features of the network, averaged over the image; empty if it has no encoder.
    """

    case: str
    entropy: float
    disagreement: float
    class_entropy: list[float]
    class_voxels: list[int]
    generalist_dice: list[float | None]
    features: list[float]


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        count: How many cases.
        class_names: Name of each foreground class.
        seed: Of whatever is random.
        beta: Inverse scale of the noise of ``class_stratified``; the larger, the less noise.
        class_share: Share of the cases that ``class_stratified`` chooses class by class, in [0, 1].
        labeled_features: Features of the labeled cases, for ``diversity``.
    """

    count: int
    class_names: Sequence[str]
    seed: int = 0
    beta: float = 1.0
    class_share: float = 0.66
    labeled_features: Sequence[Sequence[float]] = field(default_factory=tuple)


@dataclass(frozen=True)
class Suggestion:
    """A case to annotate.

    Attributes:
        case: Its name.
        score: What the rule ranked it by; larger is more wanted.
        reason: A few words for the annotator.
    """

    case: str
    score: float
    reason: str


Rule = Callable[[Sequence[CaseEvidence], Request], list[Suggestion]]
RULES: Registry[Rule] = Registry("rule of suggestion")


def best(scores: dict[str, float], reasons: dict[str, str], count: int) -> list[Suggestion]:
    """Return the cases of the largest scores, equal ones by name."""
    order = sorted(scores, key=lambda case: (-scores[case], case))
    return [Suggestion(case, scores[case], reasons[case]) for case in order[:count]]


def check_count(evidence: Sequence[CaseEvidence], request: Request) -> None:
    """Refuse to suggest nothing, or more than there are.

    Raises:
        UserError: If so.
    """
    if not 1 <= request.count <= len(evidence):
        raise UserError(f"-n must be 1 to {len(evidence)}, the number of unlabeled cases, got {request.count}.")

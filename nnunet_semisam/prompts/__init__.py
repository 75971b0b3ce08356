"""Prompts for a SAM from the specialist's prediction. Importing the package registers strategies and refinements."""

from nnunet_semisam.prompts import boxes, chains, combined, masks, points, refinements
from nnunet_semisam.prompts.base import (
    FILTERS,
    PROMPTS,
    REFINEMENTS,
    ComponentFilter,
    PromptRefinement,
    PromptSettings,
    PromptStrategy,
)

__all__ = [
    "FILTERS",
    "PROMPTS",
    "REFINEMENTS",
    "ComponentFilter",
    "PromptRefinement",
    "PromptSettings",
    "PromptStrategy",
    "boxes",
    "chains",
    "combined",
    "masks",
    "points",
    "refinements",
]

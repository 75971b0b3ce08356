"""Prompt strategies: the network's opinion becomes questions for a SAM. Importing the package registers them."""

from nnunet_semisam.prompts import boxes, combined, masks, points
from nnunet_semisam.prompts.base import PROMPTS, PromptStrategy

__all__ = ["PROMPTS", "PromptStrategy", "boxes", "combined", "masks", "points"]

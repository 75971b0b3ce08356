"""Inactive classes become part of the background: what a network that does not know a class may still teach.

A teacher that knows the left ventricle only can say where it is and where it is not, but not whether the rest is
background. Taking its rest for background teaches the student to unlearn the other classes; leaving the rest out
teaches it that everything may be left ventricle. So background and inactive classes become one.
"""

from __future__ import annotations

import torch
from torch import Tensor

MERGED_LOGIT = -1e4  # probability 0, but no infinity times 0 in a loss


def active_weights(class_weights: Tensor, active_from: float) -> Tensor:
    """Return the weights of the active classes, ``(K,)``; 0 for those that are merged into the background.

    Channel 0 is the rest: background and all inactive classes. "This is none of the active classes" is as certain as
    the least certain of them. All are 0 if no class is active.

    Args:
        class_weights: Weight of each class, ``(K,)``, in [0, 1]; the background's entry is not used.
        active_from: Weight from which a class is active.
    """
    active = torch.where(class_weights >= active_from, class_weights, 0.0)
    active[0] = 0.0
    lowest = torch.where(active > 0, active, torch.inf).min()
    active[0] = torch.where(torch.isinf(lowest), 0.0, lowest)
    return active


def merge_inactive(logits: Tensor, target: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Put all inactive classes into channel 0.

    Args:
        logits: The learner's logits, ``(B, K, *S)``.
        target: Class probabilities, ``(B, K, *S)``.
        active: From :func:`active_weights`, ``(K,)``, on the CPU: which channels are merged is decided without a look
            at the device.

    Returns:
        Logits whose softmax gives the sum of all inactive probabilities in channel 0 and nothing in the channels of
        inactive classes, and the target in the same form; float32.
    """
    inactive = (active == 0).tolist()
    if not any(inactive):
        return logits, target
    logits, target = logits.float().split(1, dim=1), target.float().split(1, dim=1)
    rest = [k == 0 or gone for k, gone in enumerate(inactive)]
    rest_logits = torch.cat([logit for logit, merged in zip(logits, rest, strict=True) if merged], dim=1)
    rest_target = torch.cat([share for share, merged in zip(target, rest, strict=True) if merged], dim=1)
    nowhere, never = torch.full_like(logits[0], MERGED_LOGIT), torch.zeros_like(target[0])
    merged_logits = [nowhere if gone else logit for logit, gone in zip(logits, inactive, strict=True)]
    merged_target = [never if gone else share for share, gone in zip(target, inactive, strict=True)]
    merged_logits[0] = rest_logits.logsumexp(dim=1, keepdim=True)
    merged_target[0] = rest_target.sum(dim=1, keepdim=True)
    return torch.cat(merged_logits, dim=1), torch.cat(merged_target, dim=1)

"""The states of all that learns from unlabeled cases: what of it a checkpoint keeps, and how it is restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_semisam.methods.parts.networks import unwrap
from nnunet_semisam.training.step import SemiSupervisedStep


def network_states(step: SemiSupervisedStep) -> list[dict[str, Any]]:
    """Return the state dicts of the student and of all other networks and parts that the method trains or keeps."""
    return [unwrap(step.network).state_dict(), *(part.state_dict() for part in step.method.state_parts().values())]


def method_entry(step: SemiSupervisedStep) -> dict[str, Any]:
    """Return what the checkpoint keeps, for :func:`restore_method`."""
    method, unlabeled_pass = step.method, step.unlabeled_pass
    return {
        "student": unwrap(step.network).state_dict(),
        "method": {name: part.state_dict() for name, part in method.state_parts().items()},
        "ensemble_members": list(method.ensemble_members),
        "optimizers": [optimizer.state_dict() for optimizer in method.optimizers()],
        "gate": unlabeled_pass.gate.state_dict(),
        "unlabeled_pass": unlabeled_pass.state_dict(),
    }


def restore_method(entry: Mapping[str, Any], step: SemiSupervisedStep) -> None:
    """Restore the states of a checkpoint's entry."""
    method, unlabeled_pass = step.method, step.unlabeled_pass
    unwrap(step.network).load_state_dict(entry["student"])
    for name, part in method.state_parts().items():
        part.load_state_dict(entry["method"][name])
    for optimizer, state in zip(method.optimizers(), entry["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    unlabeled_pass.gate.load_state_dict(entry["gate"])
    unlabeled_pass.load_state_dict(entry["unlabeled_pass"])

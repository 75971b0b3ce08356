"""Several processes that train together (DDP): the few collective operations that this package needs.

Every function is the identity where no process group exists.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nnunet_semisam.errors import UserError

T = TypeVar("T")
PATIENCE = timedelta(days=1)
_patient: tuple[Any, Any] | None = None  # nnU-Net's group, and ours beside it


def several() -> bool:
    """Return whether more than one process trains."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _patient_group() -> Any:
    """Return a group of all processes that waits long for its slowest: one may prompt a SAM for an hour.

    nnU-Net's own group gives up after ten minutes (NCCL). This one exchanges objects, which lie on the CPU anyway.
    """
    global _patient
    world = dist.group.WORLD
    if _patient is None or _patient[0] is not world:
        _patient = (world, dist.new_group(backend="gloo", timeout=PATIENCE))
    return _patient[1]


@atexit.register
def _let_go() -> None:
    """Let go of both groups while threads can still be joined: one that lives longer aborts the process at its end."""
    global _patient
    _patient = None


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks, in place."""
    if several():
        dist.all_reduce(values)
    return values


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of ``parameters`` by their mean over all ranks; a missing one counts as 0.

    Every rank must call it for the same parameters. A parameter without gradient on all ranks keeps none.
    """
    if not several():
        return
    parameters = list(parameters)
    present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int64)
    present = sum_over_ranks(present.to(parameters[0].device)).cpu() if parameters else present
    for parameter, ranks in zip(parameters, present.tolist(), strict=True):
        if ranks == 0:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


def broadcast_state(state: Mapping[str, Any]) -> None:
    """Give all ranks the tensors of rank 0, in place.

    Args:
        state: A state dict whose tensors are those of the object itself, possibly with state dicts in it; whatever is
            no tensor is left alone.
    """
    if not several():
        return
    for value in state.values():
        if isinstance(value, Tensor):
            dist.broadcast(value, 0)
        elif isinstance(value, Mapping):
            broadcast_state(value)


def from_rank_zero(value: T) -> T:
    """Return the value of rank 0 (a picklable object), so that all ranks decide alike."""
    if not several():
        return value
    holder: list[Any] = [value]
    dist.broadcast_object_list(holder, 0, group=_patient_group())
    return holder[0]


def gathered(value: T) -> list[T]:
    """Return the values of all ranks (picklable objects), in the order of the ranks."""
    if not several():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value, group=_patient_group())
    return found


def computed_on_rank_zero(rank: int, compute: Callable[[], T]) -> T:
    """Return what process 0 computes (a picklable object); if it fails there, all fail, and none waits for it."""
    value, error = None, None
    if rank == 0:
        try:
            value = compute()
        except Exception as caught:
            error = caught
    value, reason = from_rank_zero((value, None if error is None else f"{type(error).__name__}: {error}"))
    if error is not None:
        raise error
    if reason is not None:
        raise UserError(f"Process 0 failed ({reason}), so this one stops, too.")
    return value


def fail_together(error: Exception | None) -> None:
    """Wait for the other processes; raise if one of them has an error, each its own or that of the first."""
    reasons = gathered(None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    failed = next((rank for rank, reason in enumerate(reasons) if reason is not None), None)
    if failed is not None:
        raise UserError(f"Process {failed} failed ({reasons[failed]}), so this one stops, too.")


def barrier() -> None:
    """Wait for the other processes."""
    if several():
        dist.barrier(group=_patient_group())

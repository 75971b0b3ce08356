"""Work on many images or prompts in parts that fit into the memory of the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from nnunet_semisam.errors import UserError

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device had too little memory; Apple's GPUs have no error class for it."""
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)


class Parts:
    """How much is computed at once; half as much after the memory was exhausted, for good.

    Args:
        at_once: Largest number of items of a part.
        what: One of them, for messages.

    Example:
        >>> Parts(2, "a number").each(5, lambda part: list(range(5))[part])
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, at_once: int, what: str) -> None:
        self.at_once, self.what = max(1, at_once), what

    def each(self, count: int, compute: Callable[[slice], T]) -> list[T]:
        """Return what ``compute`` returns for each part of ``count`` items, in their order.

        Raises:
            UserError: If a single item does not fit.
        """
        found, start = [], 0
        while start < count:
            part = slice(start, min(start + self.at_once, count))
            reason = ""
            try:
                found.append(compute(part))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).split("\n")[0]
            # not in the handler: the error holds on to what was computed
            if not reason:
                start = part.stop
                continue
            if part.stop - start == 1:
                raise UserError(
                    f"The memory of the GPU does not hold {self.what}: {reason} Take a smaller SAM (nano, mobile_sam), "
                    "a smaller network, or a GPU with more memory, or end what else runs on this one."
                )
            self.at_once = (part.stop - start) // 2
            torch.cuda.empty_cache()
            if torch.backends.mps.is_available():
                torch.mps.empty_cache()
        return found

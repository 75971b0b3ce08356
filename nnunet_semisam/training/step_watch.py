"""What went wrong in steps without stopping the training: counted, with the names of the cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nnunet_semisam.errors import UserError, name_some

MOST_IN_A_ROW = 100  # a gradient scaler that starts too high needs a few; a network that diverged never ends


class StepWatch:
    """Counts steps whose loss is not finite, which change no weight, and cases whose pseudo-label cannot be read.

    Args:
        log: Receives lines for the training log.
    """

    def __init__(self, log: Callable[[str], Any]) -> None:
        self.log = log
        self.damaged: dict[str, str] = {}
        self._steps = self._not_finite = self._in_a_row = 0
        self._cases: dict[str, None] = {}

    def tell_damaged(self, cases: Mapping[str, str]) -> None:
        """Say once of each case that its pseudo-label is left out."""
        for case, reason in cases.items():
            if self.damaged.get(case) != reason:
                self.damaged[case] = reason
                self.log(
                    f"WARNING: The pseudo-label of {case} is damaged and left out until its next turn "
                    f"({len(self.damaged)} so far). {reason}"
                )

    def count(self, losses: Mapping[str, Any], cases: Iterable[str]) -> None:
        """Look at the numbers of a step.

        Raises:
            UserError: If no loss was finite for many steps in a row.
        """
        self._steps += 1
        if all(math.isfinite(float(value)) for name, value in losses.items() if name.endswith(("loss", "extra"))):
            self._in_a_row = 0
            return
        self._not_finite += 1
        self._in_a_row += 1
        self._cases.update(dict.fromkeys(map(str, cases)))
        if self._in_a_row >= MOST_IN_A_ROW:
            raise UserError(
                f"The loss was not finite (NaN or infinite) in {self._in_a_row} steps in a row: the training diverged. "
                "The checkpoints hold the weights of before. Train again with a lower initial_lr, or check the images "
                f"of: {name_some(list(self._cases), 5)}."
            )

    def end_epoch(self) -> None:
        """Write one line if there was anything, and begin to count anew."""
        if self._not_finite:
            self.log(
                f"WARNING: The loss was not finite (NaN or infinite) in {self._not_finite} of {self._steps} steps, "
                f"which changed no weight. Cases in them: {name_some(list(self._cases), 5)}. Check their images."
            )
        self._steps = self._not_finite = 0
        self._cases = {}

"""Which settings the runs of a benchmark share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_semisam.checks import trainers
from nnunet_semisam.settings import Settings

NOT_SHARED = {"seed": "--seeds", "method": "--trainers", "use_sam": "--trainers"}


def settings_of_trainer(name: str, shared: Mapping[str, Any]) -> Settings:
    """Return the settings that a trainer has in a benchmark.

    Args:
        name: Class name; :func:`~nnunet_semisam.checks.trainers.check_trainers` has accepted it.
        shared: The settings of every run.
    """
    return trainers.settings_of_trainer(name, shared, "the settings of the benchmark")

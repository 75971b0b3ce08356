"""Where a round of pseudo-labels comes from, in plain values for a json file."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from typing import Any

from nnunet_semisam.generalists.ensemble import GeneralistEnsemble
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable
from nnunet_semisam.settings import Settings

VERSIONS_OF = ("nnunet-semisam", "nnunetv2", "torch", "segment-anything", "numpy", "blosc2")


def provenance(
    settings: Settings, ensemble: GeneralistEnsemble, calibration: CalibrationTable | None, epoch: int
) -> dict[str, Any]:
    """Return settings, generalists, calibration, epoch, versions and time.

    Args:
        settings: The settings of the run; the prompt strategies are among them.
        ensemble: The generalists, with the weights that the round was made with.
        calibration: Where these weights come from.
        epoch: Epoch of the network.
    """
    about = [member.about() for member in ensemble.members]
    return {
        "settings": settings.to_dict(),
        "settings_sha256": settings.sha256,
        "sam_fingerprint": "+".join(each["fingerprint"] for each in about if "fingerprint" in each),
        "generalists": about,
        "weights": [dataclasses.asdict(weights) for weights in ensemble.member_weights],
        "calibration": None if calibration is None else calibration.to_dict(),
        "network_epoch": epoch,
        "versions": {name: _version(name) for name in VERSIONS_OF},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a checkout that was never installed
        return None

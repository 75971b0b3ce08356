"""Where a round of pseudo-labels comes from, in plain values for a json file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from typing import Any

from nnunet_semisam.settings.config import SemiSAMConfig

VERSIONS_OF = ("nnunet-semisam", "nnunetv2", "torch", "segment-anything", "numpy", "blosc2")


def provenance(config: SemiSAMConfig, sam_fingerprint: str, network_epoch: int, **more: Any) -> dict[str, Any]:
    """Return settings, model, epoch, versions and time.

    Args:
        config: The settings of the run; the prompt strategy is one of them.
        sam_fingerprint: Digest of the SAM's weights and preprocessing.
        network_epoch: Epoch of the network whose opinion was taken.
        more: Further plain values.
    """
    settings = config.to_dict()
    return {
        "config": settings,
        "config_sha256": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "sam_model": config.sam_model,
        "sam_fingerprint": sam_fingerprint,
        "network_epoch": network_epoch,
        "versions": {name: _version(name) for name in VERSIONS_OF},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **more,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a checkout that was never installed
        return None

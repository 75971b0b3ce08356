"""The nano SAM, 64 pixels wide and with random weights, in place of the shipped one: for what surrounds a SAM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from segment_anything.modeling import Sam

from nnunet_semisam.sam import checkpoints
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.nano.model import build_nano_sam

SIDE = 64
ANY_MASK = {"rejection": {"factor": 1e9}}  # random weights draw no mask of the right size


def build() -> Sam:
    return build_nano_sam(image_size=SIDE, dim=32, widths=(16, 16, 16))


def use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let ``nano`` be the small one until the test ends; its weights are written to a folder."""
    row = FAMILIES["nano"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(build().state_dict(), folder / row.file)
    small = replace(row, network=f"{__name__}:build", preprocessing=replace(row.preprocessing, side=SIDE))
    monkeypatch.setitem(FAMILIES, "nano", small)
    monkeypatch.setattr(checkpoints, "PACKAGED_WEIGHTS", folder / row.file)

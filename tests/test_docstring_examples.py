"""Examples in docstrings run and show what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
FOLDERS = {
    "nnunet_semisam": CHECKOUT / "nnunet_semisam",
    "nnunet_semisam.dataset_conversion": CHECKOUT / "dataset_conversion",
}


def modules_with_examples() -> list[str]:
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = [package, *path.relative_to(folder).with_suffix("").parts]
                found.append(".".join(parts).removesuffix(".__init__"))
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_run(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0
    assert results.attempted > 0


def test_extension_points_have_examples():
    points = {"jobs", "labels", "settings.blocks", "methods.base", "gate.class_gate", "io.atomic"}
    points |= {
        "sam.base",
        "sam.family",
        "prompts.base",
        "generalists.base",
        "generalists.views",
        "generalists.ensemble",
    }
    assert {f"nnunet_semisam.{point}" for point in points} <= set(modules_with_examples())

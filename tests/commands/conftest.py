"""A small labeled dataset for ``split``, with nnU-Net's variables pointing at it."""

from pathlib import Path

import pytest
from split_world import write_dataset


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    """Six patients with two frames each, one unlabeled and one test patient; images of 2 x 3 x 4 voxels."""
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return write_dataset(tmp_path)

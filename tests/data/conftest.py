"""Fixtures of the tests of data."""

import shutil

import pytest
from unlabeled_world import World


@pytest.fixture
def world(tiny_dataset) -> World:
    made = World(tiny_dataset)
    shutil.rmtree(made.folder())
    return made

import pytest


@pytest.fixture
def told():
    return []


@pytest.fixture
def report(told):
    return lambda name, status: told.append((name, status))

"""One invented benchmark for all tests of the report."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from invented import make_benchmark

from nnunet_semisam.report.reading.benchmark_folder import read_benchmark


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a finished benchmark; tests that change it must copy it."""
    path = tmp_path_factory.mktemp("invented") / "benchmark"
    make_benchmark(path)
    return path


@pytest.fixture(scope="session")
def benchmark_result(folder):
    return read_benchmark(folder)


@pytest.fixture(scope="session")
def page(benchmark_result):
    from nnunet_semisam.report.page import render

    return render(benchmark_result)

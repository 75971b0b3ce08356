"""One invented benchmark for all tests of the report."""

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from invented import make_benchmark

from nnunet_semisam.report.reading.benchmark_folder import read_benchmark


@pytest.fixture(autouse=True)
def no_nnunet_folders(monkeypatch):
    """The report looks for the dataset where nnU-Net's variables lead; here they are as the test sets them."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)


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


@pytest.fixture
def changed(folder, tmp_path):
    """Return a function that reads a copy of the benchmark, of which it has changed results.json and plans."""
    shutil.copytree(folder, tmp_path / "b", ignore=shutil.ignore_patterns("*.nii.gz"))

    def change(function=None, plans="nnUNetPlans", **configuration):
        path = tmp_path / "b" / "results.json"
        content = json.loads(path.read_text())
        content["study"]["plans"] = plans
        if function:
            function(content)
        path.write_text(json.dumps(content))
        for run in content["runs"] if configuration else []:
            target = (tmp_path / "b" / run["training"]).parent / "plans.json"
            target.write_text(json.dumps({"plans_name": plans, "configurations": {"2d": configuration}}))
        return read_benchmark(tmp_path / "b")

    return change

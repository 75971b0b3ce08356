import argparse

import pytest
import small_dataset

from nnunet_semisam.commands import benchmark as command
from nnunet_semisam.data.datasets import open_dataset


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """The raw folder of a small planned dataset; nnU-Net's variables point to it."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.delenv("nnUNet_semisam_config", raising=False)
    return small_dataset.make(tmp_path)


@pytest.fixture
def study(raw, tmp_path):
    """Return a function that makes a benchmark on the small dataset."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    def make(*options: str, trainers=("nnUNetTrainerMeanTeacher",)):
        words = ["-d", "3", "-c", "2d", "--trainers", *trainers, "--device", "cpu", "-o", str(tmp_path / "out")]
        args = parser.parse_args([*words, *options])
        command.check_options(args)
        return command.make_study(args, open_dataset("3", "nnUNetPlans"))

    return make

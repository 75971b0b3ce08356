"""nnU-Net's folders, a small ACDC database, and its conversion."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_acdc import write_database

from nnunet_semisam.commands.convert import load_package

CONVERTERS = load_package().CONVERTERS  # from here on `nnunet_semisam.dataset_conversion` is importable in a checkout


@pytest.fixture
def nnunet_folders(tmp_path, monkeypatch) -> dict[str, Path]:
    folders = {name: tmp_path / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for name, folder in folders.items():
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    return folders


@pytest.fixture
def raw(nnunet_folders) -> Path:
    return nnunet_folders["nnUNet_raw"]


@pytest.fixture
def database(tmp_path) -> Path:
    """Labeled 099 and 038, unlabeled 050 and 100, validation 028 and 085 of the split ssl4mis."""
    return write_database(tmp_path)


@pytest.fixture
def arguments(database) -> Callable[..., argparse.Namespace]:
    """Parse the command line of ``convert acdc``."""

    def parse(*options: str, source: Path = database) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        CONVERTERS.get("acdc")().add_arguments(parser)
        return parser.parse_args(["-i", str(source), *options])

    return parse


@pytest.fixture
def convert(arguments, nnunet_folders) -> Callable:
    """Convert with some options and return the result."""
    return lambda *options, **others: CONVERTERS.get("acdc")().convert(arguments(*options, **others))


@pytest.fixture
def convert_with(nnunet_folders) -> Callable:
    """Run a converter by its name, with the words of a command line, and return the result."""

    def run(name: str, *words: str):
        converter = CONVERTERS.get(name)()
        parser = argparse.ArgumentParser()
        converter.add_arguments(parser)
        return converter.convert(parser.parse_args(words))

    return run

"""What every registered converter promises, whatever its data set."""

import argparse
import re

import pytest
from nnunet_semisam.dataset_conversion import CONVERTERS, DatasetConverter

from nnunet_semisam.errors import UserError


@pytest.fixture(params=CONVERTERS.names())
def name(request) -> str:
    return request.param


@pytest.fixture
def converter(name) -> DatasetConverter:
    return CONVERTERS.get(name)()


@pytest.fixture
def parser(converter) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    converter.add_arguments(parser)
    return parser


def test_converter_can_be_offered_on_the_console(name, converter):
    assert isinstance(converter, DatasetConverter)
    assert re.fullmatch(r"[A-Za-z0-9_]+", converter.dataset_name)
    assert 1 <= converter.default_id <= 999
    assert converter.help
    assert converter.example.startswith(f"nnunet-semisam convert {name} ")


def test_example_is_a_valid_command_line(name, converter, parser):
    args = parser.parse_args(converter.example.split()[3:])
    assert args.dataset_id == converter.default_id
    assert args.labeled


def test_wrong_folder_is_a_user_error_that_names_it(converter, parser, tmp_path, nnunet_folders):
    args = parser.parse_args(["-i", str(tmp_path / "wrong"), "--labeled", "1"])
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "wrong"))):
        converter.convert(args)
    assert list(nnunet_folders["nnUNet_raw"].iterdir()) == []

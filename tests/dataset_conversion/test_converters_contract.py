"""What every registered converter promises, whatever its data set."""

import argparse
import hashlib
import inspect
import json
import os
import re
import shutil
from pathlib import Path

import fake_acdc
import fake_bhsd
import fake_la
import fake_nnunet
import pytest
from nnunet_semisam.dataset_conversion import CONVERTERS, DatasetConverter, Source
from written_files import visible

from nnunet_semisam.errors import UserError

# A new converter needs a line here: a function that writes a small invented source, and options for two labeled ones.
SOURCES = {
    "acdc": (fake_acdc.write_database, ("--labeled", "2")),
    "bhsd": (fake_bhsd.write_bhsd, ("--labeled", "2", "--val", "1")),
    "la": (fake_la.write_ua_mt, ("--labeled", "2", "--val", "1")),
    "nnunet": (lambda root: fake_nnunet.write_raw(root / "Dataset007_Heart"), ("--labeled", "2", "--val", "1")),
    "sparse": (
        lambda root: fake_nnunet.write_raw(root / "Dataset007_Heart"),
        ("--labeled", "2", "--val", "1", "--every", "2"),
    ),
}


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


@pytest.fixture
def source(name, tmp_path) -> Path:
    if name == "la":
        pytest.importorskip("h5py")
    return SOURCES[name][0](tmp_path)


@pytest.fixture
def convert(name, source, convert_with):
    return lambda *options: convert_with(name, "-i", str(source), *SOURCES[name][1], *options)


def test_converter_can_be_offered_on_the_console(name, converter):
    assert isinstance(converter, DatasetConverter)
    assert re.fullmatch(r"[A-Za-z0-9_]+", converter.dataset_name)
    assert 1 <= converter.default_id <= 999
    assert converter.help
    assert converter.example.startswith(f"nnunet-semisam convert {name} ")


def test_default_ids_differ():
    ids = [CONVERTERS.get(name).default_id for name in CONVERTERS.names()]
    assert len(set(ids)) == len(ids)


def test_example_is_a_valid_command_line(name, converter, parser):
    args = parser.parse_args(converter.example.split()[3:])
    assert args.dataset_id == converter.default_id
    assert args.labeled


def test_converter_is_a_script_too(converter):
    text = Path(inspect.getsourcefile(type(converter))).read_text()
    assert f"sys.exit(run_script({type(converter).__name__}()))" in text


def test_wrong_folder_is_a_user_error_that_names_it(converter, parser, tmp_path, nnunet_folders):
    args = parser.parse_args(["-i", str(tmp_path / "wrong"), "--labeled", "1"])
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "wrong"))):
        converter.convert(args)
    assert visible(nnunet_folders["nnUNet_raw"]) == []


def test_second_run_writes_nothing_and_says_the_same(convert):
    first = convert()
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    again = convert()
    assert (first.already_there, again.already_there) == (False, True)
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == before
    assert list(again.notes) == list(first.notes)
    assert again.fingerprint == first.fingerprint


def test_same_data_under_another_id_have_the_same_fingerprint_and_files(convert):
    first, second = convert("-d", "901"), convert("-d", "902")
    assert first.fingerprint == second.fingerprint
    files = [json.loads((each.folder / "semisam_manifest.json").read_text())["files"] for each in (first, second)]
    assert files[0] == files[1]


def test_manifest_has_the_hash_of_every_source_and_every_written_file(convert, source):
    result = convert()
    manifest = json.loads((result.folder / "semisam_manifest.json").read_text())
    written = {str(path.relative_to(result.folder)) for path in result.folder.rglob("*") if path.is_file()}
    assert manifest["files"].keys() == written - {"semisam_manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((result.folder / name).read_bytes()).hexdigest() == digest
    for entry in manifest["sources"].values():
        path = result.conversion.source / entry["source"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert path.resolve().is_relative_to(source.resolve())


def test_source_is_not_changed(convert, source):
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    convert()
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_parts_are_disjoint_and_only_unlabeled_cases_lack_a_label(convert):
    result = convert()
    parts = {part: {case.identifier for case in result.conversion.of_part(part)} for part in ("Tr", "Ul", "Ts")}
    assert parts["Ul"]
    assert sum(map(len, parts.values())) == len(set.union(*parts.values()))
    ending = result.conversion.file_ending
    assert {name.removesuffix(ending) for name in os.listdir(result.folder / "labelsTr")} == parts["Tr"]
    assert not (result.folder / "labelsUl").exists()
    for fold in json.loads((result.folder / "splits_final.json").read_text()):
        assert {*fold["train"], *fold["val"]} == parts["Tr"]
        assert not set(fold["train"]) & set(fold["val"])


def test_dataset_passes_nnunets_own_checks(convert):
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    result = convert()
    ending, channels = result.conversion.file_ending, len(result.conversion.channel_names)
    for label in (result.folder / "labelsTr").iterdir():
        case = label.name.removesuffix(ending)
        images = [str(result.folder / "imagesTr" / f"{case}_{i:04d}{ending}") for i in range(channels)]
        assert verify_labels(str(label), SimpleITKIO, sorted(result.conversion.label_values))
        assert check_cases(images, str(label), channels, SimpleITKIO)


def test_run_that_breaks_leaves_nothing(convert, raw, monkeypatch):
    written = []

    def break_at_the_fourth_file(source, target):
        written.append(target)
        if len(written) == 4:
            raise RuntimeError("ITK: disk full")
        shutil.copyfile(source.path, target)

    monkeypatch.setattr(Source, "write", break_at_the_fourth_file)
    with pytest.raises(UserError, match=r"could not be written to .* \(ITK: disk full\). Nothing was left behind"):
        convert()
    assert visible(raw) == []

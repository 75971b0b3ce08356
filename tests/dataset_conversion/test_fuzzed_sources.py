"""Whatever stands in a file: a conversion, or an error that the user can mend. Nothing else is ever written."""

import contextlib
import gzip
import json
from pathlib import Path

import fake_acdc
import fake_la
import fake_nnunet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written_files import visible

from nnunet_semisam.errors import MOST_CHARACTERS, UserError

FUZZ = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAME = st.text(max_size=12) | st.sampled_from(
    ["../../Dataset002_Victim/labelsTr/v1", "..", "a/b", "p01_seg", "x" * 300]
)
LABEL = st.integers(-2, 4) | st.lists(st.integers(0, 3), max_size=3) | JSON


def all_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture
def attempt(convert_with, raw, tmp_path):
    """Convert, and see that an error is one for the user and leaves nothing, and that nothing else was changed."""

    def attempt(name: str, source: Path, *words: str) -> None:
        before = all_below(tmp_path)
        made: list[Path] = []
        message = ""
        try:
            made.append(convert_with(name, "-i", str(source), *words).folder)
        except UserError as error:
            message = str(error)
        assert len(message) <= 2 * MOST_CHARACTERS
        assert bool(message) == (visible(raw) == [])
        new = {path: each for path, each in all_below(tmp_path).items() if not any(map(path.is_relative_to, made))}
        assert new == before
        for folder in made:
            assert folder.parent == raw
            for path in sorted(folder.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            folder.rmdir()

    return attempt


@FUZZ
@given(key=st.sampled_from(["channel_names", "labels", "file_ending", "regions_class_order", "dataset"]), value=JSON)
def test_entries_of_dataset_json(attempt, tmp_path_factory, key, value):
    source = fake_nnunet.write_raw(tmp_path_factory.mktemp("source") / "Dataset007_Heart")
    content = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps({**content, key: value}))
    attempt("nnunet", source, "--labeled", "2")


@FUZZ
@given(names=st.lists(NAME, min_size=1, max_size=3), labels=st.dictionaries(NAME, LABEL, max_size=3), file=NAME)
def test_names_in_dataset_json(attempt, tmp_path_factory, names, labels, file):
    source = fake_nnunet.write_raw(tmp_path_factory.mktemp("source") / "Dataset007_Heart")
    content = json.loads((source / "dataset.json").read_text())
    case = "p01_frame01"
    entry = {"images": [f"imagesTr/{case}_0000.nii.gz", f"imagesTr/{case}_0001.nii.gz"], "label": f"labelsTr/{file}"}
    content["dataset"] = dict.fromkeys(names, entry)
    if labels:
        content["labels"] = {"background": 0, **labels}
    (source / "dataset.json").write_text(json.dumps(content))
    attempt("nnunet", source, "--labeled", "1")


@FUZZ
@given(content=JSON | st.fixed_dictionaries({"modality": JSON, "labels": JSON, "training": JSON, "test": JSON}))
def test_dataset_json_of_the_decathlon(attempt, tmp_path_factory, content):
    source = fake_nnunet.write_msd(tmp_path_factory.mktemp("source") / "Task03_Liver")
    before = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps({**before, **content} if isinstance(content, dict) else content))
    attempt("nnunet", source, "--labeled", "2")


@FUZZ
@given(offset=st.integers(0, 351), content=st.binary(min_size=1, max_size=8), label=st.booleans())
def test_bytes_of_a_nifti_header(attempt, tmp_path_factory, offset, content, label):
    source = fake_acdc.write_database(tmp_path_factory.mktemp("source"))
    path = source / "training" / "patient099" / f"patient099_frame01{'_gt' if label else ''}.nii.gz"
    image = bytearray(gzip.decompress(path.read_bytes()))
    image[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(bytes(image)))
    attempt("acdc", source, "--labeled", "2")


@FUZZ
@given(content=st.binary(max_size=200) | st.text(max_size=60).map(lambda text: f"ED: {text}\nES: 9\n".encode()))
def test_info_cfg(attempt, tmp_path_factory, content):
    source = fake_acdc.write_database(tmp_path_factory.mktemp("source"))
    (source / "training" / "patient099" / "Info.cfg").write_bytes(content)
    attempt("acdc", source, "--labeled", "2")


@FUZZ
@given(
    at=st.floats(0, 1),
    content=st.binary(min_size=1, max_size=16),
    cut=st.none() | st.floats(0, 1),
    names=st.none() | st.lists(NAME, max_size=4) | st.binary(max_size=40),
)
def test_h5_files_and_lists_of_la(attempt, tmp_path_factory, at, content, cut, names):
    pytest.importorskip("h5py")
    source = fake_la.write_ua_mt(tmp_path_factory.mktemp("source"))
    path = source / "2018LA_Seg_Training Set" / "0RZD" / "mri_norm2.h5"
    file = bytearray(path.read_bytes())
    start = int(at * (len(file) - 1))
    file[start : start + len(content)] = content
    path.write_bytes(file if cut is None else file[: int(cut * len(file))])
    if names is not None:
        text = names if isinstance(names, bytes) else "\n".join(["06SR", *names]).encode("utf-8", "surrogatepass")
        (source / "train.list").write_bytes(text)
    attempt("la", source, "--labeled", "2", "--val", "1")


@FUZZ
@given(key=st.sampled_from(["files", "notes", "fingerprint", "sources", "settings", "grouping"]), value=JSON)
def test_manifest_of_a_dataset_that_is_there(convert_with, raw, tmp_path_factory, key, value):
    source = fake_nnunet.write_raw(tmp_path_factory.mktemp("source") / "Dataset007_Heart")
    words = ("nnunet", "-i", str(source), "--labeled", "2")
    path = convert_with(*words, "-d", "501").folder / "semisam_manifest.json"
    whole = path.read_text()
    try:
        path.write_text(json.dumps({**json.loads(whole), key: value}))
        with contextlib.suppress(UserError):
            assert convert_with(*words, "-d", "501").already_there
    finally:
        path.write_text(whole)

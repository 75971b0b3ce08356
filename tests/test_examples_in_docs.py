"""The worked examples in docs/extending.md run, in order, as one script."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

FILE = re.compile(r"# (nnunet_semisam|dataset_conversion|trainers)/\S+\.py")


def script(text):
    """All python blocks of a page, each at its own line number, so that a traceback names the line of the page."""
    lines = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block.group(1).splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


def test_examples_run_in_order(tmp_path):
    # a process of its own: the examples register methods, losses and settings that no other test may see
    program = tmp_path / "extending_md.py"
    program.write_text(script(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("nnUNet_semisam_config", None)
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Did you mean 'steps'?" in done.stdout


FILES = [block for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if FILE.match(block)]


def test_there_are_files_on_the_page():
    assert len(FILES) >= 9


@pytest.mark.parametrize("block", FILES, ids=[block.splitlines()[0] for block in FILES])
def test_a_block_that_is_a_file_imports_all_it_uses(block):
    """Together they are one script, in which what an earlier block has imported is there."""
    undefined = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "--quiet", "-"]
    done = subprocess.run(undefined, input=block, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_script_keeps_the_line_numbers_of_the_page():
    assert script("a\n```python\nx = 1\n```\nb\n") == "\n\nx = 1\n\n\n"

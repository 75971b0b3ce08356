"""The notebook's cells run, in order, and say what the stored outputs say."""

import json
import sys
import types
from pathlib import Path

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_look.ipynb"
MOST_BYTES = 300_000


def code_cells():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def printed(cell):
    return "".join(line for output in cell["outputs"] for line in output.get("text", []))


def test_cells_print_what_is_stored(tmp_path, monkeypatch, capsys):
    display = types.ModuleType("IPython.display")  # Jupyter brings the true one
    display.Image = Path
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in code_cells():
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
        assert capsys.readouterr().out == printed(cell)
    assert (tmp_path / "first_look.png").read_bytes().startswith(b"\x89PNG")


def test_outputs_are_stored_and_small():
    assert NOTEBOOK.stat().st_size < MOST_BYTES
    assert all(cell["outputs"] for cell in code_cells())

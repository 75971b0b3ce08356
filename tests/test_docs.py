"""What the documentation says must be true of the code: commands, links, settings, versions."""

import dataclasses
import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from test_import_graph import FLOORS

import nnunet_semisam.training.trainer  # noqa: F401  registers every block of settings
from nnunet_semisam import __version__, cli
from nnunet_semisam.settings import BLOCKS, RunSettings, Settings

CHECKOUT = Path(__file__).parents[1]
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")])
SCRIPTS = sorted(CHECKOUT.glob("examples/*.sh"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def code_lines(path):
    """The lines of a page's bash blocks, or all lines of a script; one that goes on is one line."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if path.suffix == ".md" else [text]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def documented_commands():
    found = []
    for path in [*PAGES, *SCRIPTS]:
        for line in code_lines(path):
            commands = re.findall(r"(?:^|&& |\$\()(nnunet-semisam [^)&|]*)", line.split("#")[0].replace('"$(', "$("))
            found += [pytest.param(command, id=f"{path.name}: {command.strip()}") for command in commands]
    return found


def documented_yaml():
    found = []
    for path in PAGES:
        blocks = re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        found += [pytest.param(block, id=f"{path.name}-{number}") for number, block in enumerate(blocks)]
    return found


@pytest.mark.parametrize("command", documented_commands())
def test_documented_command_lines_are_understood(command):
    cli.build_parser().parse_args(shlex.split(command)[1:])


def test_the_readme_shows_the_commands_that_matter():
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in cli.COMMANDS if not re.search(rf"\b{name}\b", text)]
    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(path):
    links = LINK.findall(path.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_tables_of_settings_are_what_the_code_says():
    tools = runpy.run_path(str(CHECKOUT / "docs" / "make_settings.py"))
    text = (CHECKOUT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert tools["page"](text) == text, "run: python docs/make_settings.py"
    assert "| `num_epochs` | `1000` | int, at least 1 | Length of the training in epochs. | nnU-Net 2.8.1 |" in text
    headings = [line for line in text.splitlines() if line.startswith("### Block")]
    assert [name for name in BLOCKS if not any(f"`{name}`" in heading for heading in headings)] == []


def test_the_table_of_sams_is_what_the_code_says():
    tools = runpy.run_path(str(CHECKOUT / "docs" / "make_sams.py"))
    text = (CHECKOUT / "docs" / "sams.md").read_text(encoding="utf-8")
    assert tools["page"](text) == text, "run: python docs/make_sams.py"
    assert "| not published | Apache-2.0 | box (`box`) | `medsam_vit_b.pth` | 1024², stretched" in text


def test_every_setting_has_a_meaning():
    tools = runpy.run_path(str(CHECKOUT / "docs" / "make_settings.py"))
    empty = [
        f"{block.__name__}.{field.name}"
        for block in [RunSettings, *(kind.cls for kind in BLOCKS.values())]
        for field in dataclasses.fields(block)
        if not tools["setting_of"](field).meaning
    ]
    assert empty == []


@pytest.mark.parametrize("block", documented_yaml())
def test_documented_yaml_names_settings_that_exist(block):
    Settings().replace(yaml.safe_load(block), source="the documentation")


def test_names_of_settings_in_the_pages_exist():
    """``block: {name: ...}`` and ``block.name`` in running text."""
    wrong = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"`(\w+): \{(\w+):", text) + re.findall(r"`(\w+)\.(\w+)`", text)
        wrong += [
            f"{path.name}: {block}.{name}"
            for block, name in named
            if block in BLOCKS and name not in [*BLOCKS[block].cls.names(), "py", "pt", "pth"]
        ]
    assert wrong == []


@pytest.mark.parametrize("name", ["architecture.md", "extending.md"])
def test_files_that_the_architecture_names_exist(name):
    text = (CHECKOUT / "docs" / name).read_text(encoding="utf-8")
    room = None
    missing = []
    for line in text.splitlines():
        row = re.match(r"\| (?:`([\w/]+)`)? ?\| (`\w+\.py`[^|]*)\|", line)
        if row:
            room = row.group(1) or room
            files = [CHECKOUT / "nnunet_semisam" / room / file for file in re.findall(r"`(\w+\.py)`", row.group(2))]
            missing += [str(file) for file in files if not file.is_file()]
    for file in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        found = any((folder / file).is_file() for folder in (CHECKOUT, CHECKOUT / "nnunet_semisam"))
        if not found and not any(invented in file for invented in ("/my_", "/test_", "XXX")):
            missing.append(file)
    assert missing == []


def floors():
    """Room -> floor, from the table in docs/architecture.md."""
    text = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("<!-- floors: begin -->")[1].split("<!-- floors: end -->")[0]
    rows = [re.findall(r"`([\w/]+)`", line) for line in table.splitlines()]
    return {room: floor for floor, rooms in enumerate(row for row in rows if row) for room in rooms}


def test_floors_of_the_architecture_are_those_that_imports_keep():
    shown = floors()
    kept = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    assert shown.keys() - {"methods/parts"} == kept.keys()
    turned = [(low, high) for low in kept for high in kept if kept[low] < kept[high] and shown[low] > shown[high]]
    assert turned == []


def test_every_trainer_has_a_row_in_the_documentation():
    text = (CHECKOUT / "docs" / "trainers.md").read_text(encoding="utf-8")
    assert [p.stem for p in (CHECKOUT / "trainers").glob("nnUNet*.py") if f"| `{p.stem}` |" not in text] == []


@pytest.mark.parametrize("path", sorted(CHECKOUT.glob("examples/*.yaml")), ids=lambda path: path.name)
def test_example_settings_are_valid(path):
    assert Settings().replace(yaml.safe_load(path.read_text()), source=path.name) != Settings()


@pytest.mark.parametrize("path", [*SCRIPTS, CHECKOUT / ".ci" / "run"], ids=lambda path: path.name)
def test_scripts_are_valid_bash(path):
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


def test_versions_agree():
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert f"## [{__version__}]" in (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")

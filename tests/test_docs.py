"""What the documentation says must be true of the code: commands, links, settings, versions."""

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from nnunet_semisam import __version__, cli
from nnunet_semisam.settings.config import SemiSAMConfig

CHECKOUT = Path(__file__).parents[1]
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")])
SCRIPTS = sorted(CHECKOUT.glob("examples/*.sh"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def code_lines(path):
    """The lines of a page's bash blocks, or all lines of a script."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if path.suffix == ".md" else [text]
    return [line for block in blocks for line in block.splitlines()]


def documented_commands():
    found = []
    for path in [*PAGES, *SCRIPTS]:
        for line in code_lines(path):
            commands = re.findall(r"(?:^|&& |\$\()(nnunet-semisam [^)&|]*)", line.split("#")[0].replace('"$(', "$("))
            found += [pytest.param(command, id=f"{path.name}: {command.strip()}") for command in commands]
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


def test_table_of_settings_is_what_the_configuration_says():
    tools = runpy.run_path(str(CHECKOUT / "docs" / "make_settings.py"))
    text = (CHECKOUT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert tools["page"](text) == text, "run: python docs/make_settings.py"
    assert "| `ema_decay` | float | `0.99` |" in text
    assert tools["sources"]()["ema_decay"].startswith("Tarvainen")


def test_every_trainer_has_a_row_in_the_readme():
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert [p.stem for p in (CHECKOUT / "trainers").glob("nnUNet*.py") if f"| `{p.stem}` |" not in text] == []


@pytest.mark.parametrize("path", sorted(CHECKOUT.glob("examples/*.yaml")), ids=lambda path: path.name)
def test_example_settings_are_valid(path):
    assert SemiSAMConfig().replace(yaml.safe_load(path.read_text()), source=path.name) != SemiSAMConfig()


@pytest.mark.parametrize("path", [*SCRIPTS, CHECKOUT / ".ci" / "run"], ids=lambda path: path.name)
def test_scripts_are_valid_bash(path):
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


def test_versions_agree():
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert f"## [{__version__}]" in (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")

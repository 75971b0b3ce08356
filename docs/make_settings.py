"""Write the table of docs/settings.md from the configuration's own text: ``python docs/make_settings.py``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

from nnunet_semisam.settings.config import SemiSAMConfig

PAGE = Path(__file__).with_name("settings.md")
BEGIN, END = "<!-- table: begin (written by docs/make_settings.py) -->", "<!-- table: end -->"
ATTRIBUTE = re.compile(r"^    (\w+): (.+)$")


def meanings() -> dict[str, str]:
    """Return what the class says about each field, one paragraph each."""
    lines = inspect.getdoc(SemiSAMConfig).split("Attributes:")[1].splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if match := ATTRIBUTE.match(line):
            name = match[1]
            found[name] = match[2]
        elif line.strip():
            found[name] += f" {line.strip()}"
    return found


def sources() -> dict[str, str]:
    """Return where a default comes from: the comment behind it."""
    pattern = re.compile(r"^    (\w+): [^=\n]+ = [^#\n]+  # (.+)$", re.MULTILINE)
    return dict(pattern.findall(inspect.getsource(SemiSAMConfig)))


def table() -> str:
    """Return the table, a row per setting."""
    meaning, source = meanings(), sources()
    rows = ["| setting | type | default | meaning | source of the default |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(SemiSAMConfig):
        text = meaning[field.name].replace("``", "`").replace("|", "\\|")
        kind = field.type.replace(" | ", " or ")
        rows.append(f"| `{field.name}` | {kind} | `{field.default}` | {text} | {source.get(field.name, '')} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """Return the page with a fresh table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

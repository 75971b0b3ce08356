"""Write the tables of docs/settings.md from the settings' own fields: ``python docs/make_settings.py``."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import nnunet_semisam.training.trainer  # noqa: F401  registers every block
from nnunet_semisam.settings import BLOCKS, RunSettings, SettingsBlock, setting_of

PAGE = Path(__file__).with_name("settings.md")
BEGIN, END = "<!-- tables: begin (written by docs/make_settings.py) -->", "<!-- tables: end -->"


def shown(value: Any) -> str:
    """Return a default as yaml writes it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def table(block: type[SettingsBlock]) -> str:
    """Return the table of a block, a row per setting."""
    rows = ["| setting | default | allowed | meaning | source of the default |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(block):
        about = setting_of(field)
        kind = str(field.type).replace(" | None", " or null").replace("tuple[", "list of ").removesuffix(", ...]")
        kind = kind.replace(", ...]", "")
        allowed = f"{kind}, {about.allowed()}" if about.allowed() else kind
        meaning = about.meaning.replace("|", "\\|")
        rows.append(f"| `{field.name}` | `{shown(field.default)}` | {allowed} | {meaning} | {about.source or ''} |")
    return "\n".join(rows)


def section(title: str, block: type[SettingsBlock]) -> str:
    """Return a heading, the first sentence of the block's docstring, and its table."""
    about = (inspect.getdoc(block) or "").split("\n\n")[0]
    if not dataclasses.fields(block):
        return f"### {title}\n\n{about}"
    return f"### {title}\n\n{about}\n\n{table(block)}"


def tables() -> str:
    """Return all sections: the flat settings, then the blocks by name; those of one class, as of all SAMs, as one."""
    parts = [section("Flat settings", RunSettings)]
    alike: dict[type[SettingsBlock], list[str]] = {}
    for name in sorted(BLOCKS):
        alike.setdefault(BLOCKS[name].cls, []).append(f"`{name}`")
    parts += [section(f"Block{'s' * (len(names) > 1)} {', '.join(names)}", cls) for cls, names in alike.items()]
    return "\n\n".join(parts)


def page(text: str) -> str:
    """Return the page with fresh tables between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

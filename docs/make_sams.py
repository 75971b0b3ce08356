"""Write the table of docs/sams.md from the table of models: ``python docs/make_sams.py``."""

from __future__ import annotations

from pathlib import Path

from nnunet_semisam.sam.families import AUTO, FAMILIES
from nnunet_semisam.sam.family import Family

PAGE = Path(__file__).with_name("sams.md")
BEGIN, END = "<!-- table: begin (written by docs/make_sams.py) -->", "<!-- table: end -->"
HEAD = ("model", "how to get it", "size", "licence of the weights", "prompts (default strategy)", "file", "input")


def table() -> str:
    """Return a row per model."""
    rows = [HEAD, ("---",) * len(HEAD), *map(cells, (row for row in FAMILIES.values() if row.name != AUTO))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(row: Family) -> tuple[str, ...]:
    """Return the cells of a model."""
    size = "not published" if row.size is None else f"{row.size / 1e6:.0f} MB"
    return (
        f"`{row.name}`",
        shown_source(row),
        "7 MB" if row.packaged else size,
        row.licence,
        f"{', '.join(row.prompts)} (`{row.prompt}`)",
        f"`{row.file}`",
        shown_input(row),
    )


def shown_input(row: Family) -> str:
    """Return what a 2D model sees, in words."""
    how = row.preprocessing
    if how is None:
        return "volumes"
    fit = "longest side, padded" if how.keep_aspect else "stretched to a square"
    normalised = "not normalised" if set(how.mean) == {0.0} and set(how.std) == {1.0} else "normalised"
    channels = "1 channel" if len(how.mean) == 1 else f"{len(how.mean)} channels"
    return f"{how.side}², {fit}; {channels} in [0, {how.top:g}], {normalised}"


def shown_source(row: Family) -> str:
    """Return how to get the weights."""
    if row.packaged:
        return "in the package"
    return f"`sam download {row.name}`" if row.url else f"by hand: [page]({row.page})"


def page(text: str) -> str:
    """Return the page with a fresh table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""Small pieces of HTML. Every text that comes from a file passes :func:`escape`."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnunet_semisam.errors import printable
from nnunet_semisam.report.drawing.number_formats import NONE, integer

MOST_CHARACTERS = 1_000_000  # of one text: more is no text but a damaged file


def escape(text: object) -> str:
    """Return text that is safe in HTML, attributes included; what cannot be printed is written as an escape.

    So is what turns the direction of writing or belongs to a terminal: pages are read, and parts of them copied.
    """
    return html.escape(one_text(text), quote=True)


def one_text(text: object) -> str:
    """Return what can be shown of a text: with escapes for what cannot be printed, without the middle of a long one."""
    text = str(text)
    if text.isprintable() and len(text) <= MOST_CHARACTERS:
        return text
    return printable(text.replace("\t", "    ").replace("\r\n", "\n"), MOST_CHARACTERS)


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What is shown.
        sort: What the column is sorted by; ``None`` is last in either direction. Numbers sort as numbers.
        title: Text that explains the cell; empty for none.
        kind: Class of the cell: ``bad``, ``good``, ``dim`` or empty.
        markup: Whether ``text`` is HTML already.
    """

    text: str
    sort: float | str | None = None
    title: str = ""
    kind: str = ""
    markup: bool = False


def text_cell(text: object, **options: str) -> Cell:
    """Return a cell that is sorted by its text."""
    return Cell(str(text), str(text), **options)


def link_cell(text: str, target: str) -> Cell:
    """Return a cell that leads to a part of the page, sorted by its text.

    Args:
        text: What is shown.
        target: Identifier of the part.
    """
    return Cell(f'<a href="#{escape(target)}">{escape(text)}</a>', text, markup=True)


def number_cell(text: str, value: float | None, **options: str) -> Cell:
    """Return a cell that is sorted by a number."""
    return Cell(text, None if text == NONE else value, **options)


def integer_cell(value: int | None, **options: str) -> Cell:
    """Return a cell with a whole number that may be missing."""
    return number_cell(integer(value), value, **options)


def bullet_list(texts: Sequence[str]) -> str:
    """Return sentences as a list."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def table(
    name: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    filtered: bool = False,
    details_from: Callable[[Sequence[Cell]], bool] | None = None,
) -> str:
    """Return a table that can be sorted by a click on a column's head, or with Enter on it.

    Args:
        name: Caption, for those who hear the page.
        head: Titles of the columns.
        rows: Cells.
        filtered: Whether a field to filter rows by words stands above the table.
        details_from: Returns whether a row is left out where the page is printed as a summary; ``None``: none is.
    """
    numbers = [all(_is_number(cell) for cell in cells) for cells in zip(*rows, strict=True)] or [False] * len(head)
    titles = "".join(_sortable_head(title, is_number) for title, is_number in zip(head, numbers, strict=True))
    body = "".join(_row(row, details_from is not None and details_from(row)) for row in rows)
    search = _search_field(name) if filtered else ""
    return (
        f'<div class="table-block">{search}<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">'
        f'<table class="sortable"><caption>{escape(name)}</caption><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _sortable_head(title: str, is_number: bool) -> str:
    kind = ' class="n"' if is_number else ""  # above its numbers
    return f'<th scope="col" aria-sort="none"{kind}><button type="button">{escape(title)}</button></th>'


def _search_field(name: str) -> str:
    return (
        f'<p class="filter"><label>Show rows with <input type="search" aria-label="Filter {escape(name)}"></label> '
        '<output class="dim"></output></p>'
    )


def _row(cells: Sequence[Cell], is_detail: bool = False) -> str:
    return ('<tr class="detail">' if is_detail else "<tr>") + "".join(_td(cell) for cell in cells) + "</tr>"


def _is_number(cell: Cell) -> bool:
    return isinstance(cell.sort, int | float) or cell.text == NONE


def _td(cell: Cell) -> str:
    classes = ["n"] if _is_number(cell) else []
    if cell.kind:
        classes.append(cell.kind)
    attributes = f' class="{" ".join(classes)}"' if classes else ""
    if cell.sort is None:
        attributes += ' data-v=""'
    elif str(cell.sort) != cell.text:
        attributes += f' data-v="{escape(cell.sort)}"'
    if cell.title:
        attributes += f' title="{escape(cell.title)}"'
    content = cell.text if cell.markup else escape(cell.text)
    return f"<td{attributes}>{content}</td>"


def plain_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a small table that is read, not sorted."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{escape(value)}</td>" for value in row)
        lines.append(f"<tr>{cells}</tr>")
    body = "".join(lines)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def details(title: str, content: str, *, opened: bool = False, note: str = "") -> str:
    """Return a part that opens on demand."""
    more = f' <span class="dim">{escape(note)}</span>' if note else ""
    attribute = " open" if opened else ""
    return f"<details{attribute}><summary>{escape(title)}{more}</summary>{content}</details>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def pre(text: str) -> str:
    """Return text as it stands."""
    return f'<pre tabindex="0">{escape(text)}</pre>'

"""Tables as csv files: cells that no spreadsheet runs as a formula, and a reader that names what is damaged."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.io.regular_files import MIB, read_text

MOST_BYTES = 256 * MIB
# How a cell begins that a spreadsheet runs, as OWASP lists them, and the wide forms that some of them take for these.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
PLAIN_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?(inf|nan)")
MARK = "'"


def safe_cell(value: Any) -> Any:
    """Return a cell that a spreadsheet shows and does not run: texts that look like formulas get an apostrophe.

    :func:`plain_cell` undoes it, so a table that we wrote is read as it was.

    Example:
        >>> safe_cell("=1+1"), safe_cell("-0.5"), safe_cell(-0.5), safe_cell("patient001")
        ("'=1+1", '-0.5', -0.5, 'patient001')
        >>> plain_cell(safe_cell("=1+1"))
        '=1+1'
    """
    if not isinstance(value, str) or not value.startswith((*FORMULA, MARK)) or PLAIN_NUMBER.fullmatch(value):
        return value
    return MARK + value


def plain_cell(value: str) -> str:
    """Return what a cell held before :func:`safe_cell`."""
    return value[1:] if value.startswith(MARK) and value[1:].startswith((*FORMULA, MARK)) else value


def table_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a table as csv (RFC 4180: lines end with CR LF); a missing or ``None`` cell is empty.

    Args:
        columns: Names of the columns, in their order.
        rows: A mapping from columns to values each.

    Raises:
        ValueError: If a row has a value for no column.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="")
    writer.writerow({column: safe_cell(column) for column in columns})
    for row in rows:
        writer.writerow({column: safe_cell(value) for column, value in row.items()})
    return text.getvalue()


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table as a csv file, whole or not at all."""
    write_text(path, table_text(columns, rows))


def read_table(
    path: str | Path, columns: Sequence[str], remedy: str, damaged: list[str] | None = None
) -> Iterator[dict[str, str]]:
    """Yield the rows of a csv file as column -> text.

    Args:
        path: The file.
        columns: Columns that must be there; further ones are read, too.
        remedy: What to do if it is missing or damaged, for the error.
        damaged: Gets a sentence per damaged row, which then is passed over; without it, such a row is an error.

    Raises:
        UserError: If it is no regular file, too large, no UTF-8, lacks a column or names one twice, or a row has more
            or fewer cells than the table has columns. The row is named.
    """
    reader = csv.reader(io.StringIO(read_text(path, remedy, MOST_BYTES), newline=""))
    try:
        header = [plain_cell(cell) for cell in next(reader, [])]
        missing = [column for column in columns if column not in header]
        if missing:
            raise UserError(f"{path} lacks the column {missing[0]!r} in its first line. {remedy}")
        if len(set(header)) < len(header):
            raise UserError(f"{path} names a column twice in its first line: {printable(','.join(header))}. {remedy}")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                problem = f"line {reader.line_num}: {len(cells)} cells, the table has {len(header)} columns."
                if damaged is None:
                    raise UserError(f"{path}, {problem} {remedy}")
                damaged.append(problem)
                continue
            yield {column: plain_cell(cell) for column, cell in zip(header, cells, strict=True)}
    except csv.Error as error:  # the rest cannot be told apart
        problem = f"line {reader.line_num} and all that follow: {error}."
        if damaged is None or reader.line_num < 2:
            raise UserError(f"{path}, {problem} {remedy}") from error
        damaged.append(problem)

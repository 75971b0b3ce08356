"""Names from files are data: what may name a case, a patient, a label, a channel, before it becomes a path or a line.

Every reader of names calls one of the two functions here, whoever wrote the file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from nnunet_semisam.errors import UserError, name_some, shown

MOST_BYTES = 150  # of a case: file names hold 255, and nnU-Net and we add endings and temporary names
MOST_CHARACTERS = 200  # of a label, channel or patient
SEPARATORS = "/\\"
ENDINGS = {
    "_seg": "nnU-Net's loader takes CASE_seg for the segmentation of CASE and leaves it out without a word",
    "_0000": "_0000 is the number of a channel, which belongs to file names and not to the case",
}


def case_problem(name: Any) -> str | None:
    r"""Return why a name cannot be a case's, or ``None`` if it can: it becomes part of file names.

    Example:
        >>> case_problem("patient001_frame01") is None
        True
        >>> case_problem("../patient001")
        'it contains a / or \\, so it could name a file in another folder'
    """
    problem = text_problem(name)
    if problem is not None:
        return problem
    if any(character in name for character in SEPARATORS):
        return "it contains a / or \\, so it could name a file in another folder"
    if name.startswith("."):
        return "it starts with a point: such files are hidden, and .. is another folder"
    if len(name.encode()) > MOST_BYTES:
        return f"it has {len(name.encode())} bytes, at most {MOST_BYTES} leave room for the endings of file names"
    return next((reason for ending, reason in ENDINGS.items() if name.endswith(ending)), None)


def text_problem(name: Any) -> str | None:
    """Return why a text cannot name a label, channel or patient, or ``None`` if it can.

    Example:
        >>> text_problem("left ventricle") is None
        True
        >>> text_problem("")
        'it is empty'
    """
    if not isinstance(name, str):
        return f"it is a {type(name).__name__}, not a text"
    if not name.strip():
        return "it is empty"
    if name != name.strip():
        return "it starts or ends with a blank"
    if len(name) > MOST_CHARACTERS:
        return f"it has {len(name)} characters, at most {MOST_CHARACTERS} are allowed"
    if not name.isprintable():
        return "it contains characters that cannot be printed"
    return None


def check_case_name(name: Any, where: str, remedy: str = "Rename the case.") -> str:
    """Return a case's name if it can be part of a file name in any folder.

    Args:
        name: What a file gave.
        where: Which file, and which part of it, for the error.
        remedy: What to do.

    Raises:
        UserError: If it could leave its folder, be hidden, be taken for something else, or not be printed.
    """
    problem = case_problem(name)
    if problem is not None:
        raise UserError(f"{where}: {shown(name)} cannot be the name of a case: {problem}. {remedy}")
    return name


def check_text_name(name: Any, kind: str, where: str, remedy: str = "Rename it.") -> str:
    """Return the name of a label, channel or patient if it can stand in files, tables and messages.

    Args:
        name: What a file gave.
        kind: What it names, for the error: ``label``, ``channel``, ``patient``.
        where: Which file.
        remedy: What to do.

    Raises:
        UserError: If it is no text, empty, too long, or cannot be printed.
    """
    problem = text_problem(name)
    if problem is not None:
        raise UserError(f"{where}: {shown(name)} cannot be the name of a {kind}: {problem}. {remedy}")
    return name


def clashing_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return each name that is on some machine the file of an earlier one, after that earlier one.

    Example:
        >>> clashing_names(["Case1", "case2", "CASE1"])
        [('Case1', 'CASE1')]
    """
    seen: dict[str, str] = {}
    clashes = []
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            clashes.append((seen[key], name))
        seen.setdefault(key, name)
    return clashes


def check_distinct(names: Iterable[str], where: str, remedy: str = "Rename one of them.") -> None:
    """Refuse names that are the same file on some machine: equal, or equal but for case or the form of accents.

    Raises:
        UserError: If there are such names.
    """
    clashes = [f"{first} and {name}" if first != name else f"{name} (twice)" for first, name in clashing_names(names)]
    if clashes:
        raise UserError(
            f"{where}: names that are one file where file names do not tell upper from lower case, or that are listed "
            f"twice: {name_some(clashes, 10)}. {remedy}"
        )

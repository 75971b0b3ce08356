"""Where a page or table is written: never over what it is made of, and whole or not at all."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

from nnunet_semisam.benchmark.held_out import CHECKED_FILE
from nnunet_semisam.benchmark.plan import STUDY_FILE
from nnunet_semisam.benchmark.results_files import CSV_FILE, JSON_FILE
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import remove_leftovers_of_the_dead, write_bytes
from nnunet_semisam.io.locks import LOCK_FILE
from nnunet_semisam.io.regular_files import KINDS

OWN_FILES = (JSON_FILE, CSV_FILE, STUDY_FILE, CHECKED_FILE, LOCK_FILE)
ENDINGS = {".html": "a page", ".md": "a table in Markdown", ".csv": "numbers in CSV"}
OWN_FOLDERS = ("runs", "held_out", "timing")


def check_output(path: Path, benchmark: Path, ending: str) -> None:
    """Refuse a file that a page or table must not replace.

    Args:
        path: The file to write.
        benchmark: The folder of the benchmark.
        ending: Of the form that is written.

    Raises:
        UserError: If it is a folder, pipe or device, a file of the benchmark itself, or has the ending of another form.
    """
    example = f"Name another file, for example {benchmark / f'report{ending}'}."
    try:
        found = path.stat().st_mode if path.exists() else None
        inside = _part_of(path, benchmark)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"-o {path} cannot be written ({getattr(error, 'strerror', None) or error}). {example}"
        ) from error
    if found is not None and not stat.S_ISREG(found):
        raise UserError(f"-o {path} is {KINDS.get(stat.S_IFMT(found), 'no file')}. {example}")
    if inside is not None and inside.parts and (str(inside) in OWN_FILES or inside.parts[0] in OWN_FOLDERS):
        raise UserError(f"-o {path} belongs to the benchmark ({inside}), which it would damage. {example}")
    if path.suffix.lower() != ending and path.suffix.lower() in ENDINGS:
        raise UserError(
            f"-o {path} would hold {ENDINGS[ending]}, as the options say, not {ENDINGS[path.suffix.lower()]}. {example}"
        )


def _part_of(path: Path, benchmark: Path) -> Path | None:
    """Return where in the folder of the benchmark a file is, or ``None``."""
    place = path.parent.resolve() / path.name
    root = benchmark.resolve()
    return place.relative_to(root) if place.is_relative_to(root) else None


def write_output(content: bytes, path: Path) -> int:
    """Write a file as a whole, and return its size; if that fails, what was there stays and nothing else is left.

    Raises:
        UserError: If it cannot be written.
    """
    made: list[Path] = []
    try:
        for folder in reversed([one for one in path.parents if not one.exists()]):
            folder.mkdir(exist_ok=True)
            made.append(folder)
        remove_leftovers_of_the_dead(path.parent, path.name)
        write_bytes(path, content)
    except OSError as error:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise UserError(f"{path} cannot be written ({error.strerror or error}). Choose another -o.") from error
    return len(content)

"""The start-up file that makes our trainers findable in every interpreter of one environment.

Python executes lines of ``site-packages/*.pth`` that begin with ``import`` whenever it starts. From Python 3.15 on,
``*.start`` files take their place and the lines are ignored from 3.18 on (PEP 829, https://peps.python.org/pep-0829).
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import remove_leftovers_of_the_dead, write_text

VARIABLE = "nnUNet_extTrainer"
PTH_NAME = "nnunet_semisam_trainers.pth"
START_NAME = "nnunet_semisam_trainers.start"
MODULE_NAME = "_nnunet_semisam_trainers.py"  # what the .start file calls; it must not need our package to be there
FIRST_PYTHON_WITH_START_FILES = (3, 15)


def site_packages() -> Path:
    """Return the folder into which this interpreter installs packages."""
    return Path(sysconfig.get_path("purelib"))


def startup_statement(trainers: Path) -> str:
    """Return one line of Python that appends ``trainers`` to nnU-Net's variable.

    The line keeps what the user has set, adds nothing twice, does nothing once the folder is gone, and cannot raise.
    It binds no name and has no comprehension, because ``site`` executes it in a scope of its own.
    """
    folder = ascii(str(trainers))  # ASCII, whatever the path: the encoding of .pth files depends on the version
    value = f"os.environ.get({VARIABLE!r}, '').split(os.pathsep)"
    joined = f"os.pathsep.join(dict.fromkeys([*filter(None, {value}), {folder}]))"
    return f"import os; os.path.isdir({folder}) and os.environ.__setitem__({VARIABLE!r}, {joined})"


def startup_files(trainers: Path, version: tuple[int, ...] = sys.version_info[:2]) -> dict[str, str]:
    """Return the files to write into site-packages, as ``{name: text}``."""
    statement = startup_statement(trainers)
    files = {PTH_NAME: statement + "\n"}
    if version >= FIRST_PYTHON_WITH_START_FILES:
        imports, call = statement.split("; ", maxsplit=1)
        docstring = '"""Makes the trainers of nnunet-semisam findable. Written by: nnunet-semisam register."""'
        files[MODULE_NAME] = f"{docstring}\n\n{imports}\n\n\ndef extend():\n    {call}\n"
        files[START_NAME] = f"{Path(MODULE_NAME).stem}:extend\n"
    return files


def write_startup_files(trainers: Path, folder: Path, version: tuple[int, ...] = sys.version_info[:2]) -> Path:
    """Write the start-up files for ``trainers`` into ``folder`` and return the path of the ``.pth`` file.

    Raises:
        UserError: If ``folder`` cannot be written to.
    """
    for name in (PTH_NAME, START_NAME, MODULE_NAME):
        remove_leftovers_of_the_dead(folder, name)
    try:
        for name, text in startup_files(trainers, version).items():
            write_text(folder / name, text)  # an interpreter that starts meanwhile sees the old file or the new one
    except OSError as error:
        raise UserError(
            f"Cannot write to {folder} ({error.strerror or error}); registering needs an environment whose "
            "site-packages is yours, for example one made by `python -m venv`. Set the variable in your shell's "
            f'profile in its place: export {VARIABLE}="{trainers}"'
        ) from error
    return folder / PTH_NAME


def remove_startup_files(folder: Path) -> list[Path]:
    """Remove the start-up files from ``folder`` and return the paths that were there.

    Raises:
        UserError: If a file cannot be removed.
    """
    for name in (PTH_NAME, START_NAME, MODULE_NAME):
        remove_leftovers_of_the_dead(folder, name)
    present = [folder / name for name in (PTH_NAME, START_NAME, MODULE_NAME) if os.path.lexists(folder / name)]
    for path in present:
        try:
            path.unlink()
        except OSError as error:
            raise UserError(
                f"Cannot remove {path} ({error.strerror or error}). Remove the file as the user who may write there."
            ) from error
    return present

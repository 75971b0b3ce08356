"""Trainer classes: whether nnU-Net finds them, and what settings they have."""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

if TYPE_CHECKING:
    from nnunet_semisam.settings import Settings

VARIABLE = "nnUNet_extTrainer"
CLOSE = 0.9  # all names begin alike
NOT_FOUND = "Could not find"  # nnU-Net's words for a name that no module has
SECONDS = 60.0
SECONDS_OF_IMPORTS = 300.0  # of nnU-Net and torch before it: on a slow network drive that takes a while
FRAME = re.compile(r'File "([^"]+)"')


@dataclass(frozen=True)
class Found:
    """What nnU-Net's search says of one trainer.

    Attributes:
        error: Why it is not found; empty if it is.
        ours: Whether it is of this package's kind.
        has_settings: Whether its ``settings`` are :class:`~nnunet_semisam.settings.Settings`.
    """

    error: str
    ours: bool = False
    has_settings: bool = False


def find_trainers(names: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Found]:
    """Let nnU-Net look for trainers in a process of its own, which may crash or hang.

    Args:
        names: Class names.
        environment: Variables of the process; ``None`` takes those of this one.

    Returns:
        An answer for every name.
    """
    command = [sys.executable, "-m", "nnunet_semisam.checks.find_trainers", str(SECONDS), *names]
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    hangs = False
    try:
        output, errors = process.communicate(timeout=SECONDS + SECONDS_OF_IMPORTS)
    except subprocess.TimeoutExpired:
        hangs = True
        _kill(process)
        output, errors = process.communicate()
    except BaseException:
        _kill(process)
        raise
    lines = output.decode("utf-8", "replace").splitlines()
    found = {entry.pop("name"): Found(**entry) for entry in map(json.loads, filter(_is_answer, lines))}
    cause = _why_it_ended(lines, errors.decode("utf-8", "replace"), process.returncode, hangs)
    return {name: found.get(name, Found(cause)) for name in names}


def _is_answer(line: str) -> bool:
    return line.startswith('{"name": ')


def _why_it_ended(lines: Sequence[str], errors: str, status: int, hangs: bool) -> str:
    """Return why nnU-Net's search gave no answer for a name."""
    if hangs or any(line.startswith("Timeout") for line in lines):
        place = next((match[1] for line in lines if (match := FRAME.search(line))), "a module on its way")
        return f"nnU-Net's search did not end within {SECONDS:.0f} s: it hangs in {place}"
    said = next(iter(errors.strip().splitlines()[-1:]), "no message")
    return f"nnU-Net's search ended the program (status {status}; {said}): a module on its way does that"


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def check_trainers(names: Sequence[str], option: str) -> None:
    """Check that every trainer exists and takes settings.

    Args:
        names: Class names.
        option: The option that names them, for the error.

    Raises:
        UserError: If nnU-Net does not find one, or it is not of this package's kind: its length could not be set.
    """
    folder = trainers_folder()
    known = trainer_names(folder)
    foreign = [name for name in names if name not in known]
    if not foreign:
        return
    odd = [name for name in foreign if not name.isidentifier()]
    if odd:
        raise UserError(f"{option} {shown(odd[0])}: a trainer is named by its class, for example {known[0]}.")
    for name, found in find_trainers(foreign, {**os.environ, VARIABLE: _with_ours(folder)}).items():
        if found.error:
            close = difflib.get_close_matches(name, known, n=1, cutoff=CLOSE)
            if close and NOT_FOUND in found.error:
                raise UserError(
                    f"{option} {name}: there is no such trainer; did you mean {close[0]}? (Your own are looked for in "
                    f"the folders of {VARIABLE}.)"
                )
            raise UserError(
                f"{option} {name}: there is no such trainer. This package has {', '.join(known)}; your own are looked "
                f"for in the folders of {VARIABLE}. What nnU-Net says: {found.error}"
            )
        if not found.ours:
            raise UserError(
                f"{option} {name} takes no settings, so its training would be longer or shorter than the others'. "
                "Plain nnU-Net with settings is nnUNetTrainerSupervised, the baseline."
            )
        if not found.has_settings:
            raise UserError(
                f"{option} {name}: its attribute settings is not of the class Settings. Write "
                "settings = Settings.of(num_epochs=200), for example."
            )


def _with_ours(folder: Path) -> str:
    given = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return os.pathsep.join(dict.fromkeys([*given, str(folder)]))


def settings_of_trainer(name: str, shared: Mapping[str, object], source: str) -> Settings:
    """Return the settings that a trainer has, with some changed.

    Args:
        name: Class name; :func:`check_trainers` has accepted it.
        shared: The settings that are changed.
        source: Where they come from, for the error.
    """
    return trainer_class(name).settings.replace(shared, source)


def trainer_class(name: str) -> type:
    """Return a trainer that :func:`check_trainers` has accepted."""
    path = trainers_folder() / f"{name}.py"
    if path.is_file():
        return runpy.run_path(str(path))[name]
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    os.environ[VARIABLE] = _with_ours(path.parent)
    with contextlib.redirect_stdout(io.StringIO()):
        return recursive_find_trainer_class_by_name(name)

"""What ``nnunet-semisam doctor`` looks at: one function per question, each returns findings and changes nothing.

Folders, registration, weights and settings are looked at here, the software in :mod:`~nnunet_semisam.checks.software`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.checks.findings import Finding, note, ok, stops
from nnunet_semisam.checks.software import GIB, check_device, check_sam_libraries, check_versions
from nnunet_semisam.commands import _pth
from nnunet_semisam.errors import UserError, name_some, printable
from nnunet_semisam.io.regular_files import MIB, read_text
from nnunet_semisam.threads import usable_cores
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

if TYPE_CHECKING:
    from nnunet_semisam.settings import Settings

ROOMY_GB = 20.0
MOST_WORKERS = 10_000
TRAINERS_FIX = f'once: nnunet-semisam register, or: export {_pth.VARIABLE}="$(nnunet-semisam trainers-path)"'
FOLDERS = {
    "nnUNet_raw": "images and labels as nnU-Net names them",
    "nnUNet_preprocessed": "preprocessed cases and plans; best on a fast disk",
    "nnUNet_results": "trained models",
}


def check_folders() -> list[Finding]:
    """Look at nnU-Net's three folders: set, there, writable, room, and none within another."""
    findings = [_check_folder(name, purpose) for name, purpose in FOLDERS.items()]
    return findings + _check_apart({name: value for name in FOLDERS if (value := os.environ.get(name))})


def _check_folder(name: str, purpose: str) -> Finding:
    value = os.environ.get(name)
    if not value or not value.strip():
        return stops(name, "not set", f"export {name}=/a/folder   # {purpose}")
    folder = Path(value)
    problem = why_no_folder(folder)
    if problem is not None:
        if value.startswith("~"):
            return stops(name, f"{value} {problem}", f'{name}="$HOME{value[1:]}": within quotes ~ stays as it is')
        return stops(name, f"{folder} {problem}", f'mkdir -p "{folder}"')
    if not os.access(folder, os.W_OK | os.X_OK):
        return stops(name, f"{folder} cannot be written to", f"chmod u+rwx, or point {name} elsewhere")
    if not folder.is_absolute():
        fix = f'export {name}="{folder.resolve()}": commands that start elsewhere do not find it'
        return note(name, f"{folder} is relative to the folder of this command", fix)
    free = shutil.disk_usage(folder).free / GIB
    if free < ROOMY_GB:
        fix = f"make room: preprocessed volumes, checkpoints and embeddings easily take {ROOMY_GB:.0f} GiB"
        return note(name, f"{folder}, {free:.1f} GiB free", fix)
    return ok(name, f"{folder}, {free:.0f} GiB free")


def why_no_folder(folder: Path) -> str | None:
    """Return why a path is no folder that can be looked into; ``None`` if it is one."""
    try:
        return None if folder.is_dir() else "is no folder"
    except (OSError, ValueError, RuntimeError) as error:  # too long, links in a circle, no right to look
        return f"is no folder ({getattr(error, 'strerror', None) or error})"


def _check_apart(values: Mapping[str, str]) -> list[Finding]:
    """Note folders that are one, or lie in each other: nnU-Net would take files of one kind for another."""
    real = {name: Path(value).resolve() for name, value in values.items() if why_no_folder(Path(value)) is None}
    findings = []
    for (first, one), (second, other) in combinations(real.items(), 2):
        if one.is_relative_to(other) or other.is_relative_to(one):
            same = "are one folder" if one == other else "lie in each other"
            findings.append(note(first, f"{first} and {second} {same}: {one}", "give each a folder of its own"))
    return findings


def check_trainers() -> list[Finding]:
    """Let nnU-Net itself look for our trainers, in a process of its own: it runs every module on its way."""
    from nnunet_semisam.checks.trainers import find_trainers

    names = trainer_names(trainers_folder())
    if not os.environ.get(_pth.VARIABLE):
        found = f"nnU-Net does not know where they are: {_pth.VARIABLE} is not set"
        return [stops("trainers", found, TRAINERS_FIX)]
    answers = find_trainers(names)
    errors = {name: answer.error for name, answer in answers.items() if answer.error}
    known = [name for name in names if name not in errors]
    findings = [ok("trainers", f"nnU-Net finds {len(known)} of {len(names)}: {name_some(known, 3)}")] if known else []
    if len(errors) > 1 and len(set(errors.values())) == 1:  # one cause: said once
        error = next(iter(errors.values()))
        found = f"nnU-Net does not find {name_some(list(errors), 3)}: {error}"
        return [stops("trainers", found, _fix_of(error)), *findings]
    return [
        stops(name, f"nnU-Net does not find it: {error}", _fix_of(error)) for name, error in errors.items()
    ] + findings


def _fix_of(error: str) -> str:
    """Return what helps: nnU-Net says that it did not find a name, or what failed when it imported a module."""
    from nnunet_semisam.checks.trainers import NOT_FOUND

    if NOT_FOUND in error:
        return TRAINERS_FIX
    return "this failed in a module that nnU-Net imports on its way to the trainer: mend it; lines above may say how"


def check_registration() -> list[Finding]:
    """Look at how the trainers are made known, and whether that is still true."""
    folder = trainers_folder()
    findings = []
    path = _pth.site_packages() / _pth.PTH_NAME
    if os.path.lexists(path):
        findings.append(_check_startup_file(path, folder))
    value = os.environ.get(_pth.VARIABLE)
    if value:
        findings += _check_variable(value, folder)
    return findings


def _check_startup_file(path: Path, folder: Path) -> Finding:
    fix = "nnunet-semisam unregister, then nnunet-semisam register"
    try:
        text = read_text(path, "", MIB)
    except UserError as error:
        return note("register", f"Python cannot read what was registered: {error}", fix)
    if text == _pth.startup_files(folder)[_pth.PTH_NAME]:
        return ok("register", str(path))
    return note("register", f"{path} names another folder than {folder}", fix)


def _check_variable(value: str, folder: Path) -> list[Finding]:
    parts = [part for part in value.split(os.pathsep) if part]
    gone = [part for part in parts if why_no_folder(Path(part)) is not None]
    findings = [note(_pth.VARIABLE, value, f"remove what is not there: {', '.join(gone)}")] if gone else []
    present = [Path(part) for part in parts if part not in gone]
    others = [part for part in present if part.resolve() != folder and any(part.glob("nnUNetTrainerSemiSAM.py"))]
    if others:
        found = f"{', '.join(map(str, others))} holds trainers of another installation of this package"
        findings.append(note(_pth.VARIABLE, found, f"keep one of them; this installation's is {folder}"))
    twice = {str(part) for part in present if [each.resolve() for each in present].count(part.resolve()) > 1}
    if twice:
        findings.append(note(_pth.VARIABLE, f"names a folder twice: {', '.join(sorted(twice))}", "keep one of them"))
    return findings or [ok(_pth.VARIABLE, value)]


def check_sam() -> list[Finding]:
    """Look at the weights of SAM models: ours in the package, others in ``$nnUNet_sam``."""
    return [_check_nano(), *_check_sam_folder()]


def _check_nano() -> Finding:
    from nnunet_semisam.io.tensor_files import check_finite, read_tensors
    from nnunet_semisam.sam import checkpoints

    path = checkpoints.PACKAGED_WEIGHTS
    fix = "install the package again, or use -tr nnUNetTrainerMeanTeacher, which needs no SAM"
    try:
        check_finite(read_tensors(path, ""), path, "")
    except UserError as error:
        return stops("nano SAM", str(error).strip(), fix)
    return ok("nano SAM", f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def _check_sam_folder() -> list[Finding]:
    from nnunet_semisam.sam.families import FAMILIES

    value = os.environ.get("nnUNet_sam")
    if not value:
        fix = "needed for all SAM models but nano: export nnUNet_sam=/a/folder"
        return [note("nnUNet_sam", "not set", fix)]
    folder = Path(value)
    problem = why_no_folder(folder)
    if problem is not None:
        return [note("nnUNet_sam", f"{value} {problem}", f'mkdir -p "{value}"')]
    findings = []
    whole = []
    for row in FAMILIES.values():
        path = folder / row.file
        if not path.is_file():
            continue
        size = path.stat().st_size
        if row.size is not None and size != row.size:
            fix = f"delete it, then: nnunet-semisam sam download {row.name}"
            findings.append(
                note("nnUNet_sam", f"{path} has {size} bytes instead of {row.size}: it is no whole file", fix)
            )
        else:
            whole.append(row.file)
    return [ok("nnUNet_sam", f"{value}: {', '.join(whole) or 'no weights yet'}"), *findings]


def check_workers() -> list[Finding]:
    """Look at the number of augmentation workers."""
    name = "nnUNet_n_proc_DA"
    value, cores = os.environ.get(name), usable_cores()
    if value is None:
        return [ok(name, f"not set: nnU-Net starts {min(cores, 12)} workers, shared by labeled and unlabeled cases")]
    if not re.fullmatch(r"[0-9]{1,5}", value) or int(value) > MOST_WORKERS:
        found = f"{printable(repr(value))} is no number of workers"
        return [stops(name, found, f"export {name}=NUMBER, 0 for none")]
    planning = "; unset it to plan an experiment: nnU-Net 2.8.1 stops at 0 there" if int(value) == 0 else ""
    return [ok(name, f"{value} workers on {cores} cores{planning}")]


def check_settings() -> list[Finding]:
    """Look at the yaml file with settings, if one is named."""
    name = "nnUNet_semisam_config"
    value = os.environ.get(name)
    if not value:
        return [ok(name, "not set: trainers use their own settings")]
    import nnunet_semisam.training.trainer  # noqa: F401  registers every block of settings
    from nnunet_semisam.settings import Settings
    from nnunet_semisam.settings.file import from_environment

    try:
        problem = _why_no_file(Path(value))
        settings = None if problem else from_environment(Settings())
    except UserError as error:
        problem = str(error)
    if problem:
        fix = "fix the file, or unset the variable; docs/settings.md lists the settings"
        return [stops(name, problem, fix)]
    changed = ", ".join(f"{setting}={chosen!r}" for setting, chosen in _changes(settings).items())
    findings = [ok(name, f"{value}: {changed or 'changes no default'}")]
    return [*findings, *_check_bfloat16(settings)]


def _check_bfloat16(settings: Settings) -> list[Finding]:
    import torch

    from nnunet_semisam.training.cpu_speed import warning_of_bfloat16

    if not settings.run.cpu_bfloat16 or torch.cuda.is_available():
        return []
    slow = warning_of_bfloat16()
    return [] if slow is None else [note("cpu_bfloat16", slow)]


def _why_no_file(path: Path) -> str | None:
    try:
        path.is_file()
    except (OSError, ValueError) as error:  # a name that is too long
        return f"{path} cannot be a file ({getattr(error, 'strerror', None) or error})"
    return None


def _changes(settings: Settings) -> dict[str, Any]:
    """Return the settings that are not at their default, compared with a run of the same plug-ins."""
    changes = {
        name: getattr(settings.run, name)
        for name in ("method", "use_sam")
        if getattr(settings.run, name) != getattr(type(settings)().run, name)
    }
    same_plug_ins = type(settings)().replace(changes, "the settings")
    for name, (_, chosen) in same_plug_ins.differences(settings).items():
        changes[name] = chosen
    return changes


def check_logger() -> list[Finding]:
    """Look at nnU-Net's logger of Weights & Biases, if it is asked for."""
    from nnunet_semisam.training.start import WANDB, check_logger

    if os.environ.get(WANDB) is None:
        return []
    check_logger()
    return [ok(WANDB, os.environ[WANDB])]


CHECKS = (
    check_versions,
    check_device,
    check_sam_libraries,
    check_folders,
    check_registration,
    check_trainers,
    check_sam,
    check_workers,
    check_settings,
    check_logger,
)

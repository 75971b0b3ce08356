"""What ``nnunet-semisam doctor`` looks at: one function per question, each returns findings and changes nothing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import re
import shutil
import sys
import textwrap
import warnings
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.commands import _pth
from nnunet_semisam.errors import UserError
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

if TYPE_CHECKING:
    from nnunet_semisam.settings import Settings

NNUNET_RANGE = ((2, 8), (3, 0))  # setup.py: nnunetv2>=2.8,<3; trainers outside nnU-Net are found since 2.8.0
OLDEST_TORCH = (2, 6)  # setup.py: before 2.6 even weights_only=True could run code of a checkpoint (CVE-2025-32434)
ROOMY_GB = 20.0
GIB = 1024**3
MOST_LETTERS = 150  # of the error of another program
TRAINERS_FIX = f'export {_pth.VARIABLE}="$(nnunet-semisam trainers-path)", or once: nnunet-semisam register'
FOLDERS = {
    "nnUNet_raw": "images and labels as nnU-Net names them",
    "nnUNet_preprocessed": "preprocessed cases and plans; best on a fast disk",
    "nnUNet_results": "trained models",
}


class Level(str, Enum):
    """How serious a finding is."""

    OK = "ok"
    NOTE = "note"
    """It works, but is worth knowing."""
    MISSING = "missing"
    """Training will not work."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        level: How serious it is.
        subject: What was looked at.
        found: What was found.
        fix: What to do about it; empty if nothing is to do.
    """

    level: Level
    subject: str
    found: str
    fix: str = ""


def ok(subject: str, found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(Level.OK, subject, found)


def note(subject: str, found: str, fix: str) -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(Level.NOTE, subject, found, fix)


def missing(subject: str, found: str, fix: str = "") -> Finding:
    """Return a finding that training fails with."""
    return Finding(Level.MISSING, subject, found, fix)


def numbers(version: str) -> tuple[int, int]:
    """Return major and minor of a version such as ``2.8.1`` or ``2.11.0+cu130``."""
    major, minor = re.match(r"(\d+)\.(\d+)", version).groups()
    return int(major), int(minor)


def check_versions() -> list[Finding]:
    """Look at Python, nnU-Net and segment-anything."""
    findings = [ok("python", f"{platform.python_version()} ({sys.executable})"), _check_nnunet()]
    if importlib.util.find_spec("segment_anything") is not None:
        findings.append(ok("segment-anything", "installed"))
    else:
        findings.append(missing("segment-anything", "not installed", "pip install segment-anything"))
    return findings


def _check_nnunet() -> Finding:
    fix = 'pip install "nnunetv2>=2.8,<3"'
    lowest, limit = NNUNET_RANGE
    try:
        version = importlib.metadata.version("nnunetv2")
    except importlib.metadata.PackageNotFoundError:
        return missing("nnunetv2", "not installed", fix)
    if lowest <= numbers(version) < limit:
        return ok("nnunetv2", version)
    return missing("nnunetv2", version, fix)


def check_device() -> list[Finding]:
    """Look at torch and at what it can compute on."""
    try:
        import torch
    except ImportError as error:
        return [missing("torch", f"cannot be imported: {error}", "see https://pytorch.org/get-started")]
    findings = []
    if numbers(torch.__version__) >= OLDEST_TORCH:
        findings.append(ok("torch", torch.__version__))
    else:
        fix = "pip install 'torch>=2.6': older ones cannot load checkpoints of others safely"
        findings.append(missing("torch", torch.__version__, fix))
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / GIB
        found = f"{torch.cuda.device_count()} x CUDA, first: {torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
        findings.append(ok("device", found))
    elif torch.backends.mps.is_available():
        findings.append(note("device", "Apple GPU, no CUDA", "add -device mps to nnUNetv2_train"))
    else:
        fix = (
            "add -device cpu to nnUNetv2_train and nnUNetv2_predict; export OMP_WAIT_POLICY=PASSIVE if other programs "
            "use the cores, too; nnU-Net's own plans are sized for a GPU"
        )
        findings.append(note("device", f"{os.cpu_count()} CPU cores, no CUDA", fix))
    return findings


def check_folders() -> list[Finding]:
    """Look at nnU-Net's three folders: set, there, writable, room."""
    return [_check_folder(name, purpose) for name, purpose in FOLDERS.items()]


def _check_folder(name: str, purpose: str) -> Finding:
    value = os.environ.get(name)
    if not value:
        return missing(name, "not set", f"export {name}=/a/folder   # {purpose}")
    folder = Path(value)
    if not folder.is_dir():
        return missing(name, f"{folder} is no folder", f'mkdir -p "{folder}"')
    if not os.access(folder, os.W_OK | os.X_OK):
        return missing(name, f"{folder} cannot be written to", f"chmod u+rwx, or point {name} elsewhere")
    free = shutil.disk_usage(folder).free / GIB
    if free < ROOMY_GB:
        fix = f"make room: preprocessed volumes, checkpoints and embeddings easily take {ROOMY_GB:.0f} GiB"
        return note(name, f"{folder}, {free:.1f} GiB free", fix)
    return ok(name, f"{folder}, {free:.0f} GiB free")


def check_trainers() -> list[Finding]:
    """Let nnU-Net itself look for our trainers."""
    try:
        names = trainer_names(trainers_folder())
    except UserError as error:
        return [missing("trainers", str(error))]
    if not os.environ.get(_pth.VARIABLE):
        found = f"nnU-Net does not know where they are: {_pth.VARIABLE} is not set"
        return [missing("trainers", found, TRAINERS_FIX)]
    findings, known = [], []
    for name in names:
        cause = _why_not_found(name)
        if cause:
            findings.append(missing(name, f"nnU-Net does not find it: {cause}", TRAINERS_FIX))
        else:
            known.append(name)
    if known:
        findings.append(ok("trainers", f"nnU-Net finds {', '.join(known)}"))
    return findings


def _why_not_found(name: str) -> str:
    """Return why nnU-Net does not find a trainer; nothing if it does."""
    try:
        # What nnU-Net and torch say on the way is theirs, and not about this environment's health.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

            recursive_find_trainer_class_by_name(name)
    except Exception as error:  # a broken module anywhere on nnU-Net's way stops its search: report any cause
        return textwrap.shorten(f"{type(error).__name__}: {error}", MOST_LETTERS)
    return ""


def check_registration() -> list[Finding]:
    """Look at how the trainers are made known, and whether that is still true."""
    try:
        folder = trainers_folder()
    except UserError:
        return []  # check_trainers reports it
    findings = []
    path = _pth.site_packages() / _pth.PTH_NAME
    if path.exists():
        if path.read_text(encoding="ascii") == _pth.startup_files(folder)[_pth.PTH_NAME]:
            findings.append(ok("register", str(path)))
        else:
            findings.append(note("register", f"{path} names another folder than {folder}", "nnunet-semisam register"))
    value = os.environ.get(_pth.VARIABLE)
    if value:
        gone = [part for part in value.split(os.pathsep) if part and not Path(part).is_dir()]
        if gone:
            findings.append(note(_pth.VARIABLE, value, f"remove what is not there: {', '.join(gone)}"))
        else:
            findings.append(ok(_pth.VARIABLE, value))
    return findings


def check_sam() -> list[Finding]:
    """Look at the weights of SAM models: ours in the package, others in ``$nnUNet_sam``."""
    return [_check_nano(), _check_sam_folder()]


def _check_nano() -> Finding:
    shipped = sorted((Path(__file__).parents[1] / "sam" / "nano" / "weights").glob("*.pt"))
    if not shipped:
        fix = "install the package again, or use -tr nnUNetTrainerMeanTeacher, which needs no SAM"
        return missing("nano SAM", "no weights in the package", fix)
    return ok("nano SAM", ", ".join(f"{path} ({path.stat().st_size / 1e6:.1f} MB)" for path in shipped))


def _check_sam_folder() -> Finding:
    value = os.environ.get("nnUNet_sam")
    if not value:
        fix = "needed for the SAM models vit_b, vit_l and vit_h only: export nnUNet_sam=/a/folder"
        return note("nnUNet_sam", "not set", fix)
    if not Path(value).is_dir():
        return note("nnUNet_sam", f"{value} is no folder", f'mkdir -p "{value}"')
    weights = sorted(path.name for path in Path(value).glob("*.pt*"))
    return ok("nnUNet_sam", f"{value}: {', '.join(weights) or 'no weights yet'}")


def check_workers() -> list[Finding]:
    """Look at the number of augmentation workers."""
    name = "nnUNet_n_proc_DA"
    value, cores = os.environ.get(name), os.cpu_count() or 1
    if value is None:
        return [ok(name, f"not set: nnU-Net takes up to 12 of {cores} cores, shared by labeled and unlabeled cases")]
    if not value.isdigit():
        return [missing(name, f"{value!r} is no number", f"export {name}=NUMBER, 0 for none")]
    return [ok(name, f"{value} workers on {cores} cores")]


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
        settings = from_environment(Settings())
    except UserError as error:
        fix = "fix the file, or unset the variable; docs/settings.md lists the settings"
        return [missing(name, str(error), fix)]
    changed = ", ".join(f"{setting}={chosen!r}" for setting, chosen in _changes(settings).items())
    return [ok(name, f"{value}: {changed or 'changes no default'}")]


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


CHECKS = (
    check_versions,
    check_device,
    check_folders,
    check_registration,
    check_trainers,
    check_sam,
    check_workers,
    check_settings,
)

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
from pathlib import Path

from nnunet_semisam.commands import _pth
from nnunet_semisam.errors import UserError
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

OK, NOTE, MISSING = "ok", "note", "missing"
NNUNET_RANGE = ((2, 8), (3, 0))  # setup.py: nnunetv2>=2.8,<3; trainers outside nnU-Net are found since 2.8.0
OLDEST_TORCH = (2, 6)  # setup.py: before 2.6 even weights_only=True could run code of a checkpoint (CVE-2025-32434)
ROOMY_GB = 20.0
GIB = 1024**3
MOST_LETTERS = 150  # of an error of somebody else
TELL = f'export {_pth.VARIABLE}="$(nnunet-semisam trainers-path)", or once: nnunet-semisam register'
FOLDERS = {
    "nnUNet_raw": "images and labels as nnU-Net names them",
    "nnUNet_preprocessed": "preprocessed cases and plans; best on a fast disk",
    "nnUNet_results": "trained models",
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        level: ``ok``, ``note`` (works, but worth knowing) or ``missing`` (training will not work).
        subject: What was looked at.
        found: What was found.
        mend: What to do about it; empty if nothing is to do.
    """

    level: str
    subject: str
    found: str
    mend: str = ""


def numbers(version: str) -> tuple[int, int]:
    """Return major and minor of a version such as ``2.8.1`` or ``2.11.0+cu130``."""
    major, minor = re.match(r"(\d+)\.(\d+)", version).groups()
    return int(major), int(minor)


def check_versions() -> list[Finding]:
    """Look at Python, nnU-Net and segment-anything."""
    findings = [Finding(OK, "python", f"{platform.python_version()} ({sys.executable})")]
    lowest, limit = NNUNET_RANGE
    try:
        version = importlib.metadata.version("nnunetv2")
    except importlib.metadata.PackageNotFoundError:
        findings.append(Finding(MISSING, "nnunetv2", "not installed", 'pip install "nnunetv2>=2.8,<3"'))
    else:
        fits = lowest <= numbers(version) < limit
        mend = "" if fits else 'pip install "nnunetv2>=2.8,<3"'
        findings.append(Finding(OK if fits else MISSING, "nnunetv2", version, mend))
    has_sam = importlib.util.find_spec("segment_anything") is not None
    mend = "" if has_sam else "pip install segment-anything"
    findings.append(
        Finding(OK if has_sam else MISSING, "segment-anything", "installed" if has_sam else "not installed", mend)
    )
    return findings


def check_device() -> list[Finding]:
    """Look at torch and at what it can compute on."""
    try:
        import torch
    except ImportError as error:
        return [Finding(MISSING, "torch", f"cannot be imported: {error}", "see https://pytorch.org/get-started")]
    new_enough = numbers(torch.__version__) >= OLDEST_TORCH
    mend = "" if new_enough else "pip install 'torch>=2.6': older ones cannot load checkpoints of others safely"
    findings = [Finding(OK if new_enough else MISSING, "torch", torch.__version__, mend)]
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / GIB
        found = f"{torch.cuda.device_count()} x CUDA, first: {torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
        findings.append(Finding(OK, "device", found))
    elif torch.backends.mps.is_available():
        findings.append(Finding(NOTE, "device", "Apple GPU, no CUDA", "add -device mps to nnUNetv2_train"))
    else:
        mend = (
            "add -device cpu to nnUNetv2_train and nnUNetv2_predict; export OMP_WAIT_POLICY=PASSIVE if other programs "
            "use the cores, too; nnU-Net's own plans are sized for a GPU"
        )
        findings.append(Finding(NOTE, "device", f"{os.cpu_count()} CPU cores, no CUDA", mend))
    return findings


def check_folders() -> list[Finding]:
    """Look at nnU-Net's three folders: set, there, writable, room."""
    return [_check_folder(name, purpose) for name, purpose in FOLDERS.items()]


def _check_folder(name: str, purpose: str) -> Finding:
    value = os.environ.get(name)
    if not value:
        return Finding(MISSING, name, "not set", f"export {name}=/a/folder   # {purpose}")
    folder = Path(value)
    if not folder.is_dir():
        return Finding(MISSING, name, f"{folder} is no folder", f'mkdir -p "{folder}"')
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(MISSING, name, f"{folder} cannot be written to", f"chmod u+rwx, or point {name} elsewhere")
    free = shutil.disk_usage(folder).free / GIB
    if free < ROOMY_GB:
        mend = f"make room: preprocessed volumes, checkpoints and embeddings easily take {ROOMY_GB:.0f} GiB"
        return Finding(NOTE, name, f"{folder}, {free:.1f} GiB free", mend)
    return Finding(OK, name, f"{folder}, {free:.0f} GiB free")


def check_trainers() -> list[Finding]:
    """Ask nnU-Net itself whether it finds our trainers."""
    try:
        names = trainer_names(trainers_folder())
    except UserError as error:
        return [Finding(MISSING, "trainers", str(error))]
    if not os.environ.get(_pth.VARIABLE):
        return [Finding(MISSING, "trainers", f"nnU-Net does not know where they are: {_pth.VARIABLE} is not set", TELL)]
    causes = {name: _why_not_found(name) for name in names}
    findings = [
        Finding(MISSING, name, f"nnU-Net does not find it: {cause}", TELL) for name, cause in causes.items() if cause
    ]
    found = ", ".join(name for name in names if not causes[name])
    return [*findings, *([Finding(OK, "trainers", f"nnU-Net finds {found}")] if found else [])]


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
    value, path = os.environ.get(_pth.VARIABLE), _pth.site_packages() / _pth.PTH_NAME
    try:
        folder = trainers_folder()
    except UserError:
        return []  # check_trainers reports it
    findings = []
    if path.exists() and path.read_text(encoding="ascii") != _pth.startup_files(folder)[_pth.PTH_NAME]:
        mend = "nnunet-semisam register"
        findings.append(Finding(NOTE, "register", f"{path} names another folder than {folder}", mend))
    elif path.exists():
        findings.append(Finding(OK, "register", str(path)))
    if value:
        gone = [part for part in value.split(os.pathsep) if part and not Path(part).is_dir()]
        mend = f"remove what is not there: {', '.join(gone)}" if gone else ""
        findings.append(Finding(NOTE if gone else OK, _pth.VARIABLE, value, mend))
    return findings


def check_sam() -> list[Finding]:
    """Look at the weights of SAM models: ours in the package, others in ``$nnUNet_sam``."""
    shipped = sorted((Path(__file__).parents[1] / "sam" / "nano" / "weights").glob("*.pt"))
    if shipped:
        findings = [Finding(OK, "nano SAM", ", ".join(f"{p} ({p.stat().st_size / 1e6:.1f} MB)" for p in shipped))]
    else:
        mend = "install the package again, or use -tr nnUNetTrainerMeanTeacher, which asks no SAM"
        findings = [Finding(MISSING, "nano SAM", "no weights in the package", mend)]
    value = os.environ.get("nnUNet_sam")
    if not value:
        mend = "needed for sam_model vit_b, vit_l and vit_h only: export nnUNet_sam=/a/folder"
        return [*findings, Finding(NOTE, "nnUNet_sam", "not set", mend)]
    if not Path(value).is_dir():
        return [*findings, Finding(NOTE, "nnUNet_sam", f"{value} is no folder", f'mkdir -p "{value}"')]
    weights = sorted(path.name for path in Path(value).glob("*.pt*"))
    return [*findings, Finding(OK, "nnUNet_sam", f"{value}: {', '.join(weights) or 'no weights yet'}")]


def check_workers() -> list[Finding]:
    """Look at the number of augmentation workers."""
    value, cores = os.environ.get("nnUNet_n_proc_DA"), os.cpu_count() or 1
    if value is None:
        found = f"not set: nnU-Net takes up to 12 of {cores} cores, shared by labeled and unlabeled cases"
        return [Finding(OK, "nnUNet_n_proc_DA", found)]
    if not value.isdigit():
        mend = "export nnUNet_n_proc_DA=NUMBER, 0 for none"
        return [Finding(MISSING, "nnUNet_n_proc_DA", f"{value!r} is no number", mend)]
    return [Finding(OK, "nnUNet_n_proc_DA", f"{value} workers on {cores} cores")]


def check_settings() -> list[Finding]:
    """Look at the yaml file with settings, if one is named."""
    value = os.environ.get("nnUNet_semisam_config")
    if not value:
        return [Finding(OK, "nnUNet_semisam_config", "not set: trainers use their own settings")]
    from nnunet_semisam.settings.config import SemiSAMConfig
    from nnunet_semisam.settings.file import from_environment

    try:
        different = SemiSAMConfig().differences(from_environment(SemiSAMConfig()))
    except UserError as error:
        mend = "mend the file, or unset the variable; docs/settings.md lists the settings"
        return [Finding(MISSING, "nnUNet_semisam_config", str(error), mend)]
    changed = ", ".join(f"{name}={theirs!r}" for name, (_, theirs) in different.items()) or "changes no default"
    return [Finding(OK, "nnUNet_semisam_config", f"{value}: {changed}")]


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

"""Look at the software that a training needs: Python, nnU-Net, torch and its device, the libraries of SAM."""

from __future__ import annotations

import importlib
import platform
import re
import sys

from nnunet_semisam.checks.findings import Finding, cause_of, note, ok, stops
from nnunet_semisam.threads import usable_cores

NNUNET_RANGE = ((2, 8), (3, 0))  # setup.py: nnunetv2>=2.8,<3; trainers outside nnU-Net are found since 2.8.0
OLDEST_TORCH = (2, 6)  # setup.py: before 2.6 even weights_only=True could run code of a checkpoint (CVE-2025-32434)
GIB = 1024**3


def numbers(version: str) -> tuple[int, int] | None:
    """Return major and minor of a version such as ``2.8.1`` or ``2.11.0+cu130``; ``None`` if it is no such text."""
    found = re.match(r"(\d{1,6})\.(\d{1,6})", version or "")
    return (int(found[1]), int(found[2])) if found else None


def check_versions() -> list[Finding]:
    """Look at Python and nnU-Net."""
    return [ok("python", f"{platform.python_version()} ({sys.executable})"), _check_nnunet()]


def _check_nnunet() -> Finding:
    import importlib.metadata  # loads the parser of e-mails, which --help needs not

    fix = 'pip install "nnunetv2>=2.8,<3"'
    lowest, limit = NNUNET_RANGE
    try:
        version = importlib.metadata.version("nnunetv2")
    except importlib.metadata.PackageNotFoundError:
        return stops("nnunetv2", "not installed", fix)
    known = numbers(version)
    if known is None:
        return stops("nnunetv2", f"its version cannot be told ({version}): the installation is damaged", fix)
    return ok("nnunetv2", version) if lowest <= known < limit else stops("nnunetv2", version, fix)


def check_sam_libraries() -> list[Finding]:
    """Look at what segment-anything needs; each is imported, since a torchvision of another torch only fails there."""
    pair = "install both from one place: pip install --force-reinstall torch torchvision"
    fixes = {"torchvision": pair, "segment_anything": "pip install segment-anything"}
    findings = []
    for module, fix in fixes.items():
        try:
            version = getattr(importlib.import_module(module), "__version__", "installed")
        except Exception as error:  # not only ImportError: operators that the other torch lacks
            return [*findings, stops(module, f"cannot be imported: {cause_of(error)}", fix)]
        findings.append(ok(module, version))
    return findings


def check_device() -> list[Finding]:
    """Look at torch and at what it can compute on."""
    try:
        import torch
    except Exception as error:  # not only ImportError: a library that is missing, of another machine
        return [stops("torch", f"cannot be imported: {cause_of(error)}", "see https://pytorch.org/get-started")]
    version = numbers(torch.__version__)
    if version is not None and version >= OLDEST_TORCH:
        findings = [ok("torch", torch.__version__)]
    else:
        fix = "pip install 'torch>=2.6': older ones cannot load checkpoints of others safely"
        findings = [stops("torch", torch.__version__, fix)]
    try:
        return [*findings, _check_accelerator()]
    except Exception as error:  # a driver that does not fit
        return [*findings, stops("device", f"torch cannot tell: {cause_of(error)}", "see https://pytorch.org")]


def _check_accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / GIB
        found = f"{torch.cuda.device_count()} x CUDA, first: {torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
        return ok("device", found)
    if torch.backends.mps.is_available():
        fix = (
            "add -device mps to nnUNetv2_train, and before it: export PYTORCH_ENABLE_MPS_FALLBACK=1 (torch lacks some "
            "operators of SAM there); 'auto' of benchmark, self-train and demo takes the CPU; nothing was tried on it"
        )
        return note("device", "Apple GPU, no CUDA", fix)
    fix = (
        "add -device cpu to nnUNetv2_train and nnUNetv2_predict; export nnUNet_semisam_threads=1 (or more) if "
        "other trainings use the cores, too; nnU-Net's own plans are sized for a GPU"
    )
    return note("device", f"{usable_cores()} CPU cores, no CUDA", fix)

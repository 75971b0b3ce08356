"""What software and which settings of the environment a number rests on, found out where it is made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from nnunet_semisam import __version__
from nnunet_semisam.io.json_files import object_or_none

PACKAGES = ("nnunetv2", "torch", "monai", "scipy", "numpy", "SimpleITK", "segment-anything")
# Change how fast or with how many processes nnU-Net works, some of them its results.
VARIABLES = (
    "nnUNet_n_proc_DA",
    "nnUNet_compile",
    "nnUNet_semisam_threads",
    "nnUNet_npp",
    "nnUNet_nps",
    "nnUNet_def_n_proc",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
)
GIT_SECONDS = 10


def versions() -> dict[str, str]:
    """Return the versions of python, this package and those that numbers depend on.

    Where this package lies in a git checkout, its commit is there, too: a version that is not released yet says little.
    """
    found = {"python": platform.python_version(), "nnunet-semisam": __version__}
    known = commit(Path(__file__).parents[2])
    if known:
        found["nnunet-semisam commit"] = known
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(folder: Path) -> str | None:
    """Return the commit of a git checkout, with a note if files differ from it; ``None`` if it is no checkout."""
    if not (folder / ".git").exists():
        return None
    head = _git(folder, "rev-parse", "HEAD")
    if not head:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{head} with changes" if changed else head


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout of somebody else
        return None
    return done.stdout.strip()


def environment_settings() -> dict[str, str]:
    """Return the variables that are set and change how nnU-Net works."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def sam_fingerprints(results: Path) -> list[str]:
    """Return the digests of the SAM weights with which the rounds in a results folder were made."""
    found: set[str] = set()
    for path in results.glob("*/*/fold_*/semisam_store/*/provenance.json"):
        content = object_or_none(path)  # None: a round that is being written
        if content is not None and "sam_fingerprint" in content:
            found.add(content["sam_fingerprint"])
    return sorted(found)

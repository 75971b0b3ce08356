"""Say on which machine and with which versions figures are made; the command prints it, and whether all is there."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMIT_FILE = "commit.txt"  # in the state folder: the commit of a checkout that travelled without its history
COMPILER_SHOWN = 300  # characters of its error
NEEDED = ("torch", "nnunetv2.run.run_training", "segment_anything", "SimpleITK", "blosc2", "cc3d", "skimage", "yaml")


def describe(state: Path) -> dict[str, Any]:
    """Return device, driver, versions and commit, ready for json."""
    import torch

    from nnunet_semisam.runs.versions import versions

    found: dict[str, Any] = {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()}
    found |= versions()
    commit = state / COMMIT_FILE
    if "nnunet-semisam commit" not in found and commit.is_file():
        found["nnunet-semisam commit"] = commit.read_text().strip()
    found["device"] = "cpu"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "device_bytes": properties.total_memory, "cuda": torch.version.cuda}
        found["driver"] = _driver()
    return found


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout else None


def problems(device: str) -> list[str]:
    """Return what cannot be imported, or computed on the device, with the reason."""
    found = []
    for name in (*NEEDED, "nnunet_semisam.training.trainer"):
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever an import raises, the machine cannot do it
            found.append(f"{name}: {type(error).__name__}: {error}")
    return found or [problem for problem in (_no_device(device),) if problem]


def _no_device(device: str) -> str | None:
    """Return why a GPU cannot be used; nnU-Net compiles its network there, and that needs a C compiler."""
    import torch

    if device != "cuda":
        return None
    if not torch.cuda.is_available():
        return "a GPU that torch can use (--device cpu --tiny shows without one whether everything runs)"
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # of triton, inductor or the compiler they call
        reason = f"{type(error).__name__}: {error}"[:COMPILER_SHOWN]
        if os.environ.get("nnUNet_compile", "").lower() in ("f", "false", "0"):
            return None
        return f"what torch.compile needs ({reason}). Install gcc, or measure without: export nnUNet_compile=f"
    return None


if __name__ == "__main__":
    where, *words = sys.argv[1:]
    missing = [] if words == ["--known"] else problems(where)
    if missing:
        raise SystemExit("This machine lacks: " + "; ".join(missing))
    print(json.dumps(describe(Path(os.environ["NNUNET_SEMISAM_GPU"]))))

"""Archives for a machine that nothing can be downloaded to: wheels and a small real dataset, in parts of a few MB.

The dataset is preprocessed here, so that no time of a lent GPU goes into it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.gpu.machine import COMMIT_FILE
from benchmarks.own_folders import make_anew
from nnunet_semisam.errors import UserError
from nnunet_semisam.runs.versions import commit

DATASET_ID, DATASET, CONFIGURATION = 27, "Dataset027_ACDC", "2d"
TAR_FILE = "data.tar"
MEGABYTE = 10**6
TAR_BLOCK = 2048  # most that a tar adds to a file, in bytes
LABELED_PATIENTS = 3
UNLABELED_PATIENTS = 24
CHECKOUT = Path(__file__).resolve().parents[2]


def prepare(source: Path, work: Path, unlabeled: int = UNLABELED_PATIENTS) -> Path:
    """Convert and preprocess a part of ACDC: three labeled patients, some unlabeled ones, the field's validation.

    Args:
        source: The folder that holds ``training/``, in the authors' layout.
        work: Folder for it; what is there already is used.
        unlabeled: How many unlabeled patients are taken.

    Returns:
        The preprocessed dataset.
    """
    preprocessed = work / "preprocessed" / DATASET
    finished = work / "prepared"
    if finished.is_file():
        return preprocessed
    variables = {"nnUNet_raw": str(work / "raw"), "nnUNet_preprocessed": str(preprocessed.parent)}
    make_anew(work, ("raw", "preprocessed"))
    environment = {**os.environ, **variables, "nnUNet_results": str(work / "results")}
    # only where data are packed: the checkout that a GPU machine unpacks is not installed
    from dataset_conversion.reading.acdc_splits import SSL4MIS_TEST, SSL4MIS_TRAIN

    there = {folder.name for folder in (source / "training").glob("patient*")}
    free = sorted(there.intersection(SSL4MIS_TRAIN[LABELED_PATIENTS:]))
    left_out = [*free[unlabeled:], *sorted(there.intersection(SSL4MIS_TEST))]
    number = str(DATASET_ID)
    words = ["-i", str(source), "-d", number, "--labeled", str(LABELED_PATIENTS)]
    words += ["--leave-out", *left_out] if left_out else []
    _call(["nnunet-semisam", "convert", "acdc", *words], environment)
    _call(["nnUNetv2_extract_fingerprint", "-d", number, "-np", "2"], environment)
    _call(["nnUNetv2_plan_experiment", "-d", number], environment)
    _call(["nnUNetv2_preprocess", "-d", number, "-c", CONFIGURATION, "-np", "2"], environment)
    _call(["nnunet-semisam", "preprocess", "-d", number, "-c", CONFIGURATION], environment)
    finished.touch()
    return preprocessed


def _call(command: Sequence[str], environment: dict[str, str]) -> None:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([str(program), *command[1:]], env=environment, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(command)} ended with status {done.returncode}; its output is above.")


def pack(out: Path, preprocessed: Path | None, wheels: Path | None, megabytes: float) -> list[Path]:
    """Write folders ``part_1``, ``part_2``, ... of at most ``megabytes`` each.

    Args:
        out: Folder for them.
        preprocessed: A preprocessed dataset, as :func:`prepare` returns it; ``None``: none is packed.
        wheels: Folder with wheels, searched in depth; ``None``: none are packed.
        megabytes: Most that a part weighs, in 10^6 bytes.

    Returns:
        The parts.

    Raises:
        UserError: If a file is larger than a part, or there is nothing to pack.
    """
    limit = int(megabytes * MEGABYTE)
    files = sorted(wheels.rglob("*.whl")) if wheels is not None else []
    if wheels is not None and not files:
        raise UserError(f"--wheels {wheels}: there is no wheel (*.whl) in it, nor in folders below it.")
    if wheels is None and preprocessed is None:
        raise UserError("There is nothing to pack. Name data with --data, wheels with --wheels, or both.")
    data = sorted(file for file in preprocessed.rglob("*") if file.is_file()) if preprocessed is not None else []
    parts = []
    for chosen in _in_parts(files, limit):
        folder = _new_part(out, len(parts) + 1)
        for file in chosen:
            shutil.copy2(file, folder / file.name)
        parts.append(folder)
    for chosen in _in_parts(data, limit):
        folder = _new_part(out, len(parts) + 1)
        with tarfile.open(folder / TAR_FILE, "w") as tar:
            for file in chosen:
                tar.add(file, Path("preprocessed") / preprocessed.name / file.relative_to(preprocessed))
        parts.append(folder)
    known = commit(CHECKOUT)
    for folder in parts:
        if known is not None:
            (folder / COMMIT_FILE).write_text(known)
    return parts


def _new_part(out: Path, number: int) -> Path:
    folder = out / f"part_{number}"
    if folder.exists():
        raise UserError(f"{folder} is there already. Remove it, or give another --out.")
    folder.mkdir(parents=True)
    return folder


def _in_parts(files: Iterable[Path], limit: int) -> list[list[Path]]:
    parts: list[list[Path]] = []
    used = limit
    for file in files:
        size = file.stat().st_size + TAR_BLOCK
        if size > limit - TAR_BLOCK:
            raise UserError(f"{file} has {size / MEGABYTE:.0f} MB and fits into no part. Raise --megabytes.")
        if used + size > limit - TAR_BLOCK:
            parts.append([])
            used = 0
        parts[-1].append(file)
        used += size
    return parts


def unpack(folder: Path, state: Path) -> None:
    """Install the wheels of a part and unpack its data; a part may be unpacked twice."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}. Give the parts that 'pack' wrote.")
    state.mkdir(parents=True, exist_ok=True)
    wheels = sorted(str(file) for file in folder.glob("*.whl"))
    if wheels:
        options = ["-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(state / "site"), *wheels]
        if subprocess.run(command, check=False).returncode:
            raise UserError(f"pip refused a wheel of {folder}; its reason is above. Pack wheels for this system.")
        for known in state.glob("complete_for_*"):
            known.unlink()
    if (folder / TAR_FILE).is_file():
        try:
            with tarfile.open(folder / TAR_FILE) as tar:
                tar.extractall(state / "data", filter="data")
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"{folder / TAR_FILE} is damaged ({error}). Copy the part again.") from error
    if (folder / COMMIT_FILE).is_file():
        shutil.copy2(folder / COMMIT_FILE, state / COMMIT_FILE)

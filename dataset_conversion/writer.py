"""Writing a raw dataset: all of it or nothing, and never over something else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_semisam import __version__
from nnunet_semisam.data.splits import load_splits, same_splits, write_json, write_splits
from nnunet_semisam.errors import UserError

from .checks import check_conversion, raise_findings
from .common import PARTS, Case, Conversion, DatasetConverter

MANIFEST = "semisam_manifest.json"
BUDGETS = "semisam_budgets.json"
TEST_SETS = "semisam_test_sets.json"
SPARE_BYTES = 64 * 2**20  # json files, file system overhead


@dataclass(frozen=True)
class Result:
    """What became of a conversion.

    Attributes:
        folder: The raw dataset.
        conversion: What it holds.
        already_there: Whether an earlier run had made the same, so that nothing was written.
    """

    folder: Path
    conversion: Conversion
    already_there: bool


def convert(converter: DatasetConverter, conversion: Conversion, dataset_id: int) -> Result:
    """Check a planned conversion and write it to ``nnUNet_raw``.

    The dataset is built in a hidden folder next to its place and renamed at the end. A folder that a killed run left
    is removed first.

    Raises:
        UserError: If ``nnUNet_raw`` is not set, the id is taken by other content, the data have faults, preprocessed
            folds differ, or the disk is too full.
    """
    raw = raw_folder()
    target = raw / dataset_folder_name(dataset_id, converter.dataset_name)
    shutil.rmtree(unfinished(target), ignore_errors=True)
    refuse_other_names(dataset_id, target.name)
    raise_findings([*conversion.findings, *repeated_identifiers(conversion)], conversion.source)
    refuse_other_folds(conversion, target.name)
    manifest = plan_manifest(conversion, converter)
    if target.exists():
        compare_existing(target, manifest)
        return Result(target, conversion, already_there=True)
    check_free_space(conversion, raw)
    check_conversion(conversion, converter)
    _build(converter, conversion, manifest, target)
    return Result(target, conversion, already_there=False)


def raw_folder() -> Path:
    """Return ``nnUNet_raw``, made if it is not there yet.

    Raises:
        UserError: If the variable is not set, or does not name a folder that can be made.
    """
    value = os.environ.get("nnUNet_raw")
    if not value:
        raise UserError(
            "The environment variable nnUNet_raw is not set. Say where raw datasets shall be kept, for example "
            '`export nnUNet_raw="$HOME/nnunet/raw"` (and likewise nnUNet_preprocessed and nnUNet_results).'
        )
    folder = Path(value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"nnUNet_raw={value} cannot be used as a folder ({error}). Let it point to one.") from error
    return folder


def dataset_folder_name(dataset_id: int, name: str) -> str:
    """Return nnU-Net's folder name of a dataset, for example ``Dataset027_ACDC``.

    Raises:
        UserError: If the id does not fit nnU-Net's three digits.
    """
    if not 1 <= dataset_id <= 999:
        raise UserError(f"The dataset id must be between 1 and 999, got {dataset_id}. Choose another with -d.")
    return f"Dataset{dataset_id:03d}_{name}"


def refuse_other_names(dataset_id: int, name: str) -> None:
    """Refuse an id that another dataset has: nnU-Net finds datasets by their id alone.

    Raises:
        UserError: If a folder with this id and another name is in one of nnU-Net's three folders.
    """
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        root = os.environ.get(variable)
        others = Path(root).glob(f"Dataset{dataset_id:03d}_*") if root else []
        for other in others:
            if other.is_dir() and other.name != name:
                raise UserError(
                    f"The dataset id {dataset_id} belongs to {other}, so {name} cannot have it, too. Choose a free id "
                    "with -d, or move that folder away."
                )


def refuse_other_folds(conversion: Conversion, name: str) -> None:
    """Refuse to make a dataset whose preprocessed version follows other folds.

    nnU-Net's planner copies ``splits_final.json`` from the raw folder only where none is, and never compares
    ``"unlabeled"`` lists.

    Raises:
        UserError: If ``nnUNet_preprocessed/DATASET/splits_final.json`` is there and differs.
    """
    root = os.environ.get("nnUNet_preprocessed")
    path = Path(root) / name / "splits_final.json" if root else None
    if path is not None and path.is_file() and not same_splits(load_splits(path), conversion.splits):
        raise UserError(
            f"{path} exists and holds other folds than this conversion makes; nnU-Net would train on those. Move "
            f"{path.parent} away if it is no longer needed, or choose another id with -d."
        )


def unfinished(target: Path) -> Path:
    """Return the hidden folder in which a dataset is built: next to its place, so that a rename is enough."""
    return target.with_name(f".{target.name}.unfinished")


def targets(case: Case, file_ending: str) -> list[tuple[Path, str]]:
    """Return the source file and the relative target of everything that is written for a case."""
    pairs = [
        (image, f"images{case.part}/{case.identifier}_{channel:04d}{file_ending}")
        for channel, image in enumerate(case.images)
    ]
    if case.label is not None:
        pairs.append((case.label, f"labels{case.part}/{case.identifier}{file_ending}"))
    return pairs


def dataset_json(conversion: Conversion) -> dict[str, Any]:
    """Return the content of nnU-Net's ``dataset.json``."""
    return {
        "channel_names": conversion.channel_names,
        "labels": conversion.labels,
        "numTraining": len(conversion.of_part("Tr")),
        "file_ending": conversion.file_ending,
        "converted_by": "nnunet-semisam",
    }


def plan_manifest(conversion: Conversion, converter: DatasetConverter) -> dict[str, Any]:
    """Return what makes two conversions the same: settings, folds, and the hash of every source file."""
    from tqdm import tqdm

    sources = {}
    for case in tqdm(conversion.cases, desc="hashing", unit="case", leave=False):
        for source, target in targets(case, conversion.file_ending):
            sources[target] = {"source": source.relative_to(conversion.source).as_posix(), "sha256": sha256(source)}
    return {
        "converter": type(converter).__name__,
        "settings": conversion.settings,
        "dataset": dataset_json(conversion),
        "splits": conversion.splits,
        "sources": dict(sorted(sources.items())),
    }


def compare_existing(folder: Path, manifest: dict[str, Any]) -> None:
    """Accept a folder that an identical conversion made, and nothing else.

    Raises:
        UserError: If the folder was made by something else, from other data or settings, or was changed since.
    """
    way_out = f"Choose another id with -d, or move {folder} away and run this again."
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} exists and was not made by this command. {way_out}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}). {way_out}") from error
    for key, planned in manifest.items():
        if found.get(key) != planned:
            raise UserError(
                f"{folder} exists with other content: its {key} differ. {_difference(found.get(key), planned)}{way_out}"
            )
    written = found.get("files", {})
    changed = [name for name, digest in written.items() if not _is_unchanged(folder / name, digest)]
    if changed:
        names = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
        raise UserError(f"{folder} was changed after it was made ({len(changed)} files: {names}). {way_out}")


def check_free_space(conversion: Conversion, folder: Path) -> None:
    """Compare the size of the sources with the free disk space.

    Raises:
        UserError: If the dataset would not fit.
    """
    needed = sum(path.stat().st_size for case in conversion.cases for path in case.sources) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free / 2**20:.0f} MiB free; this dataset needs {needed / 2**20:.0f} MiB. Make room, or let "
            "nnUNet_raw point to a larger disk."
        )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits.

    Raises:
        UserError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error}). Mend its link or permissions, and run this again."
        ) from error
    return digest.hexdigest()


def repeated_identifiers(conversion: Conversion) -> list[str]:
    """Return a finding for every case identifier that comes twice, for example a patient in training and testing."""
    first: dict[str, Case] = {}
    findings = []
    for case in conversion.cases:
        other = first.setdefault(case.identifier, case)
        if other is not case:
            findings.append(f"{case.images[0]}: is the same case as {other.images[0]}. Remove or rename one of them.")
    return findings


def _build(converter: DatasetConverter, conversion: Conversion, manifest: dict[str, Any], target: Path) -> None:
    from tqdm import tqdm

    temporary = unfinished(target)
    try:
        for kind in {f"images{part}" for part in PARTS if conversion.of_part(part)} | {"imagesTr", "labelsTr"}:
            (temporary / kind).mkdir(parents=True)
        for case in tqdm(conversion.cases, desc="writing", unit="case", leave=False):
            for source, name in targets(case, conversion.file_ending):
                (temporary / name).parent.mkdir(exist_ok=True)
                converter.write(source, temporary / name)
        _write_json_files(conversion, temporary)
        names = sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*") if path.is_file())
        files = {name: sha256(temporary / name) for name in names}
        write_json(temporary / MANIFEST, {**manifest, "files": files, "nnunet_semisam": __version__})
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(
            f"{target} could not be written ({error}). Nothing was left behind; mend that and retry."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_json_files(conversion: Conversion, folder: Path) -> None:
    write_json(folder / "dataset.json", dataset_json(conversion))
    write_splits(folder / "splits_final.json", conversion.splits)
    write_json(folder / BUDGETS, {str(fold): budget for fold, budget in enumerate(conversion.budgets)})
    if conversion.test_sets:
        write_json(folder / TEST_SETS, conversion.test_sets)


def _is_unchanged(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _difference(found: Any, planned: Any) -> str:
    if not isinstance(found, dict) or not isinstance(planned, dict):
        return ""
    keys = [key for key in sorted({*found, *planned}) if found.get(key) != planned.get(key)]
    return f"({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}) "

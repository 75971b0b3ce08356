"""Writing a raw dataset: all of it or nothing, and never over something else."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_semisam import __version__
from nnunet_semisam.data.splits import write_json, write_splits
from nnunet_semisam.errors import UserError

from .checks import check_conversion, raise_findings
from .common import PARTS, Case, Conversion, DatasetConverter
from .guards import (
    MANIFEST,
    check_free_space,
    compare_existing,
    dataset_folder_name,
    exclusive,
    raw_folder,
    refuse_other_folds,
    refuse_other_names,
    sha256,
)

BUDGETS = "semisam_budgets.json"
TEST_SETS = "semisam_test_sets.json"


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

    The dataset is built in a hidden folder next to its place and renamed at the end; what a killed run left is removed
    first. Conversions into one raw folder take turns.

    Raises:
        UserError: If ``nnUNet_raw`` is not set, the id is taken by other content, the data have faults, preprocessed
            folds differ, or the disk is too full.
    """
    raw = raw_folder()
    target = raw / dataset_folder_name(dataset_id, converter.dataset_name)
    with exclusive(raw):
        return _convert(converter, conversion, dataset_id, target)


def _convert(converter: DatasetConverter, conversion: Conversion, dataset_id: int, target: Path) -> Result:
    for left in target.parent.glob(f"{unfinished(target).stem}.*"):
        shutil.rmtree(left, ignore_errors=True)
    refuse_other_names(dataset_id, target.name)
    raise_findings([*conversion.findings, *repeated_identifiers(conversion)], conversion.source)
    refuse_other_folds(conversion, target.name)
    manifest = plan_manifest(conversion, converter)
    if target.exists():
        compare_existing(target, manifest)
        return Result(target, conversion, already_there=True)
    check_free_space(conversion, target.parent)
    check_conversion(conversion, converter)
    _build(converter, conversion, manifest, target)
    return Result(target, conversion, already_there=False)


def unfinished(target: Path) -> Path:
    """Return the hidden folder in which this process builds: next to the target, so that a rename is enough."""
    return target.with_name(f".{target.name}.unfinished.{os.getpid()}")


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
        "converter": converter.dataset_name,
        "settings": conversion.settings,
        "dataset": dataset_json(conversion),
        "splits": conversion.splits,
        "sources": dict(sorted(sources.items())),
    }


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
        _check_complete(files, manifest, plain_copies=type(converter).write is DatasetConverter.write)
        write_json(temporary / MANIFEST, {**manifest, "files": files, "nnunet_semisam": __version__})
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(
            f"{target} could not be written ({error}). Nothing was left behind; mend that and retry."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_complete(files: dict[str, str], manifest: dict[str, Any], plain_copies: bool) -> None:
    missing = manifest["sources"].keys() - files.keys()
    sources = manifest["sources"].items() if plain_copies else ()
    altered = {name for name, source in sources if name not in missing and source["sha256"] != files[name]}
    if missing or altered:
        names = ", ".join(sorted({*missing, *altered})[:5])
        raise UserError(
            f"{len(missing)} files are missing and {len(altered)} differ from their source after copying ({names}). "
            "Does another program change the data? Nothing was left behind; run this again."
        )


def _write_json_files(conversion: Conversion, folder: Path) -> None:
    write_json(folder / "dataset.json", dataset_json(conversion))
    write_splits(folder / "splits_final.json", conversion.splits)
    write_json(folder / BUDGETS, {str(fold): budget for fold, budget in enumerate(conversion.budgets)})
    if conversion.test_sets:
        write_json(folder / TEST_SETS, conversion.test_sets)

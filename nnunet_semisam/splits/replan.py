"""Plans made without the labels that a fold hides.

nnU-Net's fingerprint reads every label in ``labelsTr``. Its own planner is run here on a dataset.json that names only
the cases whose labels may be seen, in folders of their own, so that hidden ones are out of its reach.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nnunet_semisam.data.datasets import PLANS
from nnunet_semisam.data.image_headers import reason
from nnunet_semisam.data.raw_files import image_files, label_files
from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.atomic import write_bytes
from nnunet_semisam.io.json_files import read_object, write_json

PLANNED_ON = "semisam_planned_on"
FINGERPRINT = "dataset_fingerprint.json"
STAND_IN = "semisam_note"
WORKERS = "nnUNet_n_proc_DA"


def ct_channels(channel_names: Mapping[str, str]) -> list[str]:
    """Return the channels that nnU-Net normalises with intensities below the labels of all labeled cases."""
    return [name for name in channel_names.values() if name.casefold() == "ct"]


def check_plans_name(name: str, option: str = "--plans-name") -> None:
    """Refuse names that are no plain name of a file, and nnU-Net's own.

    Raises:
        UserError: If the plans would be written elsewhere, or over nnU-Net's.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise UserError(f"{option} {shown(name)} must be a plain name: letters, digits, _ - and dots. Choose another.")
    if name == PLANS:
        raise UserError(f"{option} {name} are nnU-Net's own plans, made from all labels. Choose another name.")


def plan_on(raw: Path, preprocessed: Path, cases: Sequence[str], name: str, num_processes: int) -> Path:
    """Plan a dataset from some of its labeled cases.

    Args:
        raw: ``$nnUNet_raw/DATASET``.
        preprocessed: ``$nnUNet_preprocessed/DATASET``; the plans are written there.
        cases: Cases whose images and labels the planner may see.
        name: Plans identifier. Data preprocessed with these plans get a folder of their own.
        num_processes: Worker processes.

    Returns:
        The plans file. Each of its configurations records ``cases``.

    Raises:
        UserError: If the name is nnU-Net's own or no plain name, plans of that name were made from other cases, or the
            folder cannot be written to.
    """
    check_plans_name(name)
    target = preprocessed / f"{name}.json"
    if os.path.lexists(target):
        _refuse_other_cases(target, cases)
        return target
    with tempfile.TemporaryDirectory(prefix="nnunet-semisam-plan-") as folder:
        with _folders(Path(folder)) as (temporary_raw, temporary_preprocessed):
            _write_dataset(raw, temporary_raw / raw.name, cases)
            try:
                _run_planner(int(raw.name[7:10]), name, num_processes)
            except Exception as error:  # nnU-Net's code may raise anything
                raise UserError(
                    f"nnU-Net's planner stopped ({type(error).__name__}: {reason(error)}); what it printed above names "
                    f"the file. Fix the images and labels of {raw}; nothing was written."
                ) from error
        made = temporary_preprocessed / raw.name
        plans = read_object(made / f"{name}.json", "Plan again.")
        for configuration in plans["configurations"].values():
            configuration[PLANNED_ON] = sorted(cases)
        try:
            preprocessed.mkdir(parents=True, exist_ok=True)
            _keep_fingerprint(made / FINGERPRINT, preprocessed, name)
            if not (preprocessed / "dataset.json").is_file():
                write_bytes(preprocessed / "dataset.json", (raw / "dataset.json").read_bytes())
            write_json(target, plans)
        except OSError as error:
            raise UserError(f"The plans cannot be written to {target} ({error}). Fix that and retry.") from error
    return target


def fingerprint_notes(preprocessed: Path) -> list[str]:
    """Return how to plan from all cases, if nnU-Net has not yet done so."""
    try:
        found = read_object(preprocessed / FINGERPRINT, "Plan again.")
    except UserError:
        return []  # nnU-Net's own affair
    return [found[STAND_IN]] if STAND_IN in found else []


def _keep_fingerprint(made: Path, preprocessed: Path, name: str) -> None:
    """Keep what the plans were made from, under a name that nnU-Net's planner does not take for all cases.

    nnU-Net's trainers stop without a ``dataset_fingerprint.json``, which they only copy, and its planner takes any that
    is there. So where there is none yet, one without numbers is written: trainers copy it, the planner stops.
    """
    write_bytes(preprocessed / f"{name}_fingerprint.json", made.read_bytes())
    path = preprocessed / FINGERPRINT
    if not path.is_file():
        text = (
            f"{path} holds no numbers: the dataset was planned on some of its cases only ({name}_fingerprint.json). To "
            f"plan on all cases, too: nnUNetv2_plan_and_preprocess -d {int(preprocessed.name[7:10])} --clean"
        )
        write_json(path, {STAND_IN: text})


def was_planned_without(configuration: dict, hidden: Sequence[str]) -> bool:
    """Return whether a configuration of the plans is known to owe nothing to the labels of some cases."""
    seen = configuration.get(PLANNED_ON)
    if not isinstance(seen, list) or not seen or not all(isinstance(case, str) for case in seen):
        return False  # nothing is known: a text would be disjoint from every list of names
    return set(hidden).isdisjoint(seen)


def _refuse_other_cases(plans_file: Path, cases: Sequence[str]) -> None:
    remedy = "Choose another --plans-name, or move it away with the data that were preprocessed with it."
    configurations = read_object(plans_file, remedy).get("configurations")
    known = isinstance(configurations, dict) and all(isinstance(each, dict) for each in configurations.values())
    if not known or any(sorted(cases) != content.get(PLANNED_ON) for content in configurations.values()):
        raise UserError(f"{plans_file} exists and was made from other cases than this split allows. {remedy}")


def _write_dataset(raw: Path, target: Path, cases: Sequence[str]) -> None:
    """Write a dataset.json that names the files of these cases where they are."""
    content = read_object(raw / "dataset.json", "It must be nnU-Net's. Correct it.")
    images, labels = image_files(raw, content)["Tr"], label_files(raw, content)
    missing = sorted(set(cases) - set(images))
    if missing:
        raise UserError(f"{raw / 'imagesTr'} lacks images of {name_some(missing, 5)}. Add them, or remove the labels.")
    content["dataset"] = {
        case: {
            "images": [str(Path(file).resolve()) for file in images[case]],
            "label": str(labels[case].resolve()),
        }
        for case in cases
    }
    content["numTraining"] = len(cases)
    target.mkdir(parents=True)
    write_json(target / "dataset.json", content)


def _run_planner(dataset_id: int, name: str, num_processes: int) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments

    extract_fingerprints([dataset_id], num_processes=num_processes, check_dataset_integrity=False, clean=True)
    plan_experiments([dataset_id], overwrite_plans_name=name)


@contextlib.contextmanager
def _folders(root: Path) -> Iterator[tuple[Path, Path]]:
    """Let nnU-Net's variables point to empty folders for a while."""
    folders = {f"nnUNet_{name}": root / name for name in ("raw", "preprocessed", "results")}
    before = {name: os.environ.get(name) for name in (*folders, WORKERS)}
    if before[WORKERS] == "0":  # for trainings without workers; nnU-Net sets it as a number of threads when it plans
        os.environ[WORKERS] = "1"
    try:
        for name, folder in folders.items():
            folder.mkdir()
            os.environ[name] = str(folder)
        yield folders["nnUNet_raw"], folders["nnUNet_preprocessed"]
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

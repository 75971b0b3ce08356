"""The preprocessed dataset of a round: the plans of the first one, and nnU-Net's own preprocessor on its labels."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_semisam.data.case_workers import KILLED, each_case
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.data.geometry import geometry_file
from nnunet_semisam.data.image_headers import reason
from nnunet_semisam.data.preprocessing_recipe import RECIPE_FILE, recipe
from nnunet_semisam.data.unlabeled_dataset import REMEDY, SUFFIX, unlabeled_folder
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.array_files import open_array, read_part
from nnunet_semisam.io.atomic import put_in_place, remove_temporaries, temporary_beside
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.self_training.raw_dataset import images_in_order, link_or_copy
from nnunet_semisam.self_training.rounds import RoundOfFold
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.label_budgets import BUDGETS_FILE, SPLIT_FILE

FINGERPRINT_FILE = "dataset_fingerprint.json"  # nnU-Net copies it to every model
ENDINGS = (SUFFIX, f"_seg{SUFFIX}", ".pkl")  # the last one is there when the case is complete


@dataclass(frozen=True)
class PreprocessCase:
    """A case for a worker; plain types only, so that it travels to a spawned process.

    Attributes:
        case: Name of the case.
        images: One file per channel, in the order of the channels.
        label: Its label map.
        target: Folder to write to.
        same_images: Files that may hold the same preprocessed image.
        plans: nnU-Net's plans.
        configuration: Name of the configuration.
        dataset_json: nnU-Net's dataset.json.
    """

    case: str
    images: tuple[str, ...]
    label: str
    target: str
    same_images: tuple[str, ...]
    plans: dict[str, Any]
    configuration: str
    dataset_json: dict[str, Any]


def preprocess_case(job: PreprocessCase) -> str | None:
    """Preprocess a case as ``nnUNetv2_preprocess`` does, whole or not at all.

    Returns:
        A sentence on what is wrong with it, or ``None``.
    """
    manager = PlansManager(job.plans)
    configuration = manager.get_configuration(job.configuration)
    target = Path(job.target)
    temporary = temporary_beside(target / job.case)
    temporary.mkdir()
    try:
        preprocessor = configuration.preprocessor_class(verbose=False)
        preprocessor.run_case_save(
            str(temporary / job.case), list(job.images), job.label, manager, configuration, job.dataset_json
        )
        _share_image(temporary / f"{job.case}{SUFFIX}", job.same_images)
        for ending in ENDINGS:
            put_in_place(temporary / f"{job.case}{ending}", target / f"{job.case}{ending}")
    except OSError:
        raise
    except Exception as error:  # nnU-Net's code may raise anything
        return f"{job.case} cannot be preprocessed: {reason(error)}. Fix its image or label."
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return None


def _share_image(image: Path, others: Sequence[str]) -> None:
    """Let a preprocessed image be a second name of a file with the same voxels: labels differ, images do not.

    Voxels are compared, since blosc2 does not always write the same bytes for them.
    """
    voxels = open_array(image, REMEDY)[:]
    for other in map(Path, others):
        if not other.is_file():
            continue
        with contextlib.suppress(UserError):  # a damaged file of the user's: this one is whole
            known = open_array(other, REMEDY)
            if known.shape == voxels.shape and np.array_equal(read_part(known, slice(None), other, REMEDY), voxels):
                image.unlink()
                link_or_copy(other, image)
                return


def _killed(job: PreprocessCase) -> str:
    return f"{', '.join(job.images)}: {KILLED}. Close other programs, or preprocess fewer cases at once."


def write_preprocessed(
    unfinished: Path,
    place: RoundOfFold,
    dataset: PlannedDataset,
    dataset_json: Mapping[str, Any],
    chosen: Sequence[str],
    num_processes: int,
) -> None:
    """Write the preprocessed dataset of a round beside its raw one; cases that are done are kept.

    Args:
        unfinished: Folder of both, with ``nnUNet_raw`` in it.
        place: Round and fold; the fold has the same index in the new ``splits_final.json``.
        dataset: The dataset that the self-training began with.
        dataset_json: Content of the raw dataset's ``dataset.json``.
        chosen: Cases of the pool that have a pseudo-label; all others are left without any, in the place of imagesUl.
        num_processes: Worker processes.

    Raises:
        UserError: If a case cannot be preprocessed.
    """
    plan, cases = place.plan, place.plan.folds[place.fold]
    raw, folder = (unfinished / name / plan.dataset for name in ("nnUNet_raw", "nnUNet_preprocessed"))
    manager = PlansManager(dataset.plans).get_configuration(plan.configuration)
    ending = dataset_json["file_ending"]
    target = folder / manager.data_identifier
    for made in (target, folder / "gt_segmentations"):
        made.mkdir(parents=True, exist_ok=True)
    remove_temporaries(target)
    for name in (f"{plan.plans}.json", FINGERPRINT_FILE, SPLIT_FILE, BUDGETS_FILE):
        if (dataset.preprocessed / name).is_file():
            shutil.copyfile(dataset.preprocessed / name, folder / name)
    write_json(folder / "dataset.json", dict(dataset_json))
    trained = [*cases.labeled, *chosen]
    nobody: dict[str, list[str]] = {"train": [], "val": []}
    write_json(folder / SPLITS_FILE, [*[nobody] * place.fold, {"train": sorted(trained), "val": cases.val}])
    everyone = sorted({*cases.with_labels, *chosen})
    same_images = _folders_of_images(place, dataset, manager.data_identifier)
    jobs = [
        PreprocessCase(
            case=case,
            images=images,
            label=str(raw / "labelsTr" / f"{case}{ending}"),
            target=str(target),
            same_images=tuple(str(other / f"{case}{SUFFIX}") for other in same_images),
            plans=dataset.plans,
            configuration=plan.configuration,
            dataset_json=dict(dataset_json),
        )
        for case, images in images_in_order(raw, everyone, dataset_json).items()
        if not (target / f"{case}{ENDINGS[-1]}").is_file()
    ]
    results = each_case(preprocess_case, jobs, num_processes, f"{plan.configuration}: {len(everyone)} cases", _killed)
    problems = [problem for _, problem in results if problem is not None]
    if problems:
        raise UserError(name_some(problems, 5))
    for case in everyone:
        _copy_if_there(raw / "labelsTr" / f"{case}{ending}", folder / "gt_segmentations" / f"{case}{ending}")
        _copy_if_there(geometry_file(dataset.preprocessed, case), geometry_file(folder, case))
    _leave_without_label(folder, dataset, manager, sorted(set(cases.pool) - set(chosen)))


def _folders_of_images(place: RoundOfFold, dataset: PlannedDataset, identifier: str) -> list[Path]:
    """Return folders that may hold the same preprocessed images."""
    folders = [dataset.preprocessed / identifier, unlabeled_folder(dataset.preprocessed, identifier)]
    if place.index > 1:
        folders.insert(0, place.before().data / "nnUNet_preprocessed" / place.plan.dataset / identifier)
    return folders


def _leave_without_label(
    folder: Path, dataset: PlannedDataset, manager: ConfigurationManager, cases: Sequence[str]
) -> None:
    """Give a round the preprocessed images of cases that have no pseudo-label, as a pool for trainers that use one."""
    pool = unlabeled_folder(folder, manager.data_identifier)
    if not cases:
        return
    pool.mkdir(exist_ok=True)
    write_json(pool / RECIPE_FILE, {"recipe": recipe(dataset.plans, manager)})
    stock = dataset.preprocessed / manager.data_identifier
    own = unlabeled_folder(dataset.preprocessed, manager.data_identifier)
    for case in cases:
        name = f"{case}{SUFFIX}"
        _copy_if_there(own / name if (own / name).is_file() else stock / name, pool / name)
        _copy_if_there(geometry_file(dataset.preprocessed, case), geometry_file(folder, case))


def _copy_if_there(source: Path, target: Path) -> None:
    if source.is_file() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(source, target)

"""Preprocess the images of ``imagesUl`` with the plans of the labeled cases.

nnU-Net's own preprocessor does the work, case by case; here is what unlabeled pools need around it: which images can be
used, which are done, workers, a progress bar, and room on the disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_semisam.data.case_workers import each_case
from nnunet_semisam.data.dataset_json import channel_names, file_ending
from nnunet_semisam.data.plans import checked_configuration
from nnunet_semisam.data.preprocess_case import Job, killed, preprocess_case
from nnunet_semisam.data.preprocessed_folder import images_file, is_done, open_folder, remove_gone
from nnunet_semisam.data.preprocessing_recipe import recipe
from nnunet_semisam.data.raw_files import image_files
from nnunet_semisam.data.unlabeled_dataset import SUFFIX, unlabeled_folder
from nnunet_semisam.data.unlabeled_images import find_images
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import remove_temporaries
from nnunet_semisam.io.names import clashing_names

BYTES_PER_VOXEL = 4


def preprocess_configuration(
    raw: Path, preprocessed: Path, plans: dict, dataset_json: dict, configuration: str, num_processes: int
) -> tuple[int, list[str]]:
    """Preprocess all images of ``imagesUl`` for one configuration; done ones are kept.

    Args:
        raw: ``$nnUNet_raw/DATASET``.
        preprocessed: ``$nnUNet_preprocessed/DATASET``.
        plans: nnU-Net's plans of that dataset.
        dataset_json: nnU-Net's dataset.json.
        configuration: Name of the configuration.
        num_processes: Worker processes.

    Returns:
        The number of cases now ready, and a sentence for every file that was left out.

    Raises:
        UserError: If there are no images, the plans cannot be used, or the disk is full or cannot be written to.
    """
    where = preprocessed / f"{plans.get('plans_name', 'nnUNetPlans')}.json"
    manager = checked_configuration(plans, configuration, dataset_json, where)
    ending = file_ending(dataset_json, preprocessed / "dataset.json")
    cases, problems = find_images(raw / "imagesUl", ending, len(channel_names(dataset_json)))
    labeled = image_files(raw, dataset_json)["Tr"]
    problems += [*_leave_out_labeled(cases, labeled, raw), *_leave_out_clashing(cases, labeled, raw)]
    folder = unlabeled_folder(preprocessed, manager.data_identifier)
    try:
        open_folder(folder, recipe(plans, manager))
        remove_gone(folder, preprocessed, cases, labeled)
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error}). See who may write there, and retry.") from error
    targets = {case: folder / f"{case}{SUFFIX}" for case in cases}
    jobs = [
        Job(case, images, str(targets[case]), str(preprocessed), plans, configuration, dataset_json)
        for case, images in cases.items()
        if not is_done(targets[case], preprocessed, case, images)
    ]
    _check_disk(folder, jobs, plans, manager)
    title = f"{configuration}: {len(cases)} unlabeled cases"
    results = list(each_case(preprocess_case, jobs, num_processes, title, killed))
    remove_temporaries(folder)  # of processes that were killed
    for job, problem in results:
        if problem is not None:
            Path(job.target).unlink(missing_ok=True)  # of another state of the image
            images_file(Path(job.target)).unlink(missing_ok=True)
    problems += sorted(problem for _, problem in results if problem is not None)
    return sum(target.is_file() for target in targets.values()), problems


def _leave_out_labeled(cases: dict[str, tuple[str, ...]], labeled: Mapping[str, Sequence[str]], raw: Path) -> list[str]:
    """Take cases that are labeled, too, out of ``cases``; return a sentence on each."""
    both = sorted(set(cases) & set(labeled))
    for case in both:
        del cases[case]
    return [
        f"{case}: is in {raw / 'imagesUl'} and among the labeled cases. A case may be in one place only: remove or "
        "rename one of the two."
        for case in both
    ]


def _leave_out_clashing(cases: dict[str, tuple[str, ...]], labeled: Mapping[str, object], raw: Path) -> list[str]:
    """Take cases out of ``cases`` that are one file with another where names do not tell upper from lower case."""
    problems = []
    for first, second in clashing_names([*labeled, *cases]):
        if cases.pop(second, None) is None:  # both are labeled
            continue
        problems.append(
            f"{second}: differs from {first} only in upper and lower case or in the form of accents, and is left out: "
            f"some disks take them for one file. Rename it in {raw / 'imagesUl'}."
        )
    return problems


def _check_disk(folder: Path, jobs: Sequence[Job], plans: dict, configuration: ConfigurationManager) -> None:
    shape = configuration.configuration.get("median_image_size_in_voxels", [])
    size = [*plans["original_median_shape_after_transp"][: 3 - len(shape)], *shape]
    channels = max((len(channel_names(job.dataset_json)) for job in jobs), default=0)
    wanted = len(jobs) * channels * int(np.prod(size)) * BYTES_PER_VOXEL
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise UserError(
            f"{len(jobs)} unlabeled cases may need {wanted / 1e9:.1f} GB below {folder}, {free / 1e9:.1f} GB are free. "
            "Make room or let nnUNet_preprocessed point to a larger disk."
        )

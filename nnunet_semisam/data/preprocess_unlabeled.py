"""Preprocess the images of ``imagesUl`` with the plans of the labeled cases.

nnU-Net's own preprocessor does the work, case by case; this file adds what unlabeled pools need: checks that name the
file, workers, a progress bar, atomic writes, resuming, and the geometry of each case in a file without labels.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_semisam.data.case_workers import KILLED, each_case
from nnunet_semisam.data.dataset_json import channel_names, file_ending
from nnunet_semisam.data.geometry import Geometry, geometry_file, recorded_geometry, write_geometry
from nnunet_semisam.data.geometry_of_images import geometry_of_properties
from nnunet_semisam.data.image_checks import (
    check_image,
    check_preprocessed,
    check_resampled,
    check_spacing,
    count_not_finite,
)
from nnunet_semisam.data.image_headers import check_image_file, reason
from nnunet_semisam.data.plans import checked_configuration
from nnunet_semisam.data.preprocessing_recipe import RECIPE_FILE, recipe, recorded_recipe
from nnunet_semisam.data.raw_files import image_files
from nnunet_semisam.data.unlabeled_dataset import REMEDY, SUFFIX, cases_in, unlabeled_folder
from nnunet_semisam.data.unlabeled_images import find_images, shown_path
from nnunet_semisam.errors import UserError, name_some, printable
from nnunet_semisam.io.array_files import open_array
from nnunet_semisam.io.atomic import remove_temporaries, replaced_file
from nnunet_semisam.io.json_files import object_or_none, write_json
from nnunet_semisam.io.names import clashing_names

BYTES_PER_VOXEL = 4
IMAGES_SUFFIX = ".images.json"  # of the file beside a preprocessed case that says of which images it was made
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One case for a worker; plain types only, so that it travels to a spawned process.

    Attributes:
        case: Name of the case.
        images: One file per channel, in the order of the channels.
        target: The preprocessed image to write.
        preprocessed: ``$nnUNet_preprocessed/DATASET``, where the geometry of the case is written.
        plans: nnU-Net's plans.
        configuration: Name of the configuration.
        dataset_json: nnU-Net's dataset.json.
    """

    case: str
    images: tuple[str, ...]
    target: str
    preprocessed: str
    plans: dict
    configuration: str
    dataset_json: dict


@dataclass(frozen=True)
class PreprocessedImage:
    """What nnU-Net's preprocessor made of one case.

    Attributes:
        data: ``(C, Z, Y, X)``, float32, after ``transpose_forward``.
        geometry: Where the voxels of the raw image are.
        configuration: The plans' configuration, which knows the patch size.
    """

    data: np.ndarray
    geometry: Geometry
    configuration: ConfigurationManager


def preprocess_case(job: Job) -> str | None:
    """Preprocess one case.

    Returns:
        ``None`` if the file was written, otherwise a sentence that names the file and what is wrong with it.

    Raises:
        UserError: If the disk cannot be written to: then no other case can be, either.
    """
    with contextlib.suppress(OSError):  # told below, where the image cannot be read
        state = _state_of(job.images)  # as it is before it is read
    try:
        image = _run(job)
    except UserError as problem:
        return str(problem)
    try:
        _write_image(Path(job.target), image)
        write_geometry(Path(job.preprocessed), job.case, image.geometry)
        write_json(_images_file(Path(job.target)), state)  # last: without it the case is not done
    except (OSError, RuntimeError) as error:  # RuntimeError: blosc2's for a full disk
        free = shutil.disk_usage(Path(job.target).parent).free / 1e9
        raise UserError(
            f"{job.target} cannot be written ({printable(str(error), 300)}; {free:.1f} GB are free). What is done is "
            "kept: make room, or see who may write there, and run this again."
        ) from error
    return None


def _killed(job: Job) -> str:
    return f"{', '.join(job.images)}: {KILLED}. Close other programs, or remove the case."


def _run(job: Job) -> PreprocessedImage:
    manager = PlansManager(job.plans)
    configuration = manager.get_configuration(job.configuration)
    names = ", ".join(shown_path(Path(image)) for image in job.images)
    for image in job.images:
        check_image_file(image)
    try:
        data, properties = manager.image_reader_writer_class().read_images(job.images)
        not_finite = count_not_finite(job.images, data)
    except Exception as error:  # every reader raises its own kinds; the file is unreadable either way
        why = reason(error) if str(error).strip() else "its channels differ in shape, spacing or origin"
        raise UserError(f"{names} cannot be read: {why}. Fix or remove it.") from error
    check_image(names, data, not_finite, len(channel_names(job.dataset_json)))
    check_spacing(names, properties["spacing"], job.plans)
    shape = data.shape[1:]
    try:
        check_resampled(shape, len(data), properties["spacing"], manager, configuration)
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            data, None, properties, manager, configuration, job.dataset_json
        )
        data = data.astype(np.float32, copy=False)
        check_preprocessed(data)
        geometry = geometry_of_properties(
            properties, shape, manager.transpose_forward, properties["bbox_used_for_cropping"]
        )
    except Exception as error:  # nnU-Net's code may raise anything, and one image must not stop the others
        raise UserError(f"{names} cannot be preprocessed: {reason(error)}. Fix or remove it.") from error
    return PreprocessedImage(data, geometry, configuration)


def _write_image(target: Path, image: PreprocessedImage) -> None:
    data = image.data
    blocks, chunks = comp_blosc2_params(data.shape, tuple(image.configuration.patch_size), data.itemsize)
    codec, level = blosc2.Codec.LZ4HC, 5  # as nnU-Net 2.8.1's save_case
    chosen = nnUNetDatasetBlosc2._select_filter(data, blocks, chunks, codec, level)
    cparams = {"codec": codec, "filters": [chosen], "nthreads": 1, "clevel": level}
    with replaced_file(target) as temporary:
        blosc2.asarray(
            np.ascontiguousarray(data), urlpath=str(temporary), chunks=chunks, blocks=blocks, cparams=cparams
        )


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
        _open_folder(folder, recipe(plans, manager))
        _remove_gone(folder, preprocessed, cases, labeled)
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error}). See who may write there, and retry.") from error
    targets = {case: folder / f"{case}{SUFFIX}" for case in cases}
    jobs = [
        Job(case, images, str(targets[case]), str(preprocessed), plans, configuration, dataset_json)
        for case, images in cases.items()
        if not _is_done(targets[case], preprocessed, case, images)
    ]
    _check_disk(folder, jobs, plans, manager)
    title = f"{configuration}: {len(cases)} unlabeled cases"
    results = list(each_case(preprocess_case, jobs, num_processes, title, _killed))
    remove_temporaries(folder)  # of processes that were killed
    for job, problem in results:
        if problem is not None:
            Path(job.target).unlink(missing_ok=True)  # of another state of the image
            _images_file(Path(job.target)).unlink(missing_ok=True)
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


def _remove_gone(folder: Path, preprocessed: Path, cases: Mapping[str, object], labeled: Mapping[str, object]) -> None:
    """Remove preprocessed cases whose images are gone or cannot be used any more, and say so."""
    gone = sorted(set(cases_in(folder)) - set(cases))
    for case in gone:
        (folder / f"{case}{SUFFIX}").unlink()
        _images_file(folder / f"{case}{SUFFIX}").unlink(missing_ok=True)
        if case not in labeled:
            geometry_file(preprocessed, case).unlink(missing_ok=True)
    if gone:
        LOGGER.warning(
            "%d preprocessed case(s) have no usable image in imagesUl any more and were removed from %s: %s.",
            len(gone),
            folder,
            name_some(gone, 10),
        )


def _is_done(target: Path, preprocessed: Path, case: str, images: Sequence[str]) -> bool:
    """Return whether a case is preprocessed, whole, and of the images as they are."""
    try:
        open_array(target, REMEDY)
        same = object_or_none(_images_file(target)) == _state_of(images)
    except (OSError, UserError):  # torn by a power cut, missing, or no image to read
        return False
    return same and recorded_geometry(preprocessed, case) is not None


def _images_file(target: Path) -> Path:
    """Return the file that says of which images a preprocessed case was made."""
    return target.with_name(target.name.removesuffix(SUFFIX) + IMAGES_SUFFIX)


def _state_of(images: Sequence[str]) -> dict[str, list[int]]:
    """Return size and time of each file, by channel: files that change places keep theirs, and so do most copies."""
    found = [os.stat(image) for image in images]
    return {f"{channel:04d}": [each.st_size, each.st_mtime_ns] for channel, each in enumerate(found)}


def _open_folder(folder: Path, digest: str) -> None:
    """Make the folder, or empty it if its content was made with another recipe."""
    folder = folder.resolve()  # it may be a link to another disk
    if recorded_recipe(folder) != digest:
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporaries(folder)
        _empty(folder)
        write_json(folder / RECIPE_FILE, {"recipe": digest})
    remove_temporaries(folder)


def _empty(folder: Path) -> None:
    """Remove what preprocessing wrote; the folder may be one of the user's, on another disk.

    Raises:
        UserError: If there is something else.
    """
    content = sorted(folder.iterdir())
    foreign = [
        path.name
        for path in content
        if not (path.name.endswith((SUFFIX, IMAGES_SUFFIX)) or path.name == RECIPE_FILE) or path.is_dir()
    ]
    if foreign:
        raise UserError(
            f"{folder} is where unlabeled cases are preprocessed to, and all in it must be made anew: it is of other "
            f"plans, or {RECIPE_FILE} is gone. It holds {name_some(foreign)}, which preprocessing has not "
            "written and does not delete. Move that elsewhere."
        )
    for path in content:
        path.unlink()


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

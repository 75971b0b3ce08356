"""Preprocess the images of ``imagesUl`` with the plans of the labeled cases.

nnU-Net's own preprocessor does the work, case by case; this file adds what unlabeled pools need: checks that name the
file, workers, a progress bar, atomic writes, resuming, and the geometry of each case in a file without labels.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from tqdm import tqdm

from nnunet_semisam.data.geometry import Geometry, geometry_file, geometry_of_properties, write_geometry
from nnunet_semisam.data.raw_files import image_files
from nnunet_semisam.data.stored_voxels import refuse_cut_off, voxels_as_stored
from nnunet_semisam.data.unlabeled_dataset import SUFFIX, cases_in, unlabeled_folder
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import remove_temporaries, replaced_file
from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.io.json_files import read_object, write_json

RECIPE_FILE = "preprocessing.json"
RECIPE_KEYS = ("spacing", "normalization_schemes", "use_mask_for_norm", "preprocessor_name")
RECIPE_PREFIXES = ("resampling_fn_data",)
SPACING_FACTOR = 8.0  # a slice distance of 1 mm where the plans say 10 mm is a lost header, not another scanner
BYTES_PER_VOXEL = 4


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


def find_images(
    images_folder: Path, file_ending: str, num_channels: int
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Group the files of ``imagesUl`` by case.

    Returns:
        The files of every complete case, and a sentence about every file or case that does not fit.

    Raises:
        UserError: If the folder does not exist or holds no image of that ending.
    """
    if not images_folder.is_dir():
        raise UserError(
            f"There is no folder {images_folder}. Put the unlabeled images there, named as in imagesTr "
            f"(CASE_0000{file_ending}, one file per channel), or use 'unlabeled' lists in splits_final.json."
        )
    cases: dict[str, dict[int, str]] = {}
    problems = []
    for file in sorted(images_folder.iterdir()):
        if file.name.startswith("."):
            continue  # what file managers leave behind
        stem, _, channel = file.name.removesuffix(file_ending).rpartition("_")
        if not file.name.endswith(file_ending) or not stem or len(channel) != 4 or not channel.isdigit():
            problems.append(f"{file}: not named CASE_XXXX{file_ending} (XXXX: the channel, 0000 first).")
            continue
        cases.setdefault(stem, {})[int(channel)] = str(file)
    for case, files in list(cases.items()):
        one_file_with_all = list(files) == [0]  # a colour picture, say: counted when it is read
        if sorted(files) != list(range(num_channels)) and not one_file_with_all:
            channels = ", ".join(f"{channel:04d}" for channel in sorted(files))
            problems.append(f"{case}: has channels {channels}, dataset.json asks for 0000 to {num_channels - 1:04d}.")
            del cases[case]
    if not cases and not problems:
        raise UserError(f"{images_folder} holds no image. Put files named CASE_0000{file_ending} there.")
    return {case: tuple(files[channel] for channel in sorted(files)) for case, files in cases.items()}, problems


def recipe(plans: dict, configuration: ConfigurationManager) -> str:
    """Return a digest of all that shapes preprocessed images: data made with another recipe must be made again."""
    parts = {key: configuration.configuration.get(key) for key in RECIPE_KEYS}
    parts |= {k: v for k, v in configuration.configuration.items() if k.startswith(RECIPE_PREFIXES)}
    parts["transpose_forward"] = plans["transpose_forward"]
    parts["intensities"] = plans["foreground_intensity_properties_per_channel"]
    parts["reader"] = plans["image_reader_writer"]
    return sha256_of_json(parts)


def refuse_stale(preprocessed: Path, plans: dict, configuration: ConfigurationManager) -> None:
    """Refuse to train on images of ``imagesUl`` that were preprocessed before the plans changed.

    Raises:
        UserError: If the folder's recipe is not the one of these plans.
    """
    folder = unlabeled_folder(preprocessed, configuration.data_identifier)
    if (folder / RECIPE_FILE).is_file() and _recorded_recipe(folder) != recipe(plans, configuration):
        raise UserError(
            f"The unlabeled cases in {folder} were preprocessed with other plans (spacing, normalization or resampling "
            "changed since). Run 'nnunet-semisam preprocess' again for this dataset and configuration."
        )


def preprocess_case(job: Job) -> str | None:
    """Preprocess one case.

    Returns:
        ``None`` if the file was written, otherwise a sentence that names the file and what is wrong with it.
    """
    try:
        image = _run(job)
        _write_image(Path(job.target), image)
        write_geometry(Path(job.preprocessed), job.case, image.geometry)
    except UserError as problem:
        return str(problem)
    return None


def _run(job: Job) -> PreprocessedImage:
    manager = PlansManager(job.plans)
    configuration = manager.get_configuration(job.configuration)
    reader = manager.image_reader_writer_class()
    names = ", ".join(job.images)
    try:
        data, properties = reader.read_images(job.images)
        for image in job.images:
            refuse_cut_off(Path(image))
        not_finite = _count_not_finite(job.images, data)
    except Exception as error:  # every reader raises its own kinds; the file is unreadable either way
        reason = str(error).strip().splitlines()[-1:] or ["its channels differ in shape, spacing or origin"]
        raise UserError(f"{names}: cannot be read: {reason[0]}. Fix or remove it.") from error
    _check_image(names, data, not_finite, len(job.dataset_json["channel_names"]))
    _check_spacing(names, properties["spacing"], job.plans)
    preprocessor = configuration.preprocessor_class(verbose=False)
    shape = data.shape[1:]
    data, _, properties = preprocessor.run_case_npy(data, None, properties, manager, configuration, job.dataset_json)
    geometry = geometry_of_properties(
        properties, shape, manager.transpose_forward, properties["bbox_used_for_cropping"]
    )
    return PreprocessedImage(data.astype(np.float32, copy=False), geometry, configuration)


def _count_not_finite(images: Sequence[str], data: np.ndarray) -> int:
    parts = data if len(images) == len(data) else [data] * len(images)
    stored = (voxels_as_stored(Path(image), part) for image, part in zip(images, parts, strict=True))
    return sum(int(voxels.size - np.isfinite(voxels).sum()) for voxels in stored)


def _check_image(names: str, data: np.ndarray, not_finite: int, num_channels: int) -> None:
    if len(data) != num_channels:
        raise UserError(
            f"{names}: holds {len(data)} channel(s), dataset.json asks for {num_channels}. Fix or remove it."
        )
    if not_finite:
        raise UserError(
            f"{names}: holds {not_finite} voxels that are NaN or infinite; all must be finite. Fix or remove it."
        )
    for channel, image in enumerate(data):
        if image.min() == image.max():
            raise UserError(f"{names}: channel {channel} is constant ({image.min():g}): no image. Fix or remove it.")


def _check_spacing(names: str, spacing_mm: Sequence[float], plans: dict) -> None:
    planned = [0.0] * 3
    for axis, value in zip(plans["transpose_forward"], plans["original_median_spacing_after_transp"], strict=True):
        planned[axis] = value
    for axis, (got, wanted) in enumerate(zip(spacing_mm, planned, strict=True)):
        if not got > 0 or max(got / wanted, wanted / got) >= SPACING_FACTOR:
            raise UserError(
                f"{names}: spacing {got:g} mm along axis {axis}, the labeled cases have about {wanted:g} mm. "
                "Fix the header (units? lost slice distance?) or remove the case."
            )


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
        UserError: If there are no images, or not enough disk space.
    """
    manager = PlansManager(plans).get_configuration(configuration)
    cases, problems = find_images(raw / "imagesUl", dataset_json["file_ending"], len(dataset_json["channel_names"]))
    folder = unlabeled_folder(preprocessed, manager.data_identifier)
    _open_folder(folder, recipe(plans, manager))
    labeled = image_files(raw, dataset_json)["Tr"]
    for gone in set(cases_in(folder)) - set(cases):
        (folder / f"{gone}{SUFFIX}").unlink()
        if gone not in labeled:
            geometry_file(preprocessed, gone).unlink(missing_ok=True)
    targets = {case: folder / f"{case}{SUFFIX}" for case in cases}
    jobs = [
        Job(case, images, str(targets[case]), str(preprocessed), plans, configuration, dataset_json)
        for case, images in cases.items()
        if not _is_done([targets[case], geometry_file(preprocessed, case)], images)
    ]
    _check_disk(folder, jobs, plans, manager)
    problems += _run_jobs(jobs, num_processes, f"{configuration}: {len(cases)} unlabeled cases")
    return sum(target.is_file() for target in targets.values()), problems


def _is_done(targets: Sequence[Path], images: Sequence[str]) -> bool:
    newest_image = max(os.stat(image).st_mtime for image in images)
    return all(target.is_file() and target.stat().st_mtime >= newest_image for target in targets)


def _open_folder(folder: Path, digest: str) -> None:
    """Make the folder, or empty it if its content was made with another recipe."""
    if _recorded_recipe(folder) != digest:
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        write_json(folder / RECIPE_FILE, {"recipe": digest})
    remove_temporaries(folder)


def _recorded_recipe(folder: Path) -> str | None:
    """Return the recipe that a folder was made with; ``None`` if its record is missing or damaged."""
    try:
        return read_object(folder / RECIPE_FILE, "Preprocess the unlabeled cases again.").get("recipe")
    except UserError:
        return None


def _check_disk(folder: Path, jobs: Sequence[Job], plans: dict, configuration: ConfigurationManager) -> None:
    shape = configuration.configuration.get("median_image_size_in_voxels", [])
    size = [*plans["original_median_shape_after_transp"][: 3 - len(shape)], *shape]
    channels = max((len(job.dataset_json["channel_names"]) for job in jobs), default=0)
    wanted = len(jobs) * channels * int(np.prod(size)) * BYTES_PER_VOXEL
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise UserError(
            f"{len(jobs)} unlabeled cases may need {wanted / 1e9:.1f} GB below {folder}, {free / 1e9:.1f} GB are free. "
            "Make room or let nnUNet_preprocessed point to a larger disk."
        )


def _run_jobs(jobs: Sequence[Job], num_processes: int, title: str) -> list[str]:
    with tqdm(total=len(jobs), desc=title, unit="case") as bar:
        if num_processes <= 1 or len(jobs) <= 1:
            return _collect(map(preprocess_case, jobs), bar)
        workers = ProcessPoolExecutor(min(num_processes, len(jobs)), multiprocessing.get_context("spawn"))
        try:
            results = (
                future.result() for future in as_completed([workers.submit(preprocess_case, job) for job in jobs])
            )
            return _collect(results, bar)
        except BrokenProcessPool as error:  # a multiprocessing.Pool would wait for the dead worker for ever
            raise UserError(
                "A worker process was killed, most likely for lack of memory. What is done is kept: run the command "
                f"again with fewer processes (-np; {num_processes} now)."
            ) from error
        finally:
            workers.shutdown(cancel_futures=True)


def _collect(results: Iterable[str | None], bar: tqdm) -> list[str]:
    problems = []
    for problem in results:
        bar.update()
        if problem is not None:
            problems.append(problem)
    return sorted(problems)

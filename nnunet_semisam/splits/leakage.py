"""Whether training sees what it is judged on: the same patient, or the same image, on both sides.

Three sides are told apart. ``train`` is all that a training may look at: labeled cases, cases with hidden labels, and
``imagesUl``. ``val`` is nnU-Net's validation. ``test`` is ``imagesTs``.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from nnunet_semisam.data.raw_files import PARTS, Files
from nnunet_semisam.errors import UserError


def sides_of(split: Mapping[str, Sequence[str]], files: Mapping[str, Files]) -> dict[str, list[tuple[str, str]]]:
    """Return side -> its cases as (part, case): the same name may stand in two folders."""
    train = [("Tr", case) for name in ("train", "unlabeled") for case in split.get(name, [])]
    return {
        "train": train + [("Ul", case) for case in files["Ul"]],
        "val": [("Tr", case) for case in split["val"] if case not in split["train"]],
        "test": [("Ts", case) for case in files["Ts"]],
    }


def shared_groups(sides: Mapping[str, Sequence[tuple[str, str]]], group_of: Callable[[str], str]) -> list[str]:
    """Return a sentence for every group that has cases on two sides."""
    members: dict[str, dict[str, str]] = {}
    for side, cases in sides.items():
        for part, case in cases:
            members.setdefault(group_of(case), {}).setdefault(side, f"images{part}/{case}")
    return [
        f"{group}: " + " and ".join(f"{case} is for {side}" for side, case in places.items()) + ", of one group"
        for group, places in sorted(members.items())
        if len(places) > 1
    ]


def shared_images(
    sides: Mapping[str, Sequence[tuple[str, str]]], digests: Mapping[tuple[str, str], str]
) -> tuple[list[str], list[str]]:
    """Compare images by their content.

    Returns:
        A sentence for every image that is on two sides, and one for every image that is twice on one.
    """
    places: dict[str, list[tuple[str, str]]] = {}
    for side, cases in sides.items():
        for part, case in cases:
            places.setdefault(digests[part, case], []).append((side, f"images{part}/{case}"))
    leaks, repeats = [], []
    for same in places.values():
        text = " and ".join(f"{case} ({side})" for side, case in same)
        if len({side for side, _ in same}) > 1:
            leaks.append(f"{text} hold the same image")
        elif len(same) > 1:
            repeats.append(f"{text} hold the same image, which counts twice")
    return sorted(leaks), sorted(repeats)


def content_digests(
    files: Mapping[str, Files], dataset_json: Mapping, num_processes: int = 1
) -> dict[tuple[str, str], str]:
    """Return (part, case) -> a digest of the voxels, whatever the file's compression and data type.

    Raises:
        UserError: If an image cannot be read; the message names it.
    """
    from tqdm import tqdm

    cases = [(part, case) for part in PARTS for case in files[part]]
    jobs = [(files[part][case], dict(dataset_json)) for part, case in cases]
    bar = {"desc": "comparing images", "unit": "case", "total": len(jobs), "leave": False}
    if num_processes <= 1 or len(jobs) <= 1:
        return dict(zip(cases, tqdm(map(_digest, jobs), **bar), strict=True))
    with ProcessPoolExecutor(min(num_processes, len(jobs)), multiprocessing.get_context("spawn")) as workers:
        return dict(zip(cases, tqdm(workers.map(_digest, jobs), **bar), strict=True))


def _digest(job: tuple[tuple[str, ...], dict]) -> str:
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    from nnunet_semisam.data.stored_voxels import hash_of_voxels

    images, dataset_json = job
    try:
        reader = determine_reader_writer_from_dataset_json(dataset_json, images[0], verbose=False)()
        return hash_of_voxels(reader.read_images(images)[0])
    except Exception as error:  # every reader raises its own kinds; the file is unreadable either way
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UserError(f"{', '.join(images)} cannot be read: {reason[0]}. Fix or remove the case.") from error


def refuse_leaks(leaks: Sequence[str], raw: Path) -> None:
    """Raise one error that lists all leaks.

    Raises:
        UserError: If there is any.
    """
    if leaks:
        lines = "\n".join(f"  {leak}" for leak in leaks[:20]) + ("\n  ..." if len(leaks) > 20 else "")
        raise UserError(
            f"{len(leaks)} leak(s) between training, validation and test in {raw}:\n{lines}\n"
            "Remove the cases from one side, name the validation groups with --val, or say with --group which cases "
            "belong together. Nothing was written."
        )

"""Whether training sees what it is judged on: the same patient, or the same image, on both sides.

Three sides are told apart. ``train`` is all that a training may look at: labeled cases, cases with hidden labels, and
``imagesUl``. ``val`` is nnU-Net's validation. ``test`` is ``imagesTs``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nnunet_semisam.data.raw_files import PARTS, Files
from nnunet_semisam.errors import UserError

MOST_SHOWN = 20


class Place(NamedTuple):
    """A case in its folder: the same name may stand in two folders.

    Attributes:
        part: ``Tr``, ``Ul`` or ``Ts``.
        case: Name of the case.
    """

    part: str
    case: str

    def __str__(self) -> str:
        return f"images{self.part}/{self.case}"


class SharedImages(NamedTuple):
    """Sentences about images that are there more than once.

    Attributes:
        leaks: For every image that is on two sides.
        repeats: For every image that is twice on one side.
    """

    leaks: list[str]
    repeats: list[str]


Sides = Mapping[str, Sequence[Place]]


def sides_of(split: Mapping[str, Sequence[str]], files: Mapping[str, Files]) -> dict[str, list[Place]]:
    """Return side (``train``, ``val``, ``test``) -> its cases.

    Args:
        split: A fold of ``splits_final.json``.
        files: Part -> case -> image files.
    """
    train = [Place("Tr", case) for name in ("train", "unlabeled") for case in split.get(name, [])]
    return {
        "train": [*train, *(Place("Ul", case) for case in files["Ul"])],
        "val": [Place("Tr", case) for case in split["val"] if case not in split["train"]],
        "test": [Place("Ts", case) for case in files["Ts"]],
    }


def shared_groups(sides: Sides, group_of: Callable[[str], str]) -> list[str]:
    """Return a sentence for every group that has cases on two sides."""
    first_of_side: dict[str, dict[str, Place]] = {}  # group -> side -> one of its cases there
    for side, places in sides.items():
        for place in places:
            first_of_side.setdefault(group_of(place.case), {}).setdefault(side, place)
    sentences = []
    for group, found in sorted(first_of_side.items()):
        if len(found) > 1:
            uses = " and ".join(f"{place} is for {side}" for side, place in found.items())
            sentences.append(f"{group}: {uses}, of one group")
    return sentences


def shared_images(sides: Sides, digests: Mapping[Place, str]) -> SharedImages:
    """Compare images by their content.

    Args:
        sides: Of :func:`sides_of`.
        digests: Of :func:`content_digests`.
    """
    by_content: dict[str, list[tuple[str, Place]]] = {}
    for side, places in sides.items():
        for place in places:
            by_content.setdefault(digests[place], []).append((side, place))
    leaks, repeats = [], []
    for same in by_content.values():
        text = " and ".join(f"{place} ({side})" for side, place in same)
        if len({side for side, _ in same}) > 1:
            leaks.append(f"{text} hold the same image")
        elif len(same) > 1:
            repeats.append(f"{text} hold the same image, which counts twice")
    return SharedImages(sorted(leaks), sorted(repeats))


class DigestJob(NamedTuple):
    """One case for a worker process.

    Attributes:
        place: The case.
        images: One file per channel.
        dataset_json: nnU-Net's dataset.json, which says how they are read.
    """

    place: Place
    images: tuple[str, ...]
    dataset_json: dict[str, Any]


class DigestOfImage(NamedTuple):
    """What a worker process found.

    Attributes:
        digest: Of the voxels.
        problem: Why there is none; empty if there is one.
    """

    digest: str
    problem: str = ""


def content_digests(
    files: Mapping[str, Files], dataset_json: Mapping[str, Any], num_processes: int = 1
) -> dict[Place, str]:
    """Return case -> a digest of the voxels, whatever the file's compression and data type.

    Args:
        files: Part -> case -> image files.
        dataset_json: nnU-Net's dataset.json.
        num_processes: How many files are read at the same time.

    Raises:
        UserError: If images cannot be read; the message names all of them.
    """
    from nnunet_semisam.data.case_workers import KILLED, each_case

    places = [Place(part, case) for part in PARTS for case in files[part]]
    jobs = [DigestJob(place, files[place.part][place.case], dict(dataset_json)) for place in places]

    def killed(job: DigestJob) -> DigestOfImage:
        return DigestOfImage("", f"{', '.join(job.images)}: {KILLED}. Close other programs, or remove the case.")

    found = {job.place: digest for job, digest in each_case(_digest, jobs, num_processes, "comparing images", killed)}
    problems = sorted(digest.problem for digest in found.values() if digest.problem)
    if problems:
        more = f"\n... and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
        raise UserError("\n".join(problems[:MOST_SHOWN]) + more)
    return {place: found[place].digest for place in places}


def _digest(job: DigestJob) -> DigestOfImage:
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    from nnunet_semisam.data.image_headers import check_image_header, reason
    from nnunet_semisam.data.stored_voxels import hash_of_voxels, refuse_cut_off_quickly

    remedy = "Fix or remove the case."
    try:
        for image in job.images:
            check_image_header(image, remedy)
            refuse_cut_off_quickly(Path(image))
        reader = determine_reader_writer_from_dataset_json(job.dataset_json, job.images[0], verbose=False)()
        return DigestOfImage(hash_of_voxels(reader.read_images(job.images)[0]))
    except UserError as error:
        return DigestOfImage("", str(error))
    except Exception as error:  # every reader raises its own kinds; the file is unreadable either way
        return DigestOfImage("", f"{', '.join(job.images)} cannot be read: {reason(error)}. {remedy}")


def refuse_leaks(leaks: Sequence[str], raw: Path) -> None:
    """Raise one error that lists all leaks.

    Raises:
        UserError: If there is any.
    """
    if not leaks:
        return
    lines = [f"  {leak}" for leak in leaks[:MOST_SHOWN]]
    if len(leaks) > MOST_SHOWN:
        lines.append("  ...")
    listed = "\n".join(lines)
    raise UserError(
        f"{len(leaks)} leak(s) between training, validation and test in {raw}:\n{listed}\n"
        "Remove the cases from one side, name the validation groups with --val, or say with --group which cases "
        "belong together. Nothing was written."
    )

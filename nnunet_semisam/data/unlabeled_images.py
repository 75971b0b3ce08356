"""Which cases are in ``imagesUl``."""

from __future__ import annotations

import re
from pathlib import Path

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.names import case_problem

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>[0-9]{4})", re.DOTALL)


def cases_named_in(folder: Path, file_ending: str) -> set[str]:
    """Return the cases that have a file of a channel in a folder of images; none if there is no such folder."""
    names = (file.name for file in folder.glob(f"*{file_ending}") if not file.name.startswith("."))
    found = (CHANNEL.fullmatch(name.removesuffix(file_ending)) for name in names)
    return {match["case"] for match in found if match is not None}


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
        match = CHANNEL.fullmatch(file.name.removesuffix(file_ending))
        if not file.name.endswith(file_ending) or match is None:
            problems.append(f"{shown_path(file)}: not named CASE_XXXX{file_ending} (XXXX: the channel, 0000 first).")
            continue
        problem = case_problem(match["case"])
        if problem is not None:
            problems.append(f"{shown_path(file)}: cannot be the name of a case: {problem}. Rename it.")
            continue
        cases.setdefault(match["case"], {})[int(match["channel"])] = str(file)
    for case, files in list(cases.items()):
        one_file_with_all = list(files) == [0]  # a colour picture, say: counted when it is read
        if sorted(files) != list(range(num_channels)) and not one_file_with_all:
            channels = ", ".join(f"{channel:04d}" for channel in sorted(files))
            problems.append(f"{case}: has channels {channels}, dataset.json asks for 0000 to {num_channels - 1:04d}.")
            del cases[case]
    if not cases and not problems:
        raise UserError(f"{images_folder} holds no image. Put files named CASE_0000{file_ending} there.")
    return {case: tuple(files[channel] for channel in sorted(files)) for case, files in cases.items()}, problems


def shown_path(file: Path) -> str:
    """Return a path as a message shows it, whatever characters a stranger put into its name."""
    return printable(str(file), 500).replace("\n", "\\n")

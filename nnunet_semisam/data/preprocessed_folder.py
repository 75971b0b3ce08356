"""The folder of preprocessed unlabeled cases: which of them are done, and of what.

A case is a preprocessed image, a file beside it that says of which raw images it was made, and its geometry elsewhere.
The folder says by which recipe all in it were made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_semisam.data.geometry import geometry_file, recorded_geometry
from nnunet_semisam.data.preprocessing_recipe import RECIPE_FILE, recorded_recipe
from nnunet_semisam.data.unlabeled_dataset import REMEDY, SUFFIX, cases_in
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.array_files import open_array
from nnunet_semisam.io.atomic import remove_temporaries
from nnunet_semisam.io.json_files import object_or_none, write_json

IMAGES_SUFFIX = ".images.json"  # of the file beside a preprocessed case that says of which images it was made
LOGGER = logging.getLogger(__name__)


def open_folder(folder: Path, digest: str) -> None:
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


def remove_gone(folder: Path, preprocessed: Path, cases: Mapping[str, object], labeled: Mapping[str, object]) -> None:
    """Remove preprocessed cases whose images are gone or cannot be used any more, and say so."""
    gone = sorted(set(cases_in(folder)) - set(cases))
    for case in gone:
        (folder / f"{case}{SUFFIX}").unlink()
        images_file(folder / f"{case}{SUFFIX}").unlink(missing_ok=True)
        if case not in labeled:
            geometry_file(preprocessed, case).unlink(missing_ok=True)
    if gone:
        LOGGER.warning(
            "%d preprocessed case(s) have no usable image in imagesUl any more and were removed from %s: %s.",
            len(gone),
            folder,
            name_some(gone, 10),
        )


def is_done(target: Path, preprocessed: Path, case: str, images: Sequence[str]) -> bool:
    """Return whether a case is preprocessed, whole, and of the images as they are."""
    try:
        open_array(target, REMEDY)
        same = object_or_none(images_file(target)) == state_of(images)
    except (OSError, UserError):  # torn by a power cut, missing, or no image to read
        return False
    return same and recorded_geometry(preprocessed, case) is not None


def images_file(target: Path) -> Path:
    """Return the file that says of which images a preprocessed case was made."""
    return target.with_name(target.name.removesuffix(SUFFIX) + IMAGES_SUFFIX)


def state_of(images: Sequence[str]) -> dict[str, list[int]]:
    """Return size and time of each file, by channel: files that change places keep theirs, and so do most copies."""
    found = [os.stat(image) for image in images]
    return {f"{channel:04d}": [each.st_size, each.st_mtime_ns] for channel, each in enumerate(found)}

"""Unlabeled images that are copies of labeled ones: what is trained on must not be what validates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from nnunet_semisam.data.unlabeled_dataset import SUFFIX, cases_in
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.array_files import UNREADABLE, open_array

REMEDY = "Preprocess it again."


def images_in(folder: Path) -> dict[str, Path]:
    """Return case -> preprocessed image of a folder, without segmentations; empty if there is none."""
    return {case: folder / f"{case}{SUFFIX}" for case in cases_in(folder)}


def find_copies(unlabeled: Mapping[str, Path], labeled: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Yield an unlabeled and a labeled case wherever both have the same voxels.

    Images are compared as they were preprocessed with the same plans. Those of the same shape are compared by a slice
    first, and in full where it is the same. One that cannot be read, or shows nothing there, is passed over.

    Args:
        unlabeled: Case -> preprocessed image.
        labeled: The same of labeled cases; their labels stay closed.
    """
    shapes = {path: _shape(path) for path in (*unlabeled.values(), *labeled.values())}
    shared = {shapes[path] for path in labeled.values()} & {shapes[path] for path in unlabeled.values()} - {None}
    by_look: dict[tuple, list[str]] = {}
    for case, path in labeled.items():
        if shapes[path] in shared:
            by_look.setdefault(_look(path), []).append(case)
    for case, path in unlabeled.items():
        for other in by_look.get(_look(path), []) if shapes[path] in shared else []:
            if _same(path, labeled[other]):
                yield case, other


def _shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape of an image, ``(C, Z, Y, X)``; ``None`` if its header cannot be read."""
    try:
        return tuple(open_array(path, REMEDY, kinds="f").shape)
    except UserError:
        return None


def _look(path: Path) -> tuple:
    """Return what only copies share: the shape, and the middle slice of the first channel if it shows anything."""
    try:
        array = open_array(path, REMEDY, kinds="f")
        middle = np.asarray(array[0, array.shape[1] // 2])
    except (UserError, *UNREADABLE):
        return (str(path),)
    return (tuple(array.shape), middle.tobytes()) if np.ptp(middle) > 0 else (str(path),)


def _same(first: Path, second: Path) -> bool:
    try:
        return bool(np.array_equal(*(open_array(path, REMEDY, kinds="f")[:] for path in (first, second))))
    except (UserError, *UNREADABLE):
        return False

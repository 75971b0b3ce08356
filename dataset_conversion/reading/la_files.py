"""LA 2018 on disk: the h5 files of UA-MT or the official NRRD files, and the lists of training and test cases."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.names import check_case_name, check_distinct
from nnunet_semisam.io.regular_files import MIB, read_text

from .case import Source
from .headers import check_h5

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

H5_FILE = "mri_norm2.h5"
NRRD_FILES = ("lgemri.nrrd", "laendo.nrrd")
IMAGE_HEADER, LABEL_HEADER = partial(check_h5, key="image"), partial(check_h5, key="label")
MOST_LIST_BYTES = MIB
SPACING_MM = 0.625  # along every axis; h5 files do not say it
# The 20 cases that the field tests on, by the first four characters of their identifiers, unique among the 100.
# Source: data/test.list of https://github.com/yulequan/UA-MT. (Not quite the last 20 in alphabetical order.)
TEST_CASES = frozenset(
    [
        "ULHW",
        "UPT6",
        "UTBU",
        "V0MZ",
        "VDOF",
        "VG4C",
        "VIXB",
        "VQ2L",
        "WBG9",
        "WMDG",
        "WNPK",
        "WSJB",
        "WW8F",
        "X18L",
        "XYDL",
        "Y7ZU",
        "YDKD",
        "Z9GM",
        "ZIJL",
        "ZQPM",
    ]
)


def find_cases(folder: Path, form: str) -> tuple[Path, str]:
    """Return the folder whose sub-folders are the cases, and the form of their files.

    Args:
        folder: That folder, or one up to two levels above it.
        form: ``h5``, ``nrrd``, or ``auto`` for the one that is there.

    Raises:
        UserError: If there are no such cases, or more than one choice.
    """
    files = {"h5": H5_FILE, "nrrd": NRRD_FILES[0]}
    wanted = files if form == "auto" else {form: files[form]}
    found = {
        (path.parents[1], kind)
        for kind, name in wanted.items()
        for depth in ("*/", "*/*/", "*/*/*/")
        for path in folder.glob(depth + name)
    }
    training = {each for each in found if "test" not in each[0].name.lower()} or found
    if not training:
        raise UserError(
            f"-i {folder} must hold one folder per case with {' or '.join(wanted.values())} in it. Get the h5 files "
            "from https://github.com/yulequan/UA-MT (folder data), or the NRRD files from the 2018 Atrial "
            "Segmentation Challenge, and give the folder above the cases."
        )
    if len(training) > 1:
        options = ", ".join(sorted(f"{path} ({kind})" for path, kind in training))
        raise UserError(
            f"-i {folder} holds cases in more than one place or form: {options}. Give one of these folders, or add "
            "--format h5 or --format nrrd."
        )
    return training.pop()


def read_lists(folder: Path, cases: list[str]) -> tuple[list[str], list[str], str]:
    """Return the training cases in the order of labels, the test cases, and where this comes from.

    ``train.list`` and ``test.list`` are looked for in the folder of the cases and in the one above. Without them the
    field's 20 test cases are known by name, and the order is alphabetical.

    Raises:
        UserError: If a list is empty, names a case twice, or both lists name the same.
    """
    train_file, test_file = (_find_list(folder, name) for name in ("train.list", "test.list"))
    if train_file is None:
        train = sorted(case for case in cases if not _is_test_case(case))
        return train, sorted(set(cases) - set(train)), "alphabetical order"
    train = _read_list(train_file)
    if test_file is None:
        return train, [case for case in cases if _is_test_case(case) and case not in train], str(train_file.name)
    test = _read_list(test_file)
    both = sorted(set(train) & set(test))
    if both:
        raise UserError(
            f"{test_file} and {train_file} both list {name_some(both, 5)}. Remove them from one of the lists."
        )
    return train, test, f"{train_file.name} and {test_file.name}"


def _is_test_case(case: str) -> bool:
    return case[:4] in TEST_CASES


def sources_of(folder: Path, form: str) -> tuple[Source, Source]:
    """Return image and label of a case."""
    if form == "h5":
        path = folder / H5_FILE
        return (
            Source(path, partial(read_h5, key="image"), True, header=IMAGE_HEADER),
            Source(path, partial(read_h5, key="label"), True, header=LABEL_HEADER),
        )
    image, label = (folder / name for name in NRRD_FILES)
    return Source(image, rewrite=True), Source(label, read_nrrd_label, True)


def read_h5(path: Path, key: str) -> sitk.Image:
    """Read an array from an h5 file of UA-MT.

    The arrays have the axes x y z and no geometry: spacing is 0.625 mm, the origin 0, the axes are called LPS.

    Args:
        path: ``mri_norm2.h5``.
        key: ``image`` (z-scored, float32) or ``label`` (0 and 1).

    Raises:
        ValueError: If the file lacks the array, or it does not have three axes.
        OSError: If the file is no h5 file.
        UserError: If h5py is not installed.

    Source:
        ``data/`` of https://github.com/yulequan/UA-MT.
    """
    import numpy as np
    import SimpleITK as sitk  # noqa: N813

    check_h5(path, key)
    with require_h5py()(path, "r") as file:
        array = np.asarray(file[key])
    simpler = {np.dtype(np.float16): np.float32, np.dtype(bool): np.uint8}  # types that SimpleITK lacks
    array = array.astype(simpler.get(array.dtype, array.dtype.newbyteorder("=")), copy=False)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))  # z y x, as everywhere here
    image.SetSpacing([SPACING_MM] * 3)
    return image


def read_nrrd_label(path: Path) -> sitk.Image:
    """Read an official label, 0 and 255, as 0 and 1."""
    import SimpleITK as sitk  # noqa: N813

    label = sitk.ReadImage(str(path))
    return sitk.ChangeLabel(label, {255: 1})


def require_h5py() -> Callable:
    """Return ``h5py.File``.

    Raises:
        UserError: If h5py is not installed.
    """
    try:
        from h5py import File
    except ImportError as error:
        raise UserError(
            "These files are h5, and h5py is not installed. Run `pip install h5py` or `pip install nnunet-semisam[la]`."
        ) from error
    return File


def _find_list(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder.parent / name) if os.path.lexists(path)), None)


def _read_list(path: Path) -> list[str]:
    lines = read_text(path, "Write one case identifier per line, or remove the file.", MOST_LIST_BYTES).splitlines()
    cases = [line.strip() for line in lines if line.strip()]
    if not cases:
        raise UserError(f"{path} lists no case. Write one case identifier per line, or remove the file.")
    repeated = sorted(case for case, count in Counter(cases).items() if count > 1)
    if repeated:
        raise UserError(f"{path} lists {name_some(repeated, 5)} more than once. Name each case once.")
    for case in cases:
        check_case_name(case, str(path), "Write one case identifier per line.")
    check_distinct(cases, str(path))
    return cases

"""The pool of unlabeled cases: preprocessed images, and nothing else.

Shapes in this file: ``C`` image channels, ``Z, Y, X`` the axes of nnU-Net's preprocessed arrays (after
``transpose_forward``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import blosc2
import numpy as np

from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.array_files import open_array, read_part

SUFFIX = ".b2nd"
REMEDY = (
    "Delete it and preprocess it again: nnunet-semisam preprocess for imagesUl, nnUNetv2_preprocess for cases in "
    "labelsTr."
)
MOST_SHOWN = 10


def unlabeled_folder(preprocessed_dataset: Path, data_identifier: str) -> Path:
    """Return where the images of ``imagesUl`` are preprocessed to.

    Not nnU-Net's own folder: every extra file there becomes a case or an assertion, and ``nnUNetv2_preprocess``
    deletes the folder.
    """
    return preprocessed_dataset / f"{data_identifier}_unlabeled"


def cases_in(folder: Path) -> list[str]:
    """Return the preprocessed cases in a folder, sorted; none if the folder does not exist."""
    if not folder.is_dir():
        return []
    names = (file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}"))
    # A name with a point in front is a file that is being written, or was when a run was killed.
    return sorted(name for name in names if not name.endswith("_seg") and not name.startswith("."))


class UnlabeledDataset:
    """Preprocessed images of unlabeled cases.

    This class never opens a ``_seg`` file nor the ``.pkl`` beside a case, which holds ``class_locations``: the labels
    of a case whose labels are hidden cannot reach the training through it.

    Args:
        files: The preprocessed image of each case.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(sorted(files.items()))
        self.identifiers = list(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def open_image(self, case: str) -> blosc2.NDArray:
        """Open a case for partial reads.

        Returns:
            ``(C, Z, Y, X)``, float32, normalised intensities. Slicing it reads the touched blocks only.

        Raises:
            UserError: If the file is missing, torn, or no image.
        """
        return open_array(self.files[case], REMEDY)

    def load_image(self, case: str) -> np.ndarray:
        """Read a whole case, ``(C, Z, Y, X)``, float32.

        Raises:
            UserError: If the file is missing, torn, damaged inside, or holds values that are not finite.
        """
        image = read_part(self.open_image(case), slice(None), self.files[case], REMEDY)
        self.check_finite(case, image)
        return image

    def check_finite(self, case: str, voxels: np.ndarray) -> None:
        """Refuse values that preprocessing never writes: blosc2 does not notice every damage.

        Raises:
            UserError: If a voxel of the case is NaN or infinite.
        """
        if not np.isfinite(voxels).all():
            raise UserError(f"{self.files[case]} is damaged inside: it holds values that are NaN or infinite. {REMEDY}")

    def check_headers(self) -> None:
        """Open every file, without reading a voxel.

        Raises:
            UserError: If files cannot be opened, or are not images of the same channels; up to ten are named.
        """
        problems, channels = [], {}
        for case in self.identifiers:
            try:
                channels[case] = self.open_image(case).shape[0]
            except UserError as error:
                problems.append(str(error))
        if problems:
            more = f" ... and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
            raise UserError(" ".join(problems[:MOST_SHOWN]) + more)
        counts = sorted(channels.values())
        usual = counts[len(counts) // 2] if counts else 0
        odd = [f"{self.files[case]} ({count})" for case, count in channels.items() if count != usual]
        if odd:
            raise UserError(
                f"Preprocessed unlabeled images have {usual} channel(s), but others have another number: "
                f"{name_some(odd, MOST_SHOWN)}. {REMEDY}"
            )


def collect_pool(
    preprocessed_dataset: Path, data_identifier: str, hidden: Iterable[str], used: Iterable[str]
) -> UnlabeledDataset:
    """Gather all unlabeled cases of one fold: those of ``imagesUl`` and those whose labels the fold hides.

    Args:
        preprocessed_dataset: ``$nnUNet_preprocessed/DATASET``.
        data_identifier: Folder name of the configuration, from the plans.
        hidden: The fold's ``"unlabeled"`` list.
        used: The fold's train and val cases.

    Raises:
        UserError: If there is no unlabeled case, one is also labeled, not preprocessed, or cannot be opened.
    """
    own_folder, stock_folder = (
        unlabeled_folder(preprocessed_dataset, data_identifier),
        preprocessed_dataset / data_identifier,
    )
    files = {case: own_folder / f"{case}{SUFFIX}" for case in cases_in(own_folder)}
    hidden = list(hidden)
    _refuse_overlap(files, [*hidden, *used], own_folder)
    files |= {case: stock_folder / f"{case}{SUFFIX}" for case in hidden}
    missing = [case for case in hidden if not os.path.lexists(files[case])]
    if missing:
        raise UserError(_explain_missing(missing, stock_folder))
    if not files:
        raise UserError(
            f"There are no unlabeled cases in {own_folder}, and the fold has no 'unlabeled' list. Put images into "
            "imagesUl of the raw dataset and run 'nnunet-semisam preprocess -d DATASET_ID -c CONFIGURATION', or train "
            "with -tr nnUNetTrainerSupervised, which needs none."
        )
    pool = UnlabeledDataset(files)
    pool.check_headers()
    return pool


def _refuse_overlap(files: Mapping[str, Path], labeled: Iterable[str], folder: Path) -> None:
    both = sorted(set(files) & set(labeled))
    if both:
        raise UserError(
            f"{len(both)} case(s) are both unlabeled (in {folder}) and in the fold: {', '.join(both[:5])}. A case may "
            "be in one place only: remove it from imagesUl and from that folder, or from the fold."
        )


def _explain_missing(missing: list[str], folder: Path) -> str:
    names = ", ".join(missing[:5])
    if any((folder / f"{case}.npz").is_file() for case in missing):
        return (
            f"The cases {names} in {folder} were preprocessed by an old nnU-Net (npz files), which cannot be read in "
            "parts. Run nnUNetv2_preprocess again with nnU-Net 2.8 or newer."
        )
    return (
        f"{len(missing)} unlabeled case(s) of the fold are not preprocessed in {folder}: {names}. "
        "Run 'nnUNetv2_preprocess -d DATASET_ID -c CONFIGURATION', or fix splits_final.json."
    )

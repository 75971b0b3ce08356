"""The held-out cases: images and labels of no training, gathered as links for ``nnUNetv2_predict``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from nnunet_semisam.benchmark.plan import Study
from nnunet_semisam.benchmark.records import CaseSet, HeldOutSet, UnlabeledImages
from nnunet_semisam.data.channel_files import holds_many_channels
from nnunet_semisam.data.dataset_json import channel_names
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.data.raw_files import Files, image_files, label_files
from nnunet_semisam.data.stored_voxels import refuse_cut_off_quickly
from nnunet_semisam.data.tif_spacing import spacing_file, spacing_file_of_label
from nnunet_semisam.errors import UserError, name_some, printable, shown
from nnunet_semisam.io.atomic import write_symlink
from nnunet_semisam.io.hashes import sha256_of, sha256_of_json, sha256_of_text
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.regular_files import check_regular_file
from nnunet_semisam.splits import leakage
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import load_splits
from nnunet_semisam.splits.label_budgets import TEST_SETS_FILE

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

CHECKED_FILE = "leakage.json"
FIX_CASE = "Put the file back as it was, or take the case out of the test cases."


@dataclass(frozen=True)
class HeldOut:
    """Cases that no training has seen.

    Attributes:
        folder: Holds ``images`` and ``labels``, links to the raw dataset.
        cases: Case identifiers, sorted.
    """

    folder: Path
    cases: list[str]

    @property
    def images(self) -> Path:
        """Return the folder for ``nnUNetv2_predict -i``."""
        return self.folder / "images"

    def label(self, case: str, file_ending: str) -> Path:
        """Return the label map of a case."""
        return self.folder / "labels" / f"{case}{file_ending}"


def test_cases(raw: Path, dataset_json: Mapping[str, Any], test_set: str | None) -> list[str]:
    """Return the test cases that have labels.

    Raises:
        UserError: If there is none, or several test sets are there and none was chosen, or the one is unknown.
    """
    images = image_files(raw, dataset_json)["Ts"]
    ending = dataset_json["file_ending"]
    cases = [case for case in sorted(images) if (raw / "labelsTs" / f"{case}{ending}").is_file()]
    sets_file = raw / TEST_SETS_FILE
    sets = _read_test_sets(sets_file) if sets_file.is_file() else {}
    if test_set is None and len(sets) > 1:
        raise UserError(f"{raw} has several test sets: {', '.join(sets)}. Choose one with --test-set.")
    if test_set is not None:
        if test_set not in sets:
            raise UserError(f"--test-set {test_set}: {sets_file} names {', '.join(sets) or 'no test set'}.")
        cases = [case for case in cases if case in sets[test_set]]
    if not cases:
        raise UserError(
            f"{raw} has no test case with a label (imagesTs and labelsTs). Add some, or evaluate on the validation "
            "cases of the folds: --cases val."
        )
    return cases


def _read_test_sets(path: Path) -> dict[str, list[str]]:
    remedy = "Run the converter again."
    sets = read_object(path, remedy)
    for name, cases in sets.items():
        if not isinstance(cases, list) or not all(isinstance(case, str) for case in cases):
            raise UserError(f"{path}: {shown(name)} must be a list of cases, got {shown(cases)}. {remedy}")
    return sets


def held_out_cases(study: Study, dataset: PlannedDataset, fold: int) -> list[str]:
    """Return the cases that a fold is evaluated on.

    Raises:
        UserError: If there is none, an image or label is missing, or a case is trained on.
    """
    if study.cases == CaseSet.TEST:
        return test_cases(dataset.raw, dataset.dataset_json, study.test_set)
    split = load_splits(dataset.preprocessed / SPLITS_FILE)[fold]
    trained = sorted({*split["val"]} & {*split["train"], *split.get("unlabeled", [])})
    if trained:
        raise UserError(
            f"Fold {fold} validates on cases that it trains on ({', '.join(trained[:5])}), which says nothing about "
            "other cases. Leave it out, or use --cases test."
        )
    images, labels = _files(study, dataset)
    for case in split["val"]:
        if case not in images or case not in labels or not labels[case].is_file():
            raise UserError(f"{dataset.raw} lacks image or label of {case}. Add the file, or take the case out.")
    return sorted(split["val"])


def pin(study: Study, dataset: PlannedDataset) -> Study:
    """Return the benchmark with its held-out cases written down, and how many unlabeled images it may train on.

    Raises:
        UserError: If there is nothing to evaluate a fold on.
    """
    names = sorted(image_files(dataset.raw, dataset.dataset_json)["Ul"])
    images, labels = _files(study, dataset)
    fold_of_set = {study.held_out_set(fold): fold for fold in study.folds}
    pinned: dict[str, HeldOutSet] = {}
    for name, fold in fold_of_set.items():
        cases = tqdm(
            held_out_cases(study, dataset, fold), desc="held-out cases", unit="case", leave=False, disable=None
        )
        pinned[name] = HeldOutSet({case: _digest(images[case], labels[case]) for case in cases})
    return replace(study, held_out=pinned, unlabeled=UnlabeledImages(len(names), sha256_of_json(names)))


def _digest(images: Sequence[str | Path], label: Path) -> str:
    """Return the digest of what is predicted on and judged by; the spacing of tif volumes stands beside them."""
    spacings = (spacing_file(Path(images[0])), spacing_file_of_label(label))
    paths = [*map(Path, images), label, *(path for path in spacings if path is not None)]
    for path in paths:
        check_regular_file(path, FIX_CASE)
    return sha256_of_text("".join(sha256_of(path) for path in paths))


def check_readable(study: Study, dataset: PlannedDataset) -> list[str]:
    """Return what is wrong with held-out cases: what prediction and metrics will read after days of training.

    Every image has all channels and can be read; its label has its shape, and no value that is unknown.
    """
    from nnunet_semisam.benchmark.metrics import label_values
    from nnunet_semisam.data.geometry_of_images import reader_of_plans

    images, labels = _files(study, dataset)
    reader = reader_of_plans(dataset.plans)
    names, ignore = label_values(dataset.dataset_json)
    allowed = {0, *(value for values in names.values() for value in values), *([] if ignore is None else [ignore])}
    channels = len(channel_names(dataset.dataset_json))
    problems = []
    for case in sorted({case for fold in study.folds for case in held_out_cases(study, dataset, fold)}):
        try:
            found, shape = _channels_and_shape(images[case], reader)
            if found != channels:
                raise UserError(f"{images[case][0]}: the case has {found} of {channels} channels. {FIX_CASE}")
            label = _read_label(labels[case], reader)
            if label.shape != shape:
                raise UserError(f"{labels[case]} has the shape {label.shape}, its image {shape}. {FIX_CASE}")
            foreign = sorted({int(value) for value in np.unique(label)} - allowed)
            if foreign:
                values = name_some([str(value) for value in foreign], 5)
                raise UserError(f"{labels[case]} holds labels that dataset.json does not know: {values}. {FIX_CASE}")
        except UserError as error:
            problems.append(str(error))
    return problems


def _channels_and_shape(files: Sequence[str | Path], reader: type[BaseReaderWriter]) -> tuple[int, tuple[int, ...]]:
    """Return how many channels the files of a case hold together, and their shape ``(Z, Y, X)``."""
    from nnunet_semisam.data.geometry_of_images import geometry_of_files

    if not holds_many_channels(reader):
        return len(files), geometry_of_files(files, reader).shape
    try:
        data = reader().read_images([str(file) for file in files])[0]
    except Exception as error:  # every reader raises its own kinds
        reason = printable(" ".join(str(error).split()), 300)
        raise UserError(f"{files[0]} cannot be read ({reason}). {FIX_CASE}") from error
    return len(data), data.shape[1:]


def _read_label(path: Path, reader: type[BaseReaderWriter]) -> np.ndarray:
    """Return a label map ``(Z, Y, X)`` of whole numbers."""
    check_regular_file(path, FIX_CASE)
    try:
        refuse_cut_off_quickly(path)  # ITK fills what is missing with zeros
        label = reader().read_seg(str(path))[0][0]
    except Exception as error:  # every reader raises its own kinds
        reason = printable(" ".join(str(error).split()), 300)
        raise UserError(f"{path} cannot be read ({reason}). {FIX_CASE}") from error
    if not np.isfinite(label).all() or (np.rint(label) != label).any():
        raise UserError(f"{path} holds values that are no whole numbers, so it is no label map. {FIX_CASE}")
    return label


def _files(study: Study, dataset: PlannedDataset) -> tuple[Files, dict[str, Path]]:
    """Return case -> its images, and case -> its label, of the part of the dataset with the held-out cases."""
    if study.cases == CaseSet.VAL:
        images = image_files(dataset.raw, dataset.dataset_json)["Tr"]
        return images, label_files(dataset.raw, dataset.dataset_json)
    images = image_files(dataset.raw, dataset.dataset_json)["Ts"]
    ending = dataset.dataset_json["file_ending"]
    return images, {case: dataset.raw / "labelsTs" / f"{case}{ending}" for case in images}


def gather(study: Study, dataset: PlannedDataset, fold: int) -> HeldOut:
    """Return the cases that a fold is evaluated on; make links to their files where these are not there."""
    ending = dataset.dataset_json["file_ending"]
    folder = study.folder / "held_out" / study.held_out_set(fold)
    images, labels = _files(study, dataset)
    cases = held_out_cases(study, dataset, fold)
    for case in cases:
        for channel, source in enumerate(images[case]):  # a list in dataset.json may call its files anything
            _link(Path(source), folder / "images" / f"{case}_{channel:04d}{ending}")
        spacing = spacing_file(Path(images[case][0]))
        if spacing is not None:
            _link(spacing, folder / "images" / f"{case}.json")
        spacing = spacing_file_of_label(labels[case]) or spacing  # a label lies as its image does
        if spacing is not None:
            _link(spacing, folder / "labels" / f"{case}.json")
        _link(labels[case], folder / "labels" / f"{case}{ending}")
    return HeldOut(folder, cases)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    wanted = source.resolve()
    if target.is_symlink() and target.readlink() == wanted:
        return
    if target.exists() and not target.is_symlink():
        return  # a copy, where a benchmark was moved to a place without links
    write_symlink(target, wanted)  # also over a link to where the dataset was before


def check_leaks(study: Study, dataset: PlannedDataset, num_processes: int) -> dict[str, str]:
    """Compare training, validation and test cases by patient and by content, once per fold and its images.

    Returns:
        Digest of every fold without leaks -> digest of all that was compared, for :func:`record_leaks`.

    Raises:
        UserError: If a patient or an image is on two sides.
    """
    record = study.folder / CHECKED_FILE
    checked = read_object(record, "Delete it to compare all images again.") if record.is_file() else {}
    splits = load_splits(dataset.preprocessed / SPLITS_FILE)
    unlabeled = None if study.unlabeled is None else asdict(study.unlabeled)
    digests = None
    for index, fold in study.folds.items():
        digest = sha256_of_json([unlabeled, study.held_out[study.held_out_set(index)].digests])
        if checked.get(fold.sha256) == digest:
            continue
        files = image_files(dataset.raw, dataset.dataset_json)
        sides = leakage.sides_of(splits[index], files)
        leakage.refuse_leaks(leakage.shared_groups(sides, study.group_of), dataset.raw)
        if digests is None:
            digests = leakage.content_digests(files, dataset.dataset_json, num_processes)
        leakage.refuse_leaks(leakage.shared_images(sides, digests)[0], dataset.raw)
        checked[fold.sha256] = digest
    return checked


def record_leaks(study: Study, checked: dict[str, str]) -> None:
    """Remember what was compared, so that a benchmark that goes on does not read every image again."""
    write_json(study.folder / CHECKED_FILE, checked)

"""The BHSD download: where its folders are, which file belongs to which case, and what ``dataset.json`` says."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.errors import UserError, name_some, printable, shown
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.names import check_case_name, check_distinct, check_text_name

from .msd_files import read_labels

HOME = "https://huggingface.co/datasets/WuBiao/BHSD"
LABELED, LABELS = "images", ("ground truths", "ground_truths")
# Of two identifiers the first is the patient (ID_2db7ee14 has two studies); any other name is a patient of its own.
PATIENT = r"^ID_[0-9a-f]+(?=_ID_[0-9a-f]+$)|^.+$"


@dataclass(frozen=True)
class Download:
    """The files of one download.

    Attributes:
        home: The folder label_192.
        images: Case -> image of label_192.
        labels: Case -> label of label_192. Names only: whether a label is read depends on the case's part.
        unlabeled: Case -> image of unlabel_1980.
        packed: The zip file of unlabel_1980, if it is there and not unpacked.
        findings: Files that are there twice.
    """

    home: Path
    images: dict[str, Path]
    labels: dict[str, Path]
    unlabeled: dict[str, Path]
    packed: Path | None
    findings: list[str]


@dataclass(frozen=True)
class Official:
    """What ``dataset.json`` says: label names with values, and the cases of both halves in their order."""

    labels: dict[str, int]
    train: list[str]
    test: list[str]


def find_download(folder: Path) -> Download:
    """List the files of ``label_192`` and, if it is there, ``unlabel_1980``.

    Raises:
        UserError: If there is no ``label_192`` with its two folders.
    """
    choices = (folder, folder / "label_192", folder / "label_192" / "label_192")
    home = next((each for each in choices if (each / LABELED).is_dir() and _labels_folder(each)), None)
    if home is None:
        packed = folder / "label_192.zip"
        hint = f"Unpack {packed} there." if packed.is_file() else f"Get label_192.zip from {HOME} and unpack it there."
        raise UserError(f"-i {folder} must hold label_192/images and 'label_192/ground truths'. {hint}")
    findings: list[str] = []
    more = [*sorted(folder.glob("unlabel_*")), *sorted(home.parent.glob("unlabel_*"))]
    unpacked = next((path for path in more if path.is_dir()), None)
    return Download(
        home=home,
        images=_files(home / LABELED, findings),
        labels=_files(_labels_folder(home), findings),
        unlabeled={} if unpacked is None else _files(unpacked, findings),
        packed=next((path for path in more if path.suffix == ".zip" and unpacked is None), None),
        findings=findings,
    )


def read_official(download: Download, folder: Path) -> Official:
    """Read ``dataset.json``: the official split and the names of the labels.

    Args:
        download: Where to look for it, too.
        folder: ``-i``.

    Raises:
        UserError: If the file is missing, cannot be read, or does not hold labels and two lists.
    """
    choices = [each / "dataset.json" for each in (folder, download.home, download.home.parent)]
    path = next((each for each in choices if os.path.lexists(each)), None)
    if path is None:
        raise UserError(
            f"{choices[0]} is missing. It holds the official split and the names of the labels, and is not in the zip "
            f"files: get it from {HOME} or https://github.com/White65534/BHSD and put it there."
        )
    needed = 'must hold "labels" like {"0": "background", "1": "epidural"} and the lists "training" and "test"'
    content = read_object(path, f"It {needed}. Get it again from {HOME}.")
    try:
        labels = read_labels(path, content["labels"])
        train = [_case_of(entry) for entry in content["training"]]
        test = [_case_of(entry) for entry in content["test"]]
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} {needed}, got {type(error).__name__}: {printable(str(error))}. Get it again from {HOME}."
        ) from error
    _check_official(path, labels, train, test)
    return Official(labels, train, test)


def _check_official(path: Path, labels: dict[str, int], train: list[str], test: list[str]) -> None:
    everyone = [*train, *test]
    if labels.get("background") != 0 or sorted(labels.values()) != list(range(len(labels))):
        raise UserError(
            f"{path}: labels must count from 0, the background, upwards; got {shown(labels)}. Get it again."
        )
    for name in labels:
        check_text_name(name, "label", str(path), "Get it again.")
    if not train or not test:
        raise UserError(f"{path} lists {len(train)} training and {len(test)} test cases. Get it again from {HOME}.")
    for case in everyone:
        check_case_name(case, str(path), f"Get it again from {HOME}.")
    repeated = sorted(case for case, count in Counter(everyone).items() if count > 1)
    if repeated:
        raise UserError(f"{path} lists {name_some(repeated, 5)} more than once. Get it again from {HOME}.")
    check_distinct(everyone, str(path), f"Get it again from {HOME}.")


def _case_of(entry: str | dict[str, str]) -> str:
    return _stem(Path(entry["image"] if isinstance(entry, dict) else entry).name)


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".nii")


def _labels_folder(home: Path) -> Path | None:
    return next((home / name for name in LABELS if (home / name).is_dir()), None)


def _files(folder: Path, findings: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        if not hidden and path.is_dir() and path.suffix in (".nii", ".gz") and not any(path.iterdir()):
            findings.append(f"{path}: is an empty folder in the place of a file. Download the file again.")
        if path.is_dir() or hidden or path.suffix in (".json", ".txt", ".csv", ".md"):
            continue
        other = files.setdefault(_stem(path.name), path)
        if other != path:
            findings.append(f"{path}: is the same case as {other}. Remove one of the two.")
    return files

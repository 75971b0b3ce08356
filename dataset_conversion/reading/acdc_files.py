"""The official ACDC folder: which files a patient has, and whether they are what ``Info.cfg`` says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.regular_files import MIB, read_text

from .case import Case, Source

IMAGE_NAME = re.compile(r"^(?P<patient>patient\d{3})_frame(?P<frame>\d{2})(?P<label>_gt)?\.nii\.gz$")
KNOWN_NAME = re.compile(
    r"Info\.cfg|MANDATORY_CITATION\.md|patient\d{3}_4d\.nii(\.gz)?|patient\d{3}_frame\d{2}(_gt)?\.nii"
)
FRAME = re.compile("[0-9]{1,4}")
MOST_INFO_BYTES = MIB


@dataclass
class Patient:
    """The files of one patient's folder.

    Attributes:
        name: ``patientXXX``.
        folder: Where the files are.
        images: Two-digit frame -> image file.
        labels: Two-digit frame -> label file. Names only: whether a label is read depends on the case's part.
        info: Entries of ``Info.cfg``; of a key that comes twice, all its values.
        fault: What is wrong with ``Info.cfg``, if it cannot be read.
        unused: Files whose names are none of ACDC's.
    """

    name: str
    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    fault: str | None = None
    unused: list[str] = field(default_factory=list)

    def cases(self, part: str, with_labels: bool) -> list[Case]:
        """Return one case per frame; with labels, frames that lack one are left out (a finding names them)."""
        if not with_labels:
            return [Case(self.case(frame), (Source(image),), None, part) for frame, image in self.images.items()]
        frames = [frame for frame in self.images if frame in self.labels]
        return [
            Case(self.case(frame), (Source(self.images[frame]),), Source(self.labels[frame]), part) for frame in frames
        ]

    def case(self, frame: str) -> str:
        """Return the case identifier of a frame: the stem of its file."""
        return f"{self.name}_frame{frame}"

    def identifiers(self) -> list[str]:
        """Return the case identifiers of all frames."""
        return [self.case(frame) for frame in self.images]


def find_source(folder: Path) -> Path:
    """Return the folder that holds ``training``.

    Raises:
        UserError: If it does not; a folder nearby that does is offered.
    """
    if (folder / "training").is_dir():
        return folder
    candidates = (folder / "database", folder / "ACDC" / "database", folder.parent)
    near = [each for each in candidates if (each / "training").is_dir()]
    hint = (
        f" Did you mean -i {near[0]}?"
        if near
        else " Download: https://humanheart-project.creatis.insa-lyon.fr/database/"
    )
    if not folder.exists():
        raise UserError(f"-i {folder}: there is no such folder.{hint}")
    raise UserError(f"-i {folder} must hold the official folder training/ with patient001, patient002, ...{hint}")


def read_patients(folder: Path) -> dict[str, Patient]:
    """List the files of every ``patientXXX`` below a folder, without opening an image.

    Args:
        folder: ``training`` or ``testing``.

    Raises:
        UserError: If there is no patient.
    """
    patients = {}
    for path in sorted(folder.glob("patient[0-9][0-9][0-9]")):
        patient = Patient(path.name, path)
        for file in sorted(path.iterdir()) if path.is_dir() else []:
            match = IMAGE_NAME.fullmatch(file.name)
            if match and match["patient"] == path.name:
                (patient.labels if match["label"] else patient.images)[match["frame"]] = file
            elif not file.name.startswith(".") and not KNOWN_NAME.fullmatch(file.name):
                patient.unused.append(f"{path.name}/{file.name}")
        try:
            patient.info = read_info(path / "Info.cfg")
        except UserError as error:
            patient.fault = str(error)
        patients[path.name] = patient
    if not patients:
        raise UserError(f"{folder} holds no folder patient001, patient002, ... Unpack the official download there.")
    return patients


def unused_names(folder: Path, patients: Mapping[str, Patient]) -> list[str]:
    """Return a note about folders and files that look like data and have none of ACDC's names; or none."""
    others = [
        path.name for path in sorted(folder.iterdir()) if path.name not in patients and not path.name.startswith(".")
    ]
    others += [name for patient in patients.values() for name in patient.unused]
    if not others:
        return []
    return [
        f"{len(others)} files or folders of {folder.name} have none of ACDC's names and are not used: "
        f"{name_some(others, 5)}"
    ]


def read_info(path: Path) -> dict[str, str]:
    """Return the ``key: value`` lines of an ``Info.cfg``; nothing if there is no such file.

    Raises:
        UserError: If it is no regular file, too large, or no text.
    """
    if not os.path.lexists(path):
        return {}
    info: dict[str, str] = {}
    for line in read_text(path, "Copy it from the official download.", MOST_INFO_BYTES).splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if colon:
            info[key] = f"{info[key]} and {value}" if key in info else value
    return info


def check_patient(patient: Patient) -> list[str]:
    """Return what is wrong with the names of a patient's files; no image is opened."""
    info = patient.folder / "Info.cfg"
    if patient.fault is not None:
        return [patient.fault]
    if not os.path.lexists(info):
        return [f"{info}: is missing. It names the ED and ES frames; copy it from the official download."]
    numbers = {key: patient.info.get(key, "") for key in ("ED", "ES")}
    faulty = [f"{key} is {shown(value)}" for key, value in numbers.items() if not FRAME.fullmatch(value)]
    if faulty:
        return [f"{info}: {', '.join(faulty)}; it must hold lines like `ED: 1` and `ES: 12`. Correct it."]
    frames = {key: f"{int(value):02d}" for key, value in numbers.items()}
    if frames["ED"] == frames["ES"]:
        return [f"{info}: ED and ES are both frame {frames['ED']}. Correct it."]
    findings: list[str] = []
    for key, frame in frames.items():
        findings += _check_frame(patient, key, frame)
    for frame in sorted({*patient.images, *patient.labels} - set(frames.values())):
        extra = patient.images.get(frame) or patient.labels[frame]
        findings.append(f"{extra}: is neither the ED nor the ES frame of Info.cfg. Remove it or correct Info.cfg.")
    return findings


def _check_frame(patient: Patient, key: str, frame: str) -> list[str]:
    if frame in patient.images:
        return []
    missing = patient.folder / f"{patient.case(frame)}.nii.gz"
    if missing.with_suffix("").is_file():
        return [f"{missing}: is missing, but {missing.stem} is there. Compress it with gzip."]
    return [f"{missing}: is missing, but Info.cfg says `{key}: {int(frame)}`. Add it or correct Info.cfg."]


def missing_labels(patient: Patient) -> list[str]:
    """Return a finding for each frame without a label file."""
    return [
        f"{patient.folder / patient.case(frame)}_gt.nii.gz: is missing; this patient needs labels. Add the file."
        for frame in patient.images
        if frame not in patient.labels
    ]

"""The official ACDC folder: which files a patient has, and whether they are what ``Info.cfg`` says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_semisam.errors import UserError

from .case import Case, Source

IMAGE_NAME = re.compile(r"^(?P<patient>patient\d{3})_frame(?P<frame>\d{2})(?P<label>_gt)?\.nii\.gz$")


@dataclass
class Patient:
    """The files of one patient's folder.

    Attributes:
        name: ``patientXXX``.
        folder: Where the files are.
        images: Two-digit frame -> image file.
        labels: Two-digit frame -> label file. Names only: whether a label is read depends on the case's part.
        info: Entries of ``Info.cfg``.
    """

    name: str
    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)

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
        for file in sorted(path.glob("*.nii.gz")):
            match = IMAGE_NAME.match(file.name)
            if match and match["patient"] == path.name:
                (patient.labels if match["label"] else patient.images)[match["frame"]] = file
        patient.info = read_info(path / "Info.cfg")
        patients[path.name] = patient
    if not patients:
        raise UserError(f"{folder} holds no folder patient001, patient002, ... Unpack the official download there.")
    return patients


def read_info(path: Path) -> dict[str, str]:
    """Return the ``key: value`` lines of an ``Info.cfg``; nothing if there is no such file."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}


def check_patient(patient: Patient) -> list[str]:
    """Return what is wrong with the names of a patient's files; no image is opened."""
    info = patient.folder / "Info.cfg"
    if not info.is_file():
        return [f"{info}: is missing. It names the ED and ES frames; copy it from the official download."]
    numbers = {key: patient.info.get(key, "") for key in ("ED", "ES")}
    faulty = [f"{key} is {value!r}" for key, value in numbers.items() if not value.isdecimal()]
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

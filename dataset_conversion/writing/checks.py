"""Checks of images and labels before anything is written; every finding names a file and a remedy."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.errors import UserError, name_some

from ..reading.case import Case, Conversion, Review, Source
from ..reading.facts import Facts, facts_of
from ..reading.headers import REMEDY, check_geometry
from .duplicates import review_duplicates
from .faults import Faults
from .parallel import in_threads

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk  # noqa: N813

GEOMETRY_TOLERANCE = 1e-3  # mm for spacing and origin, no unit for the direction: headers hold float32
MOST_FINDINGS_SHOWN = 50


@dataclass
class CaseCheck:
    """What reading the files of one case has shown.

    Attributes:
        facts: Target -> facts of the file.
        findings: Problems that stop the conversion.
        differences: What a header says otherwise than that of the image (``origin`` or ``direction``), and in which
            file, by how much; only where that is allowed.
        blank: Channels with one value, beside others that vary: an empty mask, a sequence that was not taken.
    """

    facts: dict[str, Facts] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    differences: list[tuple[str, str]] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Inspection:
    """What the checks learned from reading every file.

    Attributes:
        facts: Target -> facts of the file.
        notes: Sentences the user should read.
    """

    facts: Mapping[str, Facts]
    notes: Sequence[str]


def check_conversion(conversion: Conversion, workers: int, faults: Faults) -> Inspection:
    """Read every file that will be written, and report all that is wrong at once.

    The label of an unlabeled case is not even known here: :class:`Case` has no place for it.

    Args:
        conversion: What will be written.
        workers: How many cases are read at the same time.
        faults: What is wrong with names and headers. Such files stay closed, and all others are read nevertheless: one
            run tells of every fault.

    Raises:
        UserError: If there is any finding, those of plan, names and headers included.
    """
    check = partial(check_case, conversion=conversion, unreadable=faults.unreadable)
    found = in_threads(check, conversion.cases, workers, "checking")
    facts: dict[str, Facts] = {}
    findings = list(faults.findings)
    faulty = list(faults.cases)
    for case, check in zip(conversion.cases, found, strict=True):
        facts |= check.facts
        findings += check.findings
        if check.findings:
            faulty.append(case.identifier)
    reviews = [
        review_duplicates(conversion, facts),
        review_orientations(facts),
        review_headers(found),
        review_blank(found),
    ]
    if conversion.review is not None:
        reviews.append(conversion.review(facts))
    notes: list[str] = []
    for review in reviews:
        findings += review.findings
        notes += review.notes
    remedy = ""
    if conversion.can_leave_out and faulty:
        remedy = f" Or leave cases out: --leave-out {shlex.join(dict.fromkeys(faulty))}"
    raise_findings(findings, conversion.source, remedy)
    return Inspection(facts, notes)


def review_headers(cases: Sequence[CaseCheck]) -> Review:
    """Tell which labels and further channels lie elsewhere than their image by their headers."""
    kinds: dict[str, list[str]] = {}
    for case in cases:
        for kind, text in case.differences:
            kinds.setdefault(kind, []).append(text)
    return Review(
        [
            f"{kind} differs between label (or channel) and image, which nnU-Net does not look at: it takes voxels as "
            f"they lie, so see that both fit ({len(texts)} files: {name_some(sorted(texts), 5)})"
            for kind, texts in kinds.items()
        ]
    )


def review_blank(cases: Sequence[CaseCheck]) -> Review:
    """Tell which channels show nothing beside channels that do."""
    blank = sorted(path for case in cases for path in case.blank)
    if not blank:
        return Review()
    return Review([f"{len(blank)} channels have one value everywhere, beside others that vary: {name_some(blank, 5)}"])


def review_orientations(facts: Mapping[str, Facts]) -> Review:
    """Tell if axes lead different ways in different images: nnU-Net takes voxels as they are stored."""
    found: dict[str, list[str]] = {}
    for target, each in sorted(facts.items()):
        if target.startswith("images"):
            found.setdefault(each.orientation, []).append(target)
    if len(found) < 2:
        return Review()
    kinds = "; ".join(f"{name}: {len(targets)} images, for example {targets[0]}" for name, targets in found.items())
    return Review([f"the axes of images lead different ways, and nnU-Net does not turn them ({kinds})"])


def raise_findings(findings: Collection[str], source: Path, remedy: str = "") -> None:
    """Raise one error for all findings, if there are any.

    Raises:
        UserError: If ``findings`` is not empty.
    """
    if not findings:
        return
    shown = "\n".join(f"  - {finding}" for finding in list(findings)[:MOST_FINDINGS_SHOWN])
    more = len(findings) - MOST_FINDINGS_SHOWN
    rest = f"\n  ... and {more} more" if more > 0 else ""
    count = "1 problem" if len(findings) == 1 else f"{len(findings)} problems"
    raise UserError(f"Nothing was written: {count} in {source}.\n{shown}{rest}\nFix or remove these files.{remedy}")


def check_case(case: Case, conversion: Conversion, unreadable: Collection[Path] = ()) -> CaseCheck:
    """Return what is in the files of one case, and what is wrong with them.

    Args:
        case: The case.
        conversion: Knows the values that a label may have, and how far headers may differ.
        unreadable: Files that stay closed, since another finding says what is wrong with them.
    """
    found = CaseCheck()
    images = [_read(source, found.findings, unreadable) for source in case.images]
    label = None if case.label is None else _read(case.label, found.findings, unreadable)
    read = list(zip(case.images, images, strict=True))
    if case.label is not None:
        read.append((case.label, label))
    for target, (_, image) in zip(case.targets(conversion.file_ending), read, strict=False):  # further ones are json
        if image is not None:
            found.facts[target] = facts_of(image)
    blank = []
    for source, image in zip(case.images, images, strict=True):
        if image is not None:
            found.findings += _check_intensities(source.path, image, blank)
    if len(blank) == len(images):
        found.findings += [
            f"{path}: every voxel is {value}; such an image shows nothing. Export it again or remove the case."
            for path, value in blank
        ]
    else:
        found.blank += [path.name for path, _ in blank]
    found.findings += _check_channels(case, images, len(conversion.channel_names))
    if label is not None:
        found.findings += _check_values(case.label.path, label, conversion.label_values)
    reference = images[0]
    for source, other in read[1:]:
        if reference is not None and other is not None:
            _check_geometry(source.path, other, case.images[0].path, reference, conversion.headers_may_differ, found)
    return found


def _read(source: Source, findings: list[str], unreadable: Collection[Path]) -> sitk.Image | None:
    from nnunet_semisam.data.image_headers import reason
    from nnunet_semisam.data.stored_voxels import refuse_cut_off

    path = source.path
    if path in unreadable or source.beside in unreadable:
        return None
    try:
        refuse_cut_off(path)
        image = source.read()
        check_geometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
        _check_kind(image)
    except Exception as error:  # every reader raises its own kinds; one bad file must not hide what others have
        findings.append(f"{path} cannot be read: {reason(error)}. {REMEDY}")
        return None
    if image.GetDimension() != 3 or (image.GetNumberOfComponentsPerPixel() != 1 and not source.many_channels):
        shape = f"{image.GetDimension()} axes, {image.GetNumberOfComponentsPerPixel()} values per voxel"
        findings.append(
            f"{path}: must be a 3D image with one value per voxel, has {shape}. Export one volume per file, and one "
            "file per channel."
        )
        return None
    return image


def _check_kind(image: sitk.Image) -> None:
    if "complex" in image.GetPixelIDTypeAsString():
        raise ValueError("its voxels are complex, and nnU-Net would drop the imaginary part; store the magnitude")


def _check_channels(case: Case, images: Sequence[sitk.Image | None], expected: int) -> list[str]:
    if any(image is None for image in images):
        return []  # unreadable: another finding says so
    found = sum(image.GetNumberOfComponentsPerPixel() for image in images)
    if found == expected:
        return []
    return [
        f"{case.images[0].path}: the case has {found} of {expected} channels. Export it like the others, or correct "
        "channel_names in dataset.json."
    ]


def _check_intensities(path: Path, image: sitk.Image, blank: list[tuple[Path, float]]) -> list[str]:
    """Return what is wrong with the intensities of an image; one with a single value goes to ``blank``."""
    import numpy as np

    voxels = _voxels(path, image)
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int(voxels.size - np.isfinite(voxels).sum())
        return [f"{path}: {bad} of {voxels.size} voxels are NaN or infinite. Replace them by a meaningful intensity."]
    low, high = voxels.min(), voxels.max()
    if low == high:
        blank.append((path, low))
        return []
    most = float(np.finfo(np.float32).max)
    if low < -most or high > most:
        return [
            f"{path}: its voxels are {low:g} to {high:g}, and nnU-Net's float32 holds {most:.3g} at most: they would "
            "become infinite. Correct the intensities."
        ]
    return []


def _voxels(path: Path, image: sitk.Image) -> np.ndarray:
    """Return the voxels, with the NaN and infinity that ITK hides: of floats only, since other types hold neither."""
    import SimpleITK as sitk  # noqa: N813

    from nnunet_semisam.data.stored_voxels import voxels_as_stored

    voxels = sitk.GetArrayViewFromImage(image)
    return voxels_as_stored(path, voxels) if voxels.dtype.kind == "f" else voxels


def _check_values(path: Path, label: sitk.Image, allowed: Collection[int]) -> list[str]:
    import numpy as np

    values = np.unique(_voxels(path, label))
    unexpected = [f"{value:.9g}" for value in values if value not in allowed]
    if not unexpected:
        return []
    return [
        f"{path}: has label values {', '.join(unexpected[:10])}; allowed are {', '.join(map(str, sorted(allowed)))}. "
        "Correct the segmentation."
    ]


def _check_geometry(
    path: Path, image: sitk.Image, reference_path: Path, reference: sitk.Image, lenient: bool, found: CaseCheck
) -> None:
    import numpy as np

    remedy = (
        f"as in {reference_path.name}. Image and label must share one grid: resample, or copy the right header (for "
        "tif the json file beside it)."
    )
    if image.GetSize() != reference.GetSize():
        found.findings.append(f"{path}: size is {image.GetSize()}, must be {reference.GetSize()} {remedy}")
        return
    for name in ("Spacing", "Origin", "Direction"):
        ours, theirs = (np.array(getattr(each, f"Get{name}")()) for each in (image, reference))
        if np.allclose(ours, theirs, rtol=0, atol=GEOMETRY_TOLERANCE):
            continue
        if lenient and name != "Spacing":
            found.differences.append((name.lower(), f"{path.name} by {np.abs(ours - theirs).max():.3g}"))
        else:
            found.findings.append(f"{path}: {name.lower()} is {_text(ours)}, must be {_text(theirs)} {remedy}")


def _text(numbers: Collection[float]) -> str:
    return "(" + ", ".join(f"{number:.6g}" for number in numbers) + ")"

"""Checks of images and labels before anything is written; every finding names a file and a remedy."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.errors import UserError, name_some

from ..reading.case import Case, Conversion, Review, Source
from ..reading.facts import Facts, facts_of
from .duplicates import review_duplicates
from .parallel import in_threads

if TYPE_CHECKING:
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
    """

    facts: dict[str, Facts] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    differences: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Inspection:
    """What the checks learned from reading every file.

    Attributes:
        facts: Target -> facts of the file.
        notes: Sentences the user should read.
    """

    facts: Mapping[str, Facts]
    notes: Sequence[str]


def check_conversion(conversion: Conversion, workers: int) -> Inspection:
    """Read every file that will be written, and report all that is wrong at once.

    The label of an unlabeled case is not even known here: :class:`Case` has no place for it.

    Args:
        conversion: What will be written.
        workers: How many cases are read at the same time.

    Raises:
        UserError: If there is any finding, those of the plan included.
    """
    found = in_threads(partial(check_case, conversion=conversion), conversion.cases, workers, "checking")
    facts: dict[str, Facts] = {}
    findings = list(conversion.findings)
    faulty = []
    for case, check in zip(conversion.cases, found, strict=True):
        facts |= check.facts
        findings += check.findings
        if check.findings:
            faulty.append(case.identifier)
    reviews = [review_duplicates(conversion, facts), review_orientations(facts), review_headers(found)]
    if conversion.review is not None:
        reviews.append(conversion.review(facts))
    notes: list[str] = []
    for review in reviews:
        findings += review.findings
        notes += review.notes
    remedy = ""
    if conversion.can_leave_out and faulty:
        remedy = f" Or leave cases out: --leave-out {' '.join(faulty)}"
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


def check_case(case: Case, conversion: Conversion) -> CaseCheck:
    """Return what is in the files of one case, and what is wrong with them.

    Args:
        case: The case.
        conversion: Knows the values that a label may have, and how far headers may differ.
    """
    found = CaseCheck()
    images = [_read(source, found.findings) for source in case.images]
    label = None if case.label is None else _read(case.label, found.findings)
    read = list(zip(case.images, images, strict=True))
    if case.label is not None:
        read.append((case.label, label))
    for target, (_, image) in zip(case.targets(conversion.file_ending), read, strict=False):  # further ones are json
        if image is not None:
            found.facts[target] = facts_of(image)
    for source, image in zip(case.images, images, strict=True):
        if image is not None:
            found.findings += _check_intensities(source.path, image)
    found.findings += _check_channels(case, images, len(conversion.channel_names))
    if label is not None:
        found.findings += _check_values(case.label.path, label, conversion.label_values)
    reference = images[0]
    for source, other in read[1:]:
        if reference is not None and other is not None:
            _check_geometry(source.path, other, case.images[0].path, reference, conversion.headers_may_differ, found)
    return found


def _read(source: Source, findings: list[str]) -> sitk.Image | None:
    from nnunet_semisam.data.stored_voxels import refuse_cut_off

    path = source.path
    try:
        image = source.read()
        refuse_cut_off(path)
    except (RuntimeError, OSError, ValueError, EOFError, zlib.error) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        findings.append(f"{path}: cannot be read ({reason}). Download or export it again.")
        return None
    if image.GetDimension() != 3 or (image.GetNumberOfComponentsPerPixel() != 1 and not source.many_channels):
        shape = f"{image.GetDimension()} axes, {image.GetNumberOfComponentsPerPixel()} values per voxel"
        findings.append(
            f"{path}: must be a 3D image with one value per voxel, has {shape}. Export one volume per file, and one "
            "file per channel."
        )
        return None
    return image


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


def _check_intensities(path: Path, image: sitk.Image) -> list[str]:
    import numpy as np
    import SimpleITK as sitk  # noqa: N813

    from nnunet_semisam.data.stored_voxels import voxels_as_stored

    voxels = voxels_as_stored(path, sitk.GetArrayViewFromImage(image))
    if not np.isfinite(voxels).all():
        bad = int(voxels.size - np.isfinite(voxels).sum())
        return [f"{path}: {bad} of {voxels.size} voxels are NaN or infinite. Replace them by a meaningful intensity."]
    if voxels.min() == voxels.max():
        return [
            f"{path}: every voxel is {voxels.min()}; such an image shows nothing. Export it again or remove the case."
        ]
    return []


def _check_values(path: Path, label: sitk.Image, allowed: Collection[int]) -> list[str]:
    import numpy as np
    import SimpleITK as sitk  # noqa: N813

    from nnunet_semisam.data.stored_voxels import voxels_as_stored

    values = np.unique(voxels_as_stored(path, sitk.GetArrayViewFromImage(label)))
    unexpected = [f"{value:g}" for value in values if value not in allowed]
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

"""Checks of images and labels before anything is written; every finding names a file and a remedy."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.errors import UserError

from .case import Case, Conversion, Review, Source
from .duplicates import review_duplicates
from .facts import Facts, facts_of

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

GEOMETRY_TOLERANCE = 1e-3  # mm for spacing and origin, no unit for the direction: headers hold float32
MOST_FINDINGS_SHOWN = 50


@dataclass(frozen=True)
class Inspection:
    """What the checks learned from reading every file.

    Attributes:
        facts: Target -> facts of the file.
        notes: Sentences the user should read.
    """

    facts: Mapping[str, Facts]
    notes: Sequence[str]


def check_conversion(conversion: Conversion) -> Inspection:
    """Read every file that will be written, and report all that is wrong at once.

    The label of an unlabeled case is not even known here: :class:`Case` has no place for it.

    Raises:
        UserError: If there is any finding, those of the plan included.
    """
    from tqdm import tqdm

    findings = list(conversion.findings)
    facts: dict[str, Facts] = {}
    faulty = []
    for case in tqdm(conversion.cases, desc="checking", unit="case", leave=False):
        new = check_case(case, conversion, facts)
        findings += new
        faulty += [case.identifier] * bool(new)
    reviews = [review_duplicates(conversion, facts), review_orientations(facts)]
    if conversion.review is not None:
        reviews.append(conversion.review(facts))
    findings += [text for review in reviews for text in review.findings]
    remedy = f" Or leave cases out: --leave-out {' '.join(faulty)}" if conversion.can_leave_out and faulty else ""
    raise_findings(findings, conversion.source, remedy)
    return Inspection(facts, [text for review in reviews for text in review.notes])


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
    raise UserError(f"Nothing was written: {count} in {source}.\n{shown}{rest}\nMend or remove these files.{remedy}")


def check_case(case: Case, conversion: Conversion, facts: dict[str, Facts]) -> list[str]:
    """Return what is wrong with the files of one case; an empty list if nothing is.

    Args:
        case: The case.
        conversion: Knows the values that a label may have.
        facts: The facts of every file that can be read are added here.
    """
    findings: list[str] = []
    images = [_read(source, findings) for source in case.images]
    label = None if case.label is None else _read(case.label, findings)
    everything = [*images, label]
    for target, image in zip(case.targets(conversion.file_ending), everything, strict=False):
        if image is not None:
            facts[target] = facts_of(image)
    for source, image in zip(case.images, images, strict=True):
        if image is not None:
            findings += _check_intensities(source.path, image)
    if label is not None:
        findings += _check_values(case.label.path, label, conversion.label_values)
    reference = images[0]
    for source, other in zip(case.sources[1:], everything[1:], strict=False):
        if reference is not None and other is not None:
            findings += _check_geometry(source.path, other, case.images[0].path, reference)
    return findings


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
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        shape = f"{image.GetDimension()} axes, {image.GetNumberOfComponentsPerPixel()} values per voxel"
        findings.append(
            f"{path}: must be a 3D image with one value per voxel, has {shape}. Export one volume per file."
        )
        return None
    return image


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


def _check_geometry(path: Path, image: sitk.Image, reference_path: Path, reference: sitk.Image) -> list[str]:
    import numpy as np

    remedy = f"as in {reference_path.name}. Image and label must share one grid: resample, or copy the right header."
    if image.GetSize() != reference.GetSize():
        return [f"{path}: size is {image.GetSize()}, must be {reference.GetSize()} {remedy}"]
    findings = []
    for name in ("Spacing", "Origin", "Direction"):
        ours, theirs = (np.array(getattr(each, f"Get{name}")()) for each in (image, reference))
        if not np.allclose(ours, theirs, rtol=0, atol=GEOMETRY_TOLERANCE):
            findings.append(f"{path}: {name.lower()} is {_text(ours)}, must be {_text(theirs)} {remedy}")
    return findings


def _text(numbers: Collection[float]) -> str:
    return "(" + ", ".join(f"{number:.6g}" for number in numbers) + ")"

"""What was read, in numbers: geometry, range and content hash of every file, for the manifest and for comparisons."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813


@dataclass(frozen=True)
class Facts:
    """Facts of one image or label.

    Attributes:
        size: Voxels along x, y, z.
        spacing: Millimetres along x, y, z.
        orientation: Where the axes x, y, z lead to, for example ``LPS``.
        minimum: Smallest value.
        maximum: Largest value.
        voxels: SHA-256 of the values (as float32, in the order z, y, x, channel) and the size. Equal for equal voxels,
            however the file was compressed or typed.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    minimum: float
    maximum: float
    voxels: str


def facts_of(image: sitk.Image) -> Facts:
    """Return the facts of a 3D image; those of several channels in one file are of all of them."""
    import SimpleITK as sitk  # noqa: N813

    from nnunet_semisam.data.stored_voxels import hash_of_voxels

    array = sitk.GetArrayViewFromImage(image)
    return Facts(
        size=image.GetSize(),
        spacing=tuple(round(value, 6) for value in image.GetSpacing()),
        orientation=sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()),
        minimum=float(array.min()),
        maximum=float(array.max()),
        voxels=hash_of_voxels(array),
    )


def fingerprint(facts: Mapping[str, Facts], dataset: Mapping[str, Any], splits: list[dict[str, list[str]]]) -> str:
    """Return one hash of a whole dataset: voxels, spacing, labels and folds.

    It does not depend on file names of the source, on compression, or on the dataset id, so two people can compare it.
    """
    content = {
        "files": {target: [each.voxels, [round(value, 4) for value in each.spacing]] for target, each in facts.items()},
        "labels": dataset["labels"],
        "channel_names": dataset["channel_names"],
        "splits": splits,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def as_json(facts: Mapping[str, Facts]) -> dict[str, dict[str, Any]]:
    """Return facts as plain types, sorted by file."""
    return {target: asdict(facts[target]) for target in sorted(facts)}

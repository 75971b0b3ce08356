"""Hounsfield units or a window: what the intensities of BHSD are, and what reading all files says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnunet_semisam.errors import UserError, name_some

from .case import Case, Review
from .facts import Facts

CHANNELS = {"hu": "CT", "windowed": "windowed_CT"}  # nnU-Net normalises a channel called CT as CT, all else by z-score
AIR_HU = -200  # below every window for the brain, above the air around a head (-1000)
MOST_LOOKED_AT = 20


def kind_of(minimum: float, maximum: float) -> str | None:
    """Return ``hu``, ``windowed``, or ``None`` if a range of intensities fits neither."""
    if minimum < AIR_HU:
        return "hu"
    return "windowed" if minimum >= 0 and maximum <= 255 else None


def detect_intensities(choice: str, cases: Sequence[Case]) -> tuple[str, str]:
    """Return what the intensities are, and a sentence that says how this is known.

    Args:
        choice: ``--intensities``.
        cases: All cases; the first images with labels are looked at. Images that cannot be read are passed over here:
            the checks will name them.

    Raises:
        UserError: If the images fit neither, or disagree so much that there is no majority.
    """
    if choice != "auto":
        return choice, f"intensities are {choice}, as asked; the channel is called {CHANNELS[choice]}"
    kinds: dict[str, int] = {}
    ranges = []
    for case in [case for case in cases if case.part == "Tr"][:MOST_LOOKED_AT]:
        limits = _limits(case)
        if limits is not None:
            ranges.append(limits)
            kind = kind_of(*limits) or "neither"
            kinds[kind] = kinds.get(kind, 0) + 1
    best = max(kinds, key=kinds.__getitem__, default=None)
    if best is None:  # not one image can be read: the checks stop the conversion and say so
        return "hu", "intensities are not known"
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if best == "neither" or 2 * kinds[best] <= sum(kinds.values()):
        raise UserError(
            f"The intensities ({low:g} to {high:g} in {len(ranges)} labeled images) are neither Hounsfield units with "
            f"air below {AIR_HU} nor windowed to 0..255. Say which with --intensities hu or --intensities windowed."
        )
    return best, (
        f"intensities are {best}: {kinds[best]} of the {len(ranges)} labeled images looked at ({low:g} to {high:g}); "
        f"the channel is called {CHANNELS[best]}"
    )


def review(intensities: str, facts: Mapping[str, Facts]) -> Review:
    """Look for a mixture of both kinds, uneven slice spacing across cases, and labels without any hemorrhage.

    Args:
        intensities: ``hu`` or ``windowed``.
        facts: Target -> facts of every file.
    """
    images = {target: each for target, each in sorted(facts.items()) if target.startswith("images")}
    kinds = {target: kind_of(each.minimum, each.maximum) for target, each in images.items()}
    other = [case_of(target) for target, kind in kinds.items() if kind not in (intensities, None)]
    unclear = [target for target, kind in kinds.items() if kind is None]
    notes, findings = [], []
    if unclear:
        notes.append(f"{len(unclear)} images are neither clearly {intensities} nor not: {name_some(unclear, 5)}")
    if other and intensities in kinds.values():
        findings.append(
            f"{len(other)} images are not {intensities} by their range, though others are, and no normalisation fits "
            f"both: {', '.join(other)}. Convert their intensities, or go on without them: --leave-out {' '.join(other)}"
        )
    elif other:  # all of them: the user said what to do with such images
        notes.append(f"{len(other)} images are not {intensities} by their range: {name_some(other, 5)}")
    gaps = sorted({round(each.spacing[2], 3) for each in images.values()})
    if len(gaps) > 1:
        notes.append(f"slice spacing differs between cases: {gaps[0]:g} to {gaps[-1]:g} mm")
    findings += [
        f"{target}: the label is empty, but every case of this set shows a hemorrhage (an early release had such "
        f"files). Download label_192 again, or leave the case out: --leave-out {case_of(target)}"
        for target, each in facts.items()
        if target.startswith("labels") and each.maximum == 0
    ]
    return Review(notes, findings)


def case_of(target: str) -> str:
    """Return the case of a file ``imagesTr/CASE_0000.nii.gz`` or ``labelsTr/CASE.nii.gz``."""
    folder, name = target.split("/")
    name = name.removesuffix(".nii.gz")
    return name.removesuffix("_0000") if folder.startswith("images") else name


def _limits(case: Case) -> tuple[float, float] | None:
    import SimpleITK as sitk  # noqa: N813

    try:
        case.images[0].check()
        image = case.images[0].read()  # must live as long as the view of its voxels
    except Exception:  # every reader raises its own kinds, and the checks say what is wrong
        return None
    array = sitk.GetArrayViewFromImage(image)
    return float(array.min()), float(array.max())

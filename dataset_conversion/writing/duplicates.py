"""Images that come twice: on two sides of a split they leak, on one side the user should know."""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_semisam.splits.folds import validates_on_itself

from ..reading.case import Case, Conversion, Review
from ..reading.facts import Facts


def review_duplicates(conversion: Conversion, facts: Mapping[str, Facts]) -> Review:
    """Compare the voxels of all images.

    Args:
        conversion: The cases and folds.
        facts: Target -> facts of every file.

    Returns:
        A finding for every two cases with equal images where one trains and the other validates or tests; a note for
        the others.
    """
    notes, findings = [], []
    seen: dict[tuple[str, ...], list[Case]] = {}
    for case in conversion.cases:
        targets = case.targets(conversion.file_ending)[: len(case.images)]
        content = tuple(facts[target].voxels for target in targets if target in facts)
        if len(content) < len(targets):
            continue  # unreadable: another finding says so
        same = seen.setdefault(content, [])
        leaking = [each for each in same if _leaks(conversion, each, case)]
        if leaking:
            remedy = f", or --leave-out {case.identifier}" if conversion.can_leave_out else ""
            findings.append(
                f"{case.images[0].path}: shows the same voxels as {leaking[0].images[0].path}, and one of them would "
                f"be trained on while the other is kept for validation or testing. Remove one of the two{remedy}."
            )
        elif same:
            notes.append(f"{case.identifier} and {same[0].identifier} show the same voxels")
        same.append(case)
    return Review(notes, findings)


def _leaks(conversion: Conversion, first: Case, second: Case) -> bool:
    if "Ts" in (first.part, second.part):
        return first.part != second.part
    names = {first.identifier, second.identifier}
    in_images_ul = {case.identifier for case in (first, second) if case.part == "Ul"}
    for fold in conversion.splits:
        val = set(fold["val"])
        train = {*fold["train"], *fold.get("unlabeled", []), *in_images_ul}
        on_both_sides = names & val and names & train and not names <= val
        if on_both_sides and not validates_on_itself(fold):
            return True
    return False

"""Images that come twice: on two sides of a split they leak, on one side the user should know."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from nnunet_semisam.errors import name_some
from nnunet_semisam.splits.folds import validates_on_itself

from ..reading.case import Case, Conversion, Review
from ..reading.facts import Facts


def review_duplicates(conversion: Conversion, facts: Mapping[str, Facts]) -> Review:
    """Compare the voxels of all images.

    Args:
        conversion: The cases and folds.
        facts: Target -> facts of every file.

    Returns:
        A finding for every two cases with equal images where one trains and the other validates or tests; for the
        others a note that counts them, and another for those whose labels differ.
    """
    findings: list[str] = []
    twice: list[str] = []
    contradicting: list[str] = []
    seen: dict[tuple[str, ...], list[Case]] = {}
    for case in conversion.cases:
        targets = case.targets(conversion.file_ending)[: len(case.images)]
        content = tuple(facts[target].voxels for target in targets if target in facts)
        if len(content) < len(targets):
            continue  # unreadable: another finding says so
        same = seen.setdefault(content, [])
        leaking = [each for each in same if _leaks(conversion, each, case)]
        if leaking:
            remedy = f", or --leave-out {shlex.quote(case.identifier)}" if conversion.can_leave_out else ""
            findings.append(
                f"{case.images[0].path}: shows the same voxels as {leaking[0].images[0].path}, and one of them would "
                f"be trained on while the other is kept for validation or testing. Remove one of the two{remedy}."
            )
        elif same:
            pair = f"{case.identifier} and {same[0].identifier}"
            (contradicting if _labels_differ(conversion, case, same[0], facts) else twice).append(pair)
        same.append(case)
    notes = []
    if twice:
        notes.append(f"{len(twice)} cases show the same voxels as another: {name_some(twice)}")
    if contradicting:
        notes.append(
            f"{len(contradicting)} cases show the same voxels as another and have other labels, so one of the two may "
            f"be wrong: {name_some(contradicting)}"
        )
    return Review(notes, findings)


def _labels_differ(conversion: Conversion, first: Case, second: Case, facts: Mapping[str, Facts]) -> bool:
    labels = []
    for case in (first, second):
        if case.label is not None:
            target = case.targets(conversion.file_ending)[len(case.images)]
            labels += [facts[target].voxels] if target in facts else []
    return len(labels) == 2 and labels[0] != labels[1]


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

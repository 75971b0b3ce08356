"""Which labeled cases lend their labels to a case, for generalists that use labels themselves.

A labeled case gets no labels of its own patient, or the calibration would measure how well a patient is copied from
itself. Where only one patient is labeled nobody else can lend: the generalist has then *learned* all labeled cases, as
a SAM that was adapted to them has, and the same setting decides. By default the calibration does not measure it on
them, so that it is inactive; with ``calibration: {on_learned_cases: true}`` it is measured with its own patient's
labels. Unlabeled cases get labels of all labeled cases.
"""

from __future__ import annotations

import logging

from nnunet_semisam.generalists.base import LabeledSource

LOGGER = logging.getLogger(__name__)


def lenders_of(case: str, labeled: LabeledSource) -> list[str]:
    """Return the labeled cases that lend their labels to a case.

    Args:
        case: A labeled case, or any other.
        labeled: The labeled training cases of the fold.

    Returns:
        For a labeled case those of other patients, or all if there is no other patient; for any other case all.
    """
    names = list(labeled.cases)
    if case not in names:
        return names
    return [name for name in names if labeled.group_of(name) != labeled.group_of(case)] or names


def learned_from_itself(name: str, labeled: LabeledSource) -> frozenset[str]:
    """Return the labeled cases that get labels of their own patient: all if one patient is labeled, else none.

    Args:
        name: Of the generalist, for the log.
        labeled: The labeled training cases of the fold.
    """
    if len({labeled.group_of(case) for case in labeled.cases}) != 1:
        return frozenset()
    LOGGER.warning(
        "%s: only one patient is labeled, and %s uses its labels: it cannot be measured whether it helps on other "
        "patients. The calibration leaves it out, unless calibration: {on_learned_cases: true} says to measure it on "
        "that patient itself, which thinks too well of it.",
        name,
        name,
    )
    return frozenset(labeled.cases)

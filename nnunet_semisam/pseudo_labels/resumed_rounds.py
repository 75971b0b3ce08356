"""Where the rounds of an interrupted training go on: what its checkpoint says of them, and what of it is of use.

Nothing here stops a training: what cannot be used is named in the log and made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_semisam.errors import UserError, name_some, printable
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable
from nnunet_semisam.pseudo_labels.stage import PseudoLabelStage
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore

Log = Callable[[str], Any]
MISFIT = (KeyError, TypeError, ValueError, AttributeError)  # of states that were written in another way


@dataclass(frozen=True)
class RoundPlace:
    """Where the rounds stood.

    Attributes:
        round: Number of the round in use; ``None``: none was.
        next_round: Number of the next one.
        last_refresh: Epoch before which the last one was made; ``None``: none was.
        problem: Why the round in use is of no use any more; ``None`` if it is.
    """

    round: int | None
    next_round: int
    last_refresh: int | None
    problem: str | None = None


def place_of(state: Mapping[str, Any], store: PseudoLabelStore, log: Log) -> RoundPlace:
    """Return where the rounds stood.

    Args:
        state: What the session wrote into the checkpoint.
        store: The rounds on the disk.
        log: Receives a line on damaged cases of the round in use, which the loader leaves out.
    """
    try:
        used, following, last = (state[name] for name in ("round", "next_round", "last_refresh"))
        if type(following) is not int or any(value is not None and type(value) is not int for value in (used, last)):
            raise ValueError(f"round {used!r}, next_round {following!r}, last_refresh {last!r}")
        return RoundPlace(used, following, last, None if used is None else problem_of_round(used, store, log))
    except (KeyError, TypeError, ValueError) as error:
        problem = f"What the checkpoint says of the rounds cannot be used ({printable(str(error), 200)})"
        return RoundPlace(None, 1 + max(store.rounds(), default=-1), None, problem)


def problem_of_round(round_index: int, store: PseudoLabelStore, log: Log) -> str | None:
    """Return why a round cannot be used; damaged cases of it are named and left out by the loader."""
    if round_index not in store.rounds():
        return f"Round {round_index} of pseudo-labels is gone"
    try:
        cases = store.provenance(round_index)["cases"]
    except UserError as error:
        return f"Round {round_index} of pseudo-labels is damaged: {error}"
    damaged = {case: problem for case in cases if (problem := store.problem(case, round_index)) is not None}
    if damaged and len(damaged) == len(cases):
        return f"Round {round_index} of pseudo-labels is damaged: {next(iter(damaged.values()))}"
    if damaged:
        log(
            f"WARNING: {len(damaged)} of {len(cases)} pseudo-labels of round {round_index} are damaged and left out "
            f"until their cases' next turn: {name_some(list(damaged), 5)}. {next(iter(damaged.values()))}"
        )
    return None


def turns(content: Any) -> dict[str, int]:
    """Return case -> last round that had it; empty, so that all are new, if a checkpoint says it in another way."""
    if not isinstance(content, dict) or any(type(number) is not int for number in content.values()):
        return {}
    return {str(case): number for case, number in content.items()}


def resume_calibration(content: Mapping[str, Any] | None, stage: PseudoLabelStage, labels: Labels, log: Log) -> None:
    """Let a stage follow the calibration of a checkpoint; ``None``: there is none."""
    if content is None:
        return
    try:
        table = CalibrationTable.from_dict(content)
        expected = [member.name for member in stage.ensemble.members]
        if (list(table.generalists), len(table.classes)) != (expected, len(expected) * labels.channels):
            raise ValueError(f"it is of {name_some(table.generalists)}")
        stage.use_calibration(table)
    except MISFIT as error:
        log(
            f"WARNING: The calibration in the checkpoint cannot be used ({printable(str(error), 200)}); it is made "
            "again with the next round."
        )


def resume_generalists(content: Any, stage: PseudoLabelStage, log: Log) -> None:
    """Give the generalists of a stage what they remember of earlier rounds."""
    try:
        stage.ensemble.load_state_dict(content)
    except MISFIT as error:
        log(
            f"WARNING: What generalists remember of earlier rounds cannot be used ({printable(str(error), 200)}); "
            "they start anew."
        )

"""What is known of a trial that is done, and all of them in one file: ``results.jsonl``, a json object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.comparable import comparable
from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.records import Score, ScoreStatus, known
from nnunet_semisam.benchmark.statistics import nan_mean
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.io.json_files import read_json_lines, read_object
from nnunet_semisam.io.locks import folder_lock

RESULT_FILE = "result.json"
RESULTS_FILE = "results.jsonl"
Dice = Mapping[str, Mapping[str, float | None]]
"""Case -> label -> Dice in [0, 1]; ``None`` where the label is neither in the ground truth nor predicted."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A line of ``results.jsonl``.

    Attributes:
        protocol: Name of the protocol.
        arm: Name of the arm, with its tag.
        trainer: Class name.
        draw: Name of the draw.
        budget: Number of labeled patients.
        seed: Seed of the training.
        steps: Optimiser steps.
        labeled: The labeled patients.
        judged: ``development`` or ``field``: who was judged.
        settings: Settings that were given.
        settings_sha256: Digest of all settings, defaults included, but the seed and the file of the common start.
        commits: Commits of the code that trained, more than one if it changed between two starts.
        variables: Environment variables that change how nnU-Net works.
        train_seconds: By the clock, all starts, nnU-Net's own validation included.
        predict_seconds: By the clock, of the judged cases.
        starts: How often the training was started.
        gate_step: Step at which unlabeled terms began; ``None`` if they never did.
        patient: Case -> patient.
        dice: Case -> label -> Dice.
    """

    protocol: str
    arm: str
    trainer: str
    draw: str
    budget: int
    seed: int
    steps: int
    labeled: list[str]
    judged: str
    settings: dict[str, Any]
    settings_sha256: str
    commits: list[str]
    variables: dict[str, str]
    train_seconds: float
    predict_seconds: float
    starts: int
    gate_step: int | None
    patient: dict[str, str]
    dice: dict[str, dict[str, float | None]]

    def labels(self) -> list[str]:
        """Return all labels."""
        return list(dict.fromkeys(label for of_case in self.dice.values() for label in of_case))

    def means(self) -> dict[str, float]:
        """Return label -> mean Dice over cases, NaN if it is nowhere, and the mean over labels under ``mean``."""
        return {label: nan_mean(list(tables([self], label)[0].values())) for label in [MEAN, *self.labels()]}

    def to_json(self) -> dict[str, Any]:
        """Return all fields, and the means, ready for json."""
        means = {name: known(round(value, 5)) for name, value in self.means().items()}
        return {**asdict(self), "mean_dice": means}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialResult:
        """Return the result of a line.

        Raises:
            KeyError: If a field is missing.
        """
        return cls(**{field.name: content[field.name] for field in fields(cls)})


def tables(results: Sequence[TrialResult], label: str) -> list[dict[str, float]]:
    """Return case -> Dice of each result, such that they may be compared; see ``benchmark/comparable.py``."""
    return comparable([_scores(result.dice) for result in results], label, "dice")


def _scores(dice: Dice) -> dict[str, list[Score]]:
    return {case: [_score(label, value) for label, value in of_case.items()] for case, of_case in dice.items()}


def _score(label: str, value: float | None) -> Score:
    return Score(label, "dice", value, value, ScoreStatus.ABSENT if value is None else ScoreStatus.OK, "1")


def collect(out: Path) -> list[TrialResult]:
    """Write ``results.jsonl`` anew from the results of all trials in a folder, and return them.

    It is made of the trials' own files, so no line is lost or written twice, whatever is killed when.
    """
    with folder_lock(out, wait=True, name=".results.lock"):
        contents = []
        for path in sorted(out.glob(f"runs/*/*/{RESULT_FILE}")):
            contents.append(read_object(path, "Remove it: the trial is judged again."))
        write_text(out / RESULTS_FILE, "".join(json.dumps(content, allow_nan=False) + "\n" for content in contents))
    return [TrialResult.from_json(content) for content in contents]


def read_results(path: Path) -> list[TrialResult]:
    """Return the results of a file.

    Raises:
        UserError: If there is none.
    """
    results = [TrialResult.from_json(content) for content in read_json_lines(path)]
    if not results:
        raise UserError(f"{path} holds no result yet.")
    return results

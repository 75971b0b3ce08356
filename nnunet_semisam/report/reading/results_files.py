"""Parses ``results.json`` and ``results.csv``; their formats are told in :mod:`nnunet_semisam.benchmark.results`."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.report.reading.records import (
    Difference,
    Equal,
    Fold,
    HeldOutCases,
    JudgedOn,
    RunResult,
    RunStatus,
    Score,
    ScoreStatus,
    Software,
    Study,
    Summary,
    TrainerCost,
)


def parse_study(content: Mapping[str, Any]) -> Study:
    """Return the grid and what all runs share.

    Raises:
        KeyError, TypeError, ValueError: If something is missing or of another kind, here and in all functions below.
    """
    folds = {int(number): Fold(fold["budget"], fold["sha256"]) for number, fold in content["folds"].items()}
    return Study(
        dataset=content["dataset"],
        plans=content["plans"],
        plans_sha256=content["plans_sha256"],
        trainers=tuple(content["trainers"]),
        configurations=tuple(content["configurations"]),
        folds=folds,
        seeds=tuple(content["seeds"]),
        settings=dict(content["settings"]),
        equal=Equal(content["equal"]),
        judged_on=JudgedOn(content["cases"]),
        test_set=content["test_set"],
        group=content["group"],
        device=content["device"],
    )


def parse_held_out(content: Mapping[str, Any]) -> HeldOutCases:
    """Return which cases judge the runs."""
    folders = {int(fold): folder for fold, folder in content["folder"].items()}
    return HeldOutCases(folders, dict(content["groups"]))


def parse_run(content: Mapping[str, Any]) -> RunResult:
    """Return what is known of one run."""
    values = _fields(RunResult, content, but=("name", "status", "software"))
    return RunResult(
        name=content["run"],
        status=RunStatus(content["status"]),
        software=tuple(parse_software(one) for one in content["software"]),
        **values,
    )


def parse_software(content: Mapping[str, Any]) -> Software:
    """Return what a training ran with."""
    return Software(dict(content["versions"]), dict(content["variables"]), tuple(content["sam_fingerprints"]))


def parse_cost(content: Mapping[str, Any]) -> TrainerCost:
    """Return the hours of one trainer."""
    return TrainerCost(**_fields(TrainerCost, content))


def parse_summary(content: Mapping[str, Any]) -> Summary:
    """Return one number of the grid."""
    difference = content["difference"]
    return Summary(
        run_means=tuple(content["run_means"]),
        difference=None if difference is None else Difference(**_fields(Difference, difference)),
        **_fields(Summary, content, but=("run_means", "difference")),
    )


def _fields(record: type, content: Mapping[str, Any], but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the values of a record's fields; what else the file holds is left out."""
    return {field.name: content[field.name] for field in dataclasses.fields(record) if field.name not in but}


def read_scores(path: Path) -> tuple[Score, ...]:
    """Return the rows of ``results.csv``."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(_score(row) for row in csv.DictReader(file))


def _score(row: Mapping[str, str]) -> Score:
    return Score(
        run=row["run"],
        case=row["case"],
        group=row["group"],
        label=row["label"],
        metric=row["metric"],
        unit=row["unit"],
        value=_number(row["value"]),
        scored=_number(row["scored"]),
        status=ScoreStatus(row["status"]),
    )


def _number(text: str) -> float | None:
    return float(text) if text else None

"""The records that travel between the modules of a benchmark and to its report, and their form in its files.

Numbers that do not exist are ``None`` here, null in json and empty in csv; there is no NaN. The types of the fields
say what a file may hold (see ``io/typed_records.py``): every ``from_json`` raises a
:class:`~nnunet_semisam.io.typed_records.RecordError` that names the entry if something is missing or of another kind.
"""

from __future__ import annotations

from nnunet_semisam.benchmark.records.runs import Cost, Run, RunRecord, TrainerCost
from nnunet_semisam.benchmark.records.scores import Score, ScoreRow, ScoreStatus, known
from nnunet_semisam.benchmark.records.study import CaseSet, Equal, HeldOutCases, HeldOutSet, StudyFold, UnlabeledImages
from nnunet_semisam.benchmark.records.summaries import Comparison, Difference, Interval, Summary

__all__ = [
    "CaseSet",
    "Comparison",
    "Cost",
    "Difference",
    "Equal",
    "HeldOutCases",
    "HeldOutSet",
    "Interval",
    "Run",
    "RunRecord",
    "Score",
    "ScoreRow",
    "ScoreStatus",
    "StudyFold",
    "Summary",
    "TrainerCost",
    "UnlabeledImages",
    "known",
]

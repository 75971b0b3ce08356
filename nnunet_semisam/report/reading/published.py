"""Published results, shown beside ours only where we train and test on the split that the publications name.

Anything else would be a comparison of splits: other test cases (or the validation cases among them), other labels, or
classes merged to regions. What a publication chose on its test cases is said beside its number, and so is it where
nobody could verify its labeled cases. Narrow networks and short trainings are cautioned about.
Distances are never shown: the field gives them in voxels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_semisam.report.reading.anchor_limits import limits
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.dataset_labels import dataset_labels
from nnunet_semisam.report.reading.training_cases import DatasetRecord, TrainingCases
from nnunet_semisam.splits.label_budgets import group_function

DATA = Path(__file__).parents[1] / "assets" / "published.json"


@dataclass(frozen=True)
class Anchors:
    """Published results that a benchmark may stand beside.

    Attributes:
        name: Of the dataset and split.
        remark: What to know of all of them.
        results: Budget -> ``method``, ``dice`` (percent), ``source``, ``note``.
        pools: Budget -> number of unlabeled groups here, and in the publications.
        bounds: Results of trainings with every label of the split, as far as these are known.
        limits: Why the level of our numbers does not compare all the same; see ``anchor_limits.py``.
        reason: Why there are none; empty if there are some.
    """

    name: str = ""
    remark: str = ""
    results: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    pools: dict[int, tuple[int, int]] = field(default_factory=dict)
    bounds: list[dict[str, Any]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    reason: str = ""


def find_anchors(benchmark: Benchmark, dataset: DatasetRecord) -> Anchors:
    """Return the published results on the split of this benchmark, or why there are none."""
    protocols = json.loads(DATA.read_text(encoding="utf-8"))
    protocol = next((one for one in protocols if _same_test(benchmark, one)), None)
    if protocol is None:
        return Anchors(reason="no published split that this package knows has these test cases")
    name = protocol["name"]
    if not _same_labels(benchmark, protocol):
        wanted = ", ".join(f"{label['names'][0]} = {label['value']}" for label in protocol["labels"])
        reason = f"the test cases are those of {name}, but no record says that the labels are, too ({wanted})"
        return Anchors(name, reason=reason)
    if not _as_published(protocol, dataset):
        reason = f"the test cases are those of {name}, but no record says that the files are, too"
        return Anchors(name, reason=reason)
    results, pools = {}, {}
    for budget in benchmark.budgets:
        pool = _same_training(benchmark, dataset, protocol, budget)
        known = [result for result in protocol["results"] if result["budget"] == budget]
        if pool is not None and known:
            results[budget], pools[budget] = known, pool
    if not results:
        reason = dataset.missing or "the labeled cases are others than in the publications, or none was published"
        return Anchors(name, reason=f"the test cases are those of {name}, but {reason}")
    everything = len(protocol["train"].split())
    bounds = [one for one in protocol["results"] if one["budget"] == everything and everything not in results]
    return Anchors(name, protocol["remark"], results, pools, bounds, limits(benchmark))


def _same_test(benchmark: Benchmark, protocol: dict[str, Any]) -> bool:
    groups = list(benchmark.content["cases"]["groups"].values())
    wanted = protocol["test"].split()
    return benchmark.study["cases"] == "test" and sorted(groups) == sorted(wanted * protocol["cases_per_test_group"])


def _same_labels(benchmark: Benchmark, protocol: dict[str, Any]) -> bool:
    """Return whether the published classes were judged, each of them alone and by a name that is known for it."""
    found = dataset_labels(benchmark)
    wanted = {label["value"]: [name.lower() for name in label["names"]] for label in protocol["labels"]}
    return (
        sorted(found) == sorted(benchmark.labels)
        and sorted(found.values()) == [[value] for value in sorted(wanted)]
        and all(name.lower() in wanted[values[0]] for name, values in found.items())
    )


def _as_published(protocol: dict[str, Any], dataset: DatasetRecord) -> bool:
    """Return whether the dataset was made as the protocol needs it, for example from cropped files."""
    recorded = {**dataset.manifest.get("settings", {}), "converter": dataset.manifest.get("converter")}
    return all(recorded.get(key) == value for key, value in protocol["needs"].items())


def _same_training(
    benchmark: Benchmark, dataset: DatasetRecord, protocol: dict[str, Any], budget: int
) -> tuple[int, int] | None:
    """Return sizes of the unlabeled pools here and there, or ``None`` if a fold of the budget is another."""
    folds = [int(fold) for fold, content in benchmark.study["folds"].items() if content["budget"] == budget]
    train = protocol["train"].split()
    wanted = set(train[:budget])
    sizes = []
    for fold in folds:
        cases = dataset.folds.get(fold)
        if cases is None:
            return None
        labeled, pool = _groups(benchmark, cases)
        if labeled != wanted or not pool <= set(train[budget:]):
            return None
        sizes.append(len(pool))
    return (min(sizes), len(train) - budget) if sizes else None


def _groups(benchmark: Benchmark, cases: TrainingCases) -> tuple[set[str], set[str]]:
    group_of = group_function(benchmark.study["group"])
    return {group_of(case) for case in cases.labeled}, {group_of(case) for case in cases.unlabeled}

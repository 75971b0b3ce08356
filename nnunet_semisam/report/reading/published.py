"""Published results, shown beside ours only where we train and test on the split that the publications name.

Anything else would be a comparison of splits: other test cases (or the validation cases among them), other labels, or
classes merged to regions. A number has a remark if the publication chose its checkpoint on test cases, or if nobody
could verify its labeled cases. Narrow networks and short trainings are cautioned about. Distances are never shown: the
field gives them in voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from nnunet_semisam.benchmark.records import CaseSet
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_json
from nnunet_semisam.io.typed_records import Between, Count, RecordError, read_entry, read_record, read_value
from nnunet_semisam.report.reading.anchor_limits import limits
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.dataset_labels import dataset_labels
from nnunet_semisam.report.reading.training_cases import DatasetRecord, TrainingCases
from nnunet_semisam.splits.label_budgets import group_function

DATA = Path(__file__).parents[1] / "assets" / "published.json"


@dataclass(frozen=True)
class PublishedResult:
    """One number of the literature.

    Attributes:
        method: What was trained.
        budget: Number of labeled groups (patients, or scans).
        dice: Mean Dice over the classes and test cases, in percent.
        source: Where the number stands, with an address.
        note: What to know of it; empty for nothing.
    """

    method: str
    budget: Count
    dice: Annotated[float, Between(0, 100)]
    source: str
    note: str


@dataclass(frozen=True)
class PublishedLabel:
    """A class of a published split.

    Attributes:
        value: Value in the label maps.
        names: Names that it is known by, in any case.
    """

    value: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """A split that publications name, and their results on it.

    Attributes:
        name: Of the dataset and split.
        needs: What a converter must have recorded, for example the format of the files.
        labels: The classes.
        train: Groups in the order in which budgets take them.
        test: Groups of the test cases.
        cases_per_test_group: How many cases each of these has.
        remark: What to know of all results.
        results: The results.
    """

    name: str
    needs: dict[str, str]
    labels: tuple[PublishedLabel, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    cases_per_test_group: Count
    remark: str
    results: tuple[PublishedResult, ...]


@dataclass(frozen=True)
class Pools:
    """Number of unlabeled groups beside the labeled ones.

    Attributes:
        here: In this benchmark; the smallest of its folds.
        published: In the publications.
    """

    here: int
    published: int


@dataclass(frozen=True)
class Anchors:
    """Published results that a benchmark may stand beside.

    Attributes:
        name: Of the dataset and split.
        remark: What to know of all of them.
        results: Budget -> results.
        pools: Budget -> unlabeled groups.
        bounds: Results of trainings with every label of the split, as far as these are known.
        limits: Why the level of our numbers does not compare all the same; see ``anchor_limits.py``.
        reason: Why there are none; empty if there are some.
    """

    name: str = ""
    remark: str = ""
    results: Mapping[int, list[PublishedResult]] = field(default_factory=dict)
    pools: Mapping[int, Pools] = field(default_factory=dict)
    bounds: list[PublishedResult] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    reason: str = ""


def read_protocols(path: Path = DATA) -> list[Protocol]:
    """Return the splits that this package knows.

    Raises:
        UserError: If the file is not what it was in the package.
    """
    remedy = "Install nnunet-semisam again."
    content = read_json(path, remedy)
    try:
        entries = read_value(list[dict[str, object]], content, "it")
        return [_parse_protocol(one, f"[{i}]") for i, one in enumerate(entries)]
    except RecordError as error:
        raise UserError(f"{path} cannot be read: {error} {remedy}") from error


def _parse_protocol(content: Mapping[str, Any], place: str) -> Protocol:
    groups = {name: read_entry(str, content, name).split() for name in ("train", "test")}
    return read_record(Protocol, {**content, **groups}, place)


def find_anchors(benchmark: Benchmark, dataset: DatasetRecord) -> Anchors:
    """Return the published results on the split of this benchmark, or why there are none."""
    protocol = next((one for one in read_protocols() if _same_test(benchmark, one)), None)
    if protocol is None:
        return Anchors(reason="no published split that this package knows has these test cases")
    name = protocol.name
    if not _same_labels(benchmark, protocol):
        wanted = ", ".join(f"{label.names[0]} = {label.value}" for label in protocol.labels)
        reason = f"the test cases are those of {name}, but no record says that the labels are, too ({wanted})"
        return Anchors(name, reason=reason)
    if not _as_published(protocol, dataset):
        reason = f"the test cases are those of {name}, but no record says that the files are, too"
        return Anchors(name, reason=reason)
    results: dict[int, list[PublishedResult]] = {}
    pools: dict[int, Pools] = {}
    for budget in benchmark.budgets:
        pool = _same_training(benchmark, dataset, protocol, budget)
        known = [result for result in protocol.results if result.budget == budget]
        if pool is not None and known:
            results[budget] = known
            pools[budget] = pool
    if not results:
        reason = dataset.missing or "the labeled cases are others than in the publications, or none was published"
        return Anchors(name, reason=f"the test cases are those of {name}, but {reason}")
    everything = len(protocol.train)
    bounds = []
    if everything not in results:
        bounds = [result for result in protocol.results if result.budget == everything]
    return Anchors(name, protocol.remark, results, pools, bounds, limits(benchmark))


def _same_test(benchmark: Benchmark, protocol: Protocol) -> bool:
    if benchmark.study.cases is not CaseSet.TEST:
        return False
    groups = sorted(benchmark.held_out.groups.values())
    return groups == sorted(protocol.test * protocol.cases_per_test_group)


def _same_labels(benchmark: Benchmark, protocol: Protocol) -> bool:
    """Return whether the published classes were judged, each of them alone and by a name that is known for it."""
    found = dataset_labels(benchmark)
    wanted = {label.value: [name.lower() for name in label.names] for label in protocol.labels}
    if sorted(found) != sorted(benchmark.labels):
        return False
    if sorted(found.values()) != [[value] for value in sorted(wanted)]:
        return False
    return all(name.lower() in wanted[values[0]] for name, values in found.items())


def _as_published(protocol: Protocol, dataset: DatasetRecord) -> bool:
    """Return whether the dataset was made as the protocol needs it, for example from cropped files."""
    recorded: dict[str, Any] = {}
    if dataset.manifest is not None:
        recorded = {**dataset.manifest.settings, "converter": dataset.manifest.converter}
    return all(recorded.get(key) == value for key, value in protocol.needs.items())


def _same_training(benchmark: Benchmark, dataset: DatasetRecord, protocol: Protocol, budget: int) -> Pools | None:
    """Return the sizes of the unlabeled pools, or ``None`` if a fold of the budget is another than the published."""
    wanted = set(protocol.train[:budget])
    others = set(protocol.train[budget:])
    sizes = []
    for number, fold in benchmark.study.folds.items():
        if fold.budget != budget:
            continue
        cases = dataset.folds.get(number)
        if cases is None:
            return None
        labeled, pool = _groups(benchmark, cases)
        if labeled != wanted or not pool <= others:
            return None
        sizes.append(len(pool))
    return Pools(min(sizes), len(others)) if sizes else None


def _groups(benchmark: Benchmark, cases: TrainingCases) -> tuple[set[str], set[str]]:
    """Return the groups of the labeled and of the unlabeled cases."""
    group_of = group_function(benchmark.study.group)
    return {group_of(case) for case in cases.labeled}, {group_of(case) for case in cases.unlabeled}

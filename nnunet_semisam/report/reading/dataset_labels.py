"""Names and values of the dataset's labels, by the dataset.json that nnU-Net leaves beside its predictions."""

from __future__ import annotations

import json

from nnunet_semisam.report.reading.benchmark_folder import Benchmark

NOT_SEGMENTED = ("background", "ignore")  # nnU-Net's own names


def dataset_labels(benchmark: Benchmark) -> dict[str, list[int]]:
    """Return name -> values of what can be segmented; empty if no run has predicted."""
    for run in benchmark.runs:
        path = benchmark.folder / run["predictions"] / "dataset.json"
        if path.is_file():
            labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
            found = {name: value if isinstance(value, list) else [value] for name, value in labels.items()}
            return {name: [int(one) for one in values] for name, values in found.items() if name not in NOT_SEGMENTED}
    return {}


def label_names(benchmark: Benchmark) -> dict[str, str]:
    """Return what the training's logs call a class (``1``, or ``1+2`` for a region) -> its name."""
    return {"+".join(map(str, values)): name for name, values in dataset_labels(benchmark).items()}

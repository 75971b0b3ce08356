"""Names and values of the dataset's labels, by the dataset.json that nnU-Net leaves beside its predictions."""

from __future__ import annotations

from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.report.reading.benchmark_folder import Benchmark

NOT_SEGMENTED = ("background", "ignore")  # nnU-Net's own names


def dataset_labels(benchmark: Benchmark) -> dict[str, list[int]]:
    """Return name -> values of what can be segmented; empty if no run has predicted.

    Raises:
        UserError: If the file cannot be read.
    """
    for run in benchmark.runs:
        path = benchmark.folder / run.predictions / "dataset.json"
        if path.is_file():
            labels = read_object(path, "Delete the folder that it is in and start the benchmark once more.")["labels"]
            return {name: _values(value) for name, value in labels.items() if name not in NOT_SEGMENTED}
    return {}


def _values(value: int | list[int]) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [int(one) for one in values]


def label_names(benchmark: Benchmark) -> dict[str, str]:
    """Return what the training's records call a class (``1``, or ``1+2`` for a region) -> its name."""
    return {"+".join(map(str, values)): name for name, values in dataset_labels(benchmark).items()}

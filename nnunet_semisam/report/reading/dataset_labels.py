"""Names and values of the dataset's labels, by the dataset.json that nnU-Net leaves beside its predictions."""

from __future__ import annotations

from typing import Annotated

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.typed_records import Between, Name, read_entry
from nnunet_semisam.report.reading.benchmark_folder import Benchmark

NOT_SEGMENTED = ("background", "ignore")  # nnU-Net's own names
Value = Annotated[int, Between(0, 2**16)]


def dataset_labels(benchmark: Benchmark) -> dict[str, list[int]]:
    """Return name -> values of what can be segmented; empty if no run has left a file that can be read."""
    for run in benchmark.runs:
        place = f"{run.predictions}/dataset.json"
        try:
            path = benchmark.file(place)
            if path is not None:
                content = read_object(path, "Delete the folder that it is in and start the benchmark once more.")
                labels = read_entry(dict[Name, Value | list[Value]], content, "labels")
                return {
                    name: value if isinstance(value, list) else [value]
                    for name, value in labels.items()
                    if name not in NOT_SEGMENTED
                }
        except UserError as error:
            benchmark.damage.note("records of labels", place, error)
    return {}


def label_names(benchmark: Benchmark) -> dict[str, str]:
    """Return what the training's records call a class (``1``, or ``1+2`` for a region) -> its name."""
    return {"+".join(map(str, values)): name for name, values in dataset_labels(benchmark).items()}

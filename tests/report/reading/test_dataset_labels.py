"""Labels are those that can be segmented."""

import json
from dataclasses import replace

from nnunet_semisam.report.reading.dataset_labels import dataset_labels, label_names


def test_what_is_ignored_is_no_label_of_the_legend(benchmark_result, tmp_path):
    (tmp_path / benchmark_result.runs[0].predictions).mkdir(parents=True)
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    path = tmp_path / benchmark_result.runs[0].predictions / "dataset.json"
    path.write_text(json.dumps({"labels": labels}))
    assert dataset_labels(replace(benchmark_result, folder=tmp_path)) == {"whole": [1, 2], "core": [2]}
    assert label_names(replace(benchmark_result, folder=tmp_path)) == {"1+2": "whole", "2": "core"}

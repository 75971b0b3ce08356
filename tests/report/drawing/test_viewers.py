"""Viewers find their files, and say how slices are counted."""

from dataclasses import replace

import numpy as np
from invented import heart, write_image

from nnunet_semisam.report.drawing.viewers import viewer
from nnunet_semisam.report.reading import example_cases


def test_the_page_says_along_which_axis_of_the_file_slices_are_counted(page):
    assert "5 of 5 slices along the file&#x27;s third axis" in page


def test_a_name_with_brackets_is_found(benchmark_result, folder, tmp_path):
    example = example_cases.choose_examples(benchmark_result)[0]
    images = tmp_path / "held_out/test/images"
    write_image(heart((5, 40, 44)).astype(np.float32), images / "q[1]_0000.nii.gz")
    moved = replace(benchmark_result, folder=tmp_path)
    moved.__dict__["scores_by_run"] = {run.name: {} for run in example.runs}
    assert "has moved" not in viewer(moved, replace(example, case="q[1]"), "v", 10**6)

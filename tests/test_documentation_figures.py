"""The figures of the README show what the results say."""

import json
import re
import runpy
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
RESULTS = (CHECKOUT / "docs" / "results.md").read_text(encoding="utf-8")
PAGE = """
## Today's defaults, ACDC

| 1 | plain nnU-Net (4) | 20.0 | 1.0 | 2.0 | 3.0 | | |
| 1 | `nnUNetTrainerSemiSAM` (4) | **30.5** | 1.0 | 2.0 | 3.0 | +10.5 [+1.0, +20.0], p 0.01; RV +1.0 | 1,000 |

**The published order**, judged elsewhere

| 3 | plain nnU-Net (2) | 40.0 | 1.0 | 2.0 | 3.0 | | |
| 3 | `nnUNetTrainerMeanTeacher` (1) | 41.0 | 1.0 | 2.0 | 3.0 | +1.0, p 0.5 | 100 |
| 3 | `nnUNetTrainerSemiSAM` (2) | **39.0** | 1.0 | 2.0 | 3.0 | -1.0 [-2.0, +0.5], p 0.5; RV -3.1 [-8.4, +2.9] | 100 |

**Development draws**: choices were made on them

| 1 | plain nnU-Net (4) | 30.0 | 1.0 | 2.0 | 3.0 | | |

## Another section
"""


@pytest.fixture(scope="module")
def tools():
    return runpy.run_path(str(CHECKOUT / "docs" / "draw_figures.py"))


def test_numbers_are_read_from_the_tables(tools):
    unseen, published = tools["measured"](PAGE)
    assert (unseen.draw, unseen.labeled, unseen.plain, unseen.semisam) == ("unseen patients", 1, 20.0, 30.5)
    assert unseen.difference == (10.5, 1.0, 20.0)
    assert (published.labeled, published.plain, published.semisam) == (3, 40.0, 39.0)
    assert published.difference == (-1.0, -2.0, 0.5)


def test_a_changed_table_is_an_error_and_not_another_figure(tools):
    with pytest.raises(ValueError, match="has changed"):
        tools["measured"](PAGE.replace("| 1 | plain nnU-Net", "| 1 | stock"))
    with pytest.raises(ValueError, match="no interval"):
        tools["measured"](PAGE.replace("-1.0 [-2.0, +0.5]", "-1.0"))


def test_the_figure_in_the_repository_shows_the_numbers_of_the_page(tools):
    picture = (CHECKOUT / "docs" / "images" / "label_efficiency.svg").read_text(encoding="utf-8")
    shown = json.loads(re.search(r"<!-- (\[.*\]) -->", picture).group(1))
    measured = [dict(vars(point), difference=list(point.difference)) for point in tools["measured"](RESULTS)]
    assert shown == measured, "run: python docs/draw_figures.py"


def test_the_readme_has_the_numbers_of_the_figure(tools):
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    for point in tools["measured"](RESULTS):
        middle, low, high = point.difference
        assert f"| {point.plain} | {point.semisam} | {middle:+.1f} [{low:+.1f}, {high:+.1f}]" in text

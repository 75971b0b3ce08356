"""The page holds what was measured, and needs nothing else."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from invented import OURS

from nnunet_semisam.report.drawing.number_formats import interval
from nnunet_semisam.report.page import render
from nnunet_semisam.report.reading.benchmark_folder import read_benchmark

VOID = {"meta", "input", "br", "hr", "link", "img"}


class Outline(HTMLParser):
    """Collects tags and attributes, and whether tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.wrong = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append((tag, self.getpos()))


@pytest.fixture(scope="module")
def outline(page):
    parser = Outline()
    parser.feed(page)
    return parser


def test_tags_are_closed_and_identifiers_unique(outline):
    assert (outline.open, outline.wrong) == ([], [])
    names = [attributes["id"] for _, attributes in outline.seen if "id" in attributes]
    assert len(names) == len(set(names))


def test_nothing_is_loaded_from_elsewhere(page, outline):
    sources = [a[key] for _, a in outline.seen for key in ("src", "srcset", "data", "poster") if key in a]
    assert sources == []
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in outline.seen}
    assert re.findall(r"url\((?!data:image/png;base64,)", page) == []
    assert "@import" not in page
    policy = next(a["content"] for tag, a in outline.seen if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_part_is_there_and_the_menu_leads_to_it(outline):
    sections = [a["id"] for tag, a in outline.seen if tag == "section"]
    wanted = ["results", "published", "cases", "tables", "training", "sam", "cost", "setup", "repeat"]
    assert sections == wanted
    assert [a["href"] for tag, a in outline.seen if tag == "a"][1 : len(wanted) + 1] == [f"#{name}" for name in wanted]


def test_every_mean_stands_with_its_interval_difference_and_failures(page, benchmark_result):
    for summary in benchmark_result.summaries:
        if summary.metric == "dice":
            assert f">{interval(summary, 'dice')}<" in page
            if summary.difference:
                assert f">{interval(summary.difference, 'dice', '+')}<" in page
    assert ">RV missed<" in page
    assert 'title="undefined: scored as the worst case"' in page


def test_every_case_of_every_run_is_a_row(page, benchmark_result):
    body = page.split('aria-label="Results per held-out case"')[1].split("</table>")[0]
    assert body.count("<tr>") == 1 + len(benchmark_result.runs) * 8


def test_names_from_files_cannot_become_markup(page, folder, tmp_path):
    assert "MYO &amp; wall" in page
    assert "MYO & wall" not in page
    shutil.copytree(folder, tmp_path / "b", ignore=shutil.ignore_patterns("*.nii.gz"))
    path = tmp_path / "b" / "results.json"
    content = json.loads(path.read_text())
    evil = "<script>alert(1)</script>"
    content["runs"][0]["error"] = content["versions"]["torch"] = evil
    content["study"]["dataset"] = "'\"><img src=x onerror=alert(1)>"
    path.write_text(json.dumps(content))
    text = render(read_benchmark(tmp_path / "b"))
    assert "<script>alert" not in text
    assert "<img" not in text


def test_curves_of_all_terms_are_drawn(page):
    training = page.split('<section id="training">')[1].split("</section>")[0]
    for name in ("train_loss", "val_loss", "unlabeled_weighted", "unlabeled_weight", "labeled_dice_1"):
        assert f"</svg>{name}</li>" in training
    assert training.count("<details>") == 12


def test_sam_says_where_it_was_switched_off(page):
    sam = page.split('<section id="sam">')[1].split("</section>")[0]
    assert 'class="n bad" data-v="0.0">off</td>' in sam
    assert "SAM does not help: Dice 0.654 (network)" in sam
    assert ">77.6</td>" in sam
    assert "</svg>MYO &amp; wall</li>" in sam


def test_commands_repeat_the_benchmark(page):
    from nnunet_semisam import cli

    text = page.split('<section id="repeat">')[1]
    (line,) = re.findall(r"^nnunet-semisam benchmark .*$", text, re.MULTILINE)
    args = cli.build_parser().parse_args(line.split()[1:])
    assert (args.dataset, args.folds, args.seeds, args.trainers[-1]) == ("901", [0, 1], [0, 1], OURS)
    assert "num_epochs: 30" in text
    assert f"nnUNetv2_train Dataset901_Invented 2d 1 -tr {OURS}" in text


def test_unfinished_and_broken_runs_are_shown(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "b", ignore=shutil.ignore_patterns("*.nii.gz"))
    path = tmp_path / "b" / "results.json"
    content = json.loads(path.read_text())
    content["runs"][0] |= {"status": "failed", "error": "CUDA out of memory"}
    path.write_text(json.dumps(content))
    text = render(read_benchmark(tmp_path / "b"))
    assert "11 of 12 runs are done (1 failed)" in text
    assert "CUDA out of memory</pre>" in text
    assert "The image of this case is not in" in text  # the images are gone in this copy


def test_page_is_small(page):
    assert len(page) < 1_000_000


def test_a_benchmark_of_which_nothing_is_done_has_a_page(tmp_path):
    from invented import make_study

    from nnunet_semisam.benchmark import plan, results

    results.write_results(plan.begin(make_study(tmp_path / "b")))
    text = render(read_benchmark(tmp_path / "b"))
    assert "0 of 12 runs are done (12 new)" in text
    assert "No run is done, so there is no segmentation to show." in text


def test_one_patient_and_one_seed_claim_nothing(tmp_path):
    from invented import Shape, make_benchmark

    make_benchmark(tmp_path / "b", Shape(patients=1, frames=1, seeds=(0,), epochs=2))
    text = render(read_benchmark(tmp_path / "b"))
    assert "no verdict, since there are too few patients (1; it takes 6)." in text
    assert "Some means rest on one training" in text
    assert "better than nnU-Net" not in text
    assert text.count("worst of 1 cases by SemiSAM") == 2  # one viewer a budget, with all its reasons

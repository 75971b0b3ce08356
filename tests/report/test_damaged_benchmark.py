"""A damaged run, case, row or file among many: the page is made of the rest, and says so where it begins."""

import html
import json
import re
import shutil

import pytest
from damages import ENTRIES, FILES, ROWS, RUN_FIELDS, edit, replace_rows, run
from invented import Shape, make_benchmark

from nnunet_semisam import cli
from nnunet_semisam.benchmark import plan, results
from nnunet_semisam.benchmark.results_files import read_results
from nnunet_semisam.errors import UserError
from nnunet_semisam.report.reading.benchmark_folder import read_benchmark


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A benchmark of two patients and six runs."""
    path = tmp_path_factory.mktemp("small") / "benchmark"
    make_benchmark(path, Shape(patients=2, frames=1, epochs=4, seeds=(0,)))
    return path


@pytest.fixture
def damaged(small, tmp_path):
    shutil.copytree(small, tmp_path / "a" / "b")
    return tmp_path / "a" / "b"


def cautions_of(folder, capsys, *options):
    """Make the page as users do; return what stands before its numbers, and what was printed."""
    out = folder.parent / "page.html"
    assert cli.main(["report", "-i", str(folder), "-o", str(out), *options]) == 0
    text = out.read_text()
    printed = capsys.readouterr()
    assert str(folder) not in text
    assert not list(folder.parent.glob(".*.tmp"))
    found = html.unescape(text.split('class="cautions"')[1].split("</div>")[0])
    for sentence in re.findall(r"<li>(Left out.*?)</li>", found):
        assert sentence[:60] in printed.err
    return found


def test_a_benchmark_without_damage_says_nothing(damaged, capsys):
    found = cautions_of(damaged, capsys)
    assert "Left out" not in found, re.findall("Left out.*", found)


@pytest.mark.parametrize(("field", "value", "why"), RUN_FIELDS, ids=[f"{f}={v!r}"[:30] for f, v, _ in RUN_FIELDS])
def test_one_damaged_run_is_left_out_by_name(field, value, why, damaged, capsys):
    edit(damaged, lambda content: content["runs"][1].update({field: value}))
    found = cautions_of(damaged, capsys)
    assert re.search(rf"Left out, since it cannot be used: entries of results.json, 1: .*({why})", found), found


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_that_cannot_be_are_left_out_by_name(name, damaged, capsys):
    damage, why = ENTRIES[name]
    edit(damaged, damage)
    assert re.search(f"Left out, since it cannot be used: .*{why}", cautions_of(damaged, capsys))


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_cannot_be_are_left_out_with_their_case(name, damaged, capsys):
    pattern, text, why = ROWS[name]
    replace_rows(damaged, pattern, text, count=1)
    found = cautions_of(damaged, capsys)
    assert re.search(why, found), found
    assert re.search(r"cases of results.csv, [1-9]", found)


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be_used_are_left_out_by_name(name, damaged, capsys):
    damage, why = FILES[name]
    damage(damaged)
    found = cautions_of(damaged, capsys)
    assert re.search(f"Left out, since it cannot be used: .*({why})", found), found


def test_files_of_different_times_are_told_apart(damaged, capsys):
    edit(damaged, lambda content: [one.update(run_means=[0.123]) for one in content["summary"][:3]])
    found = cautions_of(damaged, capsys)
    assert re.search(r"results.json and results.csv contradict each other in 3 of \d+ means", found)
    assert "Start the benchmark once more" in found


def test_a_loss_that_is_no_number_is_told(damaged, capsys):
    for path in damaged.rglob("training_log_*.txt"):
        path.write_text(re.sub(r"train_loss \S+", "train_loss nan", path.read_text(), count=2))
    assert "Not finite (NaN or infinite), and so not drawn: train_loss of" in cautions_of(damaged, capsys)


@pytest.mark.parametrize("option", ["--markdown", "--csv"])
def test_tables_are_made_of_the_rest_too(option, damaged, capsys):
    edit(damaged, lambda content: content["runs"][1].update(seed="x"))
    assert cli.main(["report", "-i", str(damaged), option]) == 0
    assert re.search(r"Of this benchmark, \d+ things could not be used:\n  Left out", capsys.readouterr().err)
    if option == "--markdown":
        assert "- Left out, since it cannot be used: entries of results.json, 1:" in (damaged / "report.md").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:300],
        lambda text: "[]",
        lambda text: text.replace('"status": "ok"', '"status": "fine"', 1),
        lambda text: text.replace('"dice"', '"hd95"', 1),
        lambda text: json.dumps({"../x": json.loads(text)["q0_frame01"]}),
    ],
)
def test_one_run_with_damaged_scores_costs_the_others_nothing(damage, damaged, capsys):
    path = damaged / "runs" / run(damaged, 1)["run"] / "scores.json"
    path.write_text(damage(path.read_text()))
    results.write_results(plan.load_study(damaged))
    assert "Not complete: 5 of 6 runs are done (1 failed)" in cautions_of(damaged, capsys)
    assert "scores.json" in run(damaged, 1)["error"]
    assert "Delete it and start again" in run(damaged, 1)["error"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.pop("runs"), "'runs' is missing"),
        (lambda c: c.update(runs={}), "runs must be a list"),
        (lambda c: c.update(summary=None), "summary must be a list, got null"),
        (lambda c: c["study"].update(seeds="01"), "study.seeds must be a list"),
        (lambda c: c["study"].update(folds={"x": {}}), "study.folds must have whole numbers as names"),
        (lambda c: c["study"].update(dataset="../../etc"), "study.dataset cannot be '../../etc'"),
        (lambda c: c["study"].update(plans="x" * 10**6), "study.plans cannot be"),
        (lambda c: c["study"].update(group="((("), "study.group cannot be used"),
        (lambda c: c["study"].update(configurations=[]), "study.configurations is empty"),
        (lambda c: c["study"].update(settings={"x": [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]}), "nested deeper"),
        (lambda c: c.update(baseline="nnUNetTrainerOther"), "the baseline 'nnUNetTrainerOther' is none of"),
        (lambda c: c["cases"]["folder"].update({"0": "/etc"}), r"cases.folder['0'] cannot be '/etc'"),
        (lambda c: c["cases"]["folder"].pop("0"), "cases.folder lacks fold 0"),
        (lambda c: c["cases"]["groups"].update({"../x": "q"}), "a name in cases.groups cannot be '../x'"),
        (lambda c: c.update(format="1"), "has format '1'"),
    ],
)
def test_what_no_page_can_be_made_of_is_refused_by_name(damage, message, damaged, capsys):
    edit(damaged, damage)
    assert cli.main(["report", "-i", str(damaged)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "results.json" in error
    assert "Start the benchmark once more" in error
    assert len(error) < 5000
    assert not (damaged / "report.html").exists()


def test_texts_that_look_like_formulas_are_none_in_the_tables_and_come_back(damaged, capsys):
    for path in damaged.glob("runs/*/scores.json"):
        path.write_text(path.read_text().replace('"RV"', '"=cmd()"'))
    results.write_results(plan.load_study(damaged))
    _, rows, _ = read_results(damaged)
    assert "=cmd()" in {row.score.label for row in rows}
    assert cli.main(["report", "-i", str(damaged), "--csv"]) == 0
    for name in ("results.csv", "report.csv"):
        text = (damaged / name).read_text()
        assert ",'=cmd()," in text
        assert ",=cmd()" not in text


def test_a_missing_table_is_refused_with_its_remedy(damaged):
    (damaged / "results.csv").unlink()
    with pytest.raises(UserError, match=r"results.csv cannot be read .*Start the benchmark once more"):
        read_benchmark(damaged)

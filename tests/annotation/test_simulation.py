"""``benchmarks/suggest.py`` and ``partial.py`` with trainings of two steps, in this process."""

import csv
import importlib
import json
import math
import os
import re
import sys
from pathlib import Path

import pytest
import SimpleITK
import tiny_nnunet
import torch

from nnunet_semisam.annotation.predict import predict_folder
from nnunet_semisam.jobs.processes import CommandFailedError
from nnunet_semisam.runs import model_run
from nnunet_semisam.runs.raw_images import ModelPlace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.suggest")


@pytest.fixture
def partial(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.partial")


def predict_here(results, arguments):
    words = dict(zip(arguments[::2], arguments[1::2], strict=False))
    folder = results / words["-d"] / f"{words['-tr']}__{words['-p']}__{words['-c']}"
    place = ModelPlace(folder, (words["-f"],))
    predict_folder(place, Path(words["-i"]), Path(words["-o"]), "cpu", mirroring=False, uncertainty=False)


@pytest.fixture
def commands(monkeypatch):
    """Run nnU-Net's commands in this process, and return their stages; ``dies`` ends the next one of a stage."""
    calls, dies = [], set()

    def run(stage, entry, arguments, folder, environment, title):
        calls.append(stage)
        folder.mkdir(parents=True, exist_ok=True)
        if stage in dies:
            dies.remove(stage)
            raise CommandFailedError(stage, -9, "killed")
        before, words = dict(os.environ), list(sys.argv)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [title, *arguments]
        try:
            if stage == "predict":  # nnU-Net's own command starts processes, which take most of the time
                predict_here(Path(os.environ["nnUNet_results"]), arguments)
            else:
                module, function = entry.split(":")
                getattr(importlib.import_module(module), function)()
        finally:
            os.environ.clear()
            os.environ.update(before)
            sys.argv = words
            torch.set_num_threads(1)

    monkeypatch.setattr(model_run, "run_measured", run)
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *args: None)
    trainer = "nnunet_semisam.training.trainer.SemiSupervisedTrainer"
    monkeypatch.setattr(f"{trainer}.perform_actual_validation", lambda self, save_probabilities=False: None)
    return calls, dies


def test_labels_grow_by_each_rule_and_a_kill_loses_one_step(simulation, commands, tiny_dataset, tmp_path, capsys):
    calls, dies = commands
    words = ["-d", "901", "-c", "2d", "-o", str(tmp_path / "out"), "--rules", "entropy", "--budgets", "1", "2"]
    words += ["--seeds", "3", "--judged", "2", "--epochs", "1", "--iterations", "2", "-device", "cpu"]
    dies.add("predict")
    with pytest.raises(CommandFailedError):
        simulation.main(words)
    assert calls == ["train", "predict"]
    assert simulation.main(words) == 0
    assert calls == ["train", "predict", "predict", "train", "predict", "train", "predict"]
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rule"], row["budget"]) for row in rows] == [
        ("random", "1"),
        ("random", "2"),
        ("entropy", "1"),
        ("entropy", "2"),
    ]
    judged = {file.name[:5] for file in (tmp_path / "out" / "judged").iterdir()}
    assert len(judged) == 2
    for row in rows:
        assert not judged & set(row["chosen"].split())
    first = json.loads((tmp_path / "out" / "seed_3" / "start_1" / "result.json").read_text())["labeled"]
    for rule in ("random", "entropy"):
        found = json.loads((tmp_path / "out" / "seed_3" / f"{rule}_2" / "result.json").read_text())["labeled"]
        assert set(first) < set(found) <= set(tiny_nnunet.LABELED) - judged
    assert simulation.main(words) == 0
    assert len(calls) == 7  # nothing was done again
    assert "entropy" in capsys.readouterr().out


def test_summary_is_the_paired_difference_from_chance(simulation):
    dice = {"random": {0: {"a": 0.6, "b": 0.8}, 1: {"a": 0.5, "b": 0.7}}}
    dice["entropy"] = {seed: {case: value + 0.03 for case, value in of.items()} for seed, of in dice["random"].items()}
    found = simulation.summary({(rule, 4): of_rule for rule, of_rule in dice.items()})
    assert found == [
        "4 labels, entropy (2 seeds): 65.0 -> 68.0, +3.0 [+3.0, +3.0], p 0.500 over cases, p 0.500 over seeds"
    ]


def test_budgets_that_do_not_rise_and_too_few_cases_are_refused(simulation, tiny_dataset, tmp_path, capsys):
    words = ["-d", "901", "-c", "2d", "-o", str(tmp_path / "out"), "--judged", "2"]
    assert simulation.main([*words, "--budgets", "2", "1"]) == 2
    assert "must rise" in capsys.readouterr().err
    assert simulation.main([*words, "--budgets", "1", "5"]) == 2
    assert "too few" in capsys.readouterr().err


def test_the_same_cases_judge_whole_cases_and_slices_of_more(partial, commands, tiny_dataset, tmp_path, capsys):
    calls, dies = commands
    words = ["-d", "901", "--sparse-dataset", "901", "-c", "2d", "-o", str(tmp_path), "--whole", "1", "--sparse", "3"]
    words += ["--seeds", "5", "--epochs", "1", "--iterations", "2", "-device", "cpu"]
    dies.add("predict")
    with pytest.raises(CommandFailedError):
        partial.main(words)
    assert partial.main(words) == 0
    assert calls == ["train", "predict", "predict", "train", "predict"]
    results = [
        json.loads((tmp_path / name / "seed_5" / f"{name}_{count}" / "result.json").read_text())
        for name, count in (("whole", 1), ("sparse", 3))
    ]
    judged = tiny_nnunet.SPLITS[0]["val"]
    assert set(results[0]["labeled"]) < set(results[1]["labeled"]) <= set(tiny_nnunet.LABELED) - set(judged)
    for result in results:
        assert list(result["dice"]) == judged
    said = capsys.readouterr().out.splitlines()[-1]
    stages = importlib.import_module("benchmarks._stages")
    dice = stages.read_dice(tmp_path / "dice.csv")
    assert said == f"whole -> sparse: {stages.compare_stages(dice['whole'], dice['sparse'])}"
    assert {name: sorted(by_seed[5]) for name, by_seed in dice.items()} == {"whole": judged, "sparse": judged}


def test_the_comparison_is_paired_by_seed_and_case(partial):
    whole = {0: {"a": 0.5, "b": 0.6}, 1: {"a": 0.7, "b": 0.4}}
    sparse = {0: {"a": 0.6, "b": 0.6}, 1: {"a": 0.8, "b": 0.6}}
    line = partial.compare_stages(whole, sparse)
    assert line.startswith("55.0 -> 65.0, +10.0 [")  # differences 10, 0, 10 and 20
    assert "p 0.500 over cases" in line  # two of one sign: 2 / 2^2


def test_the_published_study_of_slices_follows_from_the_dice_of_its_cases(partial):
    """Docs and README give what the table of all judged cases says."""
    stages = importlib.import_module("benchmarks._stages")
    dice = stages.read_dice(ROOT / "docs" / "measured" / "acdc_whole_or_slices.csv")
    line = partial.compare_stages(dice["whole"], dice["sparse"])
    means, difference = re.match(r"(\S+ -> \S+), (\+.*\]), p < 0.001 over cases, p 0.125 over seeds", line).groups()
    first, second = means.split(" -> ")
    annotate, readme = ((ROOT / file).read_text(encoding="utf-8") for file in ("docs/annotate.md", "README.md"))
    assert f"| {first} | **{second}** | **{difference}** | < 0.001, 0.125 |" in annotate
    assert f"{means} Dice, {difference}" in " ".join(readme.split())
    assert f"slices: {difference} on ACDC" in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_the_published_study_of_suggestions_follows_from_the_dice_of_its_cases():
    stages = importlib.import_module("benchmarks._stages")
    dice = stages.read_dice(ROOT / "docs" / "measured" / "hippocampus_suggest.csv")
    annotate = (ROOT / "docs" / "annotate.md").read_text(encoding="utf-8")
    for budget in (4, 8):
        cells = []
        for rule in ("diversity", "disagreement"):
            line = stages.compare_stages(dice[f"random {budget}"], dice[f"{rule} {budget}"])
            chance, mean, rest, p = re.match(r"(\S+) -> (\S+), (.*\]), .*p (\S+) over seeds", line).groups()
            cells.append(f"{mean}, {rest}, p {p}")
        assert f"| {budget} | {chance} | {' | '.join(cells)} |" in annotate


def test_only_voxels_with_a_label_are_counted(partial, tiny_dataset):
    dataset = partial.open_dataset("901", "nnUNetPlans")
    whole = partial.Study(dataset, "2d", "nnUNetPlans", "", {}, [], [], "cpu", tiny_dataset)
    size = math.prod(tiny_nnunet.SHAPE)
    assert partial.annotated_voxels(whole, ["case0", "case1"]) == 2 * size
    label = next(dataset.raw.glob("labelsTr/case0*"))
    image = SimpleITK.ReadImage(str(label))
    array = SimpleITK.GetArrayFromImage(image)
    array[1:] = 3
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(label))
    dataset.dataset_json["labels"]["ignore"] = 3
    assert partial.annotated_voxels(whole, ["case0", "case1"]) == size + size // tiny_nnunet.SHAPE[0]


def test_numbers_that_do_not_fit_are_refused(partial, tiny_dataset, tmp_path, capsys):
    words = ["-d", "901", "--sparse-dataset", "901", "-c", "2d", "-o", str(tmp_path)]
    assert partial.main([*words, "--whole", "3", "--sparse", "2"]) == 2
    assert "up to the 5 cases that do not judge" in capsys.readouterr().err


def test_fewer_candidates_are_some_of_all_and_none_of_the_judged(simulation, tiny_dataset, tmp_path, capsys):
    words = ["-d", "901", "-c", "2d", "-o", str(tmp_path / "out"), "--budgets", "1", "2", "--judged", "2"]
    words += ["-device", "cpu"]
    everyone = simulation.study_of(simulation.build_parser().parse_args(words))
    few = simulation.study_of(simulation.build_parser().parse_args([*words, "--candidates", "3"]))
    assert len(few.candidates) == 3
    assert set(few.candidates) < set(everyone.candidates)
    assert few.judged == everyone.judged
    assert simulation.main([*words, "--candidates", "5"]) == 2
    assert "2 judged, 5 to choose from" in capsys.readouterr().err

"""Every benchmark runs from its command line to its ratio. The figures of so small a run mean nothing."""

import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SIZES = {"patch-size": [32, 32], "batch-size": [2], "features": [4, 8, 8], "shape": [3, 40, 40], "cases": [2]}
SMALL = ["--device", "cpu", "--repeats", "1"]
SMALL += [word for name, values in SIZES.items() for word in (f"--{name}", *map(str, values))]
RATIO = re.compile(r"(\d[\d.e+-]*) x")


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    modules = set(sys.modules)

    def run_main(name, *arguments):
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        module.main([*arguments])
        return capsys.readouterr().out

    yield run_main
    for name in {"_measure", "_plans", "_tiny"} & (set(sys.modules) - modules):
        del sys.modules[name]


def ratios(text):
    return [float(value) for value in RATIO.findall(text)]


def test_step_prints_a_ratio_for_each_trainer_and_leaves_the_environment_alone(run, tmp_path):
    before = {name: value for name, value in os.environ.items() if name.startswith("nnUNet")}
    text = run("step", *SMALL, "--no-memory", "--json", str(tmp_path / "step.json"))
    figures = json.loads((tmp_path / "step.json").read_text())["trainers"]
    assert list(figures) == ["nnU-Net", "Supervised", "MeanTeacher", "SemiSAM", "SemiSAM-half"]
    assert figures["nnU-Net"]["time_ratio"] == 1
    assert "MeanTeacher, time: " in text
    assert "SemiSAM, time: " in text
    assert all(ratio > 0 for ratio in ratios(text))
    assert {name: value for name, value in os.environ.items() if name.startswith("nnUNet")} == before


def test_loader_prints_ratios_with_and_without_pseudo_labels(run):
    text = run("loader", *SMALL)
    assert text.count("| unlabeled, scale") == 4
    assert len(ratios(text)) >= 10
    assert min(ratios(text)) > 0


def test_generalists_are_timed_and_compared_with_one_at_a_time(run, tmp_path):
    sizes = ["--cases", "2", "--labeled", "1", "--shape", "2", "40", "40"]
    text = run("generalists", "--device", "cpu", *sizes, "--json", str(tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == ["nano", "prototypes"]
    assert figures["nano"]["prompts"] > 0
    assert figures["nano"]["naive_encode"] > 0
    assert figures["prototypes"]["naive_encode"] is None, "nothing is prompted"
    assert all(0 <= each["both"] <= 1 for each in figures.values())
    assert "| nano |" in text


def test_a_model_whose_weights_are_not_here_is_timed_with_random_ones_and_has_no_dice(run, tmp_path):
    sizes = ["--cases", "2", "--labeled", "1", "--shape", "2", "40", "40", "--no-naive"]
    file = ["--json", str(tmp_path / "figures.json")]
    run("generalists", "--device", "cpu", "--models", "lite_medsam", "--random-weights", *sizes, *file)
    (figures,) = json.loads((tmp_path / "figures.json").read_text()).values()
    assert figures["encode"] > figures["read"] > 0
    assert "both" not in figures


def test_decoding_at_once_agrees_with_segment_anything_prompt_by_prompt(run):
    text = run("sam_decode", "--device", "cpu", "--random", "--prompts", "3", "--slices", "2", "--repeats", "1")
    assert len(ratios(text)) == 6
    assert float(re.search(r"difference of logits: (\S+)", text)[1]) <= 1e-4


def test_stage_prints_its_share_and_finds_all_embeddings_the_second_time(run, tmp_path):
    text = run("sam_stage", *SMALL, "--json", str(tmp_path / "stage.json"))
    rounds = json.loads((tmp_path / "stage.json").read_text())["rounds"]
    assert rounds["cold"]["seconds_per_case"] > 0
    hits = dict(re.findall(r"^\| (cold|embeddings cached) \|.* (\d+)% \|$", text, re.MULTILINE))
    assert hits == {"cold": "0", "embeddings cached": "100"}
    assert "Stage : training, cached: " in text
    assert 0 < ratios(text)[-1] < 1


def test_growth_measures_a_pool_and_says_which_figure_grows_faster_than_it_may(run):
    found = json.loads(run("growth", "--device", "cpu", "--repeats", "1", "--of", "5").splitlines()[-1])
    growth = sys.modules["benchmark_growth"]
    assert found.keys() == growth.EXPECTED.keys()
    # resident memory may shrink meanwhile: kernels take back pages that nobody looked at
    assert all(value > 0 for name, value in found.items() if not name.startswith("memory"))
    figures = dict.fromkeys(growth.EXPECTED, 1.0)
    text = growth.report({10: figures, 100: figures | {"batch, ms": 2.0, "resume, s": 9.0}})
    missed = [line.split(" | ")[0] for line in text.splitlines() if "MISSED" in line]
    assert missed == ["| batch, ms"]


def write_log(folder, epochs):
    """Write a log as nnU-Net does: seconds and Dice of two classes of each epoch."""
    folder.mkdir()
    lines = []
    for epoch, (seconds, dice) in enumerate(epochs):
        lines += [f"Epoch {epoch}", f"Pseudo dice [np.float32({dice - 0.1}), np.float32({dice + 0.1})]"]
        lines += [f"Epoch time: {seconds} s"]
    text = "".join(f"2026-01-01 00:00:00.000000: {line}\n" for line in lines)
    (folder / "training_log_2026_1_1_00_00_00.txt").write_text(text)


def test_trainings_are_compared_after_equal_times_and_at_equal_dice(run, tmp_path):
    write_log(tmp_path / "fast", [(10, 0.2), (10, 0.4), (10, 0.6), (10, 0.6)])
    write_log(tmp_path / "slow", [(20, 0.4), (20, 0.8), (20, 0.8)])
    folders = [f"{name}={tmp_path / name}" for name in ("fast", "slow")]
    picture, figures = tmp_path / "dice.png", tmp_path / "dice.json"
    text = run("wall_clock", *folders, "--rows", "2", "--picture", str(picture), "--json", str(figures))
    assert json.loads(figures.read_text())["fast"]["seconds"] == [10, 20, 30, 40]
    assert json.loads(figures.read_text())["fast"]["dice"] == pytest.approx([0.2, 0.3, 0.4, 0.5])  # medians so far
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert "| 20 | 0.300 | 0.400 |" in rows
    assert "| 40 | 0.500 | 0.600 |" in rows
    assert "| 0.800 |  | 60 |" in rows
    assert picture.is_file()


def test_a_folder_without_a_log_is_named(run, tmp_path):
    with pytest.raises(SystemExit, match="does not tell seconds and Dice"):
        run("wall_clock", f"a={tmp_path}")

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
    assert all(value > 0 for value in found.values())
    growth = sys.modules["benchmark_growth"]
    figures = dict.fromkeys(growth.EXPECTED, 1.0)
    text = growth.report({10: figures, 100: figures | {"batch, ms": 2.0, "resume, s": 9.0}})
    missed = [line.split(" | ")[0] for line in text.splitlines() if "MISSED" in line]
    assert missed == ["| batch, ms"]

"""``benchmarks/suggest.py`` with trainings of two steps, in this process."""

import csv
import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
import tiny_nnunet
import torch

from nnunet_semisam.annotation.predict import predict_folder
from nnunet_semisam.annotation.trained_model import ModelPlace
from nnunet_semisam.jobs.processes import CommandFailedError
from nnunet_semisam.runs import model_run

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "suggest.py"


@pytest.fixture
def simulation(monkeypatch):
    spec = importlib.util.spec_from_file_location("benchmark_suggest", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


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
    rows = [
        {"seed": seed, "rule": rule, "budget": 4, "dice": dice}
        for seed, chance, entropy in ((0, 0.70, 0.75), (1, 0.60, 0.61))
        for rule, dice in (("random", chance), ("entropy", entropy))
    ]
    found = simulation.summary(rows)
    assert [(row["rule"], row["dice"]) for row in found] == [("entropy", "0.6800"), ("random", "0.6500")]
    assert found[0]["over random"] == "+0.0300 +/- 0.0392"  # 1.96 * 0.0283 / sqrt(2)
    assert "over random" not in found[1]


def test_budgets_that_do_not_rise_and_too_few_cases_are_refused(simulation, tiny_dataset, tmp_path, capsys):
    words = ["-d", "901", "-c", "2d", "-o", str(tmp_path / "out"), "--judged", "2"]
    assert simulation.main([*words, "--budgets", "2", "1"]) == 2
    assert "must rise" in capsys.readouterr().err
    assert simulation.main([*words, "--budgets", "1", "5"]) == 2
    assert "too few" in capsys.readouterr().err

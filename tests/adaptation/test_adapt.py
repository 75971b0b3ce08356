"""`nnunet-semisam sam adapt` on the tiny dataset: from the labeled cases of a fold to a file that trainings read."""

from __future__ import annotations

from pathlib import Path

import hidden_labels
import pytest
import tiny_nnunet
import torch
import yaml

from nnunet_semisam import cli
from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.build import backend_of_settings
from nnunet_semisam.sam.adapters import training
from nnunet_semisam.sam.adapters.adapter_file import AdapterRecord, read_adapter, write_adapter
from nnunet_semisam.sam.adapters.parts import PartsRecord
from nnunet_semisam.settings import Settings

FAST = {"steps": 2, "validate_every": 1, "most_holdout_images": 2, "images": 1, "prompts": 1, "learning_rate": 1e-3}


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({"adaptation": FAST}))
    monkeypatch.setenv("nnUNet_semisam_config", str(path))
    return path


@pytest.fixture
def always_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every look at the hold-out be better than the one before: two steps on noise need not be."""
    looks = []
    real = training.holdout_dice

    def rising(*args):
        looks.append(1)
        return real(*args) | {"mean": 0.001 * len(looks)}

    monkeypatch.setattr(training, "holdout_dice", rising)


def adapt(out: Path, *more: str) -> int:
    words = ["sam", "adapt", "-d", "901", "-f", "0", "-c", "2d", "--out", str(out), "--device", "cpu", *more]
    return cli.main(words)


@pytest.mark.usefixtures("tiny_dataset", "settings_file", "always_better")
def test_the_file_says_where_it_comes_from_and_trainings_read_it(tmp_path, capsys):
    assert adapt(tmp_path / "out") == 0
    out = capsys.readouterr().out
    file = tmp_path / "out" / "adapter.safetensors"
    assert f"nano: {{adapter: {file}}}" in out
    assert "Hold-out: 1 of 2 patients (case" in out
    record: AdapterRecord = read_adapter(file).record
    assert (record.model, record.dataset, record.configuration, record.fold) == ("nano", tiny_nnunet.DATASET, "2d", "0")
    assert (record.cases, record.steps, record.parts.train) == (("case0", "case1"), 2, "all")
    assert record.settings["learning_rate"] == 1e-3
    assert len(record.learned) == 1, "the other one is held out"
    assert not (tmp_path / "out" / "checkpoint_adapt.pt").exists()
    frozen, adapted = (
        backend_of_settings("nano", Settings.of(nano={"adapter": adapter}), torch.device("cpu"))
        for adapter in (None, str(file))
    )
    assert frozen.fingerprint != adapted.fingerprint
    assert adapt(tmp_path / "out") == 2
    assert "is there already. Delete it" in capsys.readouterr().err


@pytest.mark.usefixtures("settings_file", "always_better")
def test_hidden_and_validation_labels_do_not_change_a_single_bit_of_the_adapter(tiny_dataset, tmp_path, monkeypatch):
    assert adapt(tmp_path / "before", "--steps", "1") == 0
    monkeypatch.setattr(hidden_labels, "HIDDEN", [*hidden_labels.HIDDEN, *tiny_nnunet.SPLITS[0]["val"]])
    hidden_labels.fill_hidden_labels_with_noise(tiny_dataset)
    assert adapt(tmp_path / "after", "--steps", "1") == 0
    before, after = (read_adapter(tmp_path / name / "adapter.safetensors") for name in ("before", "after"))
    assert before.record.data == after.record.data
    assert all(torch.equal(before.state[name], after.state[name]) for name in before.state)


@pytest.mark.usefixtures("tiny_dataset", "settings_file")
def test_a_model_that_gets_no_better_is_not_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "holdout_dice", lambda *args: {"1": 0.5, "mean": 0.5})
    assert adapt(tmp_path / "out") == 1
    assert "nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "out" / "adapter.safetensors").exists()


def write_adapter_of(path: Path, cases: list[str]) -> str:
    parts = PartsRecord("all", 4, 4.0, (), "mask_decoder")
    about = ("nano", "0" * 64, parts, tiny_nnunet.DATASET, "nnUNetPlans", "2d", "1")
    record = AdapterRecord(*about, tuple(cases), tuple(cases[1:]), "1 of 4 patients", "1" * 64, 9, 5, 0.5, 0.6, {}, {})
    write_adapter(path, record, {"weight": torch.zeros(1)})
    return str(path)


def test_a_training_refuses_an_adapter_that_saw_its_hidden_or_validation_labels(build_trainer, tmp_path):
    of_fold_1 = write_adapter_of(tmp_path / "adapter.safetensors", tiny_nnunet.SPLITS[1]["train"])
    with pytest.raises(UserError, match=r"adapted to 2 case\(s\) whose labels this fold validates on or hides, case2"):
        build_trainer(use_sam=True, nano={"adapter": of_fold_1}).fold_cases()
    trains_without = build_trainer(use_sam=False, nano={"adapter": of_fold_1})
    assert trains_without.fold_cases().train == tiny_nnunet.SPLITS[0]["train"]
    of_fold_0 = write_adapter_of(tmp_path / "adapter.safetensors", tiny_nnunet.SPLITS[0]["train"])
    assert build_trainer(use_sam=True, nano={"adapter": of_fold_0}).fold_cases().train == tiny_nnunet.SPLITS[0]["train"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-f", "first"), "-f must be a number or 'all', got 'first'"),
        (("-c", "3d_lowres"), "have no configuration '3d_lowres'"),
        (("-d", "902"), "There is no dataset 902 in "),
        (("--steps", "0"), "steps must be at least 1"),
    ],
)
@pytest.mark.usefixtures("tiny_dataset")
def test_mistakes_are_named(tmp_path, capsys, words, message):
    assert adapt(tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err

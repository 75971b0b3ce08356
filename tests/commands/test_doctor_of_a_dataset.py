"""What the doctor finds in a planned dataset; nothing is written."""

import sys
from pathlib import Path

import pytest

from nnunet_semisam import cli
from nnunet_semisam.commands import doctor

sys.path.append(str(Path(__file__).parents[1] / "benchmark"))
import small_dataset


@pytest.fixture
def raw(tmp_path, monkeypatch):
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.delenv("nnUNet_semisam_config", raising=False)
    return small_dataset.make(tmp_path)


@pytest.fixture
def dataset(raw, monkeypatch):
    """A small planned dataset, and a doctor that looks at nothing else."""
    monkeypatch.setattr(doctor, "CHECKS", ())
    return raw.parents[1] / "preprocessed" / small_dataset.NAME


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_healthy_dataset_has_no_finding_and_nothing_is_written(dataset, raw, capsys):
    before = tree(raw.parents[1])
    assert cli.main(["doctor", "-d", "3"]) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert "2d fold 0 unlabeled" in out
    assert "3d_fullres fold 1 SAM" in out
    assert tree(raw.parents[1]) == before


def test_a_dataset_without_splits_is_looked_at_and_gets_none(dataset, raw, capsys):
    (dataset / "splits_final.json").unlink()
    assert cli.main(["doctor", "-d", "3", "-c", "2d", "--deep"]) == 0
    assert "a training makes one" in capsys.readouterr().out
    assert not (dataset / "splits_final.json").exists()


def test_all_that_is_wrong_with_a_dataset_is_said_at_once(dataset, capsys):
    folder = dataset / "nnUNetPlans_2d"
    (folder / "p0_frame01.b2nd").write_bytes(b"")
    (folder / "p0_frame09.pkl").unlink()
    (dataset / "nnUNetPlans_2d_unlabeled" / "u1_frame01.b2nd").write_bytes(b"x")
    assert cli.main(["doctor", "-d", "3", "-c", "2d", "-f", "0", "-tr", "nnUNetTrainerMeanTeacher"]) == 1
    out = capsys.readouterr().out
    assert all(name in out for name in ("p0_frame01.b2nd", "p0_frame09.pkl", "u1_frame01.b2nd", "3 would stop"))
    (folder / "p0_frame09.pkl").write_bytes(b"")
    assert cli.main(["doctor", "-d", "3", "-c", "2d", "-f", "0", "-tr", "nnUNetTrainerSupervised"]) == 1
    assert "u1_frame01" not in capsys.readouterr().out  # which opens no unlabeled case


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-d", "9999"], "There is no dataset 9999 in"),
        (["-d", "abc"], "named by its id"),
        (["-d", ""], "named by its id"),
        (["-d", "-3"], "named by its id"),
        (["-d", "3", "-f", "7"], "no fold '7'"),
        (["-d", "3", "-f", "x"], "no fold 'x'"),
        (["-d", "3", "-c", "9d"], "no configuration '9d'"),
        (["-d", "3", "-p", "nnUNetPlansX"], "There is no"),
        (["-d", "3", "-tr", "../evil"], "a trainer is named by its class"),
        (["-d", "3", "-tr", ""], "a trainer is named by its class"),
    ],
)
def test_odd_questions_are_findings(dataset, capsys, words, message):
    assert cli.main(["doctor", *words]) == 1
    assert message in capsys.readouterr().out

"""What we assume about nnU-Net. A red test here means: read nnU-Net's change log before touching our code."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_semisam.training.trainer import SemiSupervisedTrainer

ROOT = Path(__file__).parents[2]
TRAINER_FILES = sorted((ROOT / "trainers").glob("nnUNetTrainer*.py"))


def test_constructor_keeps_nnunets_parameters():
    """nnU-Net looks each parameter of the subclass up in its own frame: a sixth would be a KeyError."""
    ours, theirs = (inspect.signature(c.__init__).parameters for c in (SemiSupervisedTrainer, nnUNetTrainer))
    assert list(ours) == list(theirs)


@pytest.mark.parametrize("file", TRAINER_FILES, ids=lambda file: file.stem)
def test_nnunet_finds_every_trainer_by_name(file, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(ROOT / "trainers"))
    trainer = recursive_find_trainer_class_by_name(file.stem)
    assert trainer.__name__ == file.stem
    assert trainer.__mro__[1].__module__ == "nnunet_semisam.training.trainer"


@pytest.mark.parametrize("file", TRAINER_FILES, ids=lambda file: file.stem)
def test_a_trainer_is_a_name_for_a_configuration(file):
    """No logic in trainers/: one class, one statement besides its docstring."""
    classes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == [file.stem]
    assert [type(node) for node in classes[0].body] == [ast.Expr, ast.Assign]


def test_finding_a_trainer_loads_no_sam():
    """nnU-Net imports every module it passes; a missing optional package there would break stock trainers too."""
    code = (
        "import sys; from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find; "
        "find('nnUNetTrainerSemiSAM'); print([m for m in sys.modules if m.startswith('segment_anything')])"
    )
    environment = {"nnUNet_extTrainer": str(ROOT / "trainers"), "PYTHONPATH": str(ROOT), "PATH": ""}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith("[]")


def test_only_hooks_of_nnunet_are_overridden():
    """Every public method of ours that nnU-Net calls exists there under the same name."""
    ours = {name for name, member in vars(SemiSupervisedTrainer).items() if inspect.isfunction(member)}
    new = {name for name in ours if not name.startswith("_") and not hasattr(nnUNetTrainer, name)}
    assert new == {"fold_cases"}

"""Fixtures that several folders of tests share."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import threads_for_pools
import tiny_nnunet
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what should be built once: workers take over what stands at the end of another's tests."""
    items.sort(key=lambda item: "rank_files" not in getattr(item, "fixturenames", ()))


def pytest_configure() -> None:
    threads_for_pools.install()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 1 MiB, to be filled; skipped where this user may not mount one."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def prepared_dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny dataset, preprocessed for 2d and 3d_fullres. Never change it: copy it."""
    root = tmp_path_factory.mktemp("tiny_nnunet")
    before = dict(os.environ)
    os.environ.update(tiny_nnunet.environment(root) | {"nnUNet_n_proc_DA": "1"})  # the planner refuses 0
    try:
        yield tiny_nnunet.make(root, ("2d", "3d_fullres"))
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def tiny_dataset(prepared_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny dataset that a test may change, with nnU-Net's variables pointing at it."""
    root = tiny_nnunet.copy_of(prepared_dataset, tmp_path / "nnunet")
    for name, value in tiny_nnunet.environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("nnUNet_semisam_config", raising=False)
    return root


@pytest.fixture
def sam_active(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make SAM active in every class: on an untrained network the calibration rightly switches it off."""
    from nnunet_semisam.generalists.weights import GeneralistWeights
    from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable

    def unmeasured(table: CalibrationTable) -> tuple[GeneralistWeights, ...]:
        channels = len(table.classes) // len(table.generalists)
        return (GeneralistWeights.unmeasured(channels),) * len(table.generalists)

    monkeypatch.setattr(CalibrationTable, "weights", property(unmeasured))


@pytest.fixture
def small_sam(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take a small nano SAM with random weights: most of a tiny training with the shipped one is that SAM."""
    import small_nano

    small_nano.use(monkeypatch, tmp_path)


@pytest.fixture
def search_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nnU-Net search for trainers in this process; ``test_doctor.py`` sees the search in one of its own."""
    from nnunet_semisam.checks import find_trainers, trainers

    def here(names: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            return {name: trainers.Found(**find_trainers.look_for(name)) for name in names}

    monkeypatch.setattr(trainers, "find_trainers", here)


@pytest.fixture
def fewer_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nnU-Net's fingerprint draw a million voxels; it draws 100 million, and sorts them for seconds."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

    original = DatasetFingerprintExtractor.__init__

    def fewer(self: Any, *words: Any, **options: Any) -> None:
        original(self, *words, **options)
        self.num_foreground_voxels_for_intensitystats = 1_000_000

    monkeypatch.setattr(DatasetFingerprintExtractor, "__init__", fewer)


@pytest.fixture
def build_trainer(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that builds a trainer on the tiny dataset, on the CPU.

    It takes flat settings, and blocks as dictionaries, on top of :func:`tiny_nnunet.always_active`.
    """
    # nnU-Net's picture takes a second per epoch, most of a tiny epoch; so does ours
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *args: None)

    def build(
        configuration: str = "2d",
        fold: int | str = 0,
        resume: bool = False,
        base: type | None = None,
        picture: bool = False,
        device: torch.device | None = None,
        **settings: Any,
    ) -> Any:
        if not picture:
            monkeypatch.setattr("nnunet_semisam.training.training_log.write_progress_picture", lambda *args: None)
        from nnunet_semisam.settings import Settings
        from nnunet_semisam.training.trainer import SemiSupervisedTrainer

        resolved = Settings.of(**tiny_nnunet.always_active(**settings))

        class nnUNetTrainerTest(base or SemiSupervisedTrainer):  # noqa: N801
            settings = resolved

        folder = Path(os.environ["nnUNet_preprocessed"]) / tiny_nnunet.DATASET
        plans = json.loads((folder / f"{tiny_nnunet.PLANS}.json").read_text())
        plans["continue_training"] = resume
        dataset_json = json.loads((folder / "dataset.json").read_text())
        return nnUNetTrainerTest(plans, configuration, fold, dataset_json, device or torch.device("cpu"))

    return build

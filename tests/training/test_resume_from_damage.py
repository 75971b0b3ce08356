"""What a power cut or a rotten disk leaves of a training: it goes on with a line, or stops with the remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import blosc2
import numpy as np
import pytest
import torch

from nnunet_semisam.errors import UserError

SAM = {"use_sam": True, "sam": {"start": 0.0, "refresh_epochs": 9, "cases_per_refresh": 9, "preview_cases": 0}}
LATEST, BEST = "checkpoint_latest.pth", "checkpoint_best.pth"


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def log_of(folder: Path) -> str:
    return "\n".join(file.read_text() for file in sorted(folder.glob("training_log_*.txt")))


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where the training is kept that all tests of this file begin with."""
    return tmp_path_factory.mktemp("stopped") / "training"


@pytest.fixture
def stopped(build_trainer, sam_active, kept) -> Path:
    """The folder of a training with SAM that was stopped after the first of two epochs; it is trained once."""
    trainer = build_trainer(**SAM)
    if not kept.exists():
        stop_after_an_epoch(trainer)
        shutil.copytree(trainer.output_folder, kept)
    return Path(shutil.copytree(kept, trainer.output_folder, dirs_exist_ok=True))


def stop_after_an_epoch(trainer) -> None:
    trainer.on_epoch_end = lambda end=trainer.on_epoch_end: (
        end(),
        trainer.save_checkpoint(str(Path(trainer.output_folder) / BEST)),
        (_ for _ in ()).throw(KeyboardInterrupt),
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()


def resumed(build_trainer, folder: Path, name: str = LATEST):
    trainer = build_trainer(resume=True, **SAM)
    trainer.load_checkpoint(str(folder / name))
    return trainer


def test_a_torn_checkpoint_gives_way_to_another_and_is_named_at_the_next_write(build_trainer, stopped):
    half(stopped / LATEST)
    resumed(build_trainer, stopped).run_training()
    assert f"goes on with {BEST}" in log_of(stopped)
    (stopped / BEST).write_bytes(b"")
    trainer = resumed(build_trainer, stopped, "checkpoint_final.pth")
    trainer.save_checkpoint(str(stopped / LATEST))
    assert trainer._rounds.named_in(stopped) is None, "rounds that it may name are kept"
    assert "All rounds of pseudo-labels are kept" in log_of(stopped)


def change(**entries):
    def damage(content: dict) -> None:
        content["semisam"].update(entries)

    return damage


def nan_teacher(content: dict) -> None:
    for value in content["semisam"]["method"]["teacher"]["network"].values():
        value.fill_(torch.nan)


DAMAGES = [
    lambda content: content.pop("network_weights"),
    lambda content: content.update(current_epoch="x"),
    lambda content: content["semisam"].pop("gate"),
    lambda content: content["semisam"].pop("log"),
    lambda content: content["semisam"]["gate"]["labeled_dice"].update(size=torch.zeros(9)),
    change(log=[{"a": 1}]),
    change(student={"a": torch.zeros(1)}),
    nan_teacher,
]


def test_a_checkpoint_that_does_not_fit_is_refused_by_name_without_another(build_trainer, stopped):
    (stopped / BEST).unlink()
    whole = (stopped / LATEST).read_bytes()
    for damage in DAMAGES:
        (stopped / LATEST).write_bytes(whole)
        content = torch.load(stopped / LATEST, weights_only=False)
        damage(content)
        torch.save(content, stopped / LATEST)
        with pytest.raises(UserError, match=rf"{LATEST}.*start without --c"):
            resumed(build_trainer, stopped)


def test_a_validation_never_takes_another_checkpoint(build_trainer, stopped):
    half(stopped / LATEST)
    with pytest.raises(UserError, match="torn"):
        build_trainer(**SAM).load_checkpoint(str(stopped / LATEST))


def replace_label(array: np.ndarray):
    def damage(round_folder: Path) -> None:
        for file in (round_folder / "label").iterdir():
            file.unlink()
            blosc2.asarray(array, urlpath=str(file))

    return damage


STORES = {
    "is gone": shutil.rmtree,
    "provenance.json": lambda folder: half(folder / "provenance.json"),
    "is damaged": lambda folder: [half(file) for file in (folder / "label").iterdir()],
    "pseudo-labels of round 0 are damaged": lambda folder: half(next(iter((folder / "confidence").iterdir()))),
    "do not belong together": replace_label(np.zeros((1, 2, 9, 9), np.int8)),
}


def test_a_torn_store_is_remade_or_read_without_what_is_damaged(build_trainer, stopped):
    store, whole = stopped / "semisam_store", stopped / "whole"
    shutil.copytree(store, whole)
    for said, damage in STORES.items():
        shutil.rmtree(store)
        shutil.copytree(whole, store)
        damage(store / "round_000")
        trainer = resumed(build_trainer, stopped)
        trainer._build_unlabeled_loader()
        assert said in log_of(stopped)


def test_a_pseudo_label_of_another_class_is_found_when_it_is_read_and_the_training_goes_on(build_trainer, stopped):
    replace_label(np.full((1, 8, 40, 40), 57, np.int8))(stopped / "semisam_store" / "round_000")
    resumed(build_trainer, stopped).run_training()
    assert "it holds the label 57" in log_of(stopped)
    assert (stopped / "checkpoint_final.pth").is_file()


def test_nan_in_one_batch_changes_no_weight_and_is_counted_with_its_cases(build_trainer):
    trainer = build_trainer()
    stock, first = type(trainer).train_step, [True]

    def poisoned(batch: dict) -> dict:
        if first:
            first.pop()
            batch = {**batch, "data": batch["data"] * torch.nan}
        return stock(trainer, batch)

    trainer.train_step = poisoned
    trainer.run_training()
    folder = Path(trainer.output_folder)
    final = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert all(value.isfinite().all() for value in final["network_weights"].values())
    assert "not finite (NaN or infinite) in 1 of 2 steps" in log_of(folder)
    assert "case" in log_of(folder).split("Cases in them: ")[1]


def test_a_network_of_nan_is_never_written_over_a_checkpoint(build_trainer, stopped):
    trainer = resumed(build_trainer, stopped)
    before = (stopped / LATEST).read_bytes()
    next(trainer.network.parameters()).data.fill_(torch.nan)
    with pytest.raises(UserError, match=r"diverged.*checkpoint_latest.pth was not written"):
        trainer.save_checkpoint(str(stopped / LATEST))
    assert (stopped / LATEST).read_bytes() == before

"""Trainings of two processes, by nnU-Net's own code for several GPUs (on gloo, so it is fast enough for a test)."""

from __future__ import annotations

import ddp_training
import pytest
import tiny_nnunet
import torch
import yaml

from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.training import rank_log
from nnunet_semisam.training.rank_log import RankLog
from nnunet_semisam.training.start import LOCK_FILE

SEMISAM = (str(tiny_nnunet.DATASET_ID), "2d", "nnUNetTrainerSemiSAM")


@pytest.fixture
def begin(tiny_dataset, tmp_path, monkeypatch):
    """Write the settings of a short training with pseudo-labels, and return its output folder."""
    settings = {**tiny_nnunet.SHORT, **tiny_nnunet.ALWAYS_ACTIVE, "num_epochs": 2, "num_iterations_per_epoch": 2}
    settings |= {"mean_teacher": tiny_nnunet.AT_ONCE, "sam": {"refresh_epochs": 1, **tiny_nnunet.NO_PICTURES}}
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("nnUNet_semisam_config", str(file))
    model = "__".join((SEMISAM[2], tiny_nnunet.PLANS, SEMISAM[1]))
    return tiny_dataset / "results" / tiny_nnunet.DATASET / model / "fold_0"


def test_two_processes_see_other_patches_and_end_alike_and_a_second_start_is_refused_in_both(begin, tmp_path):
    one, other = ddp_training.train(tmp_path, SEMISAM)
    torch.testing.assert_close((one["student"], one["parts"]), (other["student"], other["parts"]), rtol=0, atol=0)
    torch.testing.assert_close(one["gate"], other["gate"], rtol=0, atol=0)
    assert one["rows"] == other["rows"]
    assert one["round"] == other["round"] == 1
    patches = [patch.tolist() for found in (one, other) for batch in found["seen"] for patch in batch]
    assert len(patches) == 2 * 2 * 2  # processes, epochs, steps: one patch each
    assert all(patches.count(patch) == 1 for patch in patches)
    lines = (begin / "semisam_rounds.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)), "each is written once"
    (log,) = begin.glob("training_log_*.txt")
    assert "Some GPUs get one unlabeled patch" in log.read_text()
    _refuses_a_second_start(begin, tmp_path)


def _refuses_a_second_start(folder, tmp_path):
    """While another training runs neither touches its file; given a checkpoint, none waits for the other."""
    half_written = folder / ".checkpoint_latest.pth.4242-abcd12345678.tmp"
    half_written.touch()
    with folder_lock(folder, wait=False, name=LOCK_FILE) as ours:
        assert ours
        with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="Another training writes"):
            ddp_training.train(tmp_path, SEMISAM, resume=True)
    assert half_written.is_file()
    said = [(tmp_path / f"process_{rank}" / "output.txt").read_text() for rank in range(2)]
    assert any("\nnnunet-semisam: " in text and "Another training writes" in text for text in said)


def test_what_another_process_met_is_in_the_log_of_process_0(monkeypatch):
    """Lines of process 1 reach the others at the end of the epoch, once."""
    written, sent = ([], []), [[], []]
    logs = [RankLog(written[rank].append, rank) for rank in (0, 1)]
    logs[0]("case0 is damaged")
    logs[1]("case1 is damaged")
    assert written == (["case0 is damaged"], [])

    for _ in range(2):
        monkeypatch.setattr(rank_log.ranks, "gathered", lambda lines: sent.append(list(lines)) or [lines])
        logs[1].end_epoch()
        monkeypatch.setattr(rank_log.ranks, "gathered", lambda lines: [lines, sent[-1]])
        logs[0].end_epoch()
    assert written == (["case0 is damaged", "Process 1: case1 is damaged"], [])

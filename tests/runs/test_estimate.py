"""Hours and disk space before a training starts."""

from __future__ import annotations

import pytest

from nnunet_semisam.runs.estimate import Training, describe, step_time

DATASET, TRAINER, PLANS = "Dataset001_A", "nnUNetTrainerSupervised", "nnUNetPlans"
NETWORK = {"features_per_stage": [800, 1600], "kernel_sizes": [[3, 3], [3, 3]], "n_stages": 2}
# two convolutions of the encoder per stage, and two of the decoder for the second, with 9 weights per pair
WEIGHTS = 9 * 800 * (1 + 800) + 9 * 1600 * (800 + 1600) + 9 * 1600 * 3 * 1600


def plans():
    return {"plans_name": PLANS, "configurations": {"2d": {"architecture": {"arch_kwargs": NETWORK}}}}


def write_log(results, seconds, name="training_log_2026_1_1_00_00_00.txt", iterations=None):
    folder = results / DATASET / f"{TRAINER}__{PLANS}__2d" / "fold_0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(f"2026-01-01 00:00:00.0: Epoch time: {s} s \n" for s in seconds))
    if iterations is not None:
        (folder / "semisam_config.yaml").write_text(f"num_iterations_per_epoch: {iterations}\n")


def test_the_step_time_is_the_median_epoch_of_the_newest_log_over_its_steps(tmp_path):
    write_log(tmp_path, [99.0])
    write_log(tmp_path, [20.0, 10.0, 30.0], "training_log_2026_2_1_00_00_00.txt", iterations=40)
    found = step_time([tmp_path], DATASET, TRAINER, PLANS, "2d")
    assert found.seconds == pytest.approx(0.5)
    assert found.log.name.startswith("training_log_2026_2")
    assert step_time([tmp_path], DATASET, "nnUNetTrainerCPS", PLANS, "2d") is None


def test_without_settings_an_epoch_has_nnunets_steps(tmp_path):
    write_log(tmp_path, [25.0])
    assert step_time([tmp_path], DATASET, TRAINER, PLANS, "2d").seconds == pytest.approx(0.1)


def test_hours_and_disk_of_several_trainings(tmp_path):
    write_log(tmp_path, [25.0])
    jobs = [Training(TRAINER, "2d", 72_000), Training(TRAINER, "2d", 72_000), Training("nnUNetTrainerCPS", "2d", 1)]
    lines = describe(jobs, plans(), DATASET, [tmp_path], tmp_path / "out")
    gib = 4 * WEIGHTS * 3 * (3 * 2 + 2) / 1024**3  # three models of two files each, and two more while one trains
    assert f"about {gib:.2f} GiB of checkpoints" in lines[1]
    assert f"{TRAINER}, 2d, 2 x: 4.0 hours (0.100 s a step" in lines[2]
    assert "nnUNetTrainerCPS, 2d, 1 x: not known" in lines[3]
    assert "hours: at least 4.0" in lines[4]


def test_a_damaged_log_or_plans_are_no_reason_to_stop(tmp_path):
    write_log(tmp_path, [])
    lines = describe([Training(TRAINER, "2d", 1)], {**plans(), "configurations": {}}, DATASET, [tmp_path], tmp_path)
    assert "disk: not known" in lines[1]
    assert "not known, no training of it" in lines[2]

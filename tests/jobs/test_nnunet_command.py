"""What nnU-Net's commands are given: results and settings of their own, our trainers, a device that is there."""

import pytest

from nnunet_semisam.jobs.nnunet_command import command_environment, device_here


def test_own_results_and_settings_reach_the_command_and_our_trainers_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", "/theirs")
    found = command_environment(tmp_path / "results", tmp_path / "settings.yaml", {"CUDA_VISIBLE_DEVICES": "2"})
    assert found["nnUNet_results"] == str(tmp_path / "results")
    assert found["nnUNet_semisam_config"] == str(tmp_path / "settings.yaml")
    assert found["CUDA_VISIBLE_DEVICES"] == "2"
    assert found["nnUNet_extTrainer"].split(":")[0] == "/theirs"
    assert found["nnUNet_extTrainer"].split(":")[1].endswith("trainers")


@pytest.mark.parametrize(("gpu", "found"), [("1", "cuda"), ("", "cpu")])
def test_a_gpu_that_a_worker_may_not_see_is_not_used(monkeypatch, gpu, found):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_here("auto", {"CUDA_VISIBLE_DEVICES": gpu}) == found
    assert device_here("cpu", {}) == "cpu"

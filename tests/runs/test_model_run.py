"""Trainings go on where they were killed."""

from nnunet_semisam.runs.model_run import resume_option


def test_checkpoints_say_how_to_go_on(tmp_path):
    assert resume_option(tmp_path) == []
    (tmp_path / "checkpoint_best.pth").touch()
    assert resume_option(tmp_path) == ["--c"]
    (tmp_path / "checkpoint_latest.pth").touch()
    assert resume_option(tmp_path) == ["--c"]
    (tmp_path / "checkpoint_final.pth").touch()
    assert resume_option(tmp_path) == ["--val"]

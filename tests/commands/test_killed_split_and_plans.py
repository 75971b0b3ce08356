"""``split`` and ``plan-mini`` that are killed at any write: the same command again goes on, and no file is torn."""

import argparse
import json
from pathlib import Path

from killed_commands import killed_at_write
from split_world import cut

from nnunet_semisam.commands import plan_mini

CUT = ("--labeled", "1", "3", "--overwrite")


def contents(folder: Path) -> dict[str, str]:
    """Return the files of a folder; whatever is hidden is on its way."""
    return {file.name: file.read_text() for file in folder.glob("*.json") if not file.name.startswith(".")}


def test_split_goes_on_wherever_it_was_killed(raw):
    folder = raw.parents[1] / "preprocessed" / raw.name
    cut(*CUT)
    whole = contents(folder)
    kills = 0
    while True:
        for name in whole:
            (folder / name).unlink()
        if not killed_at_write(kills, lambda: cut(*CUT)):
            break
        kills += 1
        torn = {name: text for name, text in contents(folder).items() if text != whole[name]}
        assert torn == {}
        cut(*CUT)
        assert contents(folder) == whole
    assert kills == 2 * len(whole)  # each file is flushed and renamed


def test_small_plans_are_whole_or_not_there(tmp_path, monkeypatch):
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
        (tmp_path / name / "Dataset003_X").mkdir(parents=True)
    folder = tmp_path / "preprocessed" / "Dataset003_X"
    network = {
        "n_stages": 3,
        "strides": [[1, 1], [2, 2], [2, 2]],
        "kernel_sizes": [[3, 3]] * 3,
        "features_per_stage": [32, 64, 128],
    }
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "patch_size": [64, 64],
        "batch_size": 4,
        "architecture": {"arch_kwargs": network},
    }
    plans = {"plans_name": "nnUNetPlans", "configurations": {"2d": configuration}}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text("{}")
    parser = argparse.ArgumentParser()
    plan_mini.add_arguments(parser)

    def command() -> None:
        plan_mini.run(parser.parse_args(["-d", "3"]))

    for number in range(2):
        assert killed_at_write(number, command)
        assert not (folder / "nnUNetPlansMini.json").exists()
    command()
    whole = contents(folder)
    assert not killed_at_write(0, command)  # the same content is there: nothing is written
    assert contents(folder) == whole

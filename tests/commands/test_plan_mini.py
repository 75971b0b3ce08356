"""``plan-mini``: plans that nnU-Net itself can build a network of, on the data of the base plans."""

import argparse
import copy
import json
import os
import runpy
from pathlib import Path

import pytest
import torch

from nnunet_semisam.commands import plan_mini
from nnunet_semisam.errors import UserError
from nnunet_semisam.small_plans import doubled, narrow

PLANS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "_plans.py"))


def configuration(patch, strides, first_kernel=3, batch=12):
    dims, stages = len(patch), len(strides)
    architecture = PLANS["architecture"](dims, [32] * stages)
    kernels = [[first_kernel] + [3] * (dims - 1)] + [[3] * dims] * (stages - 1)
    architecture["arch_kwargs"] |= {"kernel_sizes": kernels, "strides": [list(stride) for stride in strides]}
    return {
        "data_identifier": f"nnUNetPlans_{dims}d",
        "patch_size": list(patch),
        "batch_size": batch,
        "architecture": architecture,
    }


FLAT = [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2]]  # nnU-Net's for short-axis cine MRI
CUBE = [[1, 1, 1]] + [[2, 2, 2]] * 5


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A dataset whose plans have a 2D, a flat 3D, a cubic 3D and a cascaded configuration."""
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
        (tmp_path / name / "Dataset003_X").mkdir(parents=True)
    plans = {
        "plans_name": "nnUNetPlans",
        "configurations": {
            "2d": configuration((256, 224), [[1, 1]] + [[2, 2]] * 5),
            "3d_fullres": configuration((10, 256, 224), FLAT, first_kernel=1, batch=2),
            "3d_lowres": configuration((128, 128, 128), CUBE, batch=2),
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }
    folder = tmp_path / "preprocessed" / "Dataset003_X"
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text("{}")
    return folder


def plan(*options: str) -> None:
    parser = argparse.ArgumentParser()
    plan_mini.add_arguments(parser)
    plan_mini.run(parser.parse_args(["-d", "3", *options]))


def made(folder, name="nnUNetPlansMini"):
    return json.loads((folder / f"{name}.json").read_text())


def test_patch_batch_and_features_are_small_and_the_data_are_shared(planned, capsys):
    plan()
    base, mini = made(planned, "nnUNetPlans")["configurations"], made(planned)["configurations"]
    sizes = {name: (c["patch_size"], c["batch_size"]) for name, c in mini.items() if "patch_size" in c}
    assert sizes == {"2d": ([192, 192], 8), "3d_fullres": ([8, 160, 160], 2), "3d_lowres": ([64, 64, 64], 2)}
    widths = {n: c["architecture"]["arch_kwargs"]["features_per_stage"] for n, c in mini.items() if "patch_size" in c}
    assert widths["2d"] == widths["3d_fullres"] == [8, 16, 32, 64, 80, 80]
    assert widths["3d_lowres"] == [8, 16, 32, 64, 80]  # a sixth stage would see 2 x 2 x 2 voxels
    assert mini["3d_cascade_fullres"] == base["3d_cascade_fullres"]
    assert all(mini[name]["data_identifier"] == base[name]["data_identifier"] for name in sizes)
    assert "nnUNetv2_preprocess -d 3 -plans_name nnUNetPlans -c 2d" in capsys.readouterr().out


def add_configurations(planned, **more):
    content = made(planned, "nnUNetPlans")
    content["configurations"] |= more
    (planned / "nnUNetPlans.json").write_text(json.dumps(content))


def test_configuration_that_inherits_gets_small_sizes_too(planned, capsys):
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    wide = {"inherits_from": "2d", "batch_size": 64, "patch_size": [512, 512]}
    add_configurations(planned, wide=wide, wider={"inherits_from": "wide", "batch_size": 4})
    plan()
    plans = made(planned)
    assert plans["configurations"]["wide"]["inherits_from"] == "2d"
    plans = {"dataset_name": "Dataset003_X", **plans}
    for name, batch in (("wide", 8), ("wider", 4)):
        found = PlansManager(plans).get_configuration(name)
        assert (list(found.patch_size), found.batch_size) == ([192, 192], batch)
        assert found.network_arch_init_kwargs["features_per_stage"] == [8, 16, 32, 64, 80, 80]
    assert "  wide: patch 192 x 192, batch 8, features [8, 16, 32, 64, 80, 80]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[:100], r"nnUNetPlans.json cannot be read as json .* Plan the dataset again"),
        (lambda text: "[]", r"nnUNetPlans.json must hold an object, got list. Plan the dataset again"),
        (lambda text: "{}", r"nnUNetPlans.json must hold nnU-Net's plans, but it has no configurations. Plan"),
        (lambda text: text.replace('"3d_fullres", "prev', '"3d", "prev'), r"inherits from 3d, which is not in the"),
        (
            lambda text: text.replace('"inherits_from": "3d_f', '"inherits_from": "3d_cascade_f'),
            r"nnUNetPlans.json: the configuration 3d_cascade_fullres cannot be made small .* in a circle",
        ),
        (
            lambda text: text.replace('"architecture"', '"UNet_class_name"'),
            r"nnUNetPlans.json: the configuration 2d cannot .*KeyError\('architecture'\).* nnUNetv2_plan_experiment",
        ),
        (lambda text: text.replace('"n_stages"', '"depths"'), r"cannot be made small \(KeyError\('n_stages'\)"),
    ],
)
def test_faulty_plans_are_named_and_nothing_is_written(planned, spoil, message):
    path = planned / "nnUNetPlans.json"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(UserError, match=message):
        plan()
    assert sorted(path.name for path in planned.iterdir()) == ["dataset.json", "nnUNetPlans.json"]


@pytest.mark.parametrize("name", ["2d", "3d_fullres", "3d_lowres"])
def test_nnunet_builds_the_network_and_it_keeps_the_patch_size(planned, name):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plan("--features", "2", "4", "--patch3d", "8", "64", "64", "--patch2d", "64", "64")
    small = made(planned)["configurations"][name]
    architecture = small["architecture"]
    names = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    network = get_network_from_plans(*(architecture[key] for key in names), 1, 4, deep_supervision=True)
    with torch.no_grad():
        outputs = network(torch.zeros(1, 1, *small["patch_size"]))
    assert list(outputs[0].shape) == [1, 4, *small["patch_size"]]
    assert len(outputs) == architecture["arch_kwargs"]["n_stages"] - 1


@pytest.mark.parametrize("name", ["../x", "nnUNetPlans"])
def test_names_of_other_files_are_refused(planned, name):
    before = sorted(planned.parent.rglob("*"))
    with pytest.raises(UserError, match=r"--name .*(must be a plain name|nnU-Net's own plans)"):
        plan("--name", name)
    assert sorted(planned.parent.rglob("*")) == before


def test_run_again_keeps_the_file_and_other_wishes_are_refused(planned):
    plan()
    before = (planned / "nnUNetPlansMini.json").stat().st_mtime_ns
    plan()
    assert (planned / "nnUNetPlansMini.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="exists and differs"):
        plan("--batch2d", "4")
    plan("--batch2d", "4", "--overwrite")
    assert made(planned)["configurations"]["2d"]["batch_size"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--name", "nnUNetPlans"), "Choose another name"),
        (("--patch2d", "190", "190"), "halved for 2 stage"),
        (("--features", "80", "8"), "cannot have more channels than the bound"),
        (("-p", "nnUNetPlansNone"), "There is no .*nnUNetPlansNone.json"),
    ],
)
def test_wishes_that_do_not_fit_are_refused_and_nothing_is_written(planned, options, message):
    with pytest.raises(UserError, match=message):
        plan(*options)
    assert sorted(path.name for path in planned.iterdir()) == ["dataset.json", "nnUNetPlans.json"]


def test_a_small_image_keeps_its_own_patch():
    base = configuration((48, 40), [[1, 1], [2, 2], [2, 2], [2, 2]], batch=3)
    before = copy.deepcopy(base)
    small = narrow(base, (192, 192), 8, doubled(8, 80, 6))
    assert (small["patch_size"], small["batch_size"]) == ([48, 40], 3)
    assert small["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 16, 32, 64]
    assert base == before


def test_residual_encoders_are_cut_by_the_same_rule():
    base = configuration((64, 64), [[1, 1]] + [[2, 2]] * 6)
    network = base["architecture"]["arch_kwargs"]
    network["n_blocks_per_stage"] = [1, 3, 4, 6, 6, 6, 6]
    del network["n_conv_per_stage"]
    cut = narrow(base, (64, 64), 2, doubled(8, 80, 6))["architecture"]["arch_kwargs"]
    assert (cut["n_stages"], cut["n_blocks_per_stage"], cut["n_conv_per_stage_decoder"]) == (
        5,
        [1, 3, 4, 6, 6],
        [2] * 4,
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"strides": [[0, 0]] * 6},
        {"strides": [[float("inf")] * 2] * 6},
        {"kernel_sizes": [[3, 3]]},
        {"kernel_sizes": None},
        {"n_stages": "3"},
        {"n_stages": -1},
    ],
)
def test_network_that_cannot_be_built_is_refused(planned, damage):
    plans = made(planned, "nnUNetPlans")
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"] |= damage
    (planned / "nnUNetPlans.json").write_text(json.dumps(plans))
    with pytest.raises(UserError, match=r"nnUNetPlans\.json: the configuration 2d cannot be made small"):
        plan()
    assert not (planned / "nnUNetPlansMini.json").exists()


@pytest.mark.parametrize("change", [{"batch_size": -3}, {"patch_size": [-8, 32]}, {"batch_size": 1.5}])
def test_sizes_that_are_none_are_refused(planned, change):
    plans = made(planned, "nnUNetPlans")
    plans["configurations"]["2d"] |= change
    (planned / "nnUNetPlans.json").write_text(json.dumps(plans))
    with pytest.raises(UserError, match=r"2d cannot be made small .*positive whole numbers"):
        plan()


def test_target_that_is_no_file_or_torn_is_named(planned):
    target = planned / "nnUNetPlansMini.json"
    target.write_text('{"plans')
    with pytest.raises(UserError, match=r"nnUNetPlansMini\.json cannot be read as json .*--overwrite"):
        plan()
    plan("--overwrite")
    target.unlink()
    os.mkfifo(target)
    with pytest.raises(UserError, match=r"nnUNetPlansMini\.json is a pipe.* another --name"):
        plan("--overwrite")


def test_full_disk_is_said_and_leaves_nothing(planned, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nnunet_semisam.io.json_files.os.replace", full)
    before = sorted(planned.iterdir())
    with pytest.raises(UserError, match=r"nnUNetPlansMini\.json cannot be written .*No space left on device"):
        plan()
    assert sorted(planned.iterdir()) == before

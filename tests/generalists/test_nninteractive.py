"""nnInteractive as a generalist, with a session that stands in for the package's: same names, same arguments."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny_world import classes

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists import nninteractive
from nnunet_semisam.generalists.base import CaseInput, GeneralistContext
from nnunet_semisam.generalists.build import build_ensemble, check_generalists
from nnunet_semisam.generalists.nninteractive import LICENCE, NNInteractiveSettings
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.settings import Settings

SHAPE = (6, 24, 30)
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv3d"},
    "_kw_requires_import": ["conv_op"],
}
PLANS = {"configurations": {"3d_fullres": {"architecture": ARCHITECTURE}}}
CHECKPOINT = {
    "loss": np.float64(0.5),
    "network_weights": {"weight": torch.ones(2)},
    "init_args": {"configuration": "3d_fullres"},
}


class Session:
    """Finds the bright component that most prompts lie in; knows no more of the package than we use."""

    license = LICENCE
    supports_initial_label = supports_zero_shot_label_refinement = True
    calls: list[str]

    def __init__(
        self,
        device=torch.device("cuda"),  # noqa: B008  the package's own default
        use_torch_compile=False,
        verbose=False,
        torch_n_threads=8,
        do_autozoom=True,
        interactions_storage="auto",
        enable_undo=True,
    ):
        self.supported_interactions = {"points": True, "bbox3d": False}
        self.device, self.threads, self.calls = device, torch_n_threads, []
        self.buffer = self.image = None

    def initialize_from_trained_model_folder(
        self, model_training_output_dir, use_fold=None, checkpoint_name="checkpoint_final.pth"
    ):
        self.content = torch.load(
            Path(model_training_output_dir) / "fold_0" / checkpoint_name, map_location="cpu", weights_only=False
        )

    def set_image(self, image, image_properties=None):
        assert image.ndim == 4
        assert image.dtype == np.float32
        self.calls.append("image")
        self.image, self.buffer = image, None
        self.bright, _ = ndimage.label(image[0] > 0.5)

    def set_target_buffer(self, target_buffer):
        assert target_buffer.shape == self.image.shape[1:]
        self.buffer, self.prompted = target_buffer, np.zeros(self.image.shape[1:], dtype=bool)

    def reset_interactions(self, _preserve_undo=False):
        self.calls.append("reset")
        self.buffer[:] = 0
        self.prompted[:] = False

    def add_initial_seg_interaction(self, initial_seg, run_prediction=False, override_capability_checks=False):
        assert set(np.unique(initial_seg)) <= {0, 1}
        assert initial_seg.dtype == np.uint8
        self.reset_interactions()
        self.calls[-1] = "mask"
        self.buffer[:] = initial_seg
        self.prompted |= initial_seg > 0
        if run_prediction:
            self._predict()

    def add_point_interaction(
        self, coordinates, include_interaction, run_prediction=True, override_capability_checks=False
    ):
        self.calls.append("+" if include_interaction else "-")
        assert bool(self.bright[coordinates]) == include_interaction, "points lie inside and outside, in array order"
        if include_interaction:
            self.prompted[coordinates] = True
        if run_prediction:
            self._predict()

    def _predict(self):
        self.calls.append("predict")
        chosen = np.bincount(self.bright[self.prompted], minlength=2)[1:].argmax() + 1
        self.buffer[:] = self.bright == chosen


@pytest.fixture
def package(monkeypatch):
    """The package, as far as it is imported."""
    module = ModuleType("nnInteractive.inference.inference_session")
    module.nnInteractiveInferenceSession = Session
    for name in ("nnInteractive", "nnInteractive.inference"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def folder(tmp_path):
    model = tmp_path / "model"
    (model / "fold_0").mkdir(parents=True)
    (model / "dataset.json").write_text("{}")
    (model / "plans.json").write_text(json.dumps(PLANS))
    torch.save(CHECKPOINT, model / "fold_0" / "checkpoint_final.pth")
    return model


def settings_of(folder: Path | None, accept: str | None = LICENCE, **more) -> Settings:
    own = {"model_folder": None if folder is None else str(folder), "accept_licence": accept, **more.pop("own", {})}
    return Settings.of(use_sam=True, sam={"models": ["nninteractive"]}, nninteractive=own, **more)


def built(settings: Settings, channels: int = 1):
    device, none = torch.device("cpu"), None
    context = GeneralistContext(settings, classes(channels), none, (3.0, 1.0, 1.0), device, none, none)
    return build_ensemble(context).members[0]


def case_of(shift: int = 1) -> tuple[CaseInput, np.ndarray]:
    truth = np.zeros(SHAPE, dtype=bool)
    truth[1:5, 4:14, 10:22] = True
    foreground = np.roll(truth, shift, axis=2) * 0.9
    specialist = np.stack([1 - foreground, foreground]).astype(np.float32)
    return CaseInput("case_a", truth[None].astype(np.float32), specialist), truth


@pytest.mark.usefixtures("package")
def test_the_specialists_mask_goes_in_and_a_refined_one_comes_out(folder):
    generalist = built(settings_of(folder))
    case, truth = case_of()
    result = generalist.predict_case(case)
    assert np.array_equal(result.prediction.probs[0] > 0.5, truth)
    assert result.prediction.probs.dtype == np.float32
    assert result.prediction.reliability[0][truth].min() == 1  # all sets of prompts say the same
    assert (result.counts.prompts, result.counts.rejected, result.counts.empty) == ((1,), (0,), (0,))
    assert set(result.seconds) == {"encode", "decode"}
    assert generalist.session.calls == [
        *("image", "mask", "predict"),
        *("mask", *"+++---", "predict"),
        *("reset", *"+++---", "predict"),
    ]
    assert generalist.session.threads == torch.get_num_threads()


@pytest.mark.usefixtures("package")
def test_what_the_sets_of_prompts_disagree_on_is_less_reliable(folder, monkeypatch):
    generalist = built(settings_of(folder))
    add_initial, case = generalist.session.add_initial_seg_interaction, case_of()[0]

    def keeps_the_mask(initial_seg, run_prediction=False):
        add_initial(initial_seg, run_prediction)
        if run_prediction:
            generalist.session.buffer[:] = initial_seg

    generalist.session.add_initial_seg_interaction = keeps_the_mask
    prediction = generalist.predict_case(case).prediction
    only_mask, only_points, all_of_them = (2, 8, 22), (2, 8, 10), (2, 8, 15)
    assert [float(prediction.probs[(0, *voxel)]) for voxel in (only_mask, only_points, all_of_them)] == pytest.approx(
        [1 / 3, 2 / 3, 1]
    )
    reliability = [float(prediction.reliability[(0, *voxel)]) for voxel in (only_mask, only_points, all_of_them)]
    assert reliability == pytest.approx([1 - 4 * 2 / 9, 1 - 4 * 2 / 9, 1])


@pytest.mark.usefixtures("package")
def test_masks_out_of_all_proportion_are_rejected(folder):
    generalist = built(settings_of(folder))
    case, _ = case_of()
    generalist.session._predict = lambda: generalist.session.buffer.fill(1)
    result = generalist.predict_case(case)
    assert (result.counts.rejected, result.counts.empty) == ((1,), (0,))
    assert not result.prediction.predicted.any()
    assert result.prediction.rejected[0][case.specialist[1] > 0.5].all()


@pytest.mark.usefixtures("package")
def test_nothing_predicted_is_nothing_asked(folder):
    generalist = built(settings_of(folder))
    empty = np.stack([np.ones(SHAPE), np.zeros(SHAPE)]).astype(np.float32)
    result = generalist.predict_case(CaseInput("case_a", np.ones((1, *SHAPE), np.float32), empty))
    assert generalist.session.calls == []
    assert result.counts.prompts == (0,)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("image", "own", "message"),
    [
        (np.zeros((1, *SHAPE)), {}, "0 everywhere"),
        (np.ones((1, *SHAPE)), {"channel": 1}, "names a channel that case 'case_a' lacks"),
    ],
)
def test_images_that_it_cannot_take_are_refused(folder, image, own, message):
    with pytest.raises(UserError, match=message):
        built(settings_of(folder, own=own)).predict_case(CaseInput("case_a", image, case_of()[0].specialist))


@pytest.mark.parametrize(
    ("accept", "has_folder", "message"),
    [
        (None, True, r"CC BY-NC-SA 4\.0: not for commercial use.*accept_licence: CC BY-NC-SA 4\.0"),
        (LICENCE, False, "get a model folder from https"),
    ],
)
def test_nothing_begins_before_the_licence_is_accepted_and_a_model_named(folder, accept, has_folder, message):
    with pytest.raises(UserError, match=message):
        check_generalists(settings_of(folder if has_folder else None, accept))


def test_a_folder_without_a_model_is_refused_before_the_training(tmp_path):
    with pytest.raises(UserError, match=r"no plans\.json and no dataset\.json"):
        check_generalists(settings_of(tmp_path))


@pytest.mark.usefixtures("package")
def test_weights_under_another_licence_than_accepted_are_refused(folder, caplog):
    with pytest.raises(UserError, match=r"are under the licence 'CC BY-NC-SA 4\.0', and the settings accept 'Apache"):
        built(settings_of(folder, "Apache-2.0"))
    built(settings_of(folder))
    assert f"are under {LICENCE}" in caplog.text


@pytest.mark.usefixtures("package")
def test_prompts_that_the_model_does_not_know_are_refused(folder, monkeypatch):
    monkeypatch.setattr(Session, "supports_zero_shot_label_refinement", False)
    with pytest.raises(UserError, match=r"does not know the prompts of mask. Set .* some of: mask_points, points"):
        built(settings_of(folder))
    assert built(settings_of(folder, own={"prompt_sets": ["points"]})).name == "nninteractive"


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.usefixtures("package")
def test_code_in_a_checkpoint_is_not_run_though_the_package_would(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"code": Evil()}, folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(UserError, match="is no file of plain weights"):
        built(settings_of(folder))
    assert not (tmp_path / "executed").exists()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("plans", "checkpoint", "message"),
    [
        ({"network_class_name": "torch.hub.load"}, {}, r"plans\.json: .* names 'torch\.hub\.load'"),
        ({"arch_kwargs": {"conv_op": "os.system"}}, {}, r"names 'os\.system'"),
        ({}, {"network_weights": {"weight": torch.tensor([float("nan")])}}, "not finite"),
        ({}, {"init_args": {"configuration": "2d"}}, "no usable configuration '2d'"),
        ({}, {"init_args": None}, "is no checkpoint of nnU-Net"),
    ],
)
def test_what_the_package_would_call_or_compute_with_is_looked_at_before(
    folder, monkeypatch, plans, checkpoint, message
):
    """What was wrong: plans that name torch.hub.load ran code of the folder, since the package calls what they name."""
    monkeypatch.setattr(Session, "initialize_from_trained_model_folder", None)  # never asked
    changed = {"configurations": {"3d_fullres": {"architecture": ARCHITECTURE | plans}}}
    (folder / "plans.json").write_text(json.dumps(changed))
    torch.save(CHECKPOINT | checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(UserError, match=message):
        built(settings_of(folder))


@pytest.mark.usefixtures("package")
def test_a_fold_that_is_a_link_or_one_of_several_is_refused(folder, tmp_path):
    (folder / "fold_1").symlink_to(tmp_path)
    with pytest.raises(UserError, match="must hold one folder"):
        built(settings_of(folder))


def test_without_the_package_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "nnInteractive", None)
    with pytest.raises(UserError, match=r'pip install "nnunet-semisam\[nninteractive\]"'):
        built(settings_of(folder))


@pytest.mark.parametrize("sets", [[], ["mask", "mask"], ["scribble"]])
def test_sets_of_prompts_that_cannot_be_are_refused(sets):
    with pytest.raises(UserError, match="at least one of mask, mask_points, points, each once"):
        NNInteractiveSettings(prompt_sets=tuple(sets))


def test_it_is_never_a_default():
    assert "nninteractive" not in Settings.of(use_sam=True).block("sam").models
    assert NNInteractiveSettings().accept_licence is None


def test_the_stand_in_has_the_names_and_arguments_of_the_package():
    """Read from the package's source, so that neither a GPU nor weights are needed."""
    if importlib.util.find_spec("nnInteractive") is None:
        pytest.skip("nnInteractive is not installed")
    (root,) = importlib.util.find_spec("nnInteractive").submodule_search_locations
    tree = ast.parse((Path(root) / "inference" / "inference_session.py").read_text(encoding="utf-8"))
    (session,) = [node for node in tree.body if getattr(node, "name", "") == "nnInteractiveInferenceSession"]
    theirs = {node.name: [arg.arg for arg in node.args.args] for node in session.body if hasattr(node, "args")}
    ours = {name: list(inspect.signature(f).parameters) for name, f in vars(Session).items() if inspect.isfunction(f)}
    assert {name: theirs[name] for name in ours} == ours | {"_predict": theirs["_predict"]}
    assigned = {node.attr for node in ast.walk(session) if isinstance(node, ast.Attribute)}
    attributes = {"license", "supports_initial_label", "supports_zero_shot_label_refinement", "supported_interactions"}
    assert attributes <= assigned
    used = {name for name in vars(SimpleNamespace(**ours)) if f"session.{name}(" in inspect.getsource(nninteractive)}
    assert used == set(ours) - {"__init__", "_predict"}

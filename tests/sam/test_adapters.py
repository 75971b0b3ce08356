"""What a SAM learns from a few labeled images, and the file that holds it."""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from small_backends import SMALL

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.build import refuse_leaking_adapters
from nnunet_semisam.labels import Labels
from nnunet_semisam.sam.adapters import examples
from nnunet_semisam.sam.adapters.adapter_file import (
    AdapterRecord,
    apply_adapter,
    read_adapter,
    refuse_leaking_adapter,
    write_adapter,
)
from nnunet_semisam.sam.adapters.examples import LabeledImages
from nnunet_semisam.sam.adapters.loss import adaptation_loss, iou, overlaps
from nnunet_semisam.sam.adapters.parts import LearningParts, PartsRecord, choose_parts
from nnunet_semisam.sam.adapters.settings import AdaptationSettings
from nnunet_semisam.sam.adapters.training import Adaptation
from nnunet_semisam.sam.base import BACKGROUND, MaskPrediction
from nnunet_semisam.sam.preprocessing import NANO, SEGMENT_ANYTHING
from nnunet_semisam.sam.segment_anything import SegmentAnythingBackend
from nnunet_semisam.settings import Settings

LABELS = Labels.of_classes(3)
SHORT = {"steps": 2, "validate_every": 1, "warmup": 0, "prompts": 1, "most_holdout_images": 2}


def backend_of(sam: Sam, **options) -> SegmentAnythingBackend:
    data = NANO if len(sam.pixel_mean) == 1 else SEGMENT_ANYTHING
    data = dataclasses.replace(data, side=sam.image_encoder.img_size)
    return SegmentAnythingBackend(copy.deepcopy(sam), torch.device("cpu"), data, "test", **options)


@pytest.fixture
def vit(tiny_sam: Sam) -> SegmentAnythingBackend:
    return backend_of(tiny_sam, lora_targets=("qkv",))


@pytest.fixture
def nano(nano_sam: Sam) -> SegmentAnythingBackend:
    return backend_of(nano_sam)


def case_of(name: str, group: str | None = None, slices: int = 4, shape: tuple[int, int] = (24, 32)) -> LabeledImages:
    """A bright disc (2) in a ring (1) in every slice."""
    rng = np.random.default_rng(len(name) + ord(name[-1]))
    rows, columns = np.indices(shape)
    distance = np.hypot(rows - 12, columns - 14 - rng.uniform(0, 4, (slices, 1, 1)))
    labels = ((distance < 9).astype(np.int16) + (distance < 5)).astype(np.int16)
    images = (labels + rng.normal(0, 0.2, labels.shape))[:, None].astype(np.float32)
    return LabeledImages(name, group or name, images, labels, np.arange(slices))


CASES = [case_of("a"), case_of("b"), case_of("c")]


def run_of(backend, folder: Path, cases=CASES, **settings) -> Adaptation:
    folder.mkdir(exist_ok=True)
    merged = AdaptationSettings(**{**SHORT, **settings})
    return Adaptation(backend, cases, LABELS, merged, folder / "checkpoint.pt", log=lambda text: None)


def record_of(run: Adaptation, adapted, cases=("a", "b")) -> AdapterRecord:
    return AdapterRecord(
        model="vit_b",
        base=run.base,
        parts=run.parts.record,
        dataset="Dataset001_A",
        plans="nnUNetPlans",
        configuration="2d",
        fold="0",
        cases=cases,
        learned=adapted.learned,
        held_out=adapted.held_out,
        data=adapted.data,
        images=adapted.images,
        steps=adapted.steps,
        dice_before=adapted.before["mean"],
        dice_after=adapted.after["mean"],
        settings=run.settings.to_dict(),
        versions={"torch": "2"},
    )


def masks_of(backend, case: LabeledImages) -> torch.Tensor:
    objects = examples.whole_classes(case, LABELS, 4)
    prompts = examples.simulated_prompts(objects, "box", AdaptationSettings(), torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backend.decode(backend.encode(objects.images), prompts).logits


# --------------------------------------------------------------------------------------------------- what learns


def test_adapters_and_the_decoder_learn_and_nothing_else(vit):
    parts = LearningParts(vit, choose_parts(vit, AdaptationSettings()))
    names = set(parts.state())
    assert {name.split(".")[0] for name in names} == {"image_encoder", "mask_decoder"}
    assert all("lora_" in name for name in names if name.startswith("image_encoder"))
    decoder = sum(p.numel() for p in vit.module.mask_decoder.parameters())
    assert sum(p.numel() for p in parts.parameters()) == decoder + 4 * (32 + 96)  # one block: A (4, 32), B (96, 4)


@pytest.mark.parametrize(("train", "rooms"), [("decoder", {"mask_decoder"}), ("all", None), (None, None)])
def test_models_without_known_layers_for_adapters_learn_as_a_whole(nano, train, rooms):
    parts = LearningParts(nano, choose_parts(nano, AdaptationSettings(train=train)))
    found = {name.split(".")[0] for name in parts.state()}
    assert found == (rooms or {"image_encoder", "prompt_encoder", "mask_decoder"})


def test_merged_adapters_are_the_low_rank_product(vit):
    weight = vit.module.image_encoder.blocks[0].attn.qkv.weight.detach().clone()
    parts = LearningParts(vit, PartsRecord("adapters", 2, 6.0, ("qkv",), "mask_decoder"))
    with torch.no_grad():
        for value in parts.parameters():
            value.add_(0.1)
    state = parts.state()
    (down,), (up,) = ([v for n, v in state.items() if f"lora_{side}" in n] for side in "AB")
    parts.merge()
    merged = vit.module.image_encoder.blocks[0].attn.qkv
    assert type(merged) is torch.nn.Linear
    torch.testing.assert_close(merged.weight, weight + 6.0 / 2 * up @ down)
    assert not any(p.requires_grad for p in vit.module.parameters())


def test_asking_for_adapters_where_none_are_known_is_refused(nano):
    with pytest.raises(UserError, match=r"low-rank adapters could be put on\. Set adaptation: \{train: all\}"):
        choose_parts(nano, AdaptationSettings(train="adapters"))


def test_a_missing_package_is_named_with_its_extra(vit, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r'pip install "nnunet-semisam\[lora\]"'):
        LearningParts(vit, choose_parts(vit, AdaptationSettings()))


# ------------------------------------------------------------------------------------------------------ examples


def test_whole_patients_are_held_out():
    cases = [case_of("a1", "a"), case_of("a2", "a"), case_of("b1", "b")]
    for seed in range(4):
        learned, judged, words = examples.split_holdout(cases, AdaptationSettings(seed=seed))
        assert {case.group for case in learned}.isdisjoint({case.group for case in judged})
        assert len(learned) + len(judged) == 3
        assert words.startswith("1 of 2 patients (")


def test_of_a_single_patient_neighbouring_slices_are_held_out():
    case = case_of("only", slices=10)
    (learned,), (judged,), words = examples.split_holdout([case], AdaptationSettings(holdout=0.3))
    assert (len(learned), len(judged), words) == (7, 3, "3 of 10 slices of the only labeled patient")
    places = [next(i for i in range(10) if np.array_equal(case.images[i], image)) for image in judged.images]
    assert places == list(range(places[0], places[0] + 3))


def test_slices_of_a_single_patient_are_held_out_of_all_its_cases():
    """Two times of one heart: a slice that judges must not be learned from its twin."""
    early, late = case_of("only_1", "only", slices=10), case_of("only_2", "only", slices=8)
    for seed in range(6):
        learned, judged, _ = examples.split_holdout([early, late], AdaptationSettings(seed=seed, holdout=0.3))
        seen = {int(position) for case in learned for position in case.positions}
        held = {int(position) for case in judged for position in case.positions}
        assert seen.isdisjoint(held)
        assert seen | held == set(range(10))


@pytest.mark.parametrize("holdout", [0.5, 0.75, 0.99])
@pytest.mark.parametrize("patients", [1, 2, 3])
def test_something_is_left_to_learn_from(holdout, patients):
    cases = [case_of(name, slices=3) for name in "abc"[:patients]]
    learned, judged, _ = examples.split_holdout(cases, AdaptationSettings(holdout=holdout))
    assert sum(map(len, learned)) > 0
    assert sum(map(len, judged)) > 0


def test_scribbles_are_no_examples():
    """The box of a scribble is not that of its object, and points beside it lie inside the object."""
    whole, scribble, apart = case_of("a", slices=3), case_of("a", slices=3), case_of("a", slices=3)
    scribble.labels[:] = np.where(np.indices((24, 32))[0] == 12, scribble.labels, 3)
    apart.labels[:, :, 30:] = 3  # nobody looked there; no object touches it
    assert len(examples.with_classes(whole, LABELS, 4)) == 3
    assert len(examples.with_classes(scribble, LABELS, 4)) == 0
    assert len(examples.with_classes(apart, LABELS, 4)) == 3


def test_no_background_point_lies_where_nobody_annotated():
    case = case_of("a")
    case.labels[:, :, 26:] = 3
    settings = AdaptationSettings(mirror=0.0, background_points=20)
    generator = torch.Generator().manual_seed(0)
    beside = 0
    for step in range(20):
        objects = examples.draw([case], LABELS, settings, step)
        prompts = examples.simulated_prompts(objects, "points", settings, generator)
        background = prompts.point_labels == BACKGROUND
        beside += int(background.sum())
        assert bool((prompts.points[..., 1][background] < 26).all())
    assert beside > 50


def test_a_single_image_cannot_be_adapted_to():
    with pytest.raises(UserError, match="in a single image"):
        examples.split_holdout([case_of("only", slices=1)], AdaptationSettings())


def test_examples_depend_on_seed_and_step_alone():
    first, again, other = (examples.draw(CASES, LABELS, AdaptationSettings(), step) for step in (3, 3, 4))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.images, other.images)


def test_masks_are_mirrored_with_their_images():
    settings = AdaptationSettings(mirror=1.0, gamma=0.0, component_share=0.0)
    objects = examples.draw([case_of("a")], LABELS, settings, 0)
    bright = (objects.images[objects.image, 0] > 0.5) & (objects.channel == 1)[:, None, None]
    assert (bright & objects.masks).sum() == (objects.masks & (objects.channel == 1)[:, None, None]).sum()


def test_voxels_of_the_ignore_label_are_neither_learned_nor_judged():
    logits = torch.tensor([[9.0, 9.0, -9.0]])
    masks, valid = torch.tensor([[True, False, False]]), torch.tensor([[True, False, True]])
    right = MaskPrediction(logits, torch.ones(1))
    assert float(adaptation_loss(right, masks, valid, 1.0)) < 1e-3
    assert iou(logits, masks, valid).tolist() == [1.0]
    assert overlaps(logits, masks, valid).tolist() == [[2, 2]]


def test_only_kinds_of_prompts_that_the_model_understands_are_used():
    assert examples.kinds_for(frozenset({"points"})) == ("points",)


# --------------------------------------------------------------------------------------------------- a run, its file


@pytest.mark.parametrize("name", SMALL)
def test_an_adapter_makes_the_base_the_model_that_was_trained(tmp_path, name):
    weights = SMALL[name].save(tmp_path / "weights")
    backend, base = (SMALL[name].load(weights) for _ in range(2))
    if backend.spatial_dims == 3:
        with pytest.raises(UserError, match="sees volumes"):
            run_of(backend, tmp_path)
        return
    run = run_of(backend, tmp_path)
    adapted = run.run()
    assert adapted.after["mean"] >= adapted.before["mean"]
    run.parts.load_state(adapted.state)
    write_adapter(tmp_path / "adapter.safetensors", record_of(run, adapted), adapted.state)
    before, fingerprint = masks_of(base, CASES[0]), base.fingerprint
    apply_adapter(base, tmp_path / "adapter.safetensors", name)
    torch.testing.assert_close(masks_of(base, CASES[0]), masks_of(backend, CASES[0]), atol=1e-4, rtol=1e-4)
    assert adapted.steps == 0 or not torch.equal(masks_of(base, CASES[0]), before)
    assert base.fingerprint != fingerprint
    assert all(type(layer).__module__.split(".")[0] != "peft" for layer in base.module.modules())


def test_learning_makes_the_holdout_better(vit, tmp_path):
    vit.prompt_kinds = frozenset({"mask"})
    fast = {"steps": 30, "validate_every": 30, "learning_rate": 5e-3, "prompts": 4, "gradient_norm": 1e3}
    adapted = run_of(vit, tmp_path, **fast).run()
    assert adapted.after["mean"] > adapted.before["mean"] + 0.1


def test_a_killed_run_goes_on_to_the_same_end(vit, tiny_sam, tmp_path, monkeypatch):
    whole = run_of(backend_of(tiny_sam, lora_targets=("qkv",)), tmp_path / "whole")
    expected = whole.run()
    killed = run_of(vit, tmp_path / "killed")
    train = Adaptation._train_step

    def dies_after_a_step(self):
        if self.step == 1:
            raise KeyboardInterrupt
        train(self)

    monkeypatch.setattr(Adaptation, "_train_step", dies_after_a_step)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    monkeypatch.undo()
    resumed = run_of(backend_of(tiny_sam, lora_targets=("qkv",)), tmp_path / "killed")
    end = resumed.run()
    assert (end.steps, end.before, end.after) == (expected.steps, expected.before, expected.after)
    assert all(torch.equal(value, whole.parts.state()[name]) for name, value in resumed.parts.state().items())


def test_a_checkpoint_of_other_settings_is_refused(nano, nano_sam, tmp_path):
    run_of(nano, tmp_path).run()
    with pytest.raises(UserError, match=r"checkpoint\.pt is of an adaptation with other settings\. Delete it"):
        run_of(backend_of(nano_sam), tmp_path, learning_rate=1e-5).run()


def test_training_stops_when_the_holdout_gets_no_better(nano, tmp_path, monkeypatch):
    run = run_of(nano, tmp_path, steps=50, patience=2, validate_every=2)
    looks = iter([0.5, 0.6, 0.6, 0.6])
    monkeypatch.setattr(run, "_look", lambda: {"mean": next(looks)})
    adapted = run.run()
    assert (adapted.steps, run.step, adapted.after["mean"]) == (2, 6, 0.6)


def test_a_run_that_diverges_says_what_to_do(nano, tmp_path):
    nano.module.mask_decoder.mask_tokens.weight.data.fill_(float("inf"))
    with pytest.raises(UserError, match=r"diverged at step 0 .*learning_rate: \.\.\.\}"):
        run_of(nano, tmp_path).run()


@pytest.fixture
def adapter(vit, tmp_path) -> Path:
    run = run_of(vit, tmp_path)
    adapted = run.run()
    write_adapter(tmp_path / "adapter.safetensors", record_of(run, adapted), run.parts.state())
    return tmp_path / "adapter.safetensors"


def test_an_adapter_of_other_weights_is_refused(adapter, tiny_sam):
    other = backend_of(tiny_sam, lora_targets=("qkv",))
    other.module.mask_decoder.iou_token.weight.data += 1e-3
    with pytest.raises(UserError, match=r"on top of other weights .* Name an adapter of these weights in vit_b"):
        apply_adapter(other, adapter, "vit_b")


@pytest.mark.parametrize("damage", [b"", b"no adapter", b"\xff" * 64])
def test_a_file_that_is_no_adapter_is_refused(tmp_path, damage):
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(damage)
    with pytest.raises(UserError, match="holds no adapter of"):
        read_adapter(path)


def test_a_torn_adapter_is_refused(adapter):
    adapter.write_bytes(adapter.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"adapter\.safetensors holds no adapter of .*damaged"):
        read_adapter(adapter)


def test_a_missing_adapter_is_refused(tmp_path):
    with pytest.raises(UserError, match="or take the setting adapter out"):
        read_adapter(tmp_path / "nothing.safetensors")


def test_an_adapter_that_saw_withheld_labels_is_refused(adapter):
    record = read_adapter(adapter).record
    refuse_leaking_adapter(record, "file", "Dataset001_A", ["c", "d"])
    refuse_leaking_adapter(record, "file", "Dataset002_B", ["c"])
    refuse_leaking_adapter(record, "file", "Dataset002_B", ["a"], other_patients=True)
    with pytest.raises(UserError, match=r"1 case\(s\) of Dataset001_A whose labels .*adapters_of_other_patients: true"):
        refuse_leaking_adapter(record, "file", "Dataset002_B", ["a"])  # the same source, converted once more?
    with pytest.raises(UserError, match=r"adapted to 1 case\(s\) whose labels this fold validates on or hides, b for"):
        refuse_leaking_adapter(record, "file", "Dataset001_A", ["b", "c"], other_patients=True)


def test_the_adapter_of_a_sam_that_a_method_trains_is_checked_and_recorded_like_any_other(adapter):
    """CPC-SAM loads its SAM whether or not SAMs are asked for pseudo-labels."""
    trained = Settings.of(method="cpc_sam", nano={"adapter": str(adapter)})
    with pytest.raises(UserError, match="whose labels this fold validates on or hides"):
        refuse_leaking_adapters(trained, "Dataset001_A", ["b"])
    assert trained.to_dict()["nano"]["adapter"] == str(adapter)
    unused = Settings.of(method="mean_teacher", nano={"adapter": str(adapter)})
    refuse_leaking_adapters(unused, "Dataset001_A", ["b"])
    assert "nano" not in unused.to_dict()

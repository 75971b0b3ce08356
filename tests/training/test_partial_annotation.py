"""Labeled cases of which only some voxels are annotated, or none: nnU-Net's ignore label."""

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import blosc2
import numpy as np
import pytest
import tiny_nnunet
import torch
from hidden_labels import fill_hidden_labels_with_noise, overwrite

from nnunet_semisam.data.random_windows import random_windows
from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.labels import Labels
from nnunet_semisam.training.partial_annotation import judge_annotation

IGNORE = 3
LABELS = {"background": 0, "shell": 1, "core": 2, "ignore": IGNORE}
TRAINED = tiny_nnunet.SPLITS[0]["train"]


class Cases:
    """Preprocessed labeled cases that are in memory."""

    def __init__(self, *labels):
        self.labels, self.identifiers = labels, [str(index) for index in range(len(labels))]

    def load_case(self, case):
        return None, self.labels[int(case)][None], None, {}


def judged(*labels, has_ignore_label=True):
    gate, told = ClassGate(GateSettings(), Labels.of_classes(3)), []
    judge_annotation(Cases(*labels), manager(has_ignore_label), gate, ([6, 8, 8], [4, 6, 6]), told.append)
    return gate.area.fair, told


def manager(has_ignore_label=True):
    return SimpleNamespace(has_ignore_label=has_ignore_label, ignore_label=IGNORE, all_labels=[0, 1, 2])


def sparse(*kept):
    label = np.full((20, 6, 6), IGNORE)
    label[list(kept)] = 0
    return label


def test_evenly_spread_slices_tell_shares_and_middle_slices_or_scribbles_only_bounds():
    assert judged(*[sparse(2, 7, 12, 17)] * 4) == (True, [])
    assert judged(np.zeros((4, 6, 6))) == (True, [])
    fair, told = judged(sparse(9, 10, 11), sparse(10))
    assert not fair
    assert "bounds only" in told[0]
    scribbles = np.full((20, 6, 6), IGNORE)
    scribbles[:, 2, 2:4] = 1
    assert not judged(scribbles)[0]


def test_a_handful_of_slices_gives_bounds_only_unless_whole_cases_are_beside_them():
    fair, told = judged(*[sparse(2, 7, 12, 17)] * 3, sparse(2, 12, 17))
    assert not fair
    assert "15 slices in all (area_slices 16)" in told[0]
    assert judged(sparse(2, 17), np.zeros((14, 6, 6))) == (True, [])


def test_without_an_ignore_label_nothing_is_read():
    assert judged(None, has_ignore_label=False) == (True, [])


def ellipsoid(shape, every):
    """A label of class 1 in the middle, of which every ``every``-th slice is annotated."""
    axes = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in shape)]
    whole = (sum((axis / radius) ** 2 for axis, radius in zip(axes, (0.7, 0.5, 0.6), strict=True)) < 1).astype(np.int8)
    label = np.full_like(whole, IGNORE)
    label[every // 2 :: every] = whole[every // 2 :: every]
    return whole, label


@pytest.mark.parametrize("every", [1, 5, 10])
@pytest.mark.parametrize(("shape", "patch"), [((36, 50, 35), (40, 56, 40)), ((120, 120, 120), (64, 64, 64))])
def test_a_perfect_teacher_of_sparse_volumes_keeps_its_weight(shape, patch, every):
    """What was wrong: nnU-Net's patches of such cases lie elsewhere than unlabeled ones, and padding was annotated."""
    whole, label = ellipsoid(shape, every)
    sizes = ([size + 20 for size in patch], list(patch))
    gate = ClassGate(GateSettings(area_slices=1), Labels.of_classes(3))
    before = np.random.get_state()[1].copy()
    judge_annotation(Cases(label), manager(), gate, sizes, lambda line: None)
    assert np.array_equal(np.random.get_state()[1], before)
    for window in random_windows(Cases(whole), manager(), shape, sizes, 60):  # a target that equals the truth
        target = torch.zeros(1, 3, *patch)
        inside = torch.from_numpy(whole[window]).long()
        corner = tuple(slice(0, size) for size in inside.shape)
        target[(0, slice(None), *corner)] = torch.nn.functional.one_hot(inside, 3).movedim(-1, 0).float()
        target[0, 0] += 1 - target[0].sum(0)
        gate.count_target(target, None)
    shares = gate.area.shares("labeled")[1] / gate.area.shares("unlabeled")[1]
    assert shares == pytest.approx(1.0, abs=0.15)
    assert gate.area.class_weights()[1] == 1.0


@pytest.fixture
def sparse_dataset(tiny_dataset):
    """The tiny dataset with an ignore label: slices 1, 4 and 7 of the first training case, none of the second."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    folder = tiny_dataset / "preprocessed" / tiny_nnunet.DATASET
    dataset_json = json.loads((folder / "dataset.json").read_text()) | {"labels": LABELS}
    (folder / "dataset.json").write_text(json.dumps(dataset_json))
    shutil.copyfile(tiny_dataset / "raw" / tiny_nnunet.DATASET / "splits_final.json", folder / "splits_final.json")
    for case in tiny_nnunet.LABELED:
        file = folder / "nnUNetPlans_2d" / f"{case}_seg.b2nd"
        label = blosc2.open(str(file))[:]
        kept = {TRAINED[0]: [1, 4, 7], TRAINED[1]: []}.get(case, range(label.shape[1]))
        hidden = np.full_like(label, IGNORE)
        hidden[:, list(kept)] = label[:, list(kept)]
        overwrite(file, hidden)
        properties = pickle.loads(file.with_name(f"{case}.pkl").read_bytes())
        wanted = [1, 2, [-1, 0, 1, 2]]  # as nnU-Net's preprocessing lists them with an ignore label
        properties["class_locations"] = DefaultPreprocessor._sample_foreground_locations(hidden, wanted)
        file.with_name(f"{case}.pkl").write_bytes(pickle.dumps(properties))
    return tiny_dataset


@pytest.mark.usefixtures("sam_active", "sparse_dataset")
def test_training_in_2d_with_a_sparse_case_and_one_without_any_labeled_slice(build_trainer):
    """Nothing crashes, every number is finite, and what is under the ignore label is no reason to warn of shares."""
    trainer = build_trainer(
        num_epochs=1,
        num_iterations_per_epoch=4,
        use_sam=True,
        sam={"start": 0.0, "preview_cases": 0},
        gate={"area_slices": 3},
    )
    with pytest.warns(UserWarning, match="No annotated pixels"):
        trainer.run_training()
    assert (Path(trainer.output_folder) / "checkpoint_final.pth").is_file()
    assert trainer.gate.area.fair  # slices 1, 4 and 7 of eight
    row = trainer.semisam_log.rows[0]
    assert row["unlabeled_loss"] > 0
    assert row["pseudo_label_weight"] > 0
    assert np.isfinite(list(row.values())).all()


@pytest.mark.usefixtures("sam_active")
def test_hidden_labels_do_not_change_a_single_bit_where_others_are_annotated_in_part(build_trainer, sparse_dataset):
    settings = {"use_sam": True, "sam": {"start": 0.0, "preview_cases": 0}, "gate": {"area_slices": 3}}

    def trained():
        trainer = build_trainer(num_epochs=1, num_iterations_per_epoch=2, **settings)
        with pytest.warns(UserWarning, match="No annotated pixels"):
            trainer.run_training()
        assert trainer.semisam_log.rows[0]["unlabeled_loss"] > 0
        return trainer.network.state_dict(), trainer.semisam_log.rows

    before, log_before = trained()
    fill_hidden_labels_with_noise(sparse_dataset)
    after, log_after = trained()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert log_before == log_after

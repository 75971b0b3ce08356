"""What a whole self-training leaves: datasets, labels, models; and that it goes on wherever it was killed."""

import json
import pickle

import blosc2
import numpy as np
import pytest
import SimpleITK
import tiny_nnunet

from nnunet_semisam.io.atomic import temporary_beside
from nnunet_semisam.jobs.executors import serial
from nnunet_semisam.self_training.rounds import RoundOfFold
from nnunet_semisam.self_training.tasks import carry_out
from nnunet_semisam.self_training.teacher import Teacher

POOL = ["case3", "case4", "case5", "free0", "free1"]  # three whose labels fold 0 hides, two of imagesUl
LABELED, VAL = ["case0", "case1"], ["case2"]
IGNORE = 3


def finish(plan):
    statuses = []
    done = carry_out(plan, lambda to_do: serial(to_do, lambda name, status: statuses.append((name, status.value))))
    return done, statuses


def read(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def data_of(plan, kind, index=1):
    return RoundOfFold(plan, index, 0).data / kind / tiny_nnunet.DATASET


@pytest.fixture(params=["2d", "3d_fullres"])
def done(request, make, commands):
    plan = make(configuration=request.param)
    assert finish(plan)[0]
    return plan


def test_a_round_leaves_a_dataset_and_a_model_that_nnunet_predicts_with(done, tiny_dataset):
    raw, preprocessed = data_of(done, "nnUNet_raw"), data_of(done, "nnUNet_preprocessed")
    before = tiny_dataset / "raw" / tiny_nnunet.DATASET

    # true labels of labeled and validation cases, pseudo-labels of the pool, in the geometry of their images
    for case in [*LABELED, *VAL]:
        name = f"labelsTr/{case}.nii.gz"
        assert (raw / name).read_bytes() == (before / name).read_bytes()
    for case in POOL:
        label = SimpleITK.ReadImage(str(raw / "labelsTr" / f"{case}.nii.gz"))
        image = SimpleITK.ReadImage(str(raw / "imagesTr" / f"{case}_0000.nii.gz"))
        assert label.GetSize() == image.GetSize()
        assert label.GetSpacing() == pytest.approx(image.GetSpacing())
        assert set(np.unique(SimpleITK.GetArrayFromImage(label))) <= {0, 1, 2, IGNORE}
    dataset_json = json.loads((raw / "dataset.json").read_text())
    assert dataset_json["labels"] == {"background": 0, "shell": 1, "core": 2, "ignore": IGNORE}
    assert dataset_json["numTraining"] == 8

    # the fold keeps its number and its validation cases
    (fold,) = json.loads((preprocessed / "splits_final.json").read_text())
    assert fold == {"train": sorted([*LABELED, *POOL]), "val": VAL}
    plans = (tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "nnUNetPlans.json").read_bytes()
    assert (preprocessed / "nnUNetPlans.json").read_bytes() == plans

    # what nnU-Net samples from is in the label: the ignore label is no class, and annotated voxels are listed
    folder = preprocessed / f"nnUNetPlans_{done.configuration}"
    properties = pickle.loads((folder / "case3.pkl").read_bytes())
    assert set(properties["class_locations"]) == {1, 2, (-1, 0, 1, 2)}
    seg = blosc2.open(str(folder / "case3_seg.b2nd"))[:]
    places = np.asarray(properties["class_locations"][-1, 0, 1, 2])
    assert set(np.unique(seg[tuple(places.T)])) <= {-1, 0, 1, 2}

    # nnU-Net predicts classes only with what was trained on it
    model = RoundOfFold(done, 1, 0).model
    predicted = Teacher(model, "cpu", mirroring=True).predict([str(before / "imagesUl" / "free0_0000.nii.gz")])
    assert predicted.probabilities.shape == (3, *tiny_nnunet.SHAPE)
    assert set(np.unique(predicted.label_map)) <= {0, 1, 2}


@pytest.mark.parametrize("stage", ["run_training", "label_pool", "build_dataset"])
def test_what_is_done_is_not_repeated_after_a_kill(make, commands, stage):
    plan = make()
    commands.dies = {stage: 1}
    done, statuses = finish(plan)
    assert not done
    assert statuses[-1][1] == "failed"
    names = [name for name in commands.names() if name != stage]
    assert finish(plan)[0]
    assert [name for name in commands.names() if name == stage] == [stage] * (3 if stage == "run_training" else 2)
    before = commands.names()
    assert len(names) == len(set(names))
    assert finish(plan) == (True, [])
    assert commands.names() == before


def test_labels_and_cases_that_are_done_are_kept_when_the_rest_goes_on(make, commands):
    plan = make()
    place = RoundOfFold(plan, 1, 0)
    commands.dies = {"build_dataset": 1}
    finish(plan)
    kept = place.labels / "case3.nii.gz"
    first = kept.stat().st_mtime_ns
    (place.labels / "case4.json").unlink()  # as if the command had been killed between label and record
    torn = temporary_beside(place.labels / "case4.nii.gz")
    torn.with_name(torn.name + ".nii.gz").touch()
    finish(plan)
    assert kept.stat().st_mtime_ns == first
    assert (place.labels / "case4.json").is_file()
    assert not list(place.labels.glob(".*"))


def test_a_pseudo_label_that_was_changed_by_hand_is_made_again(make, commands):
    plan = make()
    place = RoundOfFold(plan, 1, 0)
    commands.dies = {"build_dataset": 1}
    finish(plan)
    label = place.labels / "case3.nii.gz"
    before = label.read_bytes()
    label.write_bytes(before[:-3])
    done, statuses = finish(plan)
    assert (done, statuses[-1][1]) == (False, "failed")
    assert finish(plan)[0]
    assert label.read_bytes() == before


def test_provenance_says_where_every_label_is_from(make, commands):
    plan = make(select=[0.4])
    assert finish(plan)[0]
    place = RoundOfFold(plan, 1, 0)
    content = json.loads((place.data / "provenance.json").read_text())
    assert content["true_labels"] == {"train": LABELED, "val": VAL}
    records = content["pseudo_labels"]
    assert sorted(records) == POOL
    chosen = {case for case, record in records.items() if record["chosen"]}
    assert len(chosen) == 2
    least = min(records[case]["agreement"] for case in chosen)
    assert all((record["agreement"] or 0) <= least for case, record in records.items() if case not in chosen)
    for case, record in records.items():
        label = read(place.labels / f"{case}.nii.gz")
        assert sum(record["voxels"].values()) == label.size
        assert record["labeled_share"] == pytest.approx((label != IGNORE).mean())
        assert (record["teacher"], record["threshold"]) == ("nnUNetTrainerSupervised", 0.4)
    splits = json.loads((data_of(plan, "nnUNet_preprocessed") / "splits_final.json").read_text())
    assert splits[0]["train"] == sorted([*LABELED, *chosen])
    raw = data_of(plan, "nnUNet_raw")
    assert {path.name for path in (raw / "labelsTr").iterdir()} == {
        f"{case}.nii.gz" for case in (*LABELED, *VAL, *chosen)
    }


def test_a_second_round_learns_from_the_model_of_the_first(make, commands):
    plan = make(rounds=2)
    assert finish(plan)[0]
    digests = {index: RoundOfFold(plan, index, 0).pseudo_label("free0").checkpoint_sha256 for index in (1, 2)}
    assert digests[1] != digests[2]
    assert commands.names() == ["run_training", *["label_pool", "build_dataset", "run_training"] * 2]


def test_rounds_can_be_added_and_the_others_stay(make, commands):
    plan = make()
    assert finish(plan)[0]
    before = len(commands.calls)
    more = make(rounds=2)
    assert finish(more)[0]
    assert commands.names()[before:] == ["label_pool", "build_dataset", "run_training"]


def test_parts_of_a_pool_are_labeled_by_tasks_of_their_own(make, commands):
    plan = make()
    assert carry_out(plan, lambda to_do: serial(to_do, lambda *told: None), parts=2)
    parts = [arguments[3:5] for name, arguments in commands.calls if name == "label_pool"]
    assert parts == [["0", "2"], ["1", "2"]]


def test_nothing_of_the_users_datasets_is_changed(make, commands, tiny_dataset):
    def state():
        files = [path for name in ("raw", "preprocessed", "results") for path in (tiny_dataset / name).rglob("*")]
        return {path: path.stat().st_mtime_ns for path in files if path.is_file()}

    before = state()
    assert finish(make())[0]
    assert state() == before


def test_trainers_that_use_a_pool_get_what_has_no_pseudo_label(make, commands):
    settings = {**SETTINGS_OF_SEMI, "num_epochs": 1}
    plan = make(select=[0.4], final_trainer="nnUNetTrainerMeanTeacher", settings=settings)
    assert finish(plan)[0]
    preprocessed = data_of(plan, "nnUNet_preprocessed")
    pool = {path.stem for path in (preprocessed / "nnUNetPlans_2d_unlabeled").glob("*.b2nd")}
    splits = json.loads((preprocessed / "splits_final.json").read_text())
    assert pool == set(POOL) - set(splits[0]["train"])
    assert len(pool) == 3


SETTINGS_OF_SEMI = {**tiny_nnunet.SHORT, **tiny_nnunet.ALWAYS_ACTIVE}

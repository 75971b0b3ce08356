"""SAMs in the labels of a round: where the calibration lets them, as it says, and the teacher alone everywhere else."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK
import tiny_nnunet
from test_rounds_of_self_training import LABELED, POOL, finish

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.jobs.executors import serial
from nnunet_semisam.pseudo_labels.case_pipeline import CasePipeline
from nnunet_semisam.self_training import sam_labels
from nnunet_semisam.self_training.calibration_record import CALIBRATION_FILE, read_calibration
from nnunet_semisam.self_training.pseudo_label import certainty, with_ignore
from nnunet_semisam.self_training.rounds import RoundOfFold
from nnunet_semisam.self_training.sam_calibration import calibration_for
from nnunet_semisam.self_training.tasks import carry_out
from nnunet_semisam.self_training.teacher import Teacher

IGNORE, THRESHOLD = 3, 0.4
SEMI = {**tiny_nnunet.SHORT, **tiny_nnunet.ALWAYS_ACTIVE, "num_epochs": 1}
QUICK = {  # untrained networks doubt everything
    "nano": {"prompt": "box", "refinement": "none"},
    "sam": {"start": 1.0, "confidence_threshold": 0.01},
}


def labels_of(place):
    """Return case -> its pseudo-label, ``(Z, Y, X)``."""
    found = {case: place.label_file(case, ".nii.gz") for case in POOL}
    return {case: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) for case, path in found.items()}


def labels_of_teacher(place, root):
    """Return case -> what the teacher alone says of it."""
    teacher = Teacher(place.before().model, "cpu", mirroring=True)
    labels = {}
    for case in POOL:
        folder = root / "raw" / tiny_nnunet.DATASET / ("imagesTr" if case.startswith("case") else "imagesUl")
        found = teacher.predict([str(folder / f"{case}_0000.nii.gz")])
        sure = certainty(found.probabilities, teacher.model.labels)
        labels[case] = with_ignore(found.label_map, sure, THRESHOLD, IGNORE)
    return labels


def test_a_round_with_a_sam_fuses_the_classes_in_which_it_helps(make, commands, calibrated, tiny_dataset, monkeypatch):
    calibrated(0.5, 0.0)  # of shell and core
    measured, pipeline = [], CasePipeline.measured

    def spied(self, case, *args):
        measured.append(case)
        return pipeline(self, case, *args)

    monkeypatch.setattr(CasePipeline, "measured", spied)
    plan = make(trainer="nnUNetTrainerSemiSAM", settings={**SEMI, **QUICK}, threshold=THRESHOLD)
    assert plan.sam, "as the first trainer does"
    assert finish(plan)[0]
    names = ["run_training", "sam_calibration", "label_pool", "build_dataset", "run_training"]
    assert commands.names() == names

    place = RoundOfFold(plan, 1, 0)
    calibration = read_calibration(place)
    assert (sorted(measured), sorted(calibration.cases)) == (LABELED, LABELED)
    assert [entry.cases for entry in calibration.classes] == [2, 2]

    found, alone = labels_of(place), labels_of_teacher(place, tiny_dataset)
    assert all(np.array_equal(found[case] == 2, alone[case] == 2) for case in POOL), "core is the teacher's"
    assert any((alone[case] == 2).any() for case in POOL)
    assert any((found[case] != alone[case]).any() for case in POOL), "and shell is not"

    record = json.loads((place.labels / "case3.json").read_text())
    assert (record["teacher"], record["threshold"]) == ("nnUNetTrainerSemiSAM", THRESHOLD)
    assert record["checkpoint_sha256"] == sha256_of(place.before().model.checkpoint)
    assert record["sam"] == {
        "models": ["nano"],
        "fingerprints": calibration.fingerprints,
        "class_weights": {"nano": {"1": 0.5, "2": 0.0}},
        "confidence_threshold": 0.01,
        "calibration_sha256": sha256_of(place.folder / CALIBRATION_FILE),
    }
    assert len(calibration.fingerprints["nano"]) >= 16
    label = SimpleITK.ReadImage(str(place.labels / "case3.nii.gz"))
    image = SimpleITK.ReadImage(str(place.data / "nnUNet_raw" / tiny_nnunet.DATASET / "imagesTr/case3_0000.nii.gz"))
    assert (label.GetSize(), label.GetSpacing()) == (image.GetSize(), pytest.approx(image.GetSpacing()))


def test_parts_share_one_calibration_and_nothing_that_is_done_is_repeated(make, commands, calibrated, monkeypatch):
    calibrated(0.5, 0.0)
    plan = make(sam=True, settings={**SEMI, **QUICK}, threshold=THRESHOLD)
    place = RoundOfFold(plan, 1, 0)
    commands.dies = {"sam_calibration": 1}
    assert not finish(plan)[0]
    assert commands.names() == ["run_training", "sam_calibration"], "nothing is labeled before it"

    asked, opinion = [], sam_labels.SAMLabeller.opinion

    def killed(self, case, found):
        asked.append(case)
        if len(asked) == 3:
            raise SystemExit("killed")
        return opinion(self, case, found)

    with monkeypatch.context() as patch:
        patch.setattr(sam_labels.SAMLabeller, "opinion", killed)
        assert not finish(plan)[0]
    times = {path: path.stat().st_mtime_ns for path in (*place.labels.iterdir(), place.folder / CALIBRATION_FILE)}
    assert len(times) == 2 * 2 + 1, "label and record of two cases"
    assert finish(plan)[0]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert commands.names().count("sam_calibration") == 2

    use = place.pseudo_label("case3").sam
    assert use.confidence_threshold == 0.01, "settings of SAMs hold where the first trainer has none"
    whole = labels_of(place)
    shutil.rmtree(place.labels)
    shutil.rmtree(place.data)
    assert carry_out(plan, lambda to_do: serial(to_do, lambda *told: None), parts=2)
    assert commands.names().count("sam_calibration") == 2
    assert commands.names().count("label_pool") == 4
    assert all(np.array_equal(whole[case], label) for case, label in labels_of(place).items())


@pytest.mark.parametrize("why", ["no class gains", "nothing to prompt with"])
def test_where_no_sam_helps_the_labels_are_those_without_it(make, commands, calibrated, tiny_dataset, monkeypatch, why):
    if why == "no class gains":
        calibrated(0.0, 0.0)
    else:
        monkeypatch.setattr(CasePipeline, "estimate_dice", lambda self, cases: None)
    monkeypatch.setattr(sam_labels, "stage_of_fold", lambda *args, **more: pytest.fail("no SAM is needed"))
    commands.dies = {"build_dataset": 1}
    plan = make(sam=True, settings={**SEMI, **QUICK}, threshold=THRESHOLD)
    finish(plan)
    place = RoundOfFold(plan, 1, 0)
    found, alone = labels_of(place), labels_of_teacher(place, tiny_dataset)
    assert all(np.array_equal(found[case], alone[case]) for case in POOL)
    weights = {"nano": {"1": 0.0, "2": 0.0}} if why == "no class gains" else {}
    assert place.pseudo_label("case3").sam.class_weights == weights

    calibration = place.folder / CALIBRATION_FILE
    with pytest.raises(UserError, match="of another network"):
        calibration_for(place, "0" * 64)
    assert not calibration.exists(), "it is made again"
    calibration.write_text('{"checkpoint_sha256": 3}')
    assert read_calibration(place) is None


def test_who_decides_is_the_first_trainer_unless_the_user_does(make):
    assert not make("a").sam
    assert make("b", trainer="nnUNetTrainerSemiSAM").sam
    assert not make("c", trainer="nnUNetTrainerSemiSAM", sam=False).sam
    assert make("d", sam=True).sam
    with pytest.raises(UserError, match="another sam"):
        make("d", sam=False)

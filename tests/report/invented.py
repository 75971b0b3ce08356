"""A benchmark that never ran: invented images, segmentations, logs and scores in the real folders and formats."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_semisam.benchmark import plan, results
from nnunet_semisam.benchmark.metrics import UNITS
from nnunet_semisam.benchmark.records import (
    CaseSet,
    Cost,
    HeldOutCases,
    Run,
    RunRecord,
    Score,
    ScoreRow,
    ScoreStatus,
    StudyFold,
    Summary,
)
from nnunet_semisam.benchmark.runs import PerformRun
from nnunet_semisam.jobs.base import Status
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.round_log import CalibrationRecord, CaseRecord, ClassRecord, RoundRecord
from nnunet_semisam.report.reading.benchmark_folder import Benchmark

BASELINE, TEACHER, OURS = "nnUNetTrainerSupervised", "nnUNetTrainerMeanTeacher", "nnUNetTrainerSemiSAM"
LABELS = {"background": 0, "RV": 1, "MYO & wall": 2, "LV": 3}
SPACING = (10.0, 1.5, 1.25)  # z, y, x
SPLITS = [
    {"train": ["a1_frame01"], "val": ["v1_frame01"], "unlabeled": ["a2_frame01", "a3_frame01"]},
    {"train": ["a1_frame01", "a2_frame01", "a3_frame01"], "val": ["v1_frame01"], "unlabeled": []},
]
VERSIONS = {"python": "3.11.0", "nnunet-semisam": "0.1.0", "nnunet-semisam commit": "c0ffee", "torch": "2.9.0"}
SETTINGS = {"num_epochs": 30, "num_iterations_per_epoch": 10}


@dataclass(frozen=True)
class Shape:
    """How large the invented world is."""

    patients: int = 4
    frames: int = 2
    size: tuple = (5, 40, 44)
    epochs: int = 30
    seeds: tuple = (0, 1)


def heart(shape, shift=(0, 0), grow=0.0):
    """Return a label map ``(Z, Y, X)`` of a ring, what is in it, and a crescent beside it."""
    z, y, x = np.indices(shape)
    scale = 1 - 0.5 * np.abs(z / max(1, shape[0] - 1) - 0.4)
    cy, cx = shape[1] * 0.52 + shift[0], shape[2] * 0.56 + shift[1]
    radius = np.hypot(y - cy, x - cx) / (0.2 * shape[1] * scale * (1 + grow))
    side = np.hypot((y - cy) / 1.2, x - cx + 0.27 * shape[1]) / (0.17 * shape[1] * scale * (1 + grow))
    label = np.zeros(shape, np.uint8)
    label[side < 1] = 1
    label[radius < 1] = 2
    label[radius < 0.62] = 3
    label[[0, -1]] = 0
    return label


def photograph(label, rng):
    """Return an image of a label map, with a chest around it."""
    _, y, x = np.indices(label.shape)
    chest = np.hypot((y / label.shape[1] - 0.5) / 0.46, (x / label.shape[2] - 0.5) / 0.48) < 1
    image = 40 + 130 * chest + np.choose(label, [0, 190, -60, 220])
    return (image + 25 * rng.standard_normal(label.shape)).astype(np.float32)


def write_image(array, path):
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


def make_study(folder, shape=Shape(), **changes):
    folds = {i: StudyFold(len(s["train"]), plan.split_digest(s)) for i, s in enumerate(SPLITS)}
    study = plan.Study(
        folder=folder,
        dataset="Dataset901_Invented",
        plans="nnUNetPlans",
        plans_sha256="0" * 64,
        trainers=[BASELINE, TEACHER, OURS],
        configurations=["2d"],
        folds=folds,
        seeds=list(shape.seeds),
        settings=SETTINGS,
        device="cpu",
    )
    return replace(study, **changes)


def make_benchmark(folder, shape=Shape(), **changes):
    """Write the folder of a benchmark and return its study."""
    study = plan.begin(make_study(folder, shape, **changes))
    rng = np.random.default_rng(0)
    label_maps = {}
    for patient in range(shape.patients):
        for frame in range(1, shape.frames + 1):
            case = f"q{patient}_frame{frame:02d}"
            label_maps[case] = heart(shape.size, rng.uniform(-2, 2, 2), rng.uniform(-0.1, 0.15))
            write_image(photograph(label_maps[case], rng), folder / "held_out/test/images" / f"{case}_0000.nii.gz")
            write_image(label_maps[case], folder / "held_out/test/labels" / f"{case}.nii.gz")
    for run in study.runs():
        write_run(study, run, label_maps, shape)
    results.write_results(study)
    return study


def write_run(study, run, label_maps, shape):
    """Write what a finished run leaves: ours errs less than the teacher, that less than the baseline."""
    folder = study.folder_of(run)
    rng = np.random.default_rng([run.seed, run.budget, len(run.trainer)])
    error = {BASELINE: 0.3, TEACHER: 0.22, OURS: 0.15}[run.trainer] / run.budget**0.5
    scores = {}
    for i, (case, label_map) in enumerate(label_maps.items()):
        shift = rng.normal(0, 12 * error, 2)
        predicted = heart(label_map.shape, shift, rng.normal(0, error))
        if run.trainer == BASELINE and run.budget == 1 and i == 1:
            predicted[predicted == 1] = 0  # a missed label
        write_image(predicted, folder / "predictions" / f"{case}.nii.gz")
        scores[case] = [
            score
            for label, value in list(LABELS.items())[1:]
            for score in invented_scores(label, predicted == value, label_map == value)
        ]
    (folder / "predictions" / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".nii.gz"}))
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "settings.yaml").write_text("num_epochs: 30\n")
    (folder / "trained.json").write_text(json.dumps({"settings": SETTINGS}))
    (folder / "train.log").write_text(f"$ nnUNetv2_train {study.dataset} 2d {run.fold} -tr {run.trainer}\nnoise\n")
    (folder / "attempts").mkdir()
    for stage, seconds in (("train", 5400), ("predict", 90)):
        content = {"stage": stage, "seconds": seconds, "peak_memory_bytes": 3_000_000_000, "peak_gpu_bytes": None}
        content |= {"gpu": None, "host": "box", "device": "cpu", "versions": VERSIONS, "variables": {"nnUNet_npp": "2"}}
        content |= {"sam_fingerprints": ["f" * 8] if run.trainer == OURS else []}
        (folder / "attempts" / f"{stage}_000.json").write_text(json.dumps(content))
    write_training(PerformRun(study, run).training_folder, run, shape, rng)


def invented_scores(label, predicted, actual):
    """Return a true Dice, and distances made up from it: the real ones need a large library."""
    dice = 2 * float((predicted & actual).sum()) / float(predicted.sum() + actual.sum())
    missed = not predicted.any()
    numbers = dict.fromkeys(UNITS, 2.0 * (1 - dice)) | {"dice": dice, "hd95": 40 * (1 - dice), "assd": 9 * (1 - dice)}
    for metric, value in numbers.items():
        undefined = missed and metric in ("hd95", "assd")
        yield {
            "label": label,
            "metric": metric,
            "value": None if undefined else value,
            "scored": 99.0 if undefined else value,
            "status": "missed" if missed else "ok",
            "unit": UNITS[metric],
        }


def write_training(folder, run, shape, rng):
    folder.mkdir(parents=True)
    ours = run.trainer == OURS
    (folder / "semisam_config.yaml").write_text(f"method: mean_teacher\nuse_sam: {str(ours).lower()}\n")
    text, rows = [], []
    for epoch in range(shape.epochs):
        done = epoch / shape.epochs
        dice = 0.85 - 0.6 * np.exp(-4 * done) + 0.02 * rng.standard_normal()
        text += [
            f"2026-01-01 00:00:00.000001: Epoch {epoch} ",
            f"2026-01-01 00:00:00.000001: train_loss {-0.9 + np.exp(-5 * done):.4f} ",
            f"2026-01-01 00:00:00.000001: val_loss {-0.7 + np.exp(-5 * done) + 0.05 * rng.standard_normal():.4f} ",
            f"2026-01-01 00:00:00.000001: Pseudo dice [np.float32({dice:.4f}), np.float32({dice - 0.1:.4f}), nan] ",
            "2026-01-01 00:00:00.000001: Epoch time: 12.5 s ",
        ]
        row = {"epoch": epoch, "unlabeled_loss": 0.3 * np.exp(-2 * done), "unlabeled_weight": min(1, 2 * done)}
        row |= {"unlabeled_weighted": row["unlabeled_loss"] * row["unlabeled_weight"], "class_weight_1": done}
        rows.append(row | {"labeled_dice_1": 1 - np.exp(-4 * done), "unlabeled_confidence": done})
    (folder / "training_log_2026_1_1_00_00_00.txt").write_text("\n".join(text) + "\n")
    if run.trainer != BASELINE:
        lines = [",".join(rows[0]), *(",".join(f"{value:.6g}" for value in row.values()) for row in rows)]
        (folder / "semisam_log.csv").write_text("\n".join(lines) + "\n")
    if ours:
        for number, epoch in enumerate((shape.epochs // 2, shape.epochs * 3 // 4)):
            write_round(folder, number, epoch)


REASON = "SAM helps: Dice 0.691 (network), 0.776 (SAM), 0.776 (chosen fusion) over 6 cases"
REASON_OFF = "SAM does not help: Dice 0.654 (network), 0.633 (SAM), 0.654 (chosen fusion) over 6 cases"


def write_round(folder, number, epoch):
    """Write a calibration, two cases and the end of a round: SAM helps with class 1, and is off for class 2."""
    classes = (
        ClassRecord("1", "nano", 0.75, (0.6, 0.7), 0.691, 0.776, 0.776, 6, REASON, 1.0, 0.8),
        ClassRecord("2", "nano", 0.0, (0.5, 0.5), 0.654, 0.633, 0.654, 6, REASON_OFF, 2.0, 0.2),
    )
    round_log.append(folder, CalibrationRecord(number, epoch, 0.7, 20.5, classes))
    for case in ("a2_frame01", "a3_frame01"):
        round_log.append(folder, case_record(number, epoch, case))
    round_log.append(folder, RoundRecord(number, epoch, 2, True, 141.3))


def case_record(number=0, epoch=1, case="a", **changes):
    record = CaseRecord(
        round=number,
        epoch=epoch,
        case=case,
        names=("1", "2"),
        agreement=(0.83, None),
        confidence=(0.245, 0.741),
        confident_share=(0.125, 0.875),
        prompts=(681, 0),
        rejected=(2, 0),
        empty=(1, 0),
        weights=(0.75, 0.0),
        confident_share_all=0.84,
        histogram=((0,) * 9 + (900,), (10, 0, 30, 0, 0, 0, 0, 0, 0, 0), (0,) * 7 + (5, 5, 0)),
        seconds={"load": 0.1, "predict": 31.7},
        cache_hit=True,
    )
    return replace(record, **changes)


def study_record(**changes):
    """A study that no file holds."""
    study = plan.Study(
        folder=Path("nowhere"),
        dataset="Dataset901_Invented",
        plans="nnUNetPlans",
        plans_sha256="0" * 64,
        trainers=[BASELINE, OURS],
        configurations=["2d"],
        folds={0: StudyFold(1, "1" * 64)},
        seeds=[0],
        settings=SETTINGS,
        device="cpu",
    )
    return replace(study, **changes)


def run_record(**changes):
    """A finished run that no file holds."""
    run = RunRecord(
        trainer=BASELINE,
        configuration="2d",
        budget=1,
        fold=0,
        seed=0,
        status=Status.DONE,
        error=None,
        steps=300,
        cost=Cost(
            train_hours=1.0,
            predict_hours=0.1,
            gpu_hours=0.0,
            attempts=2,
            peak_memory_bytes=None,
            peak_gpu_bytes=None,
        ),
        gpu=None,
        host="box",
        device="cpu",
        software=[],
        training="m/fold_0",
        predictions="p",
    )
    return replace(run, **changes)


def summary_record(**changes):
    """A mean Dice over labels that no file holds."""
    summary = Summary(
        mean=0.7,
        low=0.6,
        high=0.8,
        cases=20,
        groups=20,
        configuration="2d",
        budget=1,
        trainer=BASELINE,
        label="mean",
        metric="dice",
        unit="1",
        runs=1,
        run_means=[0.7],
        failures=0,
        absent=0,
        difference=None,
    )
    return replace(summary, **changes)


def benchmark_record(folder, **changes):
    """A benchmark that no file holds."""
    benchmark = Benchmark(
        folder=folder,
        study=study_record(),
        baseline=BASELINE,
        versions=VERSIONS,
        held_out=held_out_cases({}),
        runs=(run_record(),),
        costs=(),
        summaries=(summary_record(),),
        rows=(),
    )
    return replace(benchmark, **changes)


def held_out_cases(groups):
    """Test cases that no file holds."""
    return HeldOutCases(CaseSet.TEST, {0: "held_out/test"}, groups)


def row_of(label):
    """A row of results.csv that no file holds."""
    return ScoreRow(Run(BASELINE, "2d", 0, 1, 0), "q", "q", Score(label, "dice", 0.7, 0.7, ScoreStatus.OK, "1"))

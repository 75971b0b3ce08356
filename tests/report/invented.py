"""A benchmark that never ran: invented images, segmentations, logs and scores in the real folders and formats."""

import json
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK

from nnunet_semisam.benchmark import plan, results
from nnunet_semisam.benchmark.metrics import UNITS

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
    folds = {i: {"budget": len(s["train"]), "sha256": plan.split_digest(s)} for i, s in enumerate(SPLITS)}
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
    truths = {}
    for patient in range(shape.patients):
        for frame in range(1, shape.frames + 1):
            case = f"q{patient}_frame{frame:02d}"
            truths[case] = heart(shape.size, rng.uniform(-2, 2, 2), rng.uniform(-0.1, 0.15))
            write_image(photograph(truths[case], rng), folder / "held_out/test/images" / f"{case}_0000.nii.gz")
            write_image(truths[case], folder / "held_out/test/labels" / f"{case}.nii.gz")
    for run in study.runs():
        write_run(study, run, truths, shape)
    results.write_results(study)
    return study


def write_run(study, run, truths, shape):
    """Write what a finished run leaves: ours errs less than the teacher, that less than the baseline."""
    folder = study.folder_of(run)
    rng = np.random.default_rng([run.seed, run.budget, len(run.trainer)])
    error = {BASELINE: 0.3, TEACHER: 0.22, OURS: 0.15}[run.trainer] / run.budget**0.5
    scores = {}
    for i, (case, truth) in enumerate(truths.items()):
        shift = rng.normal(0, 12 * error, 2)
        predicted = heart(truth.shape, shift, rng.normal(0, error))
        if run.trainer == BASELINE and run.budget == 1 and i == 1:
            predicted[predicted == 1] = 0  # a missed label
        write_image(predicted, folder / "predictions" / f"{case}.nii.gz")
        scores[case] = [
            score
            for label, value in list(LABELS.items())[1:]
            for score in invented_scores(label, predicted == value, truth == value)
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
    write_training(results.training_folder(study, run), run, shape, rng)


def invented_scores(label, predicted, truth):
    """Return a true Dice, and distances made up from it: the real ones need a large library."""
    dice = 2 * float((predicted & truth).sum()) / float(predicted.sum() + truth.sum())
    missed = not predicted.any()
    numbers = dict.fromkeys(UNITS, 2.0 * (1 - dice)) | {"dice": dice, "hd95": 40 * (1 - dice), "assd": 9 * (1 - dice)}
    for metric, value in numbers.items():
        undefined = missed and metric in ("hd95", "assd")
        yield {
            "label": label,
            "metric": metric,
            "value": float("nan") if undefined else value,
            "scored": 99.0 if undefined else value,
            "status": "missed" if missed else "ok",
        }


def write_training(folder, run, shape, rng):
    folder.mkdir(parents=True)
    ours = run.trainer == OURS
    (folder / "semisam_config.yaml").write_text(f"method: mean_teacher\nuse_sam: {str(ours).lower()}\n")
    text, rows = [], []
    for epoch in range(shape.epochs):
        done = epoch / shape.epochs
        if ours and epoch in (shape.epochs // 2, shape.epochs * 3 // 4):
            text += sam_lines(len([line for line in text if "SAM round" in line]), epoch, done)
        dice = 0.85 - 0.6 * np.exp(-4 * done) + 0.02 * rng.standard_normal()
        text += [
            f"2026-01-01 00:00:00.000001: Epoch {epoch} ",
            f"2026-01-01 00:00:00.000001: train_loss {-0.9 + np.exp(-5 * done):.4f} ",
            f"2026-01-01 00:00:00.000001: val_loss {-0.7 + np.exp(-5 * done) + 0.05 * rng.standard_normal():.4f} ",
            f"2026-01-01 00:00:00.000001: Pseudo dice [np.float32({dice:.4f}), np.float32({dice - 0.1:.4f}), nan] ",
            "2026-01-01 00:00:00.000001: Epoch time: 12.5 s ",
        ]
        row = {"epoch": epoch, "consistency": 0.3 * np.exp(-2 * done), "consistency_weight": min(1, 2 * done)}
        row |= {"consistency_weighted": row["consistency"] * row["consistency_weight"], "class_trust_1": done}
        rows.append(row | {"teacher_dice_1": 1 - np.exp(-4 * done), "consistency_trusted": done})
    (folder / "training_log_2026_1_1_00_00_00.txt").write_text("\n".join(text) + "\n")
    if run.trainer != BASELINE:
        lines = [",".join(rows[0]), *(",".join(f"{value:.6g}" for value in row.values()) for row in rows)]
        (folder / "semisam_log.csv").write_text("\n".join(lines) + "\n")


REASON = "SAM helps: Dice 0.691 (network), 0.776 (SAM), 0.776 (chosen fusion) over 6 cases"
REASON_OFF = "SAM does not help: Dice 0.654 (network), 0.633 (SAM), 0.654 (chosen fusion) over 6 cases"


def sam_lines(index, epoch, done):
    return [
        "2026-01-01 00:00:00.000001: SAM calibration on labeled cases:",
        f"  class 1: SAM is on with weight 0.75: {REASON}",
        f"  class 2: SAM is OFF: {REASON_OFF} ",
        f"2026-01-01 00:00:00.000001: SAM round {index} (network of epoch {epoch}): 40 cases in 120.2 s (load 0.1, "
        "predict 31.7); trusted voxels 84 %, cached 0 %",
        f"  class 1: 681 prompts, 1 collapsed (0 empty), network/SAM Dice {0.7 + 0.2 * done:.3f}, mean trust 0.245, "
        "trusted 0 %",
        "  class 2: 0 prompts, 0 collapsed (0 empty), network/SAM Dice -, mean trust 0.741, trusted 87 % ",
    ]

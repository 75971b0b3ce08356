"""Train one arm on real data with nnU-Net's own plans, judge it at several checkpoints, and stop in time.

What is judged are whole volumes of the validation patients: nnU-Net's sliding window without mirroring, Dice on the
preprocessed voxels. The time of judging is not counted. A training that has to stop writes its checkpoint, and the same
command goes on with it.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.label_efficiency.arms import choose_arms
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.io.json_files import object_or_none, write_json
from nnunet_semisam.settings.file import VARIABLE
from nnunet_semisam.trainers_folder import trainers_folder

NOTES = "judged.json"
LAST_CHECKPOINT = "checkpoint_latest.pth"
RESERVE_SECONDS = 30  # for the checkpoint and the end of workers


class OutOfTimeError(Exception):
    """The checkpoint is written, and the training is not finished."""


class Judged:
    """What a training adds to nnU-Net's hooks: seconds of every epoch, Dice at checkpoints, an end in time.

    Attributes:
        notes: ``epoch_seconds`` by epoch and ``checkpoints``, the judgements.
        notes_file: Where they are kept.
        judged_after: Numbers of epochs.
        ends_at: When to stop, by ``time.monotonic``.
    """

    notes: dict[str, Any]
    notes_file: Path
    judged_after: tuple[int, ...]
    ends_at: float

    def on_train_start(self) -> None:
        """Judge a checkpoint that a stopped start has written and not judged."""
        super().on_train_start()
        if self.current_epoch in self.judged_after and self.current_epoch not in self._judged():
            self._judge()
            write_json(self.notes_file, self.notes)

    def on_epoch_start(self) -> None:
        """Start the clock before rounds of pseudo-labels."""
        self._began = time.perf_counter()
        super().on_epoch_start()

    def on_epoch_end(self) -> None:
        """Note the seconds, judge where it is due, and stop if another epoch does not fit."""
        seconds = time.perf_counter() - self._began
        self.notes["epoch_seconds"][str(self.current_epoch)] = seconds
        write_json(self.notes_file, self.notes)  # before nnU-Net's checkpoint, which must find every epoch in it
        super().on_epoch_end()
        if self.current_epoch in self.judged_after:
            self._judge()
        write_json(self.notes_file, self.notes)
        needed = 1.3 * seconds
        if self.current_epoch + 1 in self.judged_after:
            needed += self.notes.get("judging_seconds", 0.0)
        if self.current_epoch < self.num_epochs and time.monotonic() + needed > self.ends_at:
            self.current_epoch -= 1  # nnU-Net writes checkpoints before it counts the epoch
            self.save_checkpoint(str(Path(self.output_folder) / LAST_CHECKPOINT))
            self.current_epoch += 1
            raise OutOfTimeError

    def save_checkpoint(self, filename: str) -> None:
        """Write no best checkpoint: nothing reads it, and it takes longer than an epoch here."""
        if Path(filename).name != "checkpoint_best.pth":
            super().save_checkpoint(filename)

    def _judged(self) -> list[int]:
        return [each["epochs"] for each in self.notes["checkpoints"]]

    def _judge(self) -> None:
        start = time.perf_counter()
        dice = validation_dice(self)
        self.notes["judging_seconds"] = time.perf_counter() - start
        so_far = sum(self.notes["epoch_seconds"][str(epoch)] for epoch in range(self.current_epoch))
        entry = {
            "epochs": self.current_epoch,
            "steps": self.current_epoch * self.num_iterations_per_epoch,
            "training_seconds": so_far,
            "dice": dice,
            "mean_dice": float(np.mean(list(dice.values()))),
        }
        earlier = [each for each in self.notes["checkpoints"] if each["epochs"] < self.current_epoch]
        self.notes["checkpoints"] = [*earlier, entry]


def validation_dice(trainer: Any) -> dict[str, float]:
    """Return the Dice of each label, averaged over the validation volumes that have or claim it."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from nnunet_semisam.methods.parts.networks import Finest, evaluating, unwrap

    student = unwrap(trainer.network)
    network = student if trainer.method is None else trainer.method.inference_network(student)
    predictor = nnUNetPredictor(use_mirroring=False, device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        Finest(network), trainer.plans_manager, trainer.configuration_manager, None, trainer.dataset_json, "", None
    )
    labels = trainer.label_manager.foreground_labels
    found: dict[str, list[float]] = {str(label): [] for label in labels}
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, trainer.do_split()[1])
    for case in dataset.identifiers:
        image, annotation, *_ = dataset.load_case(case)
        with torch.no_grad(), evaluating(network):
            logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(np.asarray(image[:])))
        predicted, annotation = logits.argmax(0).cpu().numpy(), np.asarray(annotation[:])[0]
        for label in labels:
            ours, theirs = predicted == label, annotation == label
            size = ours.sum() + theirs.sum()
            if size > 0:
                found[str(label)].append(float(2 * (ours & theirs).sum() / size))
    return {label: float(np.mean(values)) if values else 0.0 for label, values in found.items()}


def build(args: argparse.Namespace) -> Any:
    """Return the trainer of the arm, with its checkpoint if there is one."""
    (arm,) = choose_arms([args.arm])
    args.work.mkdir(parents=True, exist_ok=True)
    length = {
        "num_epochs": args.epochs,
        "num_iterations_per_epoch": args.steps_per_epoch,
        "num_val_iterations_per_epoch": 2,
        "save_every": 5,
        "seed": 0,
    }
    settings = args.work / "settings.yaml"
    write_text(settings, yaml.safe_dump({**length, **arm.settings}, sort_keys=False))
    os.environ[VARIABLE] = str(settings)
    os.environ["nnUNet_preprocessed"] = str(args.preprocessed)
    os.environ["nnUNet_results"] = str(args.work / "results")
    os.environ["nnUNet_extTrainer"] = str(trainers_folder())
    os.environ.setdefault("nnUNet_n_proc_DA", str(os.cpu_count()))

    import torch
    from nnunetv2.run.run_training import maybe_load_checkpoint, recursive_find_trainer_class_by_name

    folder = args.preprocessed / args.dataset
    plans, dataset_json = (object_or_none(folder / name) for name in (f"{args.plans}.json", "dataset.json"))
    if plans is None or dataset_json is None:
        raise SystemExit(f"There are no plans {args.plans} in {folder}. Unpack the data first: see README.md.")
    found = recursive_find_trainer_class_by_name(arm.trainer)
    trainer_class = type(found.__name__, (Judged, found), {})
    plans["continue_training"] = True
    torch.backends.cudnn.benchmark = True
    trainer = trainer_class(plans, args.configuration, args.fold, dataset_json, torch.device(args.device))
    maybe_load_checkpoint(trainer, True, False)
    return trainer


def main(argv: list[str] | None = None) -> None:
    """Train until the end or until time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", required=True, help="of benchmarks/label_efficiency/arms.yaml")
    parser.add_argument("--preprocessed", type=Path, required=True, help="as nnUNet_preprocessed")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--plans", required=True)
    parser.add_argument("--configuration", required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--steps-per-epoch", type=int, required=True)
    parser.add_argument("--checkpoints", type=int, nargs="+", required=True, help="numbers of epochs")
    parser.add_argument("--device", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(argv)
    ends_at = time.monotonic() + args.seconds - RESERVE_SECONDS
    trainer = build(args)
    trainer.judged_after, trainer.ends_at = tuple(args.checkpoints), ends_at
    trainer.notes_file = args.work / NOTES
    trainer.notes = object_or_none(trainer.notes_file) or {"epoch_seconds": {}, "checkpoints": []}
    finished = trainer.current_epoch >= trainer.num_epochs
    if not finished:
        try:
            trainer.run_training()
            finished = True
        except OutOfTimeError:
            pass
    figures = {"trainer": type(trainer).__name__, "epochs": trainer.current_epoch, "finished": finished}
    write_json(args.json, figures | trainer.notes)


if __name__ == "__main__":
    main()

"""Every k-th slice of many cases, or few whole cases: which teaches more for the same number of annotated slices?

Two datasets of the same cases are compared: one with whole labels, one made of it by ``convert sparse``. For each
seed, cases are drawn at random; the first ``--whole`` of them train one model with their whole labels, all of the
``--sparse`` ones train the other with every k-th slice. Trainings have the same steps, and the judged cases, those that
the sparse dataset validates on, are in neither. Every training that is finished is kept: the same command goes on where
it was stopped, and several with different ``--seeds`` may share a folder. ``dice.csv`` there holds every judged case.

    nnunet-semisam convert nnunet -i TASK -d 104 --labeled 160 --val 40
    nnunet-semisam convert sparse -i Dataset104_NAME -d 107 --labeled 160 --val 40 --every 5
    python -m benchmarks.partial -d 104 --sparse-dataset 107 --whole 2 --sparse 10 --seeds 0 1 2 3 -o study
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from benchmarks._stages import Stage, Study, compare_stages, settings_of_length, write_dice
from nnunet_semisam.data.dataset_json import ignore_label
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.data.raw_files import label_files
from nnunet_semisam.errors import UserError
from nnunet_semisam.jobs.nnunet_command import device_here
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import load_splits

WHOLE, SPARSE = "whole", "sparse"


def annotated_voxels(study: Study, cases: Sequence[str]) -> int:
    """Return how many voxels of some cases have a label, background included."""
    labels, ignored = label_files(study.dataset.raw, study.dataset.dataset_json), study.dataset.dataset_json["labels"]
    value = ignore_label(study.dataset.dataset_json) if "ignore" in ignored else -1
    # copies: a view does not keep alive the image that it looks at
    arrays = (SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(labels[case]))) for case in cases)
    return sum(int((array != value).sum()) for array in arrays)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", dest="dataset", required=True, help="planned and preprocessed dataset, whole labels")
    parser.add_argument("--sparse-dataset", required=True, help="the same cases after convert sparse")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", help="configuration (default: %(default)s)")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    parser.add_argument("-tr", dest="trainer", default="nnUNetTrainerSupervised", help="trainer (default: %(default)s)")
    parser.add_argument("-o", dest="out", type=Path, required=True, help="folder of the study")
    parser.add_argument("-device", default="auto", help="where to train (default: %(default)s)")
    parser.add_argument("--whole", type=int, default=2, help="cases with whole labels (default: %(default)s)")
    parser.add_argument("--sparse", type=int, default=10, help="cases with some slices (default: %(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3], help="default: 0 1 2 3")
    parser.add_argument("--epochs", type=int, default=40, help="of a training (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=50, help="steps of an epoch (default: %(default)s)")
    return parser


def studies_of(args: argparse.Namespace) -> dict[str, Study]:
    """Return the two studies that a command line names: of whole labels, and of some slices.

    Raises:
        UserError: If a dataset is not planned, has other cases than the other one, or too few.
    """
    datasets = {WHOLE: open_dataset(args.dataset, args.plans), SPARSE: open_dataset(args.sparse_dataset, args.plans)}
    cases = {name: set(label_files(each.raw, each.dataset_json)) for name, each in datasets.items()}
    if cases[WHOLE] != cases[SPARSE]:
        raise UserError(
            f"{datasets[SPARSE].raw} has other labeled cases than {datasets[WHOLE].raw}. Make it from that one: "
            "nnunet-semisam convert sparse -i FOLDER."
        )
    judged = sorted(load_splits(datasets[SPARSE].preprocessed / SPLITS_FILE)[0]["val"])
    candidates = sorted(cases[WHOLE] - set(judged))
    if not 0 < args.whole <= args.sparse <= len(candidates):
        raise UserError(
            f"--whole {args.whole} --sparse {args.sparse}: allowed are numbers from 1 on, the second not below the "
            f"first, up to the {len(candidates)} cases that do not judge."
        )
    study = Study(
        datasets[WHOLE],
        args.configuration,
        args.plans,
        args.trainer,
        settings_of_length(args.epochs, args.iterations),
        judged,
        candidates,
        device_here(args.device, {}),
        args.out / WHOLE,
    )
    return {WHOLE: study, SPARSE: replace(study, dataset=datasets[SPARSE], out=args.out / SPARSE)}


def run(studies: Mapping[str, Study], counts: Mapping[str, int], seeds: Sequence[int]) -> dict[str, dict[int, Any]]:
    """Train and judge all, and return name -> seed -> case -> Dice; what is done is not repeated."""
    dice: dict[str, dict[int, Any]] = {name: {} for name in studies}
    for seed in seeds:
        for name, study in studies.items():
            cases = study.draw(seed, counts[name])
            dice[name][seed] = Stage(study, seed, name, cases).work()
            mean = 100 * np.mean(list(dice[name][seed].values()))
            print(f"seed {seed}, {name}: {len(cases)} cases, {annotated_voxels(study, cases):,} voxels, {mean:.1f}")
    return dice


def main(words: Sequence[str] | None = None) -> int:
    """Run the study, and print each training and the comparison."""
    args = build_parser().parse_args(words)
    try:
        dice = run(studies_of(args), {WHOLE: args.whole, SPARSE: args.sparse}, args.seeds)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    write_dice(args.out / "dice.csv", dice)
    print(f"whole -> sparse: {compare_stages(dice[WHOLE], dice[SPARSE])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command that writes the dataset of a round, raw and preprocessed, from true and pseudo-labels.

Called by ``tasks.py`` with the folder of the self-training, round, fold, number of processes, and ``-device``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nnunet_semisam.data.datasets import PlannedDataset, open_dataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import remove_temporaries
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.runs.model_run import flush_files
from nnunet_semisam.self_training.preprocessed import write_preprocessed
from nnunet_semisam.self_training.pseudo_label import choose
from nnunet_semisam.self_training.raw_dataset import write_raw
from nnunet_semisam.self_training.rounds import PROVENANCE_FILE, PseudoLabel, RoundOfFold, read_place

UNFINISHED = "data_unfinished"


def choose_cases(place: RoundOfFold, records: Mapping[str, PseudoLabel]) -> list[str]:
    """Return the cases of the pool that a round trains on; one without any confident voxel is never chosen."""
    qualities = {case: record.quality for case, record in records.items() if record.labeled_share > 0}
    return choose(qualities, place.plan.share_of(place.index))


def build(place: RoundOfFold, num_processes: int) -> None:
    """Write the dataset of a round; it is in place when all of it is there.

    Raises:
        UserError: If a pseudo-label is missing or has changed, or no case has a confident voxel.
    """
    plan, cases = place.plan, place.plan.folds[place.fold]
    dataset = open_dataset(plan.dataset, plan.plans)
    ending = dataset.dataset_json["file_ending"]
    records = {case: place.pseudo_label(case) for case in cases.pool}
    chosen = choose_cases(place, records)
    if not chosen:
        more = ", a lower sam: {confidence_threshold: ...}, or --no-sam" if plan.sam else ""
        raise UserError(
            f"{place.name}: the teacher is sure of no voxel of the pool. Use a lower --threshold{more}, or train it "
            "longer."
        )
    files = {case: place.label_file(case, ending) for case in chosen}
    for case, file in files.items():
        if not file.is_file() or sha256_of(file) != records[case].sha256:
            (place.labels / f"{case}.json").unlink()
            shutil.rmtree(place.folder / UNFINISHED, ignore_errors=True)
            raise UserError(f"{file} is not what was written there. Start again: the case is labeled again.")
    remove_temporaries(
        place.labels
    )  # here, where no job labels the pool: process numbers of other machines say nothing
    unfinished = place.folder / UNFINISHED
    raw = unfinished / "nnUNet_raw" / plan.dataset
    if raw.exists():  # links and copies are soon made again; preprocessed cases are kept
        shutil.rmtree(raw)
    dataset_json = write_raw(raw, dataset, cases, files)
    write_preprocessed(unfinished, place, dataset, dataset_json, chosen, num_processes)
    write_json(unfinished / PROVENANCE_FILE, provenance(place, dataset, records, chosen))
    flush_files(unfinished)
    unfinished.rename(place.data)


def provenance(
    place: RoundOfFold, dataset: PlannedDataset, records: Mapping[str, PseudoLabel], chosen: list[str]
) -> dict[str, Any]:
    """Return where every label of a round's dataset is from, ready for json."""
    plan, cases = place.plan, place.plan.folds[place.fold]
    return {
        "round": place.index,
        "fold": place.fold,
        "dataset": plan.dataset,
        "true_labels": {"train": cases.labeled, "val": cases.val},
        "share_of_pool": plan.share_of(place.index),
        "pseudo_labels": {
            case: {**asdict(record), "labeled_share": record.labeled_share, "chosen": case in chosen}
            for case, record in records.items()
        },
    }


def main() -> None:
    """Build the dataset of a round; the words of the command line are those that ``tasks.py`` gives."""
    folder, index, fold, num_processes = sys.argv[1:5]
    try:
        build(read_place(folder, index, fold), int(num_processes))
    except UserError as error:
        sys.exit(str(error))

"""``nnunet-semisam preprocess``: the unlabeled cases, with the plans of the labeled ones."""

from __future__ import annotations

import argparse

from nnunet_semisam.commands import _options

HELP = "Preprocess the images of imagesUl with the dataset's plans, after nnUNetv2_plan_and_preprocess."
LOCK = ".preprocess.lock"  # two at once would take each other's unfinished files for leftovers
MOST_SHOWN = 10  # files that are named; the next start names the others once these are fixed
EXAMPLE = "nnunet-semisam preprocess -d 27 -c 2d 3d_fullres"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; their names are those of nnUNetv2_preprocess."""
    _options.add(parser, "datasets")
    _options.add(parser, "configurations", help="configurations (default: all of the plans)")
    _options.add(parser, "plans_name", "processes")
    parser.add_argument(
        "--verify_dataset_integrity",
        action="store_true",
        help="understood as nnU-Net's command does: every image is checked in any case, and a bad one is left out",
    )


def run(args: argparse.Namespace) -> int:
    """Preprocess every configuration of every dataset; exit status 1 if a file had to be left out."""
    return max(preprocess_dataset(name, args) for name in args.datasets)


def preprocess_dataset(name: str, args: argparse.Namespace) -> int:
    """Preprocess every configuration of a dataset; return 1 if a file had to be left out."""
    from nnunet_semisam.data.datasets import open_dataset

    dataset = open_dataset(name, args.plans)  # before torch is imported: what is missing is said at once
    from nnunet_semisam.data.copies import find_copies, images_in
    from nnunet_semisam.data.dataset_json import check_dataset_json
    from nnunet_semisam.data.geometry_of_images import write_geometry_of_labeled
    from nnunet_semisam.data.plans import checked_configuration
    from nnunet_semisam.data.preprocess_unlabeled import preprocess_configuration
    from nnunet_semisam.data.unlabeled_dataset import unlabeled_folder
    from nnunet_semisam.io.locks import folder_lock
    from nnunet_semisam.splits.default_splits import ensure_splits

    plans_file = dataset.preprocessed / f"{args.plans}.json"
    check_dataset_json(dataset.dataset_json, dataset.preprocessed / "dataset.json")
    configurations = args.configurations or dataset.preprocessable_configurations()
    identifiers = {}
    for configuration in configurations:
        dataset.check_configuration(configuration)
        plans = checked_configuration(dataset.plans, configuration, dataset.dataset_json, plans_file)
        identifiers[configuration] = plans.data_identifier
    with folder_lock(dataset.preprocessed, wait=True, name=LOCK):
        for message in ensure_splits(dataset.preprocessed, dataset.raw):
            print(message)
        problems = write_geometry_of_labeled(dataset.raw, dataset.preprocessed, dataset.dataset_json, dataset.plans)
        for configuration in configurations:
            ready, left_out = preprocess_configuration(
                dataset.raw,
                dataset.preprocessed,
                dataset.plans,
                dataset.dataset_json,
                configuration,
                args.num_processes,
            )
            print(f"{configuration}: {ready} unlabeled cases ready, {len(left_out)} left out.")
            folder = dataset.preprocessed / identifiers[configuration]
            unlabeled = images_in(unlabeled_folder(dataset.preprocessed, identifiers[configuration]))
            for case, other in find_copies(unlabeled, images_in(folder)):
                print(
                    f"WARNING: the unlabeled case {case} has the voxels of {other} in imagesTr. A fold that validates "
                    f"on {other} would train on its image: remove {case} from imagesUl."
                )
            problems += [problem for problem in left_out if problem not in problems]
    for problem in problems[:MOST_SHOWN]:
        print(f"left out: {problem}")
    if len(problems) > MOST_SHOWN:
        print(f"left out: {len(problems) - MOST_SHOWN} more, of {len(problems)}")
    if problems:
        print(f"{len(problems)} file(s) or case(s) were left out; the others are done. Fix them and run this again.")
    return 1 if problems else 0

"""``nnunet-semisam plan-mini``: plans of a narrow network, for machines without a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.commands import _options
from nnunet_semisam.errors import UserError, printable

if TYPE_CHECKING:
    from nnunet_semisam.data.datasets import PlannedDataset

HELP = "Derive plans of a narrow network with small patches, which a few CPU cores can train."
EXAMPLE = "nnunet-semisam plan-mini -d 27"
FEATURES = (8, 80)
STAGES = 6
PATCH_2D = (192, 192)
BATCH_2D = 8
PATCH_3D = (64, 64, 64)
PATCH_3D_FLAT = (8, 160, 160)  # few thick slices
BATCH_3D = 2
SIZES = {"patch_size", "batch_size", "architecture"}  # what becomes smaller in a configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _options.add(parser, "datasets")
    _options.add(parser, "plans", help="plans to start from (default: %(default)s)")
    parser.add_argument("--name", default="nnUNetPlansMini", help="name of the new plans (default: %(default)s)")
    parser.add_argument(
        "--features",
        type=at_least_one,
        nargs=2,
        default=FEATURES,
        metavar=("FIRST", "MOST"),
        help="channels of the first stage, which double up to a bound (default: 8 80)",
    )
    parser.add_argument("--patch2d", type=at_least_one, nargs=2, metavar=("Y", "X"), help="(default: 192 192)")
    parser.add_argument(
        "--patch3d",
        type=at_least_one,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="(default: 8 160 160 where slices are thick, else 64 64 64)",
    )
    parser.add_argument("--batch2d", type=at_least_one, default=BATCH_2D, help="batch size in 2D (%(default)s)")
    parser.add_argument("--batch3d", type=at_least_one, default=BATCH_3D, help="batch size in 3D (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace other plans of that name")


def at_least_one(text: str) -> int:
    """Return a whole number that is at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> None:
    """Write the plans and say what changed."""
    from nnunet_semisam.splits.replan import check_plans_name

    check_plans_name(args.name, "--name")
    if args.name == args.plans:
        raise UserError(f"--name {args.name} are the plans to start from. Choose another name for the small ones.")
    for name in args.datasets:
        write_mini_plans(name, args)
    print(f"Train with -p {args.name}. A narrow network ranks trainers side by side; it does not reach full accuracy.")


def write_mini_plans(dataset_name: str, args: argparse.Namespace) -> None:
    """Write the plans of one dataset, and say what changed."""
    from nnunet_semisam.data.datasets import open_dataset
    from nnunet_semisam.small_plans import write_plans

    dataset = open_dataset(dataset_name, args.plans)
    plans = mini_plans(dataset.plans, args, dataset.preprocessed / f"{args.plans}.json")
    lines = [line for name in plans["configurations"] for line in describe(plans, name, dataset, args)]
    path, written = write_plans(dataset.preprocessed, plans, args.overwrite)
    print(f"{path} {'was written' if written else 'is already there with the same content'}:")
    print("\n".join(lines))


def describe(plans: dict, name: str, dataset: PlannedDataset, args: argparse.Namespace) -> list[str]:
    """Return what a configuration has become; nothing for those that inherit their sizes."""
    from nnunet_semisam.small_plans import inherited, parameters

    if not SIZES & plans["configurations"][name].keys():
        return []
    configuration = inherited(plans["configurations"], name)
    widths = configuration["architecture"]["arch_kwargs"]["features_per_stage"]
    patch = " x ".join(map(str, configuration["patch_size"]))
    lines = [
        f"  {name}: patch {patch}, batch {configuration['batch_size']}, features {widths}, about "
        f"{parameters(configuration) / 1e6:.1f} M weights"
    ]
    if not (dataset.preprocessed / configuration["data_identifier"]).is_dir():
        number = int(dataset.raw.name[7:10])
        lines.append(f"    not preprocessed yet: nnUNetv2_preprocess -d {number} -plans_name {args.plans} -c {name}")
    return lines


def mini_plans(plans: dict, args: argparse.Namespace, file: Path) -> dict:
    """Return the small plans.

    A configuration that inherits (``inherits_from``) and has no size of its own stays as it is: it inherits small ones.

    Args:
        plans: The plans to start from.
        args: The options.
        file: Where they were read, for messages.

    Raises:
        UserError: If a patch does not fit, or a configuration lacks what a network needs.
    """
    from nnunet_semisam.small_plans import doubled, inherited, narrow, parameters

    first, most = args.features
    if first > most:
        raise UserError(
            f"--features {first} {most}: the first stage cannot have more channels than the bound. Swap the numbers."
        )
    features = doubled(first, most, STAGES)
    result = {}
    for name, own in plans["configurations"].items():
        try:
            whole = inherited(plans["configurations"], name)
            patch, batch = patch_and_batch(whole, args)
            small = narrow(whole, patch, batch, features, name)
            small["data_identifier"], parameters(small)
        except UserError:
            raise
        except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError) as error:
            why = printable(repr(error), 300)
            raise UserError(
                f"{file}: the configuration {name} cannot be made small ({why}). It must have what nnU-Net's planner "
                "writes for a U-Net: patch_size, batch_size, data_identifier and architecture, of its own or "
                "by inherits_from. Correct it, or run nnUNetv2_plan_experiment again."
            ) from error
        sizes = {key: small[key] for key in sorted(SIZES)}
        result[name] = {**own, **sizes} if SIZES & own.keys() else own
    return {**plans, "plans_name": args.name, "configurations": result}


def patch_and_batch(configuration: dict, args: argparse.Namespace) -> tuple[tuple[int, ...], int]:
    """Return patch and batch size for the configuration's number of axes."""
    from nnunet_semisam.small_plans import is_anisotropic

    if len(configuration["patch_size"]) == 2:
        return tuple(args.patch2d or PATCH_2D), args.batch2d
    default = PATCH_3D_FLAT if is_anisotropic(configuration) else PATCH_3D
    return tuple(args.patch3d or default), args.batch3d

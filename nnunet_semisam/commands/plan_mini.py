"""``nnunet-semisam plan-mini``: plans of a narrow network, for machines without a GPU."""

from __future__ import annotations

import argparse

from nnunet_semisam.errors import UserError

HELP = "Derive plans of a narrow network with small patches, which a few CPU cores can train."
EXAMPLE = "nnunet-semisam plan-mini -d 27"
FEATURES = (8, 80)
STAGES = 6
PATCH_2D, BATCH_2D = (192, 192), 8
PATCH_3D, PATCH_3D_FLAT, BATCH_3D = (64, 64, 64), (8, 160, 160), 2  # flat: few thick slices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("-d", dest="dataset", required=True, help="dataset id or name")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans", help="plans to start from (default: %(default)s)")
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
    from nnunet_semisam.data.datasets import open_dataset
    from nnunet_semisam.data.replan import check_plans_name
    from nnunet_semisam.small_plans import parameters, write_plans

    check_plans_name(args.name, "--name")
    if args.name == args.plans:
        raise UserError(f"--name {args.name} are the plans to start from. Choose another name for the small ones.")
    dataset = open_dataset(args.dataset, args.plans)
    plans = mini_plans(dataset.plans, args)
    path, written = write_plans(dataset.preprocessed, plans, args.overwrite)
    print(f"{path} {'was written' if written else 'is already there and says the same'}:")
    for name, configuration in plans["configurations"].items():
        if "patch_size" not in configuration:
            continue
        widths = configuration["architecture"]["arch_kwargs"]["features_per_stage"]
        print(
            f"  {name}: patch {' x '.join(map(str, configuration['patch_size']))}, batch "
            f"{configuration['batch_size']}, features {widths}, about {parameters(configuration) / 1e6:.1f} M weights"
        )
        if not (dataset.preprocessed / configuration["data_identifier"]).is_dir():
            print(f"    not preprocessed yet: nnUNetv2_preprocess -d {args.dataset} -plans_name {args.plans} -c {name}")
    print(f"Train with -p {args.name}. A narrow network ranks trainers side by side; it does not reach full accuracy.")


def mini_plans(plans: dict, args: argparse.Namespace) -> dict:
    """Return the small plans; configurations without a network of their own (a cascade) inherit theirs as before.

    Raises:
        UserError: If a patch does not fit, or the plans hold no configuration with a network.
    """
    from nnunet_semisam.small_plans import doubled, narrow

    first, most = args.features
    if first > most:
        raise UserError(f"--features {first} {most}: the first stage cannot have more channels than the bound.")
    features, result = doubled(first, most, STAGES), {}
    for name, configuration in plans["configurations"].items():
        if "patch_size" not in configuration or "architecture" not in configuration:
            result[name] = configuration
            continue
        patch, batch = patch_and_batch(configuration, args)
        result[name] = narrow(configuration, patch, batch, features, name)
    if not any("architecture" in configuration for configuration in result.values()):
        raise UserError(
            f"The plans {args.plans} have no configuration with an architecture: they were made by an old nnU-Net. Run "
            "nnUNetv2_plan_experiment again."
        )
    return {**plans, "plans_name": args.name, "configurations": result}


def patch_and_batch(configuration: dict, args: argparse.Namespace) -> tuple[tuple[int, ...], int]:
    """Return patch and batch size for the configuration's number of axes."""
    from nnunet_semisam.small_plans import is_anisotropic

    if len(configuration["patch_size"]) == 2:
        return tuple(args.patch2d or PATCH_2D), args.batch2d
    return tuple(args.patch3d or (PATCH_3D_FLAT if is_anisotropic(configuration) else PATCH_3D)), args.batch3d

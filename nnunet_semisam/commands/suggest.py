"""``nnunet-semisam suggest``: which unlabeled cases to annotate next."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from nnunet_semisam.commands import _options
from nnunet_semisam.commands._model_options import (
    CHECKPOINT,
    add_model_options,
    dataset_and_model,
    device_of,
    target_of,
)
from nnunet_semisam.commands.export import fold
from nnunet_semisam.errors import UserError

HELP = "Suggest which unlabeled cases to annotate next, with the slices to look at."
EXAMPLE = "nnunet-semisam suggest -d 27 -n 5"
SAM, LABELED_FEATURES = "sam", "labeled_features"
# those of annotation.suggestions, and what each needs beside what the model says of the pool
RULES: dict[str, tuple[str, ...]] = {
    "class_stratified": (),
    "disagreement": (SAM,),
    "diversity": (LABELED_FEATURES,),
    "entropy": (),
    "random": (),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_model_options(parser)
    _options.add(parser, "fold", type=fold, default="0", help="fold (default: %(default)s)")
    parser.add_argument("-n", dest="count", type=int, default=5, metavar="N", help="cases (default: %(default)s)")
    _options.add(parser, "out", help="where to write (default: suggestions_DATASET, here)")
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="choose among these (default: all)")
    parser.add_argument(
        "--rule", choices=RULES, default="class_stratified", help="what cases are ranked by (default: %(default)s)"
    )
    parser.add_argument(
        "--sam", metavar="MODEL", help="a SAM to ask, for the rule disagreement (default: nano for it, none otherwise)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of noise and chance (default: %(default)s)")
    parser.add_argument(
        "--beta",
        type=float,
        default=1.0,
        help="inverse scale of the noise of class_stratified; more is less noise (default: %(default)s)",
    )
    parser.add_argument(
        "--class-share",
        type=float,
        default=0.66,
        help="share of the cases that class_stratified chooses class by class (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    """Look at the pool, rank it, write and print the ranking."""
    if not args.beta > 0:
        raise UserError(f"--beta must be above 0, got {args.beta:g}.")
    if args.seed < 0:
        raise UserError(f"--seed must be at least 0, got {args.seed}.")
    if not 0 <= args.class_share <= 1:
        raise UserError(f"--class-share must be 0 to 1, got {args.class_share:g}.")
    from nnunet_semisam.sam.families import family

    if args.sam is not None:
        family(args.sam)
    if args.out is not None:
        args.out = target_of(args)
    dataset, place = dataset_and_model(args)
    if args.out is None:
        args.out = Path(f"suggestions_{dataset.raw.name}")
        args.out = target_of(args)
    from nnunet_semisam.annotation.color_tables import label_names
    from nnunet_semisam.annotation.page import write_page
    from nnunet_semisam.annotation.pool import unlabeled_pool
    from nnunet_semisam.annotation.suggest import PAGE, Options, Suggester, as_text, rank, write_ranking
    from nnunet_semisam.annotation.suggestions import Request

    pool = unlabeled_pool(dataset, args.fold, args.cases)
    if not 1 <= args.count <= len(pool.images):
        raise UserError(f"-n must be 1 to {len(pool.images)}, the number of unlabeled cases, got {args.count}.")
    sam = args.sam or ("nano" if SAM in RULES[args.rule] else "")
    options = Options(device_of(args), not args.disable_tta, sam)
    suggester = Suggester(place, pool.images, args.out, options)
    evidence = suggester.look()
    labeled = suggester.labeled_features(pool.labeled) if LABELED_FEATURES in RULES[args.rule] else ()
    names = label_names(dataset.dataset_json)
    channels = suggester.model.labels.names
    readable = channels if suggester.model.labels.has_regions else [names[int(value)] for value in channels]
    request = Request(args.count, readable, args.seed, args.beta, args.class_share, labeled)
    ranking = rank(evidence, args.rule, request)
    table = write_ranking(args.out, ranking)
    page = args.out / PAGE
    foreground = [names[value] for value in suggester.model.labels.foreground_labels]
    following = _export_command(args, [each.case for each in ranking])
    write_page(page, f"{dataset.raw.name}: annotate these next", ranking, pool.images, foreground, following)
    print(as_text(ranking, len(pool.images), args.rule))
    print(f"page: {page}\ntable: {table}\nmaps: {args.out / 'maps'}")
    print(f"next, to correct what the model predicts instead of drawing it:\n  {following}")


def _export_command(args: argparse.Namespace, cases: Sequence[str]) -> str:
    """Return the command that hands the suggested cases to an annotator."""
    model = ["-d", args.dataset, "-c", args.configuration, "-tr", args.trainer, "-p", args.plans, "-f", args.fold]
    if args.checkpoint != CHECKPOINT:
        model += ["-chk", args.checkpoint]
    return shlex.join(["nnunet-semisam", "pseudo-labels", "export", *model, "-o", "to_correct", "--cases", *cases])

"""``nnunet-semisam sam``: list, fetch, train, adapt and measure the SAM models that make pseudo-labels."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.commands import _options, _sam_adapt, _sam_calibrate
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.csv_files import write_table
from nnunet_semisam.sam.families import AUTO, FAMILIES, family
from nnunet_semisam.sam.family import Family

if TYPE_CHECKING:
    import torch

HELP = "List, download, pretrain, adapt, calibrate and evaluate the SAM models."
EXAMPLE = "nnunet-semisam sam evaluate -d 27 --model nano"
EMPTY = "Not evaluated, because no slice shows a class that is annotated to its edge"
LEARNS_FROM_ALL = (
    "All labels in labelsTr are learned from, those that a fold validates on or hides included. Do not use these "
    "weights for trainings on the same patients: their results would be too good. `sam adapt` keeps to a fold."
)
MODELS = tuple(FAMILIES)
PUBLISHED = tuple(name for name, family in FAMILIES.items() if name != AUTO and not family.packaged)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (_add_list, _add_download, _add_pretrain, _add_adapt, _add_calibrate, _add_evaluate):
        add(verbs)


def run(args: argparse.Namespace) -> int | None:
    """Run the chosen sub-command."""
    return args.verb_run(args)


def _verb(verbs: argparse._SubParsersAction, name: str, text: str, example: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=text, description=text, epilog=f"example: nnunet-semisam sam {example}")


def _add_list(verbs: argparse._SubParsersAction) -> None:
    text = "Show every model in a line, or some with the source and hash of their weights."
    parser = _verb(verbs, "list", text, "list vit_b medsam")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="tell all that is known of these (default: a table)")
    parser.set_defaults(verb_run=run_list)


def _add_download(verbs: argparse._SubParsersAction) -> None:
    text = "Fetch published weights into $nnUNet_sam; run again to go on after an interruption."
    parser = _verb(verbs, "download", text, "download vit_b")
    parser.add_argument("model", choices=PUBLISHED, metavar="MODEL", help="model whose weights to fetch, see sam list")
    parser.set_defaults(verb_run=run_download)


def _add_pretrain(verbs: argparse._SubParsersAction) -> None:
    text = "Train a nano SAM on procedural images, and on labeled data sets if some are named; resumes."
    parser = _verb(verbs, "pretrain", text, "pretrain --out my_nano --steps 20000 -d 27")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for checkpoint, log and weights (nano_sam.pt)"
    )
    parser.add_argument("--steps", type=int, default=20_000, help="optimiser steps in all (default: %(default)s)")
    parser.add_argument("-d", "--data", nargs="+", default=[], metavar="DATASET", help="labeled nnU-Net raw data sets")
    parser.add_argument(
        "--synthetic-share",
        type=float,
        default=0.5,
        help="share of procedural images beside those of -d (default: 0.5)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches (default: %(default)s)")
    parser.add_argument("--images", type=int, default=4, help="images in a batch (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=2, help="prompts per image and kind (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="highest (default: %(default)s)")
    parser.add_argument(
        "--window-steps", type=int, help="first steps on windows of the frame (default: 85 %% of those of a new run)"
    )
    parser.add_argument("--curriculum", type=int, default=500, help="steps until all is hard (default: %(default)s)")
    parser.add_argument("--validate-every", type=int, default=500, help="steps (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches (default: %(default)s)")
    _options.add(parser, "device", help="cpu or cuda (default: cuda where there is one)")
    parser.set_defaults(verb_run=run_pretrain)


def _add_adapt(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(verbs, "adapt", _sam_adapt.TEXT, _sam_adapt.EXAMPLE)
    _sam_adapt.add_arguments(parser)
    parser.set_defaults(verb_run=lambda args: _sam_adapt.run(args, _device))


def _add_calibrate(verbs: argparse._SubParsersAction) -> None:
    parser = _verb(verbs, "calibrate", _sam_calibrate.TEXT, _sam_calibrate.EXAMPLE)
    _sam_calibrate.add_arguments(parser)
    parser.set_defaults(verb_run=lambda args: _sam_calibrate.run(args, _device))


def _add_evaluate(verbs: argparse._SubParsersAction) -> None:
    text = "Measure how well a SAM follows prompts made from the ground truth of a labeled data set."
    parser = _verb(verbs, "evaluate", text, "evaluate -d 27 --model vit_b --csv vit_b.csv")
    parser.add_argument(
        "-d", "--data", required=True, metavar="DATASET", help="raw folder, name or number of a data set"
    )
    parser.add_argument(
        "--model", default="nano", choices=MODELS, metavar="MODEL", help="see sam list (default: %(default)s)"
    )
    parser.add_argument(
        "-chk", "--checkpoint", default=None, help="file with its weights (default: where the model has them)"
    )
    parser.add_argument("--adapter", default=None, help="file of sam adapt; the cases it learned from are left out")
    parser.add_argument("--axis", type=int, default=None, help="axis of slices (default: that of the largest spacing)")
    parser.add_argument("--channel", type=int, default=0, help="image channel to show (default: %(default)s)")
    parser.add_argument("--cases", type=int, default=None, help="only the first so many cases (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of points and degraded masks (default: %(default)s)")
    parser.add_argument("--csv", type=Path, default=None, help="file for the Dice of every case")
    _options.add(parser, "device", help="cpu or cuda (default: cuda where there is one)")
    parser.set_defaults(verb_run=run_evaluate)


def run_list(args: argparse.Namespace) -> None:
    """Print a line per model, or a block for each that was named."""
    folder = os.environ.get("nnUNet_sam")
    print(f"nnUNet_sam: {folder or 'not set (needed for all models but nano)'}\n")
    if args.models:
        if AUTO in args.models:
            raise UserError(f"{AUTO} is no model: it finds out which one a file is of. Name a model.")
        for row in [family(name) for name in args.models]:
            _print_model(row, _place_of(row, folder))
        return
    rows = [("model", "prompts", "weights", "licence")]
    for row in FAMILIES.values():
        if row.name != AUTO:
            rows.append((row.name, ", ".join(row.prompts), _state(row, _place_of(row, folder)), row.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nSources and hashes: nnunet-semisam sam list MODEL")


def _place_of(row: Family, folder: str | None) -> Path | None:
    """Return where the weights of a model are looked for; ``None`` if no folder is named."""
    if row.packaged:
        return Path(__file__).resolve().parents[1] / "sam" / "nano" / "weights" / row.file
    return Path(folder).expanduser() / row.file if folder else None


def _state(row: Family, path: Path | None) -> str:
    """Return whether the weights of a model are here, or how one gets them."""
    if row.packaged:
        return "in this package"
    size = f", {row.size / 1e6:.0f} MB" if row.size else ""
    if path is not None and path.exists():
        whole = row.size is None or path.is_dir() or path.stat().st_size == row.size
        return f"here{size}" if whole else f"here, not whole{size}"
    return f"sam download{size}" if row.url and row.sha256 else f"by hand{size}"


def _print_model(family: Family, path: Path | None) -> None:
    """Print what is known about a model and its weights, which would be at ``path``."""
    here = path is not None and path.exists()
    size = family.size if family.size is not None else (path.stat().st_size if here else None)
    source = "in this package" if family.packaged else family.url or f"by hand from {family.page}"
    print(f"{family.name}: {family.file}{f' ({size / 1e6:.0f} MB)' if size else ''}")
    print(f"  prompts: {', '.join(family.prompts)}; licence: {family.licence}")
    print(f"  source:  {source}")
    if not family.packaged:
        print(f"  SHA-256: {family.sha256 or 'not published, so that it is not fetched'}")
    print(f"  weights: {'present' if here else 'not here'}{f': {path}' if path else ''}\n")


def run_download(args: argparse.Namespace) -> None:
    """Fetch weights and print where they are.

    Raises:
        UserError: If they cannot be fetched: no folder, no network, or no published hash.
    """
    from nnunet_semisam.sam.checkpoints import FOLDER_VARIABLE, find_weights
    from nnunet_semisam.sam.download import check_hash

    row = family(args.model)
    if row.url is not None and not row.packaged and not os.environ.get(FOLDER_VARIABLE):
        raise UserError(
            f"{FOLDER_VARIABLE} is not set, so there is no place for the weights of {args.model}. Set it, and run this "
            f"again: export {FOLDER_VARIABLE}=/path/to/a/folder"
        )
    path = find_weights(args.model, None)
    if row.sha256 is not None and not row.packaged:
        check_hash(row, path)
    print(f"{args.model}: {path}")


def _device(name: str | None) -> torch.device:
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {name}: this machine has no CUDA device that torch can use. Use --device cpu.")
    allowed = ["cpu", "cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name not in allowed:
        raise UserError(f"--device {name!r} is not allowed here. Allowed: {', '.join(allowed)}.")
    return torch.device(name)


def run_pretrain(args: argparse.Namespace) -> None:
    """Train to the end, or go on with a run that was interrupted, and say where the weights are."""
    import logging

    from nnunet_semisam.data.stored_voxels import refuse_cut_off
    from nnunet_semisam.io.locks import folder_lock
    from nnunet_semisam.sam.labeled_cases import find_dataset
    from nnunet_semisam.sam.nano.labeled_source import LabeledSource
    from nnunet_semisam.sam.nano.pretrain import Pretraining, PretrainSettings
    from nnunet_semisam.sam.nano.synthetic_batches import synthetic_source

    if not 0 <= args.synthetic_share <= 1:
        raise UserError(f"--synthetic-share must be in [0, 1], got {args.synthetic_share}.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folders = [find_dataset(name) for name in args.data]
    settings = PretrainSettings(
        steps=args.steps,
        seed=args.seed,
        images=args.images,
        prompts=args.prompts,
        learning_rate=args.learning_rate,
        curriculum=args.curriculum,
        window_steps=args.window_steps,
        validate_every=args.validate_every,
        workers=args.workers,
        data=tuple(str(folder.resolve()) for folder in folders),
        synthetic_share=args.synthetic_share if folders else 1.0,
    )
    device = _device(args.device)
    if os.path.lexists(args.out) and not args.out.is_dir():
        raise UserError(f"--out {args.out} is no folder. Name a new one, or the one of a run to go on with.")
    try:
        with folder_lock(args.out, wait=False) as ours:
            if not ours:
                raise UserError(f"Another process trains in {args.out}. Wait for it, or give another --out.")
            if folders:
                print(LEARNS_FROM_ALL)
            source = LabeledSource(folders, args.synthetic_share, refuse_cut_off) if folders else synthetic_source
            weights = Pretraining(args.out, settings, device, source).run()
    except OSError as error:
        raise UserError(
            f"{args.out} cannot be written ({error.strerror or error}). Free disk space or give another --out; the "
            "same command goes on with what is there."
        ) from error
    print(f"Trained {args.steps} steps. Use the weights with the setting nano: {{checkpoint: {weights}}}")


def run_evaluate(args: argparse.Namespace) -> int:
    """Prompt the model with every case and print the mean Dice per class and kind of prompt, controls first.

    Returns:
        1 if cases could not be read, else 0.
    """
    from tqdm import tqdm

    from nnunet_semisam.data.stored_voxels import refuse_cut_off
    from nnunet_semisam.sam import BackendOptions
    from nnunet_semisam.sam.adapters.build import build_adapted
    from nnunet_semisam.sam.evaluate import as_text, evaluate_volume, summarise
    from nnunet_semisam.sam.labeled_cases import class_names, find_dataset, labeled_cases, to_slices

    _check_evaluation(args)
    folder = find_dataset(args.data)
    names = class_names(folder)
    left_out: dict[str, UserError] = {}
    without: list[str] = []
    options = BackendOptions(_device(args.device), args.checkpoint)
    backend = build_adapted(args.model, options, args.adapter)
    learned = _learned_cases(args.adapter)
    if backend.spatial_dims != 2:
        raise UserError(
            f"{args.model} sees volumes, and `sam evaluate` measures models that see slices. What it is worth in a "
            "training, its calibration on labeled cases says, in the training's log."
        )
    volumes = {}
    cases = labeled_cases(folder, args.cases, left_out.__setitem__, refuse_cut_off, learned)
    for case in tqdm(cases, unit="case", disable=None):
        images, labels = to_slices(case, args.axis)
        if args.channel >= images.shape[1]:
            raise UserError(f"--channel {args.channel}: {case.name} has channels 0 to {images.shape[1] - 1}.")
        chosen = images[:, args.channel : args.channel + 1]
        scores = evaluate_volume(backend, chosen, labels, names, args.seed)
        if scores:
            volumes[case.name] = scores
        else:
            without.append(case.name)
    if not volumes:
        reason = next(iter(left_out.values()), f"{EMPTY}: {name_some(without, 5)}.")
        raise UserError(f"None of the cases of {folder} can be evaluated. {reason}")
    print(f"{args.model}, {folder.name}, {len(volumes)} cases, mean Dice over cases; prompts from the ground truth\n")
    print(as_text(summarise(volumes.values(), names)))
    if args.csv is not None:
        _write_csv(args.csv, volumes, names)
    if without:
        print(f"{EMPTY}: {name_some(without)}", file=sys.stderr)
    for name, error in left_out.items():
        print(f"left out: {name}: {error}", file=sys.stderr)
    return 1 if left_out else 0


def _learned_cases(adapter: str | None) -> frozenset[str]:
    """Return the cases that an adapter learned from, and say so; those of another data set may be the same patients."""
    from nnunet_semisam.sam.adapters.adapter_file import read_adapter

    if adapter is None:
        return frozenset()
    record = read_adapter(Path(adapter).expanduser()).record
    print(f"Not evaluated, because the adapter learned from them ({record.dataset}): {', '.join(sorted(record.cases))}")
    return frozenset(record.cases)


def _check_evaluation(args: argparse.Namespace) -> None:
    """Refuse options before the first case is read: an evaluation takes long."""
    for name, low, high in (("cases", 1, None), ("channel", 0, None), ("axis", 0, 2), ("seed", 0, 2**31 - 1)):
        value = getattr(args, name)
        if value is not None and (value < low or (high is not None and value > high)):
            allowed = f"at least {low}" if high is None else f"from {low} to {high}"
            raise UserError(f"--{name} must be {allowed}, got {value}.")
    if args.csv is not None and (args.csv.is_dir() or not args.csv.parent.is_dir()):
        raise UserError(f"--csv {args.csv} must name a file in a folder that is there.")


def _write_csv(path: Path, volumes: dict[str, dict[tuple[str, int], float]], names: dict[int, str]) -> None:
    rows = [
        {"case": case, "prompt": kind, "class": names[label], "dice": f"{dice:.4f}"}
        for case, scores in volumes.items()
        for (kind, label), dice in scores.items()
    ]
    try:
        write_table(path, ("case", "prompt", "class", "dice"), rows)
    except OSError as error:
        raise UserError(f"--csv {path} cannot be written ({error.strerror or error}).") from error

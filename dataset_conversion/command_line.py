"""From parsed options to printed lines: what the scripts in this folder and ``nnunet-semisam convert`` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnunet_semisam.data.dataset_json import read_dataset_json
from nnunet_semisam.data.next_steps import after_preprocessing, configurations
from nnunet_semisam.errors import MOST_CHARACTERS, UserError, printable

from .converter import DatasetConverter
from .writing.writer import Result


def run_script(converter: DatasetConverter, argv: Sequence[str] | None = None) -> int:
    """Run one converter as a script of its own.

    Args:
        converter: The converter.
        argv: Words of the command line; by default those of this process.

    Returns:
        The exit status, as :func:`nnunet_semisam.cli.main` gives it: 2 for an error that the user can fix, 130 for
        an interruption.
    """
    parser = argparse.ArgumentParser(description=converter.help)
    converter.add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        convert_and_report(converter, args)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


def convert_and_report(converter: DatasetConverter, args: argparse.Namespace) -> None:
    """Convert as the parsed options say, and print the outcome.

    Raises:
        UserError: If options, data or target do not fit; nothing is written then.
    """
    result = converter.convert(args)
    print("\n".join(printable(line, MOST_CHARACTERS) for line in report(result, args.dataset_id)))


def report(result: Result, dataset_id: int, configuration: str = "") -> list[str]:
    """Return the lines that tell a user what was made and which commands come next.

    Args:
        result: What was made.
        dataset_id: nnU-Net's id of it.
        configuration: What is trained next; empty: what fits the images.
    """
    return [*_what_was_made(result), "next:", *_next_commands(result, dataset_id, configuration)]


def _what_was_made(result: Result) -> list[str]:
    conversion = result.conversion
    if result.already_there:
        outcome = "is already there, made from the same data with the same settings; nothing was written"
    else:
        outcome = "was made"
    lines = [f"{result.folder} {outcome}:"]
    for part, text in (("Tr", "with labels"), ("Ul", "without labels"), ("Ts", "for testing")):
        lines.append(f"  images{part}: {len(conversion.of_part(part))} cases {text}")
    for fold, (split, budget) in enumerate(zip(conversion.splits, conversion.budgets, strict=True)):
        hidden = f", {len(split['unlabeled'])} hide their labels" if "unlabeled" in split else ""
        lines.append(
            f"  fold {fold}: {len(split['train'])} training cases (labeled patients: {budget.count}), "
            f"{len(split['val'])} validation cases{hidden}"
        )
    lines += [f"note: {note}" for note in result.notes]
    lines.append(f"data: {result.fingerprint} (equal for equal voxels, labels and folds; see semisam_manifest.json)")
    return lines


def _next_commands(result: Result, dataset_id: int, configuration: str) -> list[str]:
    has_unlabeled = bool(result.conversion.of_part("Ul"))
    hides_labels = any(split.get("unlabeled") for split in result.conversion.splits)
    trainer = "nnUNetTrainerSemiSAM" if has_unlabeled or hides_labels else "nnUNetTrainerSupervised"
    dataset_json = read_dataset_json(result.folder / "dataset.json")
    names = configuration or " ".join(configurations(result.folder, dataset_json))
    commands = [f"  nnUNetv2_plan_and_preprocess -d {dataset_id} -c {names}"]
    if has_unlabeled:
        commands.append(f"  nnunet-semisam preprocess -d {dataset_id} -c {names}")
    training = after_preprocessing(result.folder, dataset_json, trainer, configuration)
    return [*commands, *(f"  {command}" for command in training)]

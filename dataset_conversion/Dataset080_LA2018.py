"""LA 2018 (left atrium, late gadolinium enhanced MRI) as UA-MT's h5 files or as the official NRRD files.

Layouts: ``<folder>/<20-character id>/mri_norm2.h5`` with ``train.list`` and ``test.list`` beside or above, or
``<folder>/<id>/{lgemri,laendo}.nrrd``. Labels are given out in the order of ``train.list``: the field's 4 and 8 labeled
cases are its first ones. The field has no validation cases; by default the last five training cases validate
(75 + 5 + 20). Label: 1 left atrium (LA). The channel name ``LGE_MRI`` is none of nnU-Net's special names, so images are
normalised by z-score.

Source:
    Xiong et al., Medical Image Analysis 2021, https://doi.org/10.1016/j.media.2020.101832; files, lists and order:
    Yu et al., MICCAI 2019, https://github.com/yulequan/UA-MT.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a script: make the relative imports below work
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "dataset_conversion"

from nnunet_semisam.splits.case_assignment import assignment_from_order, make_folds
from nnunet_semisam.splits.label_budgets import Grouping

from .command_line import run_script
from .converter import DatasetConverter, add_leave_out, add_val
from .reading.case import Case, Conversion
from .reading.la_files import find_cases, read_lists, require_h5py, sources_of
from .reading.listed_cases import check_left_out, missing_notes

CROPPED = (
    "the h5 files were cropped in x and y around the ground truth by their authors, so images give part of the "
    "location away: say so beside any number"
)


class LAConverter(DatasetConverter):
    """Converts LA 2018; see the module's text for layouts, labels and sources."""

    dataset_name = "LA2018"
    default_id = 80
    help = "LA 2018, left atrium in late gadolinium MRI (UA-MT's h5 files or the official NRRD files)"
    example = "nnunet-semisam convert la -i UA-MT/data -d 80 --labeled 4"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the general options, ``--val``, ``--format`` and ``--leave-out``."""
        super().add_arguments(parser)
        add_val(parser, "5")
        parser.add_argument(
            "--format", choices=("auto", "h5", "nrrd"), default="auto", help="form of the files (default: %(default)s)"
        )
        add_leave_out(parser)

    def plan(self, args: argparse.Namespace) -> Conversion:
        """Return the cases, folds and notes for ``args.input``, ``labeled``, ``val``, ``format`` and ``leave_out``."""
        folder, form = find_cases(args.input, args.format)
        if form == "h5":
            require_h5py()
        everyone = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        train, test, origin = read_lists(folder, everyone)
        left_out = check_left_out(args.leave_out, [*train, *test], folder)
        here = [name for name in everyone if name not in left_out]
        assignment = assignment_from_order(args.labeled, args.val, train, missing=set(train) - set(here))
        testing = [name for name in test if name in here]
        splits, budgets = make_folds(assignment, lambda name: [name])
        cases = [self._case(folder / name, form, "Tr") for name in assignment.with_labels]
        cases += [self._case(folder / name, form, "Ul") for name in assignment.unlabeled]
        cases += [self._case(folder / name, form, "Ts") for name in testing]
        notes = [*assignment.notes, f"order of the labels and test cases: {origin}"]
        if form == "h5":
            notes.append(CROPPED)
        notes += missing_notes(train, test, here, left_out)
        if not test:
            notes.append("no test case is there: the field's are the last 20 of the 100 identifiers")
        return Conversion(
            name=self.dataset_name,
            source=folder,
            cases=cases,
            channel_names={"0": "LGE_MRI"},
            labels={"background": 0, "LA": 1},
            splits=splits,
            budgets=budgets,
            grouping=Grouping(None, assignment.order, assignment.val),
            test_sets={"official": sorted(testing)} if testing else {},
            settings={
                "format": form,
                "labeled_cases": assignment.labeled,
                "val_cases": assignment.val,
                "left_out": left_out,
            },
            notes=notes,
            can_leave_out=True,
        )

    def _case(self, folder: Path, form: str, part: str) -> Case:
        image, label = sources_of(folder, form)
        return Case(folder.name, (image,), None if part == "Ul" else label, part)


if __name__ == "__main__":
    sys.exit(run_script(LAConverter()))

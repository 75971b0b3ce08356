"""Prepare a data set: convert, plan, preprocess, and cut it into draws. Done once, shared by all runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.label_efficiency.draws import DRAWS_FILE, Draws, make_draws
from benchmarks.label_efficiency.protocols import PLANS, DataSet
from benchmarks.own_folders import make_anew
from nnunet_semisam.data.datasets import find_dataset_name
from nnunet_semisam.data.geometry_of_images import write_geometry_of_labeled
from nnunet_semisam.data.raw_files import image_files, label_files
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import new_folder, write_symlink
from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import Task
from nnunet_semisam.splits import leakage
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import write_splits
from nnunet_semisam.splits.label_budgets import group_function, members_of, read_grouping

PREPARED_FILE = "prepared.json"
REMEDY = "Remove the folder of the data set, all its runs, and prepare it again; or choose another --out."


@dataclass(frozen=True)
class Prepare(Task):
    """A data set to be prepared.

    Attributes:
        data: What it is.
        folder: Where it goes.
        source: Folder of all raw data; only needed for the first preparation.
    """

    data: DataSet
    folder: Path
    source: Path | None = None

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"prepare {self.data.name}"

    @property
    def raw(self) -> Path:
        """Return ``nnUNet_raw``."""
        return self.folder / "raw"

    @property
    def preprocessed(self) -> Path:
        """Return ``nnUNet_preprocessed``."""
        return self.folder / "preprocessed"

    @property
    def dataset(self) -> str:
        """Name of the dataset's folder in both."""
        return find_dataset_name(self.raw, str(self.data.number))

    def environment(self) -> dict[str, str]:
        """Return nnU-Net's variables for commands on this data set."""
        return {"nnUNet_raw": str(self.raw), "nnUNet_preprocessed": str(self.preprocessed)}

    def images_of(self, judged_set: str) -> Path:
        """Return the folder with the images of judged cases, for ``nnUNetv2_predict -i``."""
        return self.folder / "judged" / judged_set

    def finished(self) -> bool:
        """Return whether the data set is ready.

        Raises:
            UserError: If it was prepared by another definition than that of ``protocols.py``.
        """
        path = self.folder / PREPARED_FILE
        if not path.is_file():
            return False
        if read_object(path, REMEDY)["definition"] != self._definition():
            raise UserError(f"{self.folder} was prepared by another definition of {self.data.name}. {REMEDY}")
        return True

    def work(self, variables: Mapping[str, str]) -> None:
        """Convert, plan, preprocess, and write the draws. What is half done is done again."""
        if self.source is None:
            raise UserError(f"{self.data.name} is not prepared yet. Say with --source where the raw data are.")
        make_anew(self.folder, (self.raw.name, self.preprocessed.name, "judged"))
        number = str(self.data.number)
        family, *words = self.data.convert
        convert = ["nnunet-semisam", "convert", family, "-i", str(self.source / self.data.source), "-d", number]
        self._run("convert", [*convert, *words], variables)
        plan = ["nnUNetv2_plan_and_preprocess", "-d", number, "-c", self.data.configuration]
        self._run("plan", [*plan, "-npfp", "2", "-np", "2"], variables)
        self._run("plan-mini", ["nnunet-semisam", "plan-mini", "-d", number, "--name", PLANS], variables)
        self._write_draws()
        write_json(self.folder / PREPARED_FILE, {"definition": self._definition(), "data": asdict(self.data)})

    def _definition(self) -> str:
        return sha256_of_json(asdict(self.data))

    def _run(self, stage: str, command: list[str], variables: Mapping[str, str]) -> None:
        program = Path(sys.executable).with_name(command[0])
        environment = {**os.environ, **variables, **self.environment()}
        processes.run_checked([str(program), *command[1:]], environment, self.folder / "prepare.log", stage)

    def _write_draws(self) -> None:
        raw, preprocessed = self.raw / self.dataset, self.preprocessed / self.dataset
        dataset_json = read_object(raw / "dataset.json", REMEDY)
        images = image_files(raw, dataset_json)
        grouping = read_grouping(raw)
        members = members_of(label_files(raw, dataset_json), group_function(grouping.pattern))
        draws = make_draws(self.data, members, grouping)
        digests = leakage.content_digests(images, dataset_json)
        for draw in draws.draws:
            fold = {**draws.splits[draw.fold], "val": draws.judged[draw.judged_set]}
            sides = leakage.sides_of(fold, images)
            leakage.refuse_leaks(leakage.shared_groups(sides, group_function(grouping.pattern)), raw)
            leakage.refuse_leaks(leakage.shared_images(sides, digests).leaks, raw)
        write_splits(preprocessed / SPLITS_FILE, draws.splits, overwrite=True)
        write_geometry_of_labeled(raw, preprocessed, dataset_json, read_object(preprocessed / f"{PLANS}.json", REMEDY))
        for judged_set, cases in draws.judged.items():
            with new_folder(self.images_of(judged_set)) as folder:
                for case in cases:
                    for file in images["Tr"][case]:
                        write_symlink(folder / Path(file).name, Path(file).resolve())
        write_json(self.folder / DRAWS_FILE, asdict(draws))

    def draws(self) -> Draws:
        """Return the draws of the prepared data set."""
        return Draws.read(self.folder)

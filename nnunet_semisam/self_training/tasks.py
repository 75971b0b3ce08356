"""The tasks of a self-training, and their order. Each is a command in a process of its own that can be killed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.jobs.base import Task
from nnunet_semisam.jobs.nnunet_command import command_environment, device_here
from nnunet_semisam.runs.attempts import LABEL, Attempt, read_attempts
from nnunet_semisam.runs.model_run import run_measured
from nnunet_semisam.self_training.calibration_record import read_calibration
from nnunet_semisam.self_training.plan import SelfTraining
from nnunet_semisam.self_training.rounds import PROVENANCE_FILE, RoundOfFold

CALIBRATE_SAM = "nnunet_semisam.self_training.sam_calibration:main"
LABEL_POOL = "nnunet_semisam.self_training.label_pool:main"
BUILD_DATASET = "nnunet_semisam.self_training.build_dataset:main"


@dataclass(frozen=True)
class Train(Task):
    """The training of a round, on one fold.

    Attributes:
        place: Round and fold.
    """

    place: RoundOfFold

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"{self.place.name}: train"

    @property
    def folder(self) -> Path:
        """Folder of the training."""
        return self.place.folder

    def finished(self) -> bool:
        """Return whether nnU-Net has trained and validated."""
        return self.place.model.is_trained()

    def work(self, variables: Mapping[str, str]) -> None:
        """Train."""
        settings = self.place.plan.settings_of(self.place.index)
        self.place.model.train(settings, variables, about={"round": self.place.index})


@dataclass(frozen=True)
class CalibrateSAM(Task):
    """Where SAMs help the teacher of a round, measured once for all parts of its pool.

    Attributes:
        place: Round and fold.
    """

    place: RoundOfFold

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"{self.place.name}: calibrate SAM"

    @property
    def folder(self) -> Path:
        """Folder of logs."""
        return self.place.folder / "calibrate_sam"

    def finished(self) -> bool:
        """Return whether the calibration is there, or nobody needs it any more."""
        return is_built(self.place) or read_calibration(self.place) is not None

    def work(self, variables: Mapping[str, str]) -> None:
        """Measure."""
        _run(CALIBRATE_SAM, self.place, self.folder, [], variables, "calibrate_sam")


@dataclass(frozen=True)
class LabelPool(Task):
    """Pseudo-labels of a part of the pool, for one round.

    Attributes:
        place: Round and fold.
        part: Which part, from 0 on.
        parts: How many there are.
    """

    place: RoundOfFold
    part: int = 0
    parts: int = 1

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"{self.place.name}: label part {self.part + 1} of {self.parts}"

    @property
    def folder(self) -> Path:
        """Folder of logs."""
        return self.place.folder / f"label_{self.part}_of_{self.parts}"

    def finished(self) -> bool:
        """Return whether every case of the part has its label, or they are in a dataset already."""
        return is_built(self.place) or all(map(self.place.is_labeled, self.cases()))

    def cases(self) -> list[str]:
        """Return the cases of the part."""
        return self.place.plan.folds[self.place.fold].pool[self.part :: self.parts]

    def work(self, variables: Mapping[str, str]) -> None:
        """Predict."""
        _run(LABEL_POOL, self.place, self.folder, [str(self.part), str(self.parts)], variables, "label_pool")


@dataclass(frozen=True)
class BuildDataset(Task):
    """The dataset of a round, from true and pseudo-labels.

    Attributes:
        place: Round and fold.
        num_processes: How many cases are preprocessed at once.
    """

    place: RoundOfFold
    num_processes: int = 1

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"{self.place.name}: build dataset"

    @property
    def folder(self) -> Path:
        """Folder of logs."""
        return self.place.folder / "build"

    def finished(self) -> bool:
        """Return whether the dataset is complete."""
        return is_built(self.place)

    def work(self, variables: Mapping[str, str]) -> None:
        """Write raw and preprocessed dataset."""
        _run(BUILD_DATASET, self.place, self.folder, [str(self.num_processes)], variables, "build_dataset")


def is_built(place: RoundOfFold) -> bool:
    """Return whether the dataset of a round is there: it appears whole or not at all."""
    return (place.data / PROVENANCE_FILE).is_file()


def _run(
    entry: str, place: RoundOfFold, folder: Path, words: Sequence[str], variables: Mapping[str, str], title: str
) -> None:
    """Run a command of this package that gets the self-training's folder, round, fold, and some words of its own."""
    plan, teacher = place.plan, place.before().model
    arguments = [str(plan.folder), str(place.index), str(place.fold), *words]
    arguments += ["-device", device_here(plan.device, variables)]
    variables = {**variables, **plan.environment}
    run_measured(
        LABEL, entry, arguments, folder, command_environment(teacher.results, teacher.settings_file, variables), title
    )


def stages(plan: SelfTraining, parts: int = 1, num_processes: int = 1) -> Iterator[list[Task]]:
    """Yield the tasks in their order; those of a stage may be carried out at the same time.

    Args:
        plan: The self-training.
        parts: Into how many tasks the labelling of a pool is cut.
        num_processes: How many cases are preprocessed at once.
    """
    for index in range(plan.rounds + 1):
        places = [RoundOfFold(plan, index, fold) for fold in plan.folds]
        if index > 0:
            if plan.sam:
                yield [CalibrateSAM(place) for place in places]
            yield [LabelPool(place, part, parts) for place in places for part in range(parts)]
            yield [BuildDataset(place, num_processes) for place in places]
        yield [Train(place) for place in places]


def carry_out(
    plan: SelfTraining, execute: Callable[[Sequence[Task]], None], parts: int = 1, num_processes: int = 1
) -> bool:
    """Carry out what is not done; a fold that fails stops no other.

    Args:
        plan: The self-training, which has begun.
        execute: Carries tasks out, as an executor of :mod:`nnunet_semisam.jobs` does.
        parts: See :func:`stages`.
        num_processes: See :func:`stages`.

    Returns:
        Whether all is done.
    """
    failed: set[int] = set()
    for stage in stages(plan, parts, num_processes):
        to_do = [task for task in stage if task.place.fold not in failed and not task.finished()]
        if to_do:
            execute(to_do)
        failed |= {task.place.fold for task in to_do if not task.finished()}
    return not failed


def work_through(plan: SelfTraining, variables: Mapping[str, str]) -> None:
    """Carry out what is not done as part of another task: what fails raises.

    Args:
        plan: The self-training, which has begun.
        variables: See :meth:`~nnunet_semisam.jobs.base.Task.work`.
    """
    for task in itertools.chain.from_iterable(stages(plan)):
        if not task.finished():
            task.folder.mkdir(parents=True, exist_ok=True)
            task.work(variables)


def attempts_of(plan: SelfTraining) -> list[Attempt]:
    """Return the reports of all starts of all commands, in the order of the tasks."""
    folders = sorted({path.parent for path in plan.folder.glob("round_*/fold_*/**/attempts")})
    return [attempt for folder in folders for attempt in read_attempts(folder)]

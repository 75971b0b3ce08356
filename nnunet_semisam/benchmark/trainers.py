"""What a row of a benchmark trains: one trainer, or a self-training that a trainer begins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_semisam.checks import trainers
from nnunet_semisam.errors import UserError
from nnunet_semisam.settings import Settings
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

NOT_SHARED = {"seed": "--seeds", "method": "--trainers", "use_sam": "--trainers"}
ALL = "all"
ROW = re.compile(r"SelfTraining(?P<rounds>[1-9][0-9]?)_(?P<trainer>\w+)")


@dataclass(frozen=True)
class Recipe:
    """What the name of a row stands for.

    Attributes:
        trainer: Class name of the trainer, in self-training of the first training.
        rounds: Rounds of self-training; 0: one training.
    """

    trainer: str
    rounds: int = 0

    @property
    def trainings(self) -> int:
        """How many trainings share the epochs of the settings."""
        return self.rounds + 1


def recipe_of(name: str) -> Recipe:
    """Return what the name of a row stands for.

    Example:
        >>> recipe_of("SelfTraining2_nnUNetTrainerSemiSAM")
        Recipe(trainer='nnUNetTrainerSemiSAM', rounds=2)
        >>> recipe_of("nnUNetTrainerSemiSAM")
        Recipe(trainer='nnUNetTrainerSemiSAM', rounds=0)
    """
    match = ROW.fullmatch(name)
    return Recipe(match["trainer"], int(match["rounds"])) if match else Recipe(name)


def named(names: Sequence[str]) -> list[str]:
    """Return the rows of a benchmark, each once: ``all`` stands for every trainer of the package."""
    rows = [each for name in names for each in (trainer_names(trainers_folder()) if name == ALL else [name])]
    return list(dict.fromkeys(rows))


def check_rows(names: Sequence[str], settings: Mapping[str, Any], equal_time: bool) -> None:
    """Check that every row can be trained.

    Args:
        names: Names of rows.
        settings: The settings of every run.
        equal_time: Whether rows are to have equal time instead of equal steps.

    Raises:
        UserError: If a trainer does not exist, or a self-training does not fit the settings.
    """
    recipes = {name: recipe_of(name) for name in names}
    trainers.check_trainers(list(dict.fromkeys(recipe.trainer for recipe in recipes.values())), "--trainers")
    for name, recipe in recipes.items():
        if recipe.rounds and equal_time:
            raise UserError(
                f"--equal time: {name} is {recipe.trainings} trainings, whose time is not measured beforehand. Use "
                "--equal steps: together they have the steps of the others."
            )
        if settings["num_epochs"] < recipe.trainings:
            raise UserError(
                f"{name} is {recipe.trainings} trainings that share num_epochs {settings['num_epochs']}: one each at "
                "least. Give more epochs, or fewer rounds."
            )


def settings_of_trainer(name: str, shared: Mapping[str, Any]) -> Settings:
    """Return the settings that a trainer has in a benchmark.

    Args:
        name: Name of the row; :func:`check_rows` has accepted it.
        shared: The settings of every run.
    """
    return trainers.settings_of_trainer(recipe_of(name).trainer, shared, "the settings of the benchmark")

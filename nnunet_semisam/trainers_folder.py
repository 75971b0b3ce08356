"""Where the trainer files lie: the folder that nnU-Net must search (``nnUNet_extTrainer``)."""

from __future__ import annotations

from pathlib import Path

from nnunet_semisam.errors import UserError

TRAINER_FILES = "nnUNetTrainer*.py"


def trainers_folder(package: Path | None = None) -> Path:
    """Return the absolute path of the folder that holds the trainer files.

    Args:
        package: Folder of the package ``nnunet_semisam``; ``None`` takes the one that is running.

    Returns:
        ``nnunet_semisam/trainers`` where the package was installed from a wheel, ``trainers`` beside the package in
        a checkout (also one that is installed with ``pip install -e``).

    Raises:
        UserError: If neither folder holds a trainer.
    """
    package = (package or Path(__file__).parent).resolve()
    candidates = [package / "trainers", package.parent / "trainers"]
    for folder in candidates:
        # Files, not the folder, are looked for: a folder can outlive its files as a home of __pycache__.
        if any(folder.glob(TRAINER_FILES)):
            return folder
    raise UserError(
        f"No trainer file ({TRAINER_FILES}) in {candidates[0]} or {candidates[1]}; one of the two holds them in every "
        "complete installation. Install the package again: pip install --force-reinstall --no-deps nnunet-semisam, "
        "or pip install . in a checkout."
    )


def trainer_names(folder: Path) -> list[str]:
    """Return the trainers of ``folder``, sorted: a file's name is its main class's name."""
    return sorted(path.stem for path in folder.glob(TRAINER_FILES))

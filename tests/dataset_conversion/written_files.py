"""What lies in the folders of a converted dataset."""

from pathlib import Path

from nnunet_semisam.io.locks import LOCK_FILE


def cases(folder: Path) -> list[str]:
    """Return the cases of ``imagesTr``, ``labelsTr`` and so on, each once."""
    stems = {path.name.split(".")[0] for path in folder.iterdir()}
    return sorted({stem.removesuffix("_0000").removesuffix("_0001") for stem in stems})


def visible(folder: Path) -> list[str]:
    """What is in a folder beside the lock."""
    return [path.name for path in folder.iterdir() if path.name != LOCK_FILE]

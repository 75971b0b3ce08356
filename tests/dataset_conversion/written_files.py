"""What lies in the folders of a converted dataset."""

from pathlib import Path


def cases(folder: Path) -> list[str]:
    """Return the cases of ``imagesTr``, ``labelsTr`` and so on, each once."""
    stems = {path.name.split(".")[0] for path in folder.iterdir()}
    return sorted({stem.removesuffix("_0000").removesuffix("_0001") for stem in stems})

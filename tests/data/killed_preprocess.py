"""Kill ``preprocess_configuration`` at each of its writes, then let it go on; run as a program of its own.

Processes are forked here, and ITK's and blosc2's threads do not survive that: so this process uses neither itself.
"""

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_nnunet
from killed_commands import killed_at_write

from nnunet_semisam.data.preprocess_unlabeled import preprocess_configuration

NEVER = 10**6


def main(root: Path) -> None:
    raw, preprocessed = root / "raw" / tiny_nnunet.DATASET, root / "preprocessed" / tiny_nnunet.DATASET
    plans, content = (
        json.loads((preprocessed / f"{name}.json").read_text()) for name in (tiny_nnunet.PLANS, "dataset")
    )
    folder, geometry = preprocessed / f"{tiny_nnunet.PLANS}_2d_unlabeled", preprocessed / "semisam_geometry"

    def run() -> None:
        ready, problems = preprocess_configuration(raw, preprocessed, plans, content, "2d", 1)
        assert (ready, problems) == (2, [])

    def start_anew() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(geometry, ignore_errors=True)

    def written() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for part in (folder, geometry) for file in part.iterdir()}

    start_anew()
    assert not killed_at_write(NEVER, run)
    whole = written()
    for number in range(14):  # the recipe, two images, geometries and records of them: each is flushed and renamed
        start_anew()
        assert killed_at_write(number, run)
        left = {file.name: file.read_bytes() for part in (folder, geometry) for file in part.glob("[!.]*")}
        assert {name: whole[name] for name in left} == left
        assert not killed_at_write(NEVER, run)
        assert {name: text for name, text in written().items() if not name.startswith(".")} == whole
        assert not [file for file in folder.iterdir() if file.name.startswith(".")]
    start_anew()
    assert not killed_at_write(14, run)


if __name__ == "__main__":
    main(Path(os.environ["nnUNet_raw"]).parent)

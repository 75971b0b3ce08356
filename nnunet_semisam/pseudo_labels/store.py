"""Pseudo-labels on disk, in rounds: a round is complete by itself, and is either there or not there.

``root/round_003/`` holds ``label/CASE.b2nd`` and ``confidence/CASE.b2nd`` (``(1, *S)``, as nnU-Net's ``_seg`` files),
``locations/CASE.npz``, ``records/CASE.json`` and ``provenance.json``. While it is written it is called
``round_003.partial``, which nobody reads; a kill leaves at most such a folder, and the next round removes it.

Several processes may write cases of one round: one of them calls :meth:`PseudoLabelStore.begin`, all call ``write``,
and, when all are done, one calls ``commit``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from nnunet_semisam.data.pseudo_label_source import CONFIDENCE_LEVELS
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.array_files import open_array, read_npz
from nnunet_semisam.io.json_files import read_object, write_json

MAX_LOCATIONS = 2000
MAX_BLOCK_VOXELS = 2**17  # at one byte per voxel nnU-Net's own block size of 128 KiB
FILES = (("label", ".b2nd"), ("confidence", ".b2nd"), ("locations", ".npz"), ("records", ".json"))
REMEDY = "Remove the round's folder: the training makes it again."
ROUND = re.compile(r"round_([0-9]{3,9})")
LABEL = re.compile(r"[0-9]{1,5}")


class PseudoLabelStore:
    """The rounds of one training run.

    Args:
        root: Folder of the store; made when the first round begins.
        patch_size: Size of the training patches, two or three axes: arrays are cut into blocks that suit it.
        max_locations: Foreground locations that are kept of each label and case: enough to centre patches on, few
            enough to load each time.
    """

    def __init__(
        self, root: str | Path, patch_size: Sequence[int] = (64, 64, 64), max_locations: int = MAX_LOCATIONS
    ) -> None:
        self.root, self.max_locations = Path(root), max_locations
        self.patch_size = (1,) * (3 - len(patch_size)) + tuple(patch_size)

    # --- reading ---

    def rounds(self) -> list[int]:
        """Return the complete rounds, ascending."""
        if not self.root.is_dir():
            return []
        matches = (ROUND.fullmatch(folder.name) for folder in self.root.iterdir() if folder.is_dir())
        return sorted(int(match[1]) for match in matches if match)

    def latest_round(self) -> int | None:
        """Return the newest complete round, or ``None`` if there is none."""
        return max(self.rounds(), default=None)

    def folder(self, round_index: int) -> Path:
        """Return where a complete round lies."""
        return self.root / f"round_{round_index:03d}"

    def cases(self, round_index: int | None = None) -> list[str]:
        """Return the cases of a round (default: the latest), sorted; empty if there is no round."""
        round_index = self.latest_round() if round_index is None else round_index
        if round_index is None:
            return []
        return sorted(file.name.removesuffix(".b2nd") for file in (self.folder(round_index) / "label").glob("*.b2nd"))

    def open(self, case: str, round_index: int | None = None) -> tuple[blosc2.NDArray, blosc2.NDArray]:
        """Open label and confidence for partial reads.

        Args:
            case: Name of the case.
            round_index: Which round; ``None`` takes the latest.

        Returns:
            Label ``(1, *S)``, int8 or int16, and confidence ``(1, *S)``, uint8: divide by 255 for [0, 1].

        Raises:
            UserError: If the round has no such case, or its files are damaged.
        """
        folder = self._existing(case, round_index)
        label = open_array(folder / "label" / f"{case}.b2nd", REMEDY, kinds="iu")
        confidence = open_array(folder / "confidence" / f"{case}.b2nd", REMEDY, kinds="u")
        if label.shape != confidence.shape or label.shape[0] != 1 or confidence.dtype != np.uint8:
            raise UserError(
                f"Label {label.shape} and confidence {confidence.shape} ({confidence.dtype}) of the pseudo-label of "
                f"{case!r} in {folder} do not belong together. {REMEDY}"
            )
        return label, confidence

    def locations(self, case: str, round_index: int | None = None) -> dict[int, np.ndarray]:
        """Return confident voxels of each label, ``(n, 4)``, int32: 0, z, y, x, as nnU-Net's ``class_locations``."""
        file = self._existing(case, round_index) / "locations" / f"{case}.npz"
        found = {}
        for name, places in read_npz(file, REMEDY).items():
            if not LABEL.fullmatch(name) or places.ndim != 2 or places.shape[1] != 4 or places.dtype.kind != "i":
                raise UserError(f"{file} holds {name!r}, {places.shape}, {places.dtype}: no locations. {REMEDY}")
            found[int(name)] = places
        return found

    def made_in(self, case: str, round_index: int | None = None) -> int:
        """Return the round in which the pseudo-label of a case was made; later rounds carry it over."""
        file = self._existing(case, round_index) / "records" / f"{case}.json"
        made = read_object(file, REMEDY).get("round")
        if type(made) is not int or made < 0:
            raise UserError(f"{file} names no round, but {made!r}. {REMEDY}")
        return made

    def problem(self, case: str, round_index: int) -> str | None:
        """Return what is wrong with the files of a case, as far as it shows without reading them through."""
        try:
            self.open(case, round_index)
            self.locations(case, round_index)
            self.made_in(case, round_index)
        except UserError as error:
            return str(error)
        return None

    def provenance(self, round_index: int) -> dict[str, Any]:
        """Return what is known about how a round was made; ``cases`` holds the record of each case."""
        path = self.folder(round_index) / "provenance.json"
        content = read_object(path, REMEDY)
        if content.get("round") != round_index or not isinstance(content.get("cases"), dict):
            raise UserError(f"{path} is of another round, or names no cases. {REMEDY}")
        return content

    def _existing(self, case: str, round_index: int | None) -> Path:
        round_index = self.latest_round() if round_index is None else round_index
        folder = None if round_index is None else self.folder(round_index)
        if folder is None or not (folder / "label" / f"{case}.b2nd").is_file():
            raise UserError(
                f"No pseudo-label of case {case!r} in round {round_index} of {self.root}; there are the rounds "
                f"{self.rounds()}. A round must be made before it is read."
            )
        return folder

    # --- writing ---

    def begin(self, round_index: int) -> None:
        """Start a round: remove what killed runs left, make its temporary folder."""
        self.root.mkdir(parents=True, exist_ok=True)
        for leftover in (*self.root.glob("round_*.partial"), *self.root.glob("round_*.old")):
            shutil.rmtree(leftover, ignore_errors=True)  # network file systems keep what a worker has open
        for name, _ in FILES:
            (self._partial(round_index) / name).mkdir(parents=True)

    def write(
        self,
        round_index: int,
        case: str,
        label: np.ndarray,
        confidence: np.ndarray,
        record: Mapping[str, Any] | None = None,
        min_confidence: float = 0.0,
    ) -> None:
        """Write one case of a round that has begun.

        Args:
            round_index: The round.
            case: Name of the case.
            label: Label map, ``(Z, Y, X)``, integer, within int16.
            confidence: ``(Z, Y, X)``, in [0, 1]; kept in steps of 1 / 255.
            record: What is known about the case, ready for json.
            min_confidence: Only voxels of at least this confidence count as foreground locations.

        Raises:
            ValueError: If the shapes differ, or confidence is not in [0, 1].
        """
        if label.shape != confidence.shape or label.ndim != 3:
            raise ValueError(f"label and confidence must both be (Z, Y, X), got {label.shape} and {confidence.shape}.")
        if not (confidence.min() >= 0 and confidence.max() <= 1):  # also catches NaN
            raise ValueError(
                f"confidence of case {case!r} must be in [0, 1], got [{confidence.min()}, {confidence.max()}]."
            )
        folder = self._partial(round_index)
        label = label.astype(np.int8 if np.abs(label).max(initial=0) < 128 else np.int16)
        levels = np.round(confidence * CONFIDENCE_LEVELS).astype(np.uint8)
        found = foreground_locations(label, confidence >= min_confidence, case, self.max_locations)
        locations = {str(value): places for value, places in found.items()}
        with self._writing():
            self._save(folder / "label" / f"{case}.b2nd", label)
            self._save(folder / "confidence" / f"{case}.b2nd", levels)
            np.savez_compressed(folder / "locations" / f"{case}.npz", **locations)
            write_json(folder / "records" / f"{case}.json", {"round": round_index, **(record or {})})

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # blosc2 raises the second, without a reason
            free = shutil.disk_usage(self.root).free if self.root.is_dir() else 0
            raise UserError(
                f"A round of pseudo-labels cannot be written to {self.root} ({printable(str(error), 200)}; "
                f"{free / 1e6:.0f} MB of space are free). The rounds before it are as they were. Free disk space, and "
                "go on with nnUNetv2_train ... --c"
            ) from error

    def commit(self, round_index: int, provenance: Mapping[str, Any]) -> dict[str, str]:
        """Finish a round: carry over the cases it did not refresh, write its provenance, make it visible.

        Rounds with a higher index are removed: they belong to a future that a resumed run has left.

        Returns:
            Cases of the round before that are damaged, with the reason: they are not carried over.
        """
        with self._writing():
            return self._commit(round_index, provenance)

    def _commit(self, round_index: int, provenance: Mapping[str, Any]) -> dict[str, str]:
        partial, target = self._partial(round_index), self.folder(round_index)
        earlier = [r for r in self.rounds() if r < round_index]
        damaged = self._carry_over(earlier[-1], partial) if earlier else {}
        files = sorted((partial / "records").glob("*.json"))
        records = {file.name.removesuffix(".json"): read_object(file, REMEDY) for file in files}
        write_json(partial / "provenance.json", {"round": round_index, **provenance, "cases": records})
        for abandoned in self.rounds():
            if abandoned >= round_index:
                self._remove(abandoned)
        partial.rename(target)
        return damaged

    def clear(self) -> None:
        """Remove all rounds: those of an earlier training, which may have had other cases and settings."""
        for round_index in self.rounds():
            self._remove(round_index)

    def prune(self, keep: set[int]) -> None:
        """Remove all rounds but those in ``keep`` (named by checkpoints) and the latest one."""
        for round_index in self.rounds():
            if round_index not in keep and round_index != self.latest_round():
                self._remove(round_index)

    def _partial(self, round_index: int) -> Path:
        return self.root / f"round_{round_index:03d}.partial"

    def _remove(self, round_index: int) -> None:
        """Remove a round: first its name, so that a kill half-way leaves no torn round."""
        hidden = self.root / f"round_{round_index:03d}.{uuid.uuid4().hex[:8]}.old"
        self.folder(round_index).rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)  # network file systems keep what a worker has open

    def _carry_over(self, source: int, target: Path) -> dict[str, str]:
        damaged = {}
        for case in self.cases(source):
            if (target / "records" / f"{case}.json").exists():
                continue
            problem = self.problem(case, source)
            if problem is not None:
                damaged[case] = problem
                continue
            for name, suffix in FILES:
                file = self.folder(source) / name / f"{case}{suffix}"
                _link_or_copy(file, target / name / file.name)
        return damaged

    def _save(self, file: Path, array: np.ndarray) -> None:
        array = np.ascontiguousarray(array[None])
        blocks = _block_shape(array.shape[1:], self.patch_size)
        chunks = [min(2 * b, s) if b > 1 else 1 for b, s in zip(blocks, array.shape[1:], strict=True)]
        blosc2.asarray(
            array,
            urlpath=str(file),
            chunks=(1, *chunks),
            blocks=(1, *blocks),
            cparams={"codec": blosc2.Codec.ZSTD, "clevel": 5, "nthreads": 1},
        )
        open_array(file, REMEDY, kinds="iu")  # a file that is shorter than its header says is found here


def foreground_locations(
    label: np.ndarray, usable: np.ndarray, seed_text: str, max_locations: int = MAX_LOCATIONS
) -> dict[int, np.ndarray]:
    """Return random usable voxels of each label but 0.

    Args:
        label: ``(Z, Y, X)``, integer.
        usable: ``(Z, Y, X)``, bool.
        seed_text: Names the draw: the same text and arrays give the same voxels.
        max_locations: Largest number of voxels of a label.

    Returns:
        For each label in ``label``: ``(n, 4)``, int32, columns 0, z, y, x; ``n`` may be 0.
    """
    rng = np.random.default_rng(zlib.crc32(seed_text.encode()))
    found = {}
    for value in np.unique(label[label > 0]):
        places = np.argwhere((label == value) & usable)
        if len(places) > max_locations:
            places = places[np.sort(rng.choice(len(places), max_locations, replace=False))]
        found[int(value)] = np.pad(places, ((0, 0), (1, 0))).astype(np.int32)
    return found


def _block_shape(shape: Sequence[int], patch_size: Sequence[int]) -> list[int]:
    """Return a block within array and patch of at most 128 Ki voxels: the longest axis is halved until it fits."""
    blocks = [min(s, p) for s, p in zip(shape, patch_size, strict=True)]
    while np.prod(blocks) > MAX_BLOCK_VOXELS:
        longest = int(np.argmax(blocks))
        blocks[longest] = -(-blocks[longest] // 2)
    return blocks


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file; copy it where the file system cannot link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)

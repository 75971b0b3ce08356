"""Image embeddings on disk: the expensive half of a SAM runs once per case, however often the specialist changes.

Shapes in this file: ``N`` images.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.array_files import read_npz
from nnunet_semisam.io.atomic import TEMPORARY_SUFFIX, open_atomically
from nnunet_semisam.sam.base import Embedding

LOGGER = logging.getLogger(__name__)
LEFTOVER_SECONDS = 3600  # a living process writes for seconds
IDLE_SECONDS = 3600  # embeddings of others that were used since then may belong to another training that runs now
FILE_OVERHEAD = 4096  # bytes of a file besides its arrays
UNSEEN_SHARE = 0.05  # of the free space that a process may fill before it looks at all files again
FULL_SECONDS = 60  # before a full cache is looked at again
HALF_MAX = float(np.finfo(np.float16).max)


class EmbeddingCache:
    """All embeddings of a data set, in half precision, within a limit that always holds.

    Rounds go through all cases in a cycle. The least recently used entry is then the one that is needed next, so a full
    cache keeps what it has and adds nothing: with room for 8 of 10 cases, 8 are found in every round. Only entries that
    no generalist of this process uses (of another SAM, view, channel or configuration) make room, the least recently
    used first.

    Several processes may share a cache: files appear whole or not at all, and one that vanishes is encoded again. To
    look at all files for each new one would take longer the more there are; so each process fills a twentieth of the
    space that it last saw free, and then looks again. The limit holds for up to 20 processes that write at once.

    Args:
        root: Folder shared by all configurations and models of a data set.
        data_identifier: nnU-Net's name of the preprocessed data, for example ``nnUNetPlans_3d_fullres``.
        limit_gb: Most disk space of ``root`` in GB (10^9 bytes); 0 keeps nothing.
    """

    def __init__(self, root: str | Path, data_identifier: str, limit_gb: float) -> None:
        self.root = Path(root)
        self.data_identifier = data_identifier
        self.limit_bytes = limit_gb * 1e9
        self._present: set[Path] = set()
        self._may_add = 0.0  # bytes that surely fit
        self._full_until = 0.0
        self._told_full = False
        self.told_refused = False

    def of(self, fingerprint: str, view: str, channel: int) -> EmbeddingFolder:
        """Return the folder of one generalist.

        Args:
            fingerprint: Digest of the SAM.
            view: Name of its view.
            channel: Image channel that it sees.
        """
        folder = self.root / self.data_identifier / fingerprint / f"{view}-channel{channel}"
        self._present.add(folder)
        return EmbeddingFolder(self, folder)

    def make_room(self, size: int) -> bool:
        """Return whether ``size`` further bytes fit, after removing what nobody uses any more."""
        if size <= self._may_add:
            self._may_add -= size
            return True
        if time.monotonic() < self._full_until:
            return False
        free = self._free_for(size) - size
        self._may_add = max(0.0, UNSEEN_SHARE * free)
        if free >= 0:
            return True
        self._full_until = time.monotonic() + FULL_SECONDS
        if not self._told_full:
            LOGGER.warning(
                "The cache of embeddings in %s is full (%.3g GB): cases that are not in it are encoded in every round. "
                "Raise the setting sam: {cache_gb: ...} if there is disk space.",
                self.root,
                self.limit_bytes / 1e9,
            )
            self._told_full = True
        return False

    def _free_for(self, size: int) -> float:
        """Return how many bytes are free; what nobody uses any more is removed until ``size`` fits."""
        self._remove_leftovers()
        files = self._files()
        free = self.limit_bytes - sum(file.size for file in files)
        now = time.time()
        others = [file for file in files if file.path.parent not in self._present]
        for file in sorted(others, key=lambda each: each.used):
            if size <= free:
                break
            if now - file.used > IDLE_SECONDS:
                file.path.unlink(missing_ok=True)
                free += file.size
        return free

    def remove(self, file: Path) -> None:
        """Remove an entry that cannot be used, if it is there; its space is free again."""
        if os.path.lexists(file):
            file.unlink(missing_ok=True)
            self._full_until = 0.0

    def within_limit(self, size: int) -> bool:
        """Return whether the limit holds after writing ``size`` bytes; nobody looks where room for many was seen."""
        return size <= self._may_add or sum(file.size for file in self._files()) <= self.limit_bytes

    def _files(self) -> list[_StoredFile]:
        found = []
        for path in self.root.rglob("*.npz"):
            with contextlib.suppress(FileNotFoundError):  # another process may have removed it
                status = path.stat()
                found.append(_StoredFile(path, status.st_size, status.st_mtime))
        return found

    def _remove_leftovers(self) -> None:
        for leftover in self.root.rglob(f".*{TEMPORARY_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                    leftover.unlink()


@dataclass(frozen=True)
class _StoredFile:
    """A cached embedding: where it is, its size in bytes, and when it was last used."""

    path: Path
    size: int
    used: float


class EmbeddingFolder:
    """The embeddings of one SAM, view and channel.

    Args:
        cache: What the folder is part of.
        folder: Where the files lie.
    """

    def __init__(self, cache: EmbeddingCache, folder: Path) -> None:
        self.cache, self.folder = cache, folder
        self.hits = self.misses = 0

    def get(self, case: str, digest: str, encode: Callable[[], Embedding], images: int | None = None) -> Embedding:
        """Return the embedding of a case, from disk or new; in both cases rounded to half precision, on the CPU.

        Args:
            case: Name of the case.
            digest: Changes whenever the images do; an embedding of other images is not used.
            encode: Makes the embedding of all ``N`` images of the case.
            images: ``N``; a stored embedding of another number is not used. ``None``: not compared.

        Returns:
            Features in float32 that hold half-precision values: the first use and all later ones agree bit for bit.

        Raises:
            UserError: If the SAM returns NaN.
        """
        file = self.folder / f"{case}.npz"
        stored = self._read(file, digest)
        if stored is not None and images in (None, len(stored)):
            self.hits += 1
            return stored
        self.misses += 1
        embedding = encode()
        arrays = {f"feature_{name}": _to_half(value, case) for name, value in embedding.features.items()}
        if self.cache.limit_bytes > 0:
            size = sum(array.nbytes for array in arrays.values()) + FILE_OVERHEAD
            arrays_of_file = {"digest": np.array(digest), "image_shape": np.array(embedding.image_shape), **arrays}
            self._store(file, size, arrays_of_file)
        return _to_embedding(arrays, embedding.image_shape)

    def _read(self, file: Path, digest: str) -> Embedding | None:
        """Return a stored embedding, or ``None`` if there is none that can be used."""
        if not os.path.lexists(file):
            return None
        try:
            stored = read_npz(file, "The case is encoded again.")
            if str(stored.get("digest")) != digest:
                return None
            arrays = {name: array for name, array in stored.items() if name.startswith("feature_")}
            shape = _checked_shape(file, arrays, stored.get("image_shape"))
        except UserError as error:
            LOGGER.warning("%s", error)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # the time of the last use; access times are off on many file systems
        return _to_embedding(arrays, shape)

    def _store(self, file: Path, size: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep an embedding if there is room; a disk that refuses costs time and nothing else, and is said once."""
        try:
            self.cache.remove(file)  # of other images, or damaged
            if self.cache.make_room(size):
                self._write(file, size, arrays)
        except OSError as error:
            if not self.cache.told_refused:
                LOGGER.warning(
                    "Embeddings cannot be kept in %s (%s): their cases are encoded in every round. Free disk space, or "
                    "remove what is in the way.",
                    self.folder,
                    error.strerror or error,
                )
                self.cache.told_refused = True

    def _write(self, file: Path, size: int, arrays: Mapping[str, np.ndarray]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open_atomically(file) as stream:
            np.savez(stream, **arrays)
        if not self.cache.within_limit(size):  # another process wrote at the same time
            file.unlink(missing_ok=True)


def _to_half(value: torch.Tensor, case: str) -> np.ndarray:
    if not torch.isfinite(value).all():
        raise UserError(
            f"The SAM's embedding of case {case!r} holds NaN or infinity. Check the case's image for such values."
        )
    return value.detach().float().clamp(-HALF_MAX, HALF_MAX).half().cpu().numpy()


def _checked_shape(file: Path, arrays: Mapping[str, np.ndarray], shape: np.ndarray | None) -> tuple[int, ...]:
    """Return the shape of the encoded images, if this is an embedding as :meth:`EmbeddingFolder.get` stores it."""
    numbers = {array.shape[0] if array.ndim > 1 else 0 for array in arrays.values()}
    halves = all(array.dtype == np.float16 and np.isfinite(array).all() for array in arrays.values())
    sides = [] if shape is None or shape.ndim != 1 or shape.dtype.kind not in "iu" else shape.tolist()
    if len(numbers) != 1 or 0 in numbers or not halves or len(sides) not in (2, 3) or min(sides) < 1:
        raise UserError(f"{file} holds no embedding. The case is encoded again.")
    return tuple(sides)


def _to_embedding(arrays: dict[str, np.ndarray], image_shape: tuple[int, ...]) -> Embedding:
    features = {name.removeprefix("feature_"): torch.from_numpy(array).float() for name, array in arrays.items()}
    return Embedding(features, tuple(image_shape))

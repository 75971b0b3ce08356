"""Image embeddings on disk: the expensive half of a SAM runs once per case, however often the specialist changes.

Shapes in this file: ``N`` images.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nnunet_semisam.sam.base import Embedding

LOGGER = logging.getLogger(__name__)
LEFTOVER_SECONDS = 3600  # a living process writes for seconds
IDLE_SECONDS = 3600  # embeddings of others that were used since then may belong to another training that runs now
FILE_OVERHEAD = 4096  # bytes of a file besides its arrays
HALF_MAX = float(np.finfo(np.float16).max)


class EmbeddingCache:
    """All embeddings of a data set, in half precision, within a limit that always holds.

    Rounds go through all cases in a cycle. The least recently used entry is then the one that is needed next, so a full
    cache keeps what it has and adds nothing: with room for 8 of 10 cases, 8 are found in every round. Only entries that
    no generalist of this process uses (of another SAM, view, channel or configuration) make room, the least recently
    used first.

    Several processes may share a cache: files appear whole or not at all, and one that vanishes is encoded again.

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
        self._told_full = False

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
        self._remove_leftovers()
        files = self._files()
        total = sum(file.size for file in files)
        now = time.time()
        others = [file for file in files if file.path.parent not in self._present]
        for file in sorted(others, key=lambda each: each.used):
            if total + size <= self.limit_bytes:
                break
            if now - file.used > IDLE_SECONDS:
                file.path.unlink(missing_ok=True)
                total -= file.size
        if total + size <= self.limit_bytes:
            return True
        if not self._told_full:
            LOGGER.warning(
                "The cache of embeddings in %s is full (%.3g GB): cases that are not in it are encoded in every round. "
                "Raise the setting sam: {cache_gb: ...} if there is disk space.",
                self.root,
                self.limit_bytes / 1e9,
            )
            self._told_full = True
        return False

    def within_limit(self) -> bool:
        """Return whether the limit holds now."""
        return sum(file.size for file in self._files()) <= self.limit_bytes

    def _files(self) -> list[_StoredFile]:
        found = []
        for path in self.root.rglob("*.npz"):
            with contextlib.suppress(FileNotFoundError):  # another process may have removed it
                status = path.stat()
                found.append(_StoredFile(path, status.st_size, status.st_mtime))
        return found

    def _remove_leftovers(self) -> None:
        for leftover in self.root.rglob("*.partial"):
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

    def get(self, case: str, digest: str, encode: Callable[[], Embedding]) -> Embedding:
        """Return the embedding of a case, from disk or new; in both cases rounded to half precision, on the CPU.

        Args:
            case: Name of the case.
            digest: Changes whenever the images do; an embedding of other images is not used.
            encode: Makes the embedding of all ``N`` images of the case.

        Returns:
            Features in float32 that hold half-precision values: the first use and all later ones agree bit for bit.

        Raises:
            ValueError: If the SAM returns NaN.
        """
        file = self.folder / f"{case}.npz"
        stored = self._read(file, digest)
        if stored is not None:
            self.hits += 1
            return stored
        self.misses += 1
        embedding = encode()
        arrays = {f"feature_{name}": _to_half(value, case) for name, value in embedding.features.items()}
        if self.cache.limit_bytes > 0:
            file.unlink(missing_ok=True)  # of other images, or damaged
            if self.cache.make_room(sum(array.nbytes for array in arrays.values()) + FILE_OVERHEAD):
                self._write(file, digest=np.array(digest), image_shape=np.array(embedding.image_shape), **arrays)
        return _to_embedding(arrays, embedding.image_shape)

    def _read(self, file: Path, digest: str) -> Embedding | None:
        """Return a stored embedding, or ``None`` if there is none that can be used."""
        try:
            with np.load(file, allow_pickle=False) as stored:
                if str(stored["digest"]) != digest:
                    return None
                arrays = {name: stored[name] for name in stored.files if name.startswith("feature_")}
                shape = tuple(int(i) for i in stored["image_shape"])
            os.utime(file)  # the time of the last use; access times are off on many file systems
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            LOGGER.warning("The cached embedding %s cannot be read (%s); the case is encoded again.", file, error)
            return None
        return _to_embedding(arrays, shape)

    def _write(self, file: Path, **arrays: np.ndarray) -> None:
        """Write whole or not at all; not flushed to the disk: a torn file is found when it is read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex}.partial")
        try:
            with open(temporary, "wb") as stream:
                np.savez(stream, **arrays)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        if not self.cache.within_limit():  # another process wrote at the same time
            file.unlink(missing_ok=True)


def _to_half(value: torch.Tensor, case: str) -> np.ndarray:
    if not torch.isfinite(value).all():
        raise ValueError(
            f"The SAM's embedding of case {case!r} holds NaN or infinity. Check the case's image for such values."
        )
    return value.detach().float().clamp(-HALF_MAX, HALF_MAX).half().cpu().numpy()


def _to_embedding(arrays: dict[str, np.ndarray], image_shape: tuple[int, ...]) -> Embedding:
    features = {name.removeprefix("feature_"): torch.from_numpy(array).float() for name, array in arrays.items()}
    return Embedding(features, tuple(image_shape))

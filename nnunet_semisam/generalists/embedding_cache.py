"""Image embeddings on disk: the expensive half of a SAM runs once per case, however often the network changes its mind.

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
from pathlib import Path

import numpy as np
import torch

from nnunet_semisam.sam.base import Embedding

LOGGER = logging.getLogger(__name__)
LEFTOVER_SECONDS = 3600
HALF_MAX = float(np.finfo(np.float16).max)


class EmbeddingCache:
    """Embeddings of the cases of one configuration by one SAM, in half precision, least recently used go first.

    Several processes may share a cache: files appear whole or not at all, and one that vanishes is encoded again.

    Args:
        root: Folder shared by all configurations and models of a data set; the size limit is about all of it.
        data_identifier: nnU-Net's name of the preprocessed data, for example ``nnUNetPlans_3d_fullres``.
        fingerprint: Digest of the SAM; another model has another folder.
        limit_gb: Most disk space of ``root`` in GB (10^9 bytes); 0 keeps nothing.
    """

    def __init__(self, root: str | Path, data_identifier: str, fingerprint: str, limit_gb: float) -> None:
        self.root = Path(root)
        self.folder = self.root / data_identifier / fingerprint
        self.limit_bytes = limit_gb * 1e9
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
        if self.limit_bytes > 0:
            self._write(file, digest=np.array(digest), image_shape=np.array(embedding.image_shape), **arrays)
            self._evict()
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
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex}.partial")
        try:
            with open(temporary, "wb") as stream:
                np.savez(stream, **arrays)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    def _evict(self) -> None:
        """Remove the least recently used files until the limit holds."""
        for leftover in self.root.rglob("*.partial"):  # of killed processes; a living one writes for seconds
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                    leftover.unlink()
        files = []
        for file in self.root.rglob("*.npz"):
            with contextlib.suppress(FileNotFoundError):  # another process may have removed it
                status = file.stat()
                files.append((status.st_mtime_ns, status.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= self.limit_bytes:
                return
            file.unlink(missing_ok=True)
            total -= size


def _to_half(value: torch.Tensor, case: str) -> np.ndarray:
    if not torch.isfinite(value).all():
        raise ValueError(
            f"The SAM's embedding of case {case!r} holds NaN or infinity. Check the case's image for such values."
        )
    return value.detach().float().clamp(-HALF_MAX, HALF_MAX).half().cpu().numpy()


def _to_embedding(arrays: dict[str, np.ndarray], image_shape: tuple[int, ...]) -> Embedding:
    features = {name.removeprefix("feature_"): torch.from_numpy(array).float() for name, array in arrays.items()}
    return Embedding(features, tuple(image_shape))

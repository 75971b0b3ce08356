"""Fetch published weights: over https, resumable, and believed only if size and hash are right."""

from __future__ import annotations

import http.client
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.sam.families import Family

logger = logging.getLogger(__name__)
CHUNK = 1 << 20
TIMEOUT_S = 20


def download(family: Family, folder: Path) -> Path:
    """Fetch the weights of ``family`` into ``folder`` and return the file.

    An unfinished download is kept as ``<file>.part`` and goes on where it stopped.

    Args:
        family: What to fetch; has an address, a size and a hash.
        folder: Where the file goes; made if it is not there.

    Raises:
        UserError: If the address is not https, the network does not answer, or size or hash are wrong.
    """
    if family.url is None or not family.url.startswith("https://"):
        raise UserError(f"The weights of {family.name} have no https address ({family.url}): nothing can be fetched.")
    target, part = folder / family.file, folder / f"{family.file}.part"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    if not part.exists() or part.stat().st_size != family.size:
        _fetch(family, part)
    _verify(family, part)
    os.replace(part, target)
    return target


def _fetch(family: Family, part: Path) -> None:
    """Append what is missing to ``part``."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(family.url, headers={"Range": f"bytes={done}-"} if done else {})
    logger.info("Fetching %s to %s", family.url, part)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            if done and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                done = 0  # the server sends all of it again
            with (
                part.open("ab" if done else "wb") as file,
                tqdm(initial=done, total=family.size, unit="B", unit_scale=True, desc=family.file) as bar,
            ):
                while block := answer.read(CHUNK):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{family.url} answered {error.code} {error.reason}. {_by_hand(family, part.parent)}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{family.url} cannot be reached or broke off ({reason}). Run the same command again to go on, or, on a "
            f"machine without network: {_by_hand(family, part.parent)}"
        ) from error


def _verify(family: Family, part: Path) -> None:
    size = part.stat().st_size
    if family.size is not None and size < family.size:
        raise UserError(f"{part} has {size} of {family.size} bytes. Run the same command again to fetch the rest.")
    digest = sha256_of(part)
    if digest != family.sha256 or (family.size is not None and size != family.size):
        part.unlink()
        raise UserError(
            f"What {family.url} sent ({size} bytes, SHA-256 {digest}) is not {family.file} ({family.size} bytes, "
            f"SHA-256 {family.sha256}); it was deleted. {_by_hand(family, part.parent)}"
        )


def _by_hand(family: Family, folder: Path) -> str:
    return f"Get {family.file} from {family.url} and put it into {folder}."

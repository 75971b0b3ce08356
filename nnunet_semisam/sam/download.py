"""Fetch published weights: over https, resumable, and believed only if size and hash are right."""

from __future__ import annotations

import http.client
import logging
import os
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from tqdm import tqdm

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.atomic import put_in_place
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.io.regular_files import check_regular_file
from nnunet_semisam.sam.family import Family

logger = logging.getLogger(__name__)
CHUNK = 1 << 20
TIMEOUT_S = 20
CONTENT_RANGE = re.compile(r"bytes (\d+)-")


def download(family: Family, folder: Path) -> Path:
    """Fetch the weights of ``family`` into ``folder`` and return the file.

    An unfinished download is kept as ``<file>.part`` and goes on where it stopped. Of several processes one fetches,
    and the others wait for it.

    Args:
        family: What to fetch; has an address, a size and a hash.
        folder: Where the file goes; made if it is not there.

    Raises:
        UserError: If the address is not https, the network does not answer, the disk does not take the file, or size or
            hash are wrong.
    """
    if family.url is None or not family.url.startswith("https://"):
        raise UserError(f"The weights of {family.name} have no https address ({family.url}): nothing can be fetched.")
    target, part = folder / family.file, folder / f"{family.file}.part"
    if _is_there(target):
        check_hash(family, target)
        return target
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"{folder} is no folder. Set nnUNet_sam to a folder for the weights.")
    try:
        with folder_lock(folder, wait=True, name=f".{family.file}.lock"):
            if not _is_there(target):  # it may have come while this process waited
                _fetch_whole(family, part)
                put_in_place(part, target)
    except OSError as error:
        raise UserError(
            f"{folder} does not take {family.file} ({error.strerror or error}). Give nnUNet_sam a folder that can be "
            f"written, with {_megabytes(family.size)} of free space, and run the same command again."
        ) from error
    return target


def check_hash(family: Family, target: Path) -> None:
    """Refuse weights that are not those that were published.

    Raises:
        UserError: If the hash of the file is another one.
    """
    if not _is_right(family, target):
        raise UserError(
            f"{target} is not {family.file} as it was published: {target.stat().st_size} bytes, SHA-256 "
            f"{sha256_of(target)}; published are {family.size or 'unknown'} bytes, {family.sha256}. Delete it and run "
            f"`nnunet-semisam sam download {family.name}`. Weights of your own are named in the settings, "
            f"{family.name}: {{checkpoint: ...}}."
        )


def _is_there(target: Path) -> bool:
    if not os.path.lexists(target):
        return False
    check_regular_file(target, "Move it away: the weights of the model are to be there.")
    return True


def _fetch_whole(family: Family, part: Path) -> None:
    """Fetch what is missing; if a download that went on is not what was published, once more from the start."""
    if os.path.lexists(part):
        size = check_regular_file(part, "Move it away: it is in the place of an unfinished download.")
        if family.size is not None and size > family.size:
            part.unlink()
    resumed = part.exists() and part.stat().st_size > 0
    if resumed and family.size is None and _is_right(family, part):
        return  # whole, and killed before it was put in place; of a known size the next line sees that
    _fetch_rest(family, part)
    if resumed and not _is_right(family, part):
        logger.warning(
            "What was kept of an earlier download of %s is damaged: fetching it from the start.", family.file
        )
        part.unlink()
        _fetch_rest(family, part)
    if not _is_right(family, part):
        size, digest = part.stat().st_size, sha256_of(part)
        part.unlink()
        raise UserError(
            f"What {family.url} sent ({size} bytes, SHA-256 {digest}) is not {family.file} ({family.size} bytes, "
            f"SHA-256 {family.sha256}); it was deleted. {_by_hand(family, part.parent)}"
        )


def _is_right(family: Family, part: Path) -> bool:
    if family.size is not None and part.stat().st_size != family.size:
        return False
    return sha256_of(part) == family.sha256


def _fetch_rest(family: Family, part: Path) -> None:
    """Append what is missing to ``part``.

    Raises:
        UserError: If the server does not answer, or the file is not whole afterwards.
        OSError: If the disk does not take it.
    """
    if part.is_symlink():
        raise UserError(f"{part} is a link; what is fetched would be written where it leads. Remove it.")
    done = part.stat().st_size if part.exists() else 0
    if family.size is not None and done == family.size:
        return
    _check_space(family, part, done)
    request = urllib.request.Request(family.url, headers={"Range": f"bytes={done}-"} if done else {})
    logger.info("Fetching %s to %s", family.url, part)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)  # longer than what is there
        raise UserError(
            f"{family.url} answered {error.code} {printable(str(error.reason))}. Run the same command again later to "
            f"go on, or: {_by_hand(family, part.parent)}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _broken_off(family, part, error) from error
    with answer:
        starts = CONTENT_RANGE.match(answer.headers.get("Content-Range") or f"bytes {done}-")
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT or starts is None or int(starts[1]) != done:
            if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
                part.unlink(missing_ok=True)
                raise UserError(f"{family.url} sent another part than was asked for. Run the same command again.")
            done = 0  # the server sends all of it again
        with part.open("ab" if done else "wb") as file:
            _copy(family, answer, file, done)
    size = part.stat().st_size
    if family.size is not None and size < family.size:
        raise UserError(f"{part} has {size} of {family.size} bytes. Run the same command again to fetch the rest.")


def _copy(family: Family, answer: http.client.HTTPResponse, file: IO[bytes], done: int) -> None:
    """Write the answer to ``file``, and no more of it than the file has bytes."""
    with tqdm(initial=done, total=family.size, unit="B", unit_scale=True, desc=family.file, disable=None) as bar:
        while family.size is None or done <= family.size:
            try:
                block = answer.read(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _broken_off(family, Path(file.name), error) from error
            if not block:
                return
            file.write(block)
            done += len(block)
            bar.update(len(block))


def _check_space(family: Family, part: Path, done: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if family.size is not None and free < family.size - done:
        raise UserError(
            f"{part.parent} has {_megabytes(free)} of free space, and {family.file} needs another "
            f"{_megabytes(family.size - done)}. Free some, or set nnUNet_sam to a folder on another disk."
        )


def _broken_off(family: Family, part: Path, error: Exception) -> UserError:
    reason = printable(str(getattr(error, "reason", error)) or type(error).__name__)
    return UserError(
        f"{family.url} cannot be reached or broke off ({reason}). Run the same command again to go on, or, on a "
        f"machine without network: {_by_hand(family, part.parent)}"
    )


def _megabytes(size: int | None) -> str:
    return "enough" if size is None else f"{size / 1e6:.0f} MB"


def _by_hand(family: Family, folder: Path) -> str:
    return f"Get {family.file} from {family.url} and put it into {folder}."

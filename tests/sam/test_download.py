from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import multiprocessing
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam import download as module
from nnunet_semisam.sam.download import download, sha256_of
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.family import Family

CONTENT = bytes(range(256)) * 40


class Handler(http.server.BaseHTTPRequestHandler):
    requests: ClassVar[list[str | None]] = []
    sent: ClassVar[int] = 0

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.requests.append(asked)
        if self.path.endswith("gone.pth"):
            self.send_error(404)
            return
        if self.path.endswith("busy.pth"):
            self.send_error(503)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if self.path.endswith("whole.pth"):
            asked, start = None, 0
        if self.path.endswith("other.pth") and asked:
            start = 100
        if self.path.endswith("slow.pth"):
            time.sleep(0.2)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        with contextlib.suppress(OSError):
            self._send(CONTENT[start:])

    def _send(self, content: bytes) -> None:
        if self.path.endswith("drip.pth"):
            for start in range(0, len(content), 64):
                self.wfile.write(content[start : start + 64])
                time.sleep(0.02)
        elif self.path.endswith("endless.pth"):
            type(self).sent = 0
            for _ in range(512):  # 32 MiB
                self.wfile.write(bytes(2**16))
                type(self).sent += 2**16
        else:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    """A model whose https address is answered by a plain server on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Handler.requests.clear()
    stock = urllib.request.urlopen

    def plain(request: urllib.request.Request, **options: float):
        request.full_url = request.full_url.replace("https://sam.test", f"http://127.0.0.1:{server.server_port}")
        return stock(request, **options)

    monkeypatch.setattr(module.urllib.request, "urlopen", plain)
    yield Family(
        name="test",
        backend="",
        network="",
        file="w.pth",
        url="https://sam.test/w.pth",
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    server.shutdown()


def test_fetches_and_leaves_no_part(family: Family, tmp_path: Path) -> None:
    path = download(family, tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir() if not p.name.startswith(".")] == ["w.pth"]
    assert download(family, tmp_path / "new") == path
    assert len(Handler.requests) == 1  # what is here is not fetched again


def test_goes_on_where_it_stopped(family: Family, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:1000])
    assert download(family, tmp_path).read_bytes() == CONTENT
    assert Handler.requests == ["bytes=1000-"]


def test_a_part_that_leads_elsewhere_is_not_written_through(family: Family, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (tmp_path / "w.pth.part").symlink_to(precious)
    with pytest.raises(UserError, match="is a link"):
        download(family, tmp_path)
    assert precious.read_bytes() == b"mine"


def test_a_part_that_is_whole_is_not_asked_for_again(family: Family, tmp_path: Path) -> None:
    """Killed while the hash was taken, of a file of unknown size: a server answers such a range with 416."""
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    assert download(replace(family, size=None), tmp_path).read_bytes() == CONTENT
    assert Handler.requests == []


@pytest.mark.parametrize("content", [b"rubbish", bytes(len(CONTENT))])
def test_what_is_in_the_folder_already_counts_only_if_its_hash_is_right(
    family: Family, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.pth is not w\.pth as it was published.*Delete it and run"):
        download(family, tmp_path)


def test_wrong_content_is_deleted(family: Family, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SHA-256"):
        download(replace(family, sha256="0" * 64), tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.name != ".w.pth.lock"]


def test_short_answer_is_kept_for_the_next_try(family: Family, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"10240 of 10250 bytes. Run the same command again"):
        download(replace(family, size=10_250), tmp_path)
    assert (tmp_path / "w.pth.part").stat().st_size == 10_240


def test_missing_file_and_dead_network_are_explained(family: Family, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"answered 404.*by|answered 404.*put it into"):
        download(replace(family, url="https://sam.test/gone.pth"), tmp_path)
    with pytest.raises(UserError, match="cannot be reached"):
        download(replace(family, url="https://127.0.0.1:9/w.pth"), tmp_path)


def test_only_https(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no https address"):
        download(Family("x", "", "", "x.pth", url="http://sam.test/x.pth"), tmp_path)
    with pytest.raises(UserError, match="no https address"):
        download(FAMILIES["nano"], tmp_path)


PUBLISHERS = (
    "https://dl.fbaipublicfiles.com/segment_anything",
    "https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/",
    "https://huggingface.co/blueyo0/SAM-Med3D/resolve/main/",
)


def test_every_published_family_can_be_checked() -> None:
    for family in FAMILIES.values():
        if family.url is not None:
            assert family.url.startswith(PUBLISHERS)
            assert len(family.sha256) == 64
            assert family.size is None or family.size > 4e7


def test_sha256_of_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, example B.1
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_server_that_is_busy_costs_nothing_of_what_was_fetched(family: Family, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:5000])
    with pytest.raises(UserError, match="answered 503"):
        download(replace(family, url="https://sam.test/busy.pth"), tmp_path)
    assert (tmp_path / "w.pth.part").read_bytes() == CONTENT[:5000]


@pytest.mark.parametrize(
    "kept", [b"x" * 5000, CONTENT + b"too long", b"x" * len(CONTENT)], ids=["damaged", "long", "full"]
)
def test_what_was_kept_and_is_damaged_is_fetched_from_the_start(family: Family, tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "w.pth.part").write_bytes(kept)
    assert download(family, tmp_path).read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_all_of_it(family: Family, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:5000])
    assert download(replace(family, url="https://sam.test/whole.pth"), tmp_path).read_bytes() == CONTENT


def test_another_part_than_was_asked_for_is_not_taken(family: Family, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:5000])
    other = replace(family, url="https://sam.test/other.pth")
    with pytest.raises(UserError, match="another part"):
        download(other, tmp_path)
    assert download(other, tmp_path).read_bytes() == CONTENT, "the same command goes on"


def test_an_endless_answer_does_not_fill_the_disk(family: Family, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SHA-256"):
        download(replace(family, url="https://sam.test/endless.pth"), tmp_path)
    assert Handler.sent < 2**25


@pytest.mark.parametrize("place", ["w.pth", "w.pth.part"])
def test_a_folder_in_the_place_of_the_file_is_named(family: Family, tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir()
    with pytest.raises(UserError, match=rf"{place} is a folder"):
        download(family, tmp_path)


def test_a_file_in_the_place_of_the_folder_is_named(family: Family, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"is no folder. Set nnUNet_sam"):
        download(family, tmp_path / "file")


def test_too_small_a_disk_is_found_before_anything_is_fetched(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(UserError, match=r"free space.*needs another"):
        download(family, tmp_path)
    assert not Handler.requests


def test_a_disk_that_fills_up_is_said_and_the_rest_is_fetched_later(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:

        def refuse(*args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(module, "_copy", refuse)
        with pytest.raises(UserError, match="No space left on device"):
            download(family, tmp_path)
    assert download(family, tmp_path).read_bytes() == CONTENT


def test_several_processes_fetch_once(family: Family, tmp_path: Path) -> None:
    slow = replace(family, url="https://sam.test/slow.pth")
    threads = [threading.Thread(target=download, args=(slow, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    assert len(Handler.requests) == 1


@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_kill_minus_nine_leaves_a_part_that_the_next_run_finishes(
    family: Family, tmp_path: Path, seconds: float
) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=download, args=(replace(family, url="https://sam.test/drip.pth"), tmp_path)
    )
    process.start()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "w.pth").exists()
    assert download(family, tmp_path).read_bytes() == CONTENT

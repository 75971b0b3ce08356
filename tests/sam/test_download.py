from __future__ import annotations

import hashlib
import http.server
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam import download as module
from nnunet_semisam.sam.download import download, sha256_of
from nnunet_semisam.sam.families import FAMILIES, Family

CONTENT = bytes(range(256)) * 40


class Handler(http.server.BaseHTTPRequestHandler):
    requests: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.requests.append(asked)
        if self.path.endswith("gone.pth"):
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.end_headers()
        self.wfile.write(CONTENT[start:])

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
    assert [p.name for p in path.parent.iterdir()] == ["w.pth"]
    assert download(family, tmp_path / "new") == path
    assert len(Handler.requests) == 1  # what is here is not fetched again


def test_goes_on_where_it_stopped(family: Family, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:1000])
    assert download(family, tmp_path).read_bytes() == CONTENT
    assert Handler.requests == ["bytes=1000-"]


def test_wrong_content_is_deleted(family: Family, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SHA-256"):
        download(replace(family, sha256="0" * 64), tmp_path)
    assert not list(tmp_path.iterdir())


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


def test_every_published_family_can_be_checked() -> None:
    for family in FAMILIES.values():
        if family.url is not None:
            assert family.url.startswith("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_")
            assert len(family.sha256) == 64
            assert family.size > 3e8


def test_sha256_of_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, example B.1
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

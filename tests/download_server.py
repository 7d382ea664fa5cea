"""A local server that serves well, truncates, corrupts, stalls, dies, or answers 404, and what the tests put on it."""

import hashlib
import io
import os
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from bavit_utils.data import download
from bavit_utils.data.sources import SOURCES, File, Source

NOISE = np.random.default_rng(0).bytes(300_000)  # no archive makes it smaller
HALF = 150_000


class Server:
    """Serves `files`; `faults[path]` is what the next requests for a path meet, then it is served well."""

    def __init__(self):
        self.files, self.faults, self.seen = {}, {}, []
        self.over = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{path}"

    def close(self):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                path = self.path[1:]
                faults = server.faults.get(path, [])
                fault = faults.pop(0) if faults else "none"
                content, wanted = server.files.get(path), self.headers["Range"]
                if fault == "missing" or content is None:
                    server.seen.append((path, wanted, 0))
                    return self.send_error(404)
                if fault == "corrupt":
                    content = content[:HALF] + bytes([content[HALF] ^ 1]) + content[HALF + 1 :]
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and fault != "no ranges" else 0
                if start >= len(content):
                    server.seen.append((path, wanted, 0))
                    return self.send_error(416)
                body = content[start : HALF if fault == "short" else None]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                sent = body[: len(body) // 2] if fault in ("dies", "stalls") else body
                server.seen.append((path, wanted, len(sent)))
                self.wfile.write(sent)
                if fault == "stalls":
                    server.over.wait()

        return Handler


def make_tar(**members) -> bytes:
    """A tar of `VOCdevkit/VOC2007/<name>`; a tarfile.TarInfo goes in as it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(f"VOCdevkit/VOC2007/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_zip(members: dict) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def put_file(server: Server, name: str, content: bytes, checked=True, mirrors=1) -> File:
    """Puts a file on the server, under `mirrors` addresses."""
    paths = [f"{k}/{name}" for k in range(mirrors)]
    server.files.update(dict.fromkeys(paths, content))
    checksum = f"md5:{hashlib.md5(content).hexdigest()}" if checked else None
    return File(name, tuple(map(server.url, paths)), checksum, len(content), room=len(content))


def offer(monkeypatch, name: str, *sources: Source):
    monkeypatch.setitem(SOURCES, name, sources)


@contextmanager
def serving(data: Path, monkeypatch) -> Iterator[Server]:
    """A server for a data folder that isn't there yet, and a time-out of 0.3 seconds without a byte."""
    monkeypatch.setenv("BAVIT_DATA_DIR", str(data))
    monkeypatch.setattr(download, "_TIMEOUT", (5, 0.3))
    server = Server()
    yield server
    server.close()


def offer_voc(server: Server, monkeypatch) -> File:
    """A VOC2007 of one archive, `voc.tar` at one address, with both lists and 300 kB of noise in it."""
    listing = "VOCdevkit/VOC2007/ImageSets/Main/{}.txt"
    members = {"ImageSets/Main/train.txt": b"a", "noise": NOISE, "ImageSets/Main/test.txt": b"b"}
    file = put_file(server, "voc.tar", make_tar(**members))
    there = listing.format("train"), listing.format("test")
    offer(monkeypatch, "voc2007", Source("", "VOCdevkit/VOC2007", (file,), there))
    return file


def names_in(folder: Path) -> set[str]:
    """What lies in a folder, hidden things too; nothing where there is none."""
    return set(os.listdir(folder)) if folder.is_dir() else set()


def is_complete(data: Path) -> bool:
    place = data / "VOCdevkit" / "VOC2007"
    return (place / "noise").read_bytes() == NOISE and names_in(place.parent) == {"VOC2007"}

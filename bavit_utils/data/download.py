"""VOC, COCO and weights from their official places, laid out as the readers expect: whole, or not at all.

Files come to `cache/downloads` in the data folder; what came is kept (`.part`), and the next call goes on from it.
Archives are unpacked beside their place, renamed into it when complete, and deleted. What is there is never touched.
"""

import errno
import os
import re
import shutil
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pooch
import requests
from filelock import FileLock
from tqdm import tqdm

from ..config import data_dir
from .sources import SOURCES, File, Source

_TIMEOUT = (10, 30)  # seconds without a connection, without a byte
_ROUNDS = 2  # through all addresses
_CHUNK = 1 << 16


class DownloadError(OSError):
    """Something could not be fetched; the message names it, the reason for each address, and the remedy."""


def fetch(name: str) -> Path:
    """Fetch a data set or weights into the data folder (`BAVIT_DATA_DIR`, or `data/`), unless it is there already.

    Returns the folder (for COCO, of the pictures) or, for `vit-tiny`, the file. Raises DownloadError when the net, the
    disk or an archive fails; the next call then goes on.
    """
    root, sources = data_dir(), SOURCES[name]
    first = sources[0]
    try:
        if _missing(sources, root):
            downloads = root / "cache" / "downloads"
            downloads.mkdir(parents=True, exist_ok=True)
            with FileLock(downloads / ".lock"):  # of two processes, one fetches and the other finds it there
                missing = _missing(sources, root)
                _check_space(name, missing, downloads, root)
                for source in missing:
                    _install(source, downloads, root)
        else:
            _say(f"{name} is already in {root / first.folder}: left as it is")
    except DownloadError:
        raise
    except OSError as error:
        remedy = "mend that and call again: it goes on where it stopped; or set BAVIT_DATA_DIR to another folder"
        raise DownloadError(f"{name} can't be put into {root} ({error}): {remedy}") from error
    place = root / first.folder / first.target
    return place if place.exists() else min((root / first.folder).glob(first.there[0]))


def _missing(sources: tuple[Source, ...], root: Path) -> list[Source]:
    """Those that aren't there; DownloadError for one that is there in part: only its owner may delete it."""
    missing = []
    for source in sources:
        folder = root / source.folder
        absent = [pattern for pattern in source.there if not any(folder.glob(pattern))]
        if absent and (folder / source.target).exists():
            raise DownloadError(
                f"{folder / source.target} is there, but {folder / absent[0]} is not: complete it by hand from "
                f"{source.files[0].urls[0]}, or move it away and call again"
            )
        if absent:
            missing.append(source)
    return missing


def _check_space(name: str, sources: list[Source], downloads: Path, root: Path) -> None:
    """DownloadError unless the disk holds what is still to be fetched and, beside it, what comes out of it."""
    fetched = unpacked = 0
    for file in (file for source in sources for file in source.files):
        names = file.name, f"{file.name}.part"
        got = sum((downloads / name).stat().st_size for name in names if (downloads / name).is_file())
        fetched += max((file.size or file.room) - got, 0)
        unpacked += file.room
    free = shutil.disk_usage(root).free
    if free < fetched + unpacked:
        raise DownloadError(
            f"{root} has {_gigabytes(free)} free, {name} needs {_gigabytes(fetched + unpacked)} ({_gigabytes(fetched)} "
            f"to fetch, {_gigabytes(unpacked)} in place): free some, or set BAVIT_DATA_DIR to a folder on a larger disk"
        )


def _install(source: Source, downloads: Path, root: Path) -> None:
    """Fetch a source's files, put them together beside their place, and rename the whole into it."""
    folder = root / source.folder
    place = folder / source.target
    sums = folder / "SHA256SUMS"
    noted = sums.read_text(encoding="utf-8") if sums.is_file() else ""
    known = {name: digest for digest, name in re.findall(r"^(\w{64}) [ *](.+)$", noted, re.MULTILINE)}
    paths = [_download(file, known.get(file.name), downloads, place) for file in source.files]
    staging = place.with_name(f".{place.name}.partial")  # beside it, so on the same disk
    shutil.rmtree(staging, ignore_errors=True)  # of a call that was killed
    try:
        for file, path in zip(source.files, paths, strict=True):
            target = staging / file.name
            if file.packed:
                _unpack(path, staging)
                continue
            if file.checksum is None and file.name not in known:
                _record(sums, file, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        for pattern in source.there:
            if not any(staging.glob(pattern)):
                raise DownloadError(f"{paths[0]} holds no {pattern}: delete it and call again")
        os.rename(staging / source.target, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for path in paths:
        path.unlink()
    _say(f"{place} is complete")


def _record(sums: Path, file: File, path: Path) -> None:
    """Note the SHA-256 of an unverified file, in the form of `sha256sum`, and say so."""
    sums.parent.mkdir(parents=True, exist_ok=True)
    digest = pooch.file_hash(str(path))
    with sums.open("a", encoding="utf-8") as listing:
        listing.write(f"{digest}  {file.name}\n")
    _say(f"{file.name} is unverified, no checksum of it is published; {sums} now holds its SHA-256, {digest}")


def _download(file: File, recorded: str | None, downloads: Path, place: Path) -> Path:
    """The file in `downloads`, checked; from the first address that gives it whole."""
    checksum = file.checksum or (recorded and f"sha256:{recorded}")
    part = downloads / f"{file.name}.part"
    reasons = {}
    for url in file.urls * _ROUNDS:
        try:
            downloader = _Resuming(part, file.size, resume=checksum is not None)
            return Path(pooch.retrieve(url, checksum, file.name, downloads, downloader=downloader))
        except (OSError, ValueError) as error:  # requests' are OSErrors, pooch's wrong checksum is a ValueError
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise
            reasons[url] = _reason(error)
    why = "; ".join(f"{url}: {reason}" for url, reason in reasons.items())
    changed = "; if it is meant to differ from the last time, delete its line in SHA256SUMS" if recorded else ""
    raise DownloadError(
        f"{file.name} can't be fetched ({why}). Call again later, it goes on where it stopped; or fetch it by hand as "
        f"{downloads / file.name} and call again; or set BAVIT_DATA_DIR to a folder that holds {place.name}{changed}"
    )


def _reason(error: Exception) -> str:
    """What requests or pooch say, in few words."""
    if isinstance(error, requests.HTTPError):
        return f"it answers {error.response.status_code} {error.response.reason}"
    if "timed out" in str(error):
        return "it stalled"
    if isinstance(error, requests.RequestException):
        return "no connection, or it broke off"
    return " ".join(str(error).split())


class _Resuming:
    """A downloader for pooch that keeps what it got in `part` and, with `resume`, goes on there where servers can.

    Without a checksum nothing is resumed: two halves of different files would pass for one.
    """

    def __init__(self, part: Path, size: int | None, resume: bool):
        self.part, self.size = part, size
        part.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            part.unlink(missing_ok=True)

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        got = self.part.stat().st_size if self.part.is_file() else 0
        if got == 0 or got != self.size:
            self._get(url, got)
        os.replace(self.part, output_file)

    def _get(self, url: str, got: int) -> None:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={got}-"} if got else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                self.part.unlink()  # longer than the file: of another one
            answer.raise_for_status()
            got = got if answer.status_code == requests.codes.partial_content else 0
            length = answer.headers.get("Content-Length")
            total = got + int(length) if length else self.size
            if self.size and total != self.size:
                raise OSError(f"it offers {total} bytes instead of {self.size}")
            hidden = bool(os.environ.get("TQDM_DISABLE")) or None  # without a terminal, too
            bar = tqdm(desc=self.part.stem, total=total, initial=got, unit="B", unit_scale=True, disable=hidden)
            with bar, self.part.open("ab" if got else "wb") as file:
                for chunk in answer.iter_content(_CHUNK):
                    bar.update(file.write(chunk))
        if total and self.part.stat().st_size != total:
            raise OSError(f"it sent {self.part.stat().st_size} of {total} bytes")


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack into `folder`, and nothing beyond it; DownloadError for an archive that is damaged or reaches out."""
    _say(f"unpacking {archive.name}")
    try:
        shutil.unpack_archive(archive, folder, **({"filter": "data"} if archive.suffix == ".tar" else {}))
    except (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DownloadError(f"{archive} can't be unpacked ({_reason(error)}): delete it and call again") from error


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)

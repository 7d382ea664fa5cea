"""What bad input runs into: a number is finite and in its range, a path stays inside its folder, a disk has room."""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path


def check_number(what: str, value, low: float = -math.inf, high: float = math.inf, whole: bool = False):
    """The value, if it is a number (`whole`: an integer) from `low` to `high`; ValueError otherwise, and for nan."""
    kind = Integral if whole else Real
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        lacks = f" of at least {low}" if high == math.inf else f" from {low} to {high}"
        raise ValueError(f"{what} is {value!r}: give a {'whole ' if whole else ''}number{lacks}")
    return value


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, of a name that somebody else wrote; ValueError for one that leads out of the folder."""
    if not isinstance(name, str) or not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name!r} is no name of a file in {folder}: give a relative one without ..")
    return folder / name


def check_room(path: Path, size: float) -> None:
    """OSError, naming file and remedy, unless the disk of `path` (whose folder is there) has room for `size` bytes."""
    if (free := shutil.disk_usage(path.parent).free) < size:
        raise _unwritable(path, f"{free / 1e6:.0f} MB are free, {size / 1e6:.0f} are needed")


def _unwritable(path: Path, why: str) -> OSError:
    return OSError(f"{path} can't be written ({why}): make room there and call again; what was there is as before")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`: its OSErrors name the file and the remedy."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all, its folder made where it is missing; returns the path.

    OSError, with file and remedy, where the disk is full. A writer that is killed leaves one that ends in `.partial`.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path

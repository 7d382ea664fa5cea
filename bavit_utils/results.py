"""Measured results on disk, each with where it came from."""

import hashlib
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock

from . import config
from .checks import write_whole
from .config import REPO
from .data.records import Record, fingerprint

NOT_RUN = "not run here"  # what a table says for a row that is absent
_LIBRARIES = ("torch", "torchvision", "timm", "transformers", "accelerate", "numpy", "pycocotools")
# An absolute path: after the start, a blank or a delimiter; `1/s`, `n/a` and `https://...` are none.
_PATH = re.compile(r"""(?:(?<=[\s=:,;'"(\[{])|^)(?:~|[A-Za-z]:)?[/\\][\w.~-][^\s,;'")\]}]*""")


def provenance(
    fingerprints: Mapping[str, str] | None = None,
    n_images: int | None = None,
    checkpoints: Iterable[str | os.PathLike] = (),
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> dict:
    """Where a run's numbers come from, as JSON-ready values; no machine path is in it.

    `fingerprints` maps a data set and split ("sample/val") to the hash of its pictures and annotations; `checkpoints`
    are files, kept as file name and short SHA-256; `dtype` is what was computed in. The command is this process's own
    (`bavit <verb> ...`). Raises FileNotFoundError for a checkpoint that is not there.
    """
    command = shlex.join([_program(sys.argv[0]), *sys.argv[1:]])
    return {
        "command": _PATH.sub(lambda m: re.split(r"[/\\]", m.group().rstrip("/\\"))[-1], command),
        "commit": git_commit(),
        "data": dict(fingerprints or {}),
        "n_images": n_images,
        "checkpoints": {Path(path).name: short_hash(path) for path in checkpoints},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in _LIBRARIES},
        "date": datetime.now(UTC).date().isoformat(),
    }


def _program(argv0: str) -> str:
    """`bavit` for the package's own command (also as `python -m bavit_utils.cli`), else the script's name."""
    return "bavit" if Path(argv0).parent.name == "bavit_utils" else Path(argv0).stem or "python"


def git_commit() -> str:
    """The short commit, with `-dirty` when something else than what runs write differs; else `unknown`.

    Runs write `data/` (checkpoints are named by their hashes beside this), `figures/` and notebooks.
    """
    if not (REPO / ".git").exists():
        return "unknown"
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        dirty = _git("status", "--porcelain", "--", ".", ":(exclude)data", ":(exclude)figures", ":(exclude)notebooks")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("-dirty" if dirty else "")


def _git(*args: str) -> str:
    return subprocess.run(["git", "-C", REPO, *args], check=True, capture_output=True, text=True).stdout.strip()


def short_hash(path: str | os.PathLike) -> str:
    """The first twelve digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def device_name(device: str | torch.device = "cpu") -> str:
    """The GPU's or the processor's model name."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def save_rows(
    name: str, run: str, rows: Iterable[Mapping], provenance: Mapping, folder: str | os.PathLike | None = None
) -> Path:
    """Write one run into `<folder>/<name>.json`: its rows and provenance are replaced, other runs stay.

    Floats are rounded to six significant digits; one row a line, runs by name, a run's rows in the order given. The
    file is replaced in one step, so a failure leaves the old one. Returns its path. Raises ValueError for no rows, a
    number that is not finite (an undefined one is None), or a machine path in a text.
    """
    where = f"{name}, run {run}"
    new = [{"run": run} | _plain(row, f"{where}, row {i}") for i, row in enumerate(rows)]
    if not new:
        raise ValueError(f"{where}: no rows to save; a run that was not made is simply absent")
    path = Path(folder or config.RESULTS) / f"{name}.json"
    source = _plain(provenance, f"{where}, provenance")
    config.CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(config.CACHE / f"{name}.lock"):  # a run of another process is neither lost nor half there
        old = _read(path)
        runs = dict(sorted({**old["provenance"], run: source}.items()))
        all_rows = sorted([row for row in old["rows"] if row["run"] != run] + new, key=lambda row: row["run"])
        lines = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in all_rows)
        head = json.dumps(runs, indent=1, allow_nan=False).replace("\n", "\n ")
        return write_whole(path, f'{{\n "provenance": {head},\n "rows": [\n{lines}\n ]\n}}\n'.encode())


def store(
    name: str,
    run: str,
    rows: Iterable[Mapping],
    measured: Mapping[str, list[Record]],
    checkpoints: Iterable[str | os.PathLike] = (),
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> dict:
    """What a command keeps with --store: `save_rows` with this process's provenance, which is returned.

    `measured` maps a data set and split ("sample/val") to its records; the number of images is that of the last one.
    """
    marks = {key: fingerprint(records) for key, records in measured.items()}
    source = provenance(marks, len([*measured.values()][-1]), checkpoints, device, dtype)
    save_rows(name, run, rows, source)
    return source


def _plain(value, where: str):
    """The same value in JSON's own types, keys sorted, floats rounded; what may not be stored raises ValueError."""
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key], f"{where}, {key}") for key in sorted(value)}
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value} is not finite; store None for a number that is not defined")
        return float(f"{value:.6g}")
    if isinstance(value, str) and _PATH.search(value):
        raise ValueError(f"{where}: {value!r} holds a path of this machine; store a name instead")
    if value is None or isinstance(value, bool | int | str):
        return value
    raise ValueError(f"{where}: cannot store a {type(value).__name__}")


def check_against_stored(
    name: str,
    rows: Iterable[Mapping],
    on: list[str],
    tolerance: Mapping[str, float],
    folder: str | os.PathLike | None = None,
    **where,
) -> str:
    """Compare rows computed now with the stored ones of the same `on` columns; returns a sentence that says they agree.

    `tolerance` gives the columns to compare and how far apart they may be; `where` picks stored rows as in `load_rows`.
    Raises AssertionError, listing what differs, for a number out of tolerance and for a row that isn't stored.
    """
    stored = load_rows(name, folder, **where)
    wrong, count = [], 0
    for row in rows:
        count += 1
        same = stored[(stored[on] == [row[key] for key in on]).all(axis=1)] if len(stored) else stored
        label = ", ".join(f"{key} {row[key]}" for key in on)
        if len(same) != 1:
            wrong.append(f"{label}: {len(same)} stored rows")
            continue
        for column, most in tolerance.items():
            now, then = row[column], same[column].iloc[0]
            if not abs(now - then) <= most:
                wrong.append(f"{label}: {column} is {now:.4f}, stored {then:.4f}")
    assert count and not wrong, f"{name}.json doesn't hold what was computed now: " + ("; ".join(wrong) or "no rows")
    limits = ", ".join(f"{column} within {most:g}" for column, most in tolerance.items())
    return f"{count} rows agree with the stored ones: {limits}"


def _read(path: Path) -> dict:
    if not path.exists():
        return {"provenance": {}, "rows": []}
    try:
        content = json.loads(path.read_text())
        content["provenance"], [row["run"] for row in content["rows"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        remedy = "restore it with git, or delete it and measure again"
        raise ValueError(f"{path} is not a result file ({error!r}): {remedy}") from error
    return content


def load_rows(name: str, folder: str | os.PathLike | None = None, **where) -> pd.DataFrame:
    """The stored rows of `<folder>/<name>.json` whose columns have the given values (a list or tuple: any of them).

    `frame.attrs["provenance"]` maps each run in it to its provenance. Where nothing was measured the frame is empty,
    and its table says `NOT_RUN`. Raises ValueError, naming the file, where that is broken.
    """
    content = _read(Path(folder or config.RESULTS) / f"{name}.json")
    rows = [row for row in content["rows"] if all(_matches(row.get(key), want) for key, want in where.items())]
    frame = pd.DataFrame(rows)
    runs = {row["run"] for row in rows}
    frame.attrs["provenance"] = {run: value for run, value in content["provenance"].items() if run in runs}
    return frame


def _matches(value, want) -> bool:
    return any(_matches(value, one) for one in want) if isinstance(want, list | tuple) else value == want

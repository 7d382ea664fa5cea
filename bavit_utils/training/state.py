"""What a training keeps on disk, and when it may be interrupted."""

import csv
import io
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import nn

from ..checks import check_room, write_whole, writing
from ..results import save_rows
from ..weights import described, fill_model, read_weights, save_weights


class State:
    """Weights, optimiser and position of a training, as one safetensors file.

    Nothing else has to be kept: rate, order of the pictures and random choices are functions of the step.
    """

    def __init__(self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: dict):
        self.path, self.model, self.optimizer, self.identity = path, model, optimizer, identity

    def save(self, step: int) -> None:
        """Write it, whole or not at all; OSError, naming file and remedy, where the disk is full."""
        moments = {
            f"optimizer.{i}.{key}": value
            for i, slots in self.optimizer.state_dict()["state"].items()
            for key, value in slots.items()
        }
        weights = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        save_weights(
            self.path, weights | moments, {"model": "training", "step": step, "identity": self.identity}, bits=32
        )

    def load(self) -> int:
        """Take up the stored state, if there is one; returns the step to go on with.

        ValueError, naming file and remedy, for a damaged state or that of another training.
        """
        if not self.path.exists():
            return 0
        stored, metadata = read_weights(self.path, "training")
        if metadata.get("identity") != json.loads(json.dumps(self.identity)):
            raise ValueError(
                f"{self.path} belongs to another training ({metadata.get('identity')}), "
                "or its pictures or labels have changed: remove its folder, or choose another one"
            )
        weights = {k.removeprefix("model."): v for k, v in stored.items() if k.startswith("model.")}
        fill_model(self.model, weights, self.path)
        state = self.optimizer.state_dict()
        for key, value in stored.items():
            if key.startswith("optimizer."):
                _, index, slot = key.split(".")
                state["state"].setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict(state)
        return described(metadata, "step", self.path, low=0, high=10**12)


class Log:
    """`log.csv`: a row every few steps and one after every epoch; rows past the step we resume from are dropped.

    `seconds` counts from the training's start, interruptions left out; `measured` is the last step with a metric. What
    a killed writer left in the folder is removed. `empty` is it before the first row.
    """

    columns = ("step", "epoch", "loss", "lr", "seconds", "metric")

    def __init__(self, path: Path, step: int):
        self.path = path
        for stray in path.parent.glob("*.partial"):
            stray.unlink()
        rows = []
        if path.exists() and step:
            with path.open(newline="") as file:  # a row cut short by a full disk has a column without value
                rows = [row for row in csv.DictReader(file) if None not in row.values() and int(row["step"]) <= step]
        self.empty = not rows
        self.seconds = float(rows[-1]["seconds"]) if rows else 0.0
        self.measured = max((int(row["step"]) for row in rows if row["metric"]), default=0)
        self.started = time.perf_counter()
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, self.columns, extrasaction="ignore")  # of older logs
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, table.getvalue().encode())

    def write(self, **row) -> None:
        """Append one row, on disk at once."""
        row["seconds"] = f"{self.seconds + time.perf_counter() - self.started:.1f}"
        with writing(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)
        self.empty = False
        if "metric" in row:
            self.measured = row["step"]


def read_curve(folder: Path) -> pd.DataFrame:
    """The rows of a training's `log.csv`: numbers, nan where there is none."""
    return pd.read_csv(folder / "log.csv", dtype=float)


def store_curve(folder: Path, model: str, source: Mapping) -> None:
    """Keep a training's log in `curves.json`, under its folder's name; of long ones every n-th step, at most 400."""
    rows = read_curve(folder)
    rows = rows[(rows.index % -(-len(rows) // 400) == 0) | rows["metric"].notna()]
    rows = rows.astype(object).where(rows.notna(), None).to_dict("records")
    save_rows("curves", folder.name, [{"model": model} | row for row in rows], source)


class Interruption:
    """Within its `with`, Ctrl-C raises KeyboardInterrupt and SIGTERM SystemExit, but never inside a `held` block.

    With `hold` a signal waits until somebody asks for `wanted`: several processes have to stop at the same step.
    """

    def __init__(self, hold: bool = False):
        self.hold, self.wanted, self.previous = hold, 0, {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and a shell's background jobs ask for
                    self.previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        self.wanted = number
        if not self.hold:
            self.stop()

    def stop(self) -> None:
        """End the training as the signal asks for; KeyboardInterrupt where another process got it."""
        number, self.wanted = self.wanted, 0
        raise SystemExit(128 + number) if number == signal.SIGTERM else KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that a signal doesn't cut in two: it takes effect at the end."""
        hold, self.hold = self.hold, True
        try:
            yield
        finally:
            self.hold = hold
        if self.wanted and not hold:
            self.stop()


@contextmanager
def alone_in(folder: Path, model: nn.Module) -> Iterator[None]:
    """A training's folder, for one process; ValueError where another one is in it, OSError without room for a state."""
    folder.mkdir(parents=True, exist_ok=True)
    check_room(folder / "state.safetensors", 12 * sum(p.numel() for p in model.parameters()))  # with both moments
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder} is in use by another training: wait for its end, or take another folder") from None
    with lock:
        yield

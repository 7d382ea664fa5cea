"""A tiny training as a process of its own, told beforehand at which point of it a signal comes; and what starts it.

`python training_process.py <cache> <folder> <model>` is what `torchrun` starts.
"""

import multiprocessing
import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import PartialState
from test_training_loop import TINY

from bavit_utils import cli, config
from bavit_utils.data import pretrained
from bavit_utils.training import bavit, detector, loop, pictures

PROCESSES = multiprocessing.get_context("forkserver")  # one import of torch for all the processes below
PROCESSES.set_forkserver_preload(["bavit_utils.cli"])
# Where a signal may come: the count-th call of (owner, name).
POINTS = {
    "forward": (bavit, "accumulative_cross_entropy"),
    "update": (torch.optim.AdamW, "step"),
    "evaluation": (bavit, "token_metrics"),
    "writing": (Path, "write_bytes"),
    "renaming": (os, "replace"),  # the first is the log's, at the start
}


def prepare(cache: Path) -> None:
    """The tiny world, with tokens to ignore in every other picture; a row of log for every step."""
    torch.set_num_threads(1)
    config.CACHE = cache
    pretrained.imagenet_blocks = lambda: None
    loop.LOG_STEPS = 1
    labels_for = pictures.labels_for

    def partly_ignored(record, *args):
        labels = labels_for(record, *args).copy()
        labels[: record.image_id % 2 * 2] = -100
        return labels

    pictures.labels_for = partly_ignored


def signal_at(point: str, count: int, number: int) -> None:
    """Send this process a signal at a call of a point; of a file that is being written, half is there then."""
    owner, name = POINTS[point]
    original, calls = getattr(owner, name), iter(range(10**6))

    def wrapped(*args, **kwargs):
        if next(calls) == count:
            if point == "writing":
                original(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def train(cache: Path, folder: Path, model: str = "bavit", max_steps: int | None = None) -> None:
    """Train the tiny `model` in `folder`."""
    prepare(cache)
    {"bavit": bavit.train_bavit, "yolos": detector.train_yolos}[model](
        TINY, folder=folder, schedule=loop.Schedule(max_steps=max_steps)
    )


def run(cache: Path, folder: Path, signals: tuple, save_seconds: float, environ: dict, options: dict) -> None:
    """`train` as the command line would, in a process that was forked for it; what it says goes to `said.txt`."""
    said = os.open(folder.with_name("said.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ.update(environ)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    loop.SAVE_SECONDS = save_seconds
    if signals:
        signal_at(*signals)
    verb = SimpleNamespace(run=lambda args: train(cache, folder, **options))
    cli._parser = lambda: SimpleNamespace(parse_args=lambda argv: verb)
    sys.exit(cli.main())


def start(folder, signals=(), save_seconds=0.0, environ=(), **options):
    """A new process that trains in `folder`."""
    folder.parent.mkdir(exist_ok=True)
    args = (config.CACHE, folder, signals, save_seconds, dict(environ), options)
    process = PROCESSES.Process(target=run, args=args)
    process.start()
    return process


def ended(*processes) -> list[int]:
    """The exit codes of processes; a negative one is the signal that killed it."""
    for process in processes:
        process.join(180)
    stuck = [process for process in processes if process.is_alive()]
    for process in stuck:
        process.kill()
    assert not stuck
    return [process.exitcode for process in processes]


def both(folder, **options) -> list[int]:
    """Exit codes of two processes that train together, as `torchrun --nproc_per_node 2` starts them."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"ACCELERATE_USE_CPU": "true"}
    ranks = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    signals = options.pop("signals", ())
    return ended(*(start(folder, signals if rank["RANK"] == "1" else (), environ=rank, **options) for rank in ranks))


def free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


if __name__ == "__main__":
    loop.SAVE_SECONDS = 0  # a state after every step
    train(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    print(f"process {PartialState().process_index} of {PartialState().num_processes}")

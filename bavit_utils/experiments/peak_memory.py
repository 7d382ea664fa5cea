"""Memory that one run takes at its peak, in a fresh process that imports nothing heavy but for what it measures."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

# Not a pool's process, which would import this one's main module, and with it torch.
_CHILD = "from bavit_utils.experiments.peak_memory import _answer; _answer()"


def measure_peak_memory(prepare: Callable, kwargs: Mapping, device: str = "cpu") -> dict[str, float]:
    """Memory that one run takes at its peak, in a fresh Python process: `peak_mb` above `baseline_mb` (10^6 bytes).

    `prepare`, a function of some module, is called with `kwargs`: it gets everything ready and returns a function of no
    arguments, the run. On the CPU resident memory counts, on CUDA what PyTorch has allocated. Raises the process's own
    error.
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    asked = pickle.dumps((prepare, dict(kwargs), device))
    done = subprocess.run([sys.executable, "-c", _CHILD], input=asked, stdout=subprocess.PIPE, env=env, check=True)
    found = pickle.loads(done.stdout)  # of a process of our own
    if isinstance(found, Exception):
        raise found
    return found


def _answer() -> None:
    """In the fresh process: the request from the standard input, the answer to the standard output."""
    answer, sys.stdout = sys.stdout.buffer, sys.stderr
    try:
        found = _peak(*pickle.load(sys.stdin.buffer))
    except Exception as error:  # noqa: BLE001, it is raised again in the other process
        found = error
    answer.write(pickle.dumps(found))


def _peak(prepare: Callable, kwargs: dict, device: str) -> dict[str, float]:
    run = prepare(**kwargs)
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        baseline = torch.cuda.memory_allocated(device)
        run()
        peak = torch.cuda.max_memory_allocated(device)
    else:
        baseline = _peak_resident(reset=True)
        run()
        peak = _peak_resident()
    return {"peak_mb": (peak - baseline) / 1e6, "baseline_mb": baseline / 1e6}


def _peak_resident(reset: bool = False) -> int:
    """Peak resident bytes of this process, where the system allows it since the last `reset`.

    Linux's `getrusage` starts from the parent's peak, so /proc is read there.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    if reset:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass  # the peak so far is then the baseline
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

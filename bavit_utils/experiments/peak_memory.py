"""Memory that one run takes at its peak, in a fresh process that imports nothing heavy but for what it measures."""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path


def measure_peak_memory(prepare: Callable, kwargs: Mapping, device: str = "cpu") -> dict[str, float]:
    """Memory that one run takes at its peak, in a fresh Python process: `peak_mb` above `baseline_mb` (10^6 bytes).

    `prepare`, a function of some module, is called with `kwargs`: it gets everything ready and returns a function of no
    arguments, the run. On the CPU resident memory counts, on CUDA what PyTorch has allocated. Raises the process's own
    error.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        return fresh.submit(_peak, prepare, dict(kwargs), device).result()


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

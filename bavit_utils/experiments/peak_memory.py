"""Memory that one run takes at its peak, in a fresh process that imports nothing heavy but for what it measures."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path


def measure_peak_memory(target: str, kwargs: Mapping | None = None, device: str = "cpu") -> dict[str, float]:
    """Memory that one run takes at its peak, in a fresh Python process: `peak_mb` above `baseline_mb` (10^6 bytes).

    `target` is "module:function"; called with `kwargs` (JSON values) it gets everything ready and returns a function of
    no arguments, the run. On the CPU resident memory counts, on CUDA what PyTorch has allocated. The process has as
    many threads as this one. Raises RuntimeError with the process's own error.
    """
    import torch  # here, as the fresh process imports this file before it measures

    threads = str(torch.get_num_threads())
    env = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    env["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    call = json.dumps({"target": target, "kwargs": dict(kwargs or {}), "device": device})
    command = [sys.executable, "-m", "bavit_utils.experiments.peak_memory", call]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {target} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report_peak(target: str, kwargs: dict, device: str) -> None:
    """Gets the run ready, runs it once, and prints `{"peak_mb": ..., "baseline_mb": ...}` (10^6 bytes) as JSON."""
    module, _, function = target.partition(":")
    run = getattr(import_module(module), function)(**kwargs)
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
    print(json.dumps({"peak_mb": (peak - baseline) / 1e6, "baseline_mb": baseline / 1e6}))


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


if __name__ == "__main__":
    report_peak(**json.loads(sys.argv[1]))

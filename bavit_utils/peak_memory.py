"""The fresh process behind `cost.measure_peak_memory`; it imports nothing heavy that the measured function does not."""

import json
import sys
from importlib import import_module
from pathlib import Path


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

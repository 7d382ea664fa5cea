"""What a small machine gets: AP, time, memory and file size of torch and onnxruntime, in float32, bf16 and 8 bits."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ..bavit import save_bavit
from ..config import Profile
from ..cost import measure_latency, random_pair
from ..data.records import Record
from ..edge import detector as graphs
from ..edge import on_torch
from ..edge.detector import Detector, as_detections, fixed_run
from ..edge.export import export_pair
from ..edge.on_torch import TorchDetector
from ..metrics import DetectionEvaluation, bootstrap_ap, paired_difference
from ..sweep import keep_at
from ..yolos import save_yolos
from .peak_memory import measure_peak_memory

KINDS = (("torch", "fp32"), ("torch", "bf16"), ("onnxruntime", "fp32"), ("onnxruntime", "int8"))
KEEPS = (1.0, 0.65, 0.5, 0.35)  # shares of the patches
ROUND_TO = (1, 16, 32)  # counts of tokens rounded up to multiples of these
N_COMPARED = 20  # pictures on which outputs are compared number by number
WARMUP = 3  # rounds that aren't counted, `measure_latency`'s


def detectors(bavit, detector, folder: Path, threads: int) -> dict[tuple[str, str], Detector]:
    """The pair of models by runtime and dtype (`KINDS`); the graphs are in `folder`. Threads are torch's, too."""
    torch.set_num_threads(threads)
    return {
        KINDS[0]: TorchDetector(bavit, detector),
        KINDS[1]: TorchDetector(bavit, detector, bf16=True),
        KINDS[2]: Detector(threads=threads, folder=folder),
        KINDS[3]: Detector(int8=True, threads=threads, folder=folder),
    }


def accuracy_rows(profile: Profile, records: Sequence[Record], folder: Path) -> list[dict]:
    """AP of each of `KINDS` at each of `KEEPS`, by its own BAViT's map, and how far its numbers are from torch's.

    `keep` is the share of the patches that is wanted on the average, 1 without BAViT. `delta_AP` is the paired change
    from torch in float32 at the same share; `max_abs_diff` is the largest difference to it in a box, as a share of the
    picture's side, on the patches that torch keeps in the first pictures.
    """
    images = [record.image() for record in records]
    every = detectors(*on_torch.load_pair(profile.name), folder, torch.get_num_threads())
    keeps = {}
    for kind, one in every.items():
        maps = [one.foreground(one.pixels(image, "bavit")) for image in images]
        maps = torch.from_numpy(np.concatenate(maps))
        keeps |= {(*kind, share): keep_at(maps, 1 - share, profile.detector_grid)[1].numpy() for share in KEEPS}
    reference, rows, exact = every[KINDS[0]], [], {}
    for kind, one in every.items():
        for share in KEEPS:
            found = [_found(one, *each) for each in zip(images, keeps[*kind, share], strict=True)]
            evaluation = DetectionEvaluation(records, found)
            exact.setdefault(share, evaluation)  # of torch in float32, which comes first
            some = zip(images[:N_COMPARED], keeps[*KINDS[0], share])
            apart = [np.abs(_outputs(one, *each)[1] - _outputs(reference, *each)[1]).max() for each in some]
            rows.append(
                {
                    **dict(zip(("runtime", "dtype"), kind)),
                    "img_size": profile.detector_img_size,
                    "keep": share,
                    **evaluation.average_precision(),
                    **bootstrap_ap(evaluation),
                    **paired_difference(evaluation, exact[share]),
                    "max_abs_diff": float(max(apart)),
                    "n_images": len(records),
                }
            )
    return rows


def _outputs(one: Detector, image: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return one.run(one.pixels(image), np.flatnonzero(keep))


def _found(one: Detector, image: np.ndarray, keep: np.ndarray) -> dict[str, np.ndarray]:
    logits, boxes = _outputs(one, image, keep)
    return as_detections(logits[0], boxes[0], image.shape[:2])


def time_rows(profiles: Sequence[Profile], threads: Sequence[int] = (1, 2), repeats: int = 20) -> list[dict]:
    """Time, batch 1, of each of `KINDS` at each of `KEEPS`, BAViT included where it prunes; random weights.

    Everything of one size and number of threads runs in turn. With the fewest threads each row has what a fresh process
    takes, `peak_mb` at its peak and `start_ms` from its start to the end of the first run; and rows with `round_to`
    above 0 tell what counts that differ from picture to picture cost onnxruntime, exact (1) and rounded up.
    """
    rows = []
    for profile in profiles:
        with TemporaryDirectory() as name:
            folder = Path(name)
            pair = random_pair(profile)
            save_bavit(pair[0], folder / "bavit.safetensors")  # as ours are stored
            save_yolos(pair[1], folder / "yolos.safetensors", bits=8)
            export_pair(*pair, folder, int8=True)
            for count in threads:
                found = _timed(profile, detectors(*pair, folder, count), repeats)
                if count == min(threads):
                    for row in found:
                        row |= _fresh_process(folder, row)
                    found += _rounded(profile, folder, repeats, count)
                rows += found
    return rows


def _timed(profile: Profile, every: dict[tuple[str, str], Detector], repeats: int) -> list[dict]:
    patches = int(np.prod(profile.detector_grid))
    counts = {share: round(share * patches) for share in KEEPS}
    runs = {(*kind, share): fixed_run(one, counts[share]) for kind, one in every.items() for share in KEEPS}
    rows = []
    for timing in measure_latency(runs, repeats, WARMUP):
        runtime, dtype, share = timing.pop("method")
        named = {"runtime": runtime, "dtype": dtype, "img_size": profile.detector_img_size, "keep": share}
        rows.append(named | {"kept": counts[share], "batch": 1, "round_to": 0} | timing)
    return rows


def _fresh_process(folder: Path, row: dict) -> dict:
    """Memory and start-up of a process that does one such run, and the size of its two files."""
    on_onnx = row["runtime"] == "onnxruntime"
    call = {"folder": str(folder), "dtype": row["dtype"], "kept": row["kept"], "threads": row["threads"]}
    started = time.perf_counter()
    found = measure_peak_memory((graphs if on_onnx else on_torch).memory_run, call)
    took = time.perf_counter() - started
    ending = ("-int8" if row["dtype"] == "int8" else "") + (".onnx" if on_onnx else ".safetensors")
    size = sum((folder / f"{name}{ending}").stat().st_size for name in ("bavit", "yolos"))
    return {"peak_mb": found["baseline_mb"] + found["peak_mb"], "start_ms": 1000 * took, "file_mb": size / 1e6}


def _rounded(profile: Profile, folder: Path, repeats: int, threads: int) -> list[dict]:
    """One onnxruntime session for each way of rounding, every picture with another count of patches."""
    patches, rows = int(np.prod(profile.detector_grid)), []
    counts = np.random.default_rng(0).integers(round(min(KEEPS) * patches), patches, WARMUP + repeats)
    runs = {}
    for dtype in ("fp32", "int8"):
        for step in ROUND_TO:
            one = Detector(int8=dtype == "int8", threads=threads, folder=folder)
            pictures = iter([fixed_run(one, int(min(patches - 1, -(-count // step) * step))) for count in counts])
            runs[dtype, step] = partial(lambda pictures: next(pictures)(), pictures)
    for timing in measure_latency(runs, repeats, WARMUP):
        dtype, step = timing.pop("method")
        named = {"runtime": "onnxruntime", "dtype": dtype, "img_size": profile.detector_img_size, "batch": 1}
        rows.append(named | {"keep": float(counts.mean() / patches), "round_to": step} | timing)
    return rows

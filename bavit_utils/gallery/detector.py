"""The gallery's entries of notebook 05: the pruned detector, its cost and speed (Fig. 3 right, sections 3.5, 4.1)."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from .. import cost
from ..annotations import labels_for
from ..config import Profile, get_profile
from ..drawings import draw_bavit_yolos
from ..plots import copies_figure, resize_comparison
from ..pruning import detector_keep, sparsity, threshold_for_sparsity
from ..results import NOT_RUN, load_rows
from ..speed_plots import speed_figure
from .entry import Entry, split_maps, split_records

FEW = 64  # pictures of the evaluation split that are enough here
SPEED_COLUMNS = ["batch", "method", "sparsity", "median_ms", "images_per_s", "speedup", "mac_speedup", "peak_mb"]


def _few_maps(profile: Profile) -> torch.Tensor | None:
    return split_maps(profile.checkpoint("bavit-small"), *profile.detector_eval, FEW)


def _resize_modes(profile: Profile) -> Figure | None:
    maps = _few_maps(profile)
    if maps is None:
        return None
    image = split_records(*profile.detector_eval, FEW)[0].image()
    return resize_comparison(image, maps[0], profile.detector_grid, 0.5)


def _resize_table(profile: Profile) -> pd.DataFrame | None:
    """Sparsity and foreground kept by each way to resize, at nearest's threshold for 35 % and at each one's own."""
    maps, grid = _few_maps(profile), profile.detector_grid
    if maps is None:
        return None
    records = split_records(*profile.detector_eval, FEW)
    truth = torch.stack([torch.from_numpy(labels_for(record, grid, profile.pruner_rule)) for record in records]) == 1
    threshold = threshold_for_sparsity(maps, 0.35, grid)
    rows = []
    for mode in ("nearest", "bilinear", "any"):
        at_one = detector_keep(maps, threshold, grid, mode=mode)
        at_same = detector_keep(maps, threshold_for_sparsity(maps, 0.35, grid, mode=mode), grid, mode=mode)
        rows.append({
            "mode": mode, "sparsity, %": 100 * sparsity(at_one).mean().item(),
            "FG kept, %": 100 * at_one[truth].float().mean().item(),
            "FG kept at 35 % sparsity, %": 100 * at_same[truth].float().mean().item(),
        })  # fmt: skip
    return pd.DataFrame(rows).round()


def _copies(profile: Profile) -> Figure:
    return copies_figure(profile.bavit_grid[0], profile.detector_grid[0])


def _cost(profile: Profile) -> pd.DataFrame:
    sizes = {f"profile {profile.name}": profile, "the paper's": get_profile("coco")}
    table = pd.DataFrame({"sizes": sizes.keys()})
    patches = [int(np.prod(one.detector_grid)) for one in sizes.values()]
    bavit_patches = [int(np.prod(one.bavit_grid)) for one in sizes.values()]
    pairs = list(zip(patches, sizes.values(), strict=True))
    table["BAViT, M parameters"] = [cost.bavit_parameters(2, n) / 1e6 for n in bavit_patches]
    table["BAViT, GMAC"] = [cost.bavit_multiply_adds(2, n) / 1e9 for n in bavit_patches]
    table["YOLOS, GMAC"] = [cost.multiply_adds(n, one, bavit=None) / 1e9 for n, one in pairs]
    table["both at 35 %, GMAC"] = [cost.multiply_adds(0.65 * n, one) / 1e9 for n, one in pairs]
    table["BAViT / YOLOS"] = table["BAViT, GMAC"] / table["YOLOS, GMAC"]
    table["speed-up allowed at 35 %"] = table["YOLOS, GMAC"] / table["both at 35 %, GMAC"]
    return table


def _claims(profile: Profile) -> pd.DataFrame:
    macs = cost.bavit_multiply_adds() / 1e9
    yolos = {size: cost.yolos_multiply_adds(n, patches=n) / 1e9 for size, n in (("512x512", 1024), ("512x704", 1408))}
    claims = {
        "BAViT adds 1.49 M parameters": f"{cost.bavit_parameters() / 1e6:.2f} M with 2 blocks, "
        f"{cost.bavit_parameters(3) / 1e6:.2f} M with 3",
        "BAViT adds 1.961 GFLOPS": f"{macs:.2f} GMAC = {2 * macs:.2f} GFLOP at 384 px, "
        f"{cost.bavit_multiply_adds(2, 1024) / 1e9:.2f} GMAC at 512 px",
        "YOLOS-tiny uses 18.8 GFLOPS": ", ".join(f"{gmac:.2f} GMAC at {size}" for size, gmac in yolos.items()),
        "YOLOS-tiny has 6.5 M parameters": f"{cost.yolos_parameters() / 1e6:.2f} M",
        "YOLOS-tiny expects 512x512": "the published evaluation keeps the aspect: 640x480 becomes 1,344 patches",
    }
    return pd.DataFrame({"claim": claims.keys(), "computed": claims.values()})


def _speed(scale: str, profile: Profile) -> Figure | None:
    rows = load_rows("throughput-cpu", profile=scale.format(p=profile))
    return speed_figure(rows) if len(rows) else None


def _speed_table(scale: str, profile: Profile) -> pd.DataFrame:
    rows = load_rows("throughput-cpu", profile=scale.format(p=profile))
    return rows[SPEED_COLUMNS] if len(rows) else pd.DataFrame([dict.fromkeys(SPEED_COLUMNS, NOT_RUN)])


def _padding(profile: Profile) -> pd.DataFrame | None:
    """Multiply-adds of eight pictures by three ways of pruning a batch, and their stored speed at a like sparsity."""
    maps, patches = _few_maps(profile), int(np.prod(profile.detector_grid))
    if maps is None:
        return None
    keep = detector_keep(maps[:8], threshold_for_sparsity(maps, 0.35, profile.detector_grid), profile.detector_grid)
    kept = keep.flatten(1).sum(1).numpy()
    ways = {
        "gather: each picture its own tokens": kept, "pad to the longest of the batch": np.full(len(kept), kept.max()),
        "mask without gathering": np.full(len(kept), patches),
    }  # fmt: skip
    dense = cost.multiply_adds(patches, profile, bavit=None)
    share = [round(100 * cost.multiply_adds(n, profile, bavit=None) / dense) for n in ways.values()]
    table = pd.DataFrame({"way": ways.keys(), "multiply-adds, %": share})
    stored = load_rows("throughput-cpu", profile=profile.name, batch=8)
    timed = dict(list(stored.groupby("method"))) if len(stored) else {}
    if {"gather", "pad", "mask"} <= set(timed):
        at = (timed["gather"]["sparsity"] - timed["pad"]["sparsity"].iloc[0]).abs().argsort()[:1]
        rows = timed["gather"].iloc[at], timed["pad"], timed["mask"]
        table["times as fast as dense"] = [float(one["speedup"].iloc[0]) for one in rows]
    return table


_BENCH = ("throughput-cpu",)
ENTRIES = (
    Entry(
        "figure", "figure3-right", lambda profile: draw_bavit_yolos(), "05",
        "BAViT in front of YOLOS, drawn by code: pruned patches aren't even embedded.", "Fig. 3",
    ),
    Entry(
        "figure", "resize-modes", _resize_modes, "05",
        "From BAViT's grid to the detector's by the nearest patch, by interpolated probabilities, and by any overlap.",
        pictures=True,
    ),
    Entry(
        "table", "resize-modes", _resize_table, "05",
        f"Three ways from one grid to the other, {FEW} pictures: at one "
          "threshold, and at one sparsity.",
    ),
    Entry(
        "figure", "nearest-copies", _copies, "05",
        "How many detector patches copy each of BAViT's: a mistake in a dark one costs four times as much.",
    ),
    Entry("table", "cost", _cost, "05", "Parameters and multiply-adds, by formula."),
    Entry("table", "cost-claims", _claims, "05", "Section 4.1's numbers, computed."),
    Entry(
        "figure", "throughput", partial(_speed, "{p.name}"), "05",
        "Times as fast as dense, BAViT's time counted, on a CPU: measured, and what the multiply-adds allow (dashed). "
        "Crosses are ways that compute pruned tokens all the same.", results=_BENCH,
    ),
    Entry(
        "table", "throughput", partial(_speed_table, "{p.name}"), "05",
        "Stored measurements: time with BAViT's counted, and memory at the peak.", results=_BENCH,
    ),
    Entry(
        "figure", "throughput-512", partial(_speed, "voc"), "05",
        "The same at the paper's own sizes, 384 and 512 px.", results=_BENCH,
    ),
    Entry(
        "table", "throughput-512", partial(_speed_table, "voc"), "05",
        "Stored measurements at the paper's sizes, on a CPU.", results=_BENCH,
    ),
    Entry("table", "padding", _padding, "05", "Gathering, padding and masking, eight pictures.", results=_BENCH),
)  # fmt: skip

"""How long it takes (section 4.2's throughput): dense and pruned detector, BAViT included, measured in turn."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import YolosForObjectDetection
from transformers.models.yolos.modeling_yolos import YolosObjectDetectionOutput

from ..bavit import foreground_probability
from ..config import Profile, get_profile
from ..cost import measure_latency, multiply_adds, random_pair
from ..packed import run_block
from ..pruning import detector_keep, resize_grid, threshold_for_sparsity
from ..yolos import PrunedYolos
from .peak_memory import measure_peak_memory

SPARSITIES = (0.0, 0.05, 0.1, 0.2, 0.29, 0.35, 0.46, 0.6, 0.7)
WRONG_WAYS = {"mask": False, "pad": True}  # of `detect_masked`, measured at one sparsity
WRONG_AT = 0.35


def detect_masked(
    detector: YolosForObjectDetection, pixel_values: Tensor, keep: Tensor, pad: bool = False
) -> YolosObjectDetectionOutput:
    """A detector on `pixel_values [B, 3, H, W]` that computes every token, and hides the pruned ones as keys.

    It detects what gathering detects, and gains little or nothing. `keep` is boolean `[B, rows, cols]` on the patch
    grid. With `pad` the kept tokens of each picture are moved to the front first, and the batch is cut at its longest
    picture. Returns transformers' output, with logits `[B, D, classes + 1]` and pred_boxes `[B, D, 4]`.
    """
    count = detector.config.num_detection_tokens
    x = detector.vit.embeddings(pixel_values)
    seen = F.pad(keep.flatten(1), (1, count), value=True)
    lengths = seen.sum(dim=1)
    if pad:
        front = (~seen).int().argsort(dim=1, stable=True)[:, : lengths.max()]
        x = x.take_along_dim(front[..., None], dim=1)
        seen = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    for layer in detector.vit.encoder.layer:
        x = run_block(layer, x, partial(_attend, seen[:, None, None]))
    ends = lengths[:, None] if pad else seen.shape[1]
    places = torch.arange(-count, 0, device=x.device).expand(len(x), count) + ends
    queries = detector.vit.layernorm(x.take_along_dim(places[..., None], dim=1))
    return YolosObjectDetectionOutput(
        logits=detector.class_labels_classifier(queries), pred_boxes=detector.bbox_predictor(queries).sigmoid()
    )


def _attend(seen: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
    """Attention of `[B, N, heads, head_dim]` to the keys in boolean `[B, 1, 1, N]` alone."""
    batched = (part.transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(*batched, attn_mask=seen, dropout_p=dropout, scale=scale).transpose(1, 2)


class _Pair:
    """A profile's `random_pair` and a batch: time doesn't depend on weights."""

    def __init__(self, profile: Profile, batch: int, device: str = "cpu"):
        self.profile, self.device = profile, device
        bavit, detector = random_pair(profile)
        self.bavit, self.detector = bavit.to(device), PrunedYolos(detector).eval().to(device)
        self.small, self.large = (
            torch.randn(batch, 3, size, size, device=device)
            for size in (profile.bavit_img_size, profile.detector_img_size)
        )

    def run(self, method: str, keep: Tensor | None = None) -> None:
        """The detector on all tokens ("transformers": as the library computes it), or BAViT and it on what `keep` leaves.

        These are gathered, or with one of the `WRONG_WAYS` hidden. The keep mask is given, so that the sparsity is the
        wanted one; BAViT and the threshold run all the same.
        """
        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            if keep is not None:
                detector_keep(foreground_probability(self.bavit, self.small), 0.5, self.profile.detector_grid)
            if method == "transformers":
                self.detector.detector(self.large)
            elif method in WRONG_WAYS:
                detect_masked(self.detector.detector, self.large, keep, WRONG_WAYS[method])
            else:
                self.detector(self.large, keep)


def ragged_masks(profile: Profile, maps: Tensor, sparsity: float, batch: int) -> Tensor:
    """Keep masks [batch, *detector grid] of about `sparsity`, each picture with its own count, as in real maps."""
    maps = resize_grid(maps, profile.bavit_grid, "bilinear")
    threshold = threshold_for_sparsity(maps, sparsity, profile.detector_grid) if sparsity else 1.0
    keep = detector_keep(maps, threshold, profile.detector_grid)
    counts = keep.flatten(1).sum(dim=1)
    order = counts.argsort()
    if batch == 1:  # the picture nearest to the mean, so that it stands for the sparsity
        return keep[(counts - counts.double().mean()).abs().argmin()][None]
    return keep[order[torch.linspace(0, len(order) - 1, batch + 2).round().long()[1:-1]]]


def throughput(
    profile: Profile, maps: Tensor, repeats: int = 20, device: str = "cpu", batches: Sequence[int] = (1, 8)
) -> list[dict]:
    """Rows of `throughput-<device>.json` for one profile: dense and pruned detector at each batch size and sparsity.

    `maps` float32 [N, rows, cols] give the kept patches of real pictures. `method` is transformers (the library's own
    forward), dense (ours), gather, or one of the two wrong ways, mask and pad. `speedup` is dense over the row's with
    BAViT's time counted, `mac_speedup` what the multiply-adds allow, and `images_per_s` the batch over the median.
    float32 on the CPU, bf16 on CUDA.
    """
    rows = []
    for batch in batches:
        pair = _Pair(profile, batch, device)
        masks = dict.fromkeys((("dense", 0), ("transformers", 0)))
        masks |= {("gather", s): ragged_masks(profile, maps, s, batch).to(device) for s in SPARSITIES}
        masks |= {(way, WRONG_AT): masks["gather", WRONG_AT] for way in WRONG_WAYS}
        runs = {key: partial(pair.run, key[0], keep) for key, keep in masks.items()}
        for timing in measure_latency(runs, repeats=repeats, device=device):
            key = timing.pop("method")
            kept = None if masks[key] is None else masks[key].flatten(1).sum(dim=1).tolist()
            call = {"name": profile.name, "batch": batch, "method": key[0], "kept": kept, "device": device}
            call["threads"] = timing["threads"]
            rows.append(
                {
                    "profile": profile.name,
                    "batch": batch,
                    "method": key[0],
                    **_sizes(profile, kept),
                    "dtype": "bfloat16" if device == "cuda" else "float32",
                    **timing,
                    "images_per_s": 1000 * batch / timing["median_ms"],
                    "peak_mb": measure_peak_memory(memory_run, call, device)["peak_mb"],
                }
            )
    return rows


def _sizes(profile: Profile, kept: list[int] | None) -> dict:
    """How much of the patches goes, how far the pictures differ, and what the multiply-adds allow."""
    if kept is None:
        return {"sparsity": 0.0, "fewest_kept": None, "most_kept": None, "mac_speedup": 1.0}
    patches = int(np.prod(profile.detector_grid))
    dense_macs = multiply_adds(patches, profile, bavit=None)
    return {
        "sparsity": float(1 - np.mean(kept) / patches),
        "fewest_kept": min(kept),
        "most_kept": max(kept),
        "mac_speedup": dense_macs / multiply_adds(kept, profile),
    }


def memory_run(name: str, batch: int, method: str, kept: list[int] | None, device: str, threads: int):
    """For `measure_peak_memory`: a run of a profile's dense detector, or of BAViT and `kept` patches each."""
    torch.set_num_threads(threads)
    pair = _Pair(get_profile(name), batch, device)
    if kept is None:
        return partial(pair.run, method)
    rows, cols = pair.profile.detector_grid
    keep = (torch.arange(rows * cols) < torch.tensor(kept)[:, None]).view(batch, rows, cols).to(device)
    return partial(pair.run, method, keep)


def speed_at(rows: pd.DataFrame, batch: int, sparsity: float | pd.Series) -> tuple:
    """How many times as fast as the dense detector, BAViT's time counted, and the range by the rounds' quartiles.

    From `throughput`'s rows of one profile, stored ones, too; times are interpolated between measured sparsities.
    """
    pruned, dense = _gathered(rows, batch), rows[(rows.batch == batch) & (rows.method == "dense")].iloc[0]
    names = "median_ms", "q25_ms", "q75_ms"
    median, q25, q75 = (np.interp(sparsity, pruned.sparsity, pruned[name]) for name in names)
    return dense.median_ms / median, dense.q25_ms / q75, dense.q75_ms / q25


def break_even(rows: pd.DataFrame, batch: int) -> float:
    """The sparsity above which pruning, BAViT included, is faster than the dense detector; NaN where none is.

    `rows` and interpolation as in `speed_at`.
    """
    pruned = _gathered(rows, batch)
    return float(np.interp(1, pruned.speedup.cummax(), pruned.sparsity, right=np.nan))


def _gathered(rows: pd.DataFrame, batch: int) -> pd.DataFrame:
    return rows[(rows["method"] == "gather") & (rows["batch"] == batch)].sort_values("sparsity")

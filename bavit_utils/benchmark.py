"""How long it takes (section 4.2's throughput): dense and pruned detector, BAViT included, measured in turn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .bavit import create_bavit, foreground_probability
from .config import DEPTHS, Profile
from .cost import measure_latency, measure_peak_memory, multiply_adds
from .pruning import detector_keep, resize_grid, threshold_for_sparsity
from .yolos import PrunedYolos, create_yolos

SPARSITIES = (0.0, 0.2, 0.35, 0.46, 0.6)


class _Pair:
    """A BAViT and a detector of a profile's sizes with random weights: time doesn't depend on them."""

    def __init__(self, profile: Profile, batch: int):
        torch.manual_seed(0)
        self.profile = profile
        self.bavit = create_bavit(DEPTHS["bavit-small"], profile.bavit_img_size, pretrained=False).eval()
        self.detector = PrunedYolos(create_yolos(profile, pretrained=False)).eval()
        self.small = torch.randn(batch, 3, profile.bavit_img_size, profile.bavit_img_size)
        self.large = torch.randn(batch, 3, profile.detector_img_size, profile.detector_img_size)

    @torch.inference_mode()
    def dense(self) -> None:
        self.detector(self.large)

    @torch.inference_mode()
    def pruned(self, keep: Tensor) -> None:
        # The keep mask is given, so that the sparsity is the wanted one; BAViT and the threshold run all the same.
        detector_keep(foreground_probability(self.bavit, self.small), 0.5, self.profile.detector_grid)
        self.detector(self.large, keep)


def ragged_masks(profile: Profile, maps: Tensor, sparsity: float, batch: int) -> Tensor:
    """Keep masks [batch, *detector grid] of about `sparsity`, each picture with its own count, as in real maps."""
    maps = resize_grid(maps, profile.bavit_grid, "bilinear")
    threshold = threshold_for_sparsity(maps, sparsity, profile.detector_grid) if sparsity else 1.0
    keep = detector_keep(maps, threshold, profile.detector_grid)
    counts = keep.flatten(1).sum(dim=1)
    order = counts.argsort()
    return keep[order[torch.linspace(0, len(order) - 1, batch + 2).round().long()[1:-1]]]


def throughput(profile: Profile, maps: Tensor, batches: Sequence[int] = (1, 8), repeats: int = 20) -> list[dict]:
    """Rows of `throughput-<device>.json` for one profile: dense and gathered detector at each batch size and sparsity.

    `maps` float32 [N, rows, cols] give the kept patches of real pictures. `speedup` is dense over pruned with BAViT's
    time counted, `mac_speedup` what the multiply-adds allow.
    """
    rows = []
    for batch in batches:
        pair = _Pair(profile, batch)
        masks = {sparsity: ragged_masks(profile, maps, sparsity, batch) for sparsity in SPARSITIES}
        runs = {"dense": pair.dense} | {s: (lambda keep=keep: pair.pruned(keep)) for s, keep in masks.items()}
        all_patches = masks[0.0][0].numel()
        dense_macs = multiply_adds(all_patches, profile, bavit=None)
        for row in measure_latency(runs, repeats=repeats):
            name, timing = row.pop("method"), row
            keep = masks.get(name)
            kept = None if keep is None else keep.flatten(1).sum(dim=1).numpy()
            rows.append(
                {
                    "profile": profile.name,
                    "batch": batch,
                    "method": "dense" if keep is None else "gather",
                    "sparsity": 0.0 if keep is None else float(1 - kept.mean() / all_patches),
                    "ragged": batch > 1 and keep is not None,
                    "dtype": "float32",
                    **timing,
                    "mac_speedup": 1.0 if keep is None else dense_macs / multiply_adds(kept, profile),
                    "peak_mb": measure_peak_memory(
                        "bavit_utils.benchmark:memory_run",
                        {"name": profile.name, "batch": batch, "kept": None if kept is None else kept.tolist()},
                    )["peak_mb"],
                }
            )
    return rows


def memory_run(name: str, batch: int, kept: list[int] | None):
    """For `measure_peak_memory`: a run of a profile's dense detector, or of BAViT and `kept` patches each."""
    from .config import get_profile

    pair = _Pair(get_profile(name), batch)
    if kept is None:
        return pair.dense
    rows, cols = pair.profile.detector_grid
    keep = (torch.arange(rows * cols) < torch.tensor(kept)[:, None]).view(batch, rows, cols)
    return lambda: pair.pruned(keep)

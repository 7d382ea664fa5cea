"""From foreground probability to kept tokens: threshold, neighbour fill, step to the detector's grid, and gather.

Grids are `[batch, rows, cols]`; in boolean ones True is foreground, which is kept. All functions are pure.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_number


def keep_mask(fg_prob: Tensor, threshold: float) -> Tensor:
    """Which patches stay: those of `fg_prob >= 1 - threshold`, so a higher threshold keeps more (section 4.2).

    `threshold` is the confidence in background above which a patch goes: 0 to 1 where the scores are probabilities. Any
    shape in, a boolean of it out. ValueError for a threshold that is nan.
    """
    if np.isnan(threshold).any():
        raise ValueError("the threshold is nan: give a number from 0 to 1")
    return fg_prob >= 1 - threshold


def fill_neighbours(keep: Tensor, steps: int, more_than: int = 2, neighbours: int = 8) -> Tensor:
    """The appendix's post-processing (Fig. 5): background with more than `more_than` foreground neighbours turns.

    Repeated `steps` times, all cells at once; zero steps is the identity, and foreground is never removed. `neighbours`
    is 8 or 4 (else ValueError), which the paper leaves open; outside the picture is background. Boolean
    `[B, rows, cols]` in and out.
    """
    kernel = torch.ones(1, 1, 3, 3, device=keep.device)
    if neighbours == 4:
        kernel[..., ::2, ::2] = 0
    elif neighbours != 8:
        raise ValueError(f"neighbours is 8 or 4, not {neighbours}")
    for _ in range(steps):
        # The kernel's centre counts too, but only for cells that are foreground already.
        keep = keep | (F.conv2d(keep[:, None].float(), kernel, padding=1)[:, 0] > more_than)
    return keep


def resize_grid(x: Tensor, grid: tuple[int, int], mode: str = "nearest") -> Tensor:
    """Brings `[B, rows, cols]` to another grid, keeping the relative position (section 3.5: 24x24 to 32x32).

    nearest: a target cell copies the source cell in which its centre lies; with 24 to 32 the targets 0, 1, 2, 3 copy
    0, 1, 1, 2, and so on in steps of three. any: the largest of all source cells that it overlaps, so a boolean cell is
    kept when any of them is. bilinear: for probabilities only; ValueError for booleans. The data type stays.
    """
    cells = x[:, None] if x.is_floating_point() else x[:, None].float()
    if mode == "nearest":
        resized = F.interpolate(cells, grid, mode="nearest-exact")
    elif mode == "any":
        resized = F.adaptive_max_pool2d(cells, grid)  # its windows are exactly the cells that overlap
    elif mode == "bilinear":
        if not x.is_floating_point():
            raise ValueError("bilinear resizes probabilities: resize before the threshold, or use nearest or any")
        resized = F.interpolate(cells, grid, mode="bilinear", align_corners=False)
    else:
        raise ValueError(f"unknown mode {mode!r}: choose nearest, bilinear or any")
    return resized[:, 0].to(x.dtype)


def detector_keep(
    fg_prob: Tensor, threshold: float, grid: tuple[int, int], fill_steps: int = 0, mode: str = "nearest"
) -> Tensor:
    """BAViT's foreground probability `[B, rows, cols]` to the detector's keep mask, boolean `[B, *grid]` (Fig. 3).

    nearest and any: threshold, fill, resize; bilinear: resize the probabilities, threshold, fill.
    """
    if mode == "bilinear":
        return fill_neighbours(keep_mask(resize_grid(fg_prob, grid, mode), threshold), fill_steps)
    return resize_grid(fill_neighbours(keep_mask(fg_prob, threshold), fill_steps), grid, mode)


def sparsity(keep: Tensor) -> Tensor:
    """Share of tokens pruned in each image, 1 - kept / all: boolean `[B, rows, cols]` or `[B, N]` to float `[B]`."""
    return 1 - keep.flatten(1).float().mean(dim=1)


def threshold_for_sparsity(
    fg_prob: Tensor, target: float, grid: tuple[int, int], fill_steps: int = 0, mode: str = "nearest"
) -> float:
    """The threshold whose sparsity, on the detector's grid and averaged over images, is nearest to `target` (Table 2).

    Sparsity falls with the threshold, in steps at the observed probabilities; a bisection over these finds the exact
    one. `fg_prob` is `[B, rows, cols]` of all images together. ValueError for a target outside [0, 1], and for
    probabilities that are not finite.
    """
    check_number("the wanted sparsity", target, 0, 1)
    if not fg_prob.isfinite().all():
        raise ValueError("the foreground probabilities are not all finite: look at the weights they come from")
    observed = resize_grid(fg_prob, grid, mode) if mode == "bilinear" else fg_prob
    # In double precision 1 - (1 - p) gives the single-precision p back, so a threshold meets its own patch.
    candidates = 1 - torch.unique(observed).double().flip(0)

    def mean_sparsity(index: int) -> float:
        return sparsity(detector_keep(fg_prob, candidates[index].item(), grid, fill_steps, mode)).mean().item()

    low, high = 0, len(candidates) - 1  # the least and the most that can be kept
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if mean_sparsity(middle) > target else (low, middle)
    return candidates[min(low, high, key=lambda index: abs(mean_sparsity(index) - target))].item()


def spare_some(fg_prob: Tensor, share: float, seed: int = 0) -> Tensor:
    """Partial pruning ("completely or partially", section 1): a random `share` of the patches gets probability 1.

    These stay at every threshold, so of what a threshold calls background this share is kept. Float [B, rows, cols].
    """
    check_number("the share to spare", share, 0, 1)
    drawn = torch.rand(fg_prob.shape, generator=torch.Generator().manual_seed(seed))
    return fg_prob.masked_fill(drawn.to(fg_prob.device) < share, 1.0)


def merge_background(
    tokens: Tensor, given: Tensor, chosen: Tensor, coarse: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Coarse background: two by two patches, all of them `given` and none `chosen`, become one token.

    It takes the place of the first of the four and is their mean, or what `coarse [B, rows // 2, cols // 2, C]` says.
    `tokens [B, rows, cols, C]`, boolean `[B, rows, cols]` otherwise. Returns the tokens, and which are kept.
    """
    background = _two_by_two(given).all(dim=3) & ~_two_by_two(chosen).any(dim=3)
    coarse = _two_by_two(tokens).mean(dim=3) if coarse is None else coarse
    first = (slice(None), *(slice(0, 2 * cells, 2) for cells in background.shape[1:]))
    tokens, chosen = tokens.clone(), chosen.clone()
    tokens[first] = torch.where(background[..., None], coarse.to(tokens.dtype), tokens[first])
    chosen[first] |= background
    return tokens, chosen


def _two_by_two(x: Tensor) -> Tensor:
    """`[B, rows, cols, ...]` to `[B, rows // 2, cols // 2, 4, ...]`; an odd last row or column is left out."""
    rows, cols = (cells // 2 * 2 for cells in x.shape[1:3])
    return torch.stack([x[:, i:rows:2, j:cols:2] for i in (0, 1) for j in (0, 1)], dim=3)


def gather_tokens(x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Packs the kept tokens of a ragged batch, image after image, and gives the way back (section 3.5).

    `x [B, N, C]`, `keep` boolean `[B, N]` or `[B, rows, cols]`. Returns `packed [sum_kept, C]`, `lengths [B]` (kept per
    image), and `restore`, which takes `[sum_kept, C']` to `[B, N, C']` with zeros for the pruned tokens.
    """
    keep = keep.flatten(1)
    if keep.shape != x.shape[:2]:
        raise ValueError(f"keep is for {tuple(keep.shape)} tokens, x has {tuple(x.shape[:2])}")
    image, token = keep.nonzero(as_tuple=True)

    def restore(packed: Tensor) -> Tensor:
        return packed.new_zeros(*keep.shape, packed.shape[-1]).index_put((image, token), packed)

    return x[image, token], keep.sum(dim=1), restore

"""What pruning costs and saves: tokens (Table 2, Eq. 4), parameters, multiply-adds, time.

A multiply-add is one multiplication with its addition, half of two FLOP; norms, softmax and GELU are not counted.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from timm.models import VisionTransformer
from torch import nn
from transformers import YolosForObjectDetection

from .bavit import create_bavit
from .config import DEPTHS, PATCH_SIZE, Profile, get_profile
from .data.records import class_names
from .paper import PAPER_SPARSITIES
from .yolos import create_yolos

EMBED_DIM = 192  # ViT-tiny's, for BAViT and YOLOS alike
MLP_RATIO = 4
_PATCH_VALUES = 3 * PATCH_SIZE**2


def token_table(
    sparsity: float | Sequence[float] = PAPER_SPARSITIES, profile: Profile | None = None, with_prefix: bool = False
) -> pd.DataFrame:
    """The token columns of Table 2, one row a sparsity: tokens summed over layers, and the share of them that is saved.

    Columns `sparsity, tokens_bavit, tokens_yolos, tokens_pruned, tokens_total, reduction`. Pruned tokens are cut to
    whole ones, as the paper cuts them. `with_prefix` counts the detector's class and detection tokens too, which the
    paper leaves out. `profile` defaults to the paper's sizes. Raises ValueError for a sparsity outside [0, 1].
    """
    profile = profile or get_profile("coco")
    sparsity = np.atleast_1d(np.asarray(sparsity, dtype=np.float64))
    if not ((sparsity >= 0) & (sparsity <= 1)).all():
        raise ValueError(f"sparsity is a share from 0 to 1, not {sparsity}")
    bavit = DEPTHS["bavit-small"] * int(np.prod(profile.bavit_grid))
    patches = profile.detector_depth * int(np.prod(profile.detector_grid))
    prefix = profile.detector_depth * (1 + profile.num_detection_tokens) if with_prefix else 0
    table = pd.DataFrame({"sparsity": sparsity, "tokens_bavit": bavit, "tokens_yolos": patches + prefix})
    table["tokens_pruned"] = np.floor(patches * (1 - sparsity) + 1e-6).astype(int) + prefix
    table["tokens_total"] = table.tokens_bavit + table.tokens_pruned
    table["reduction"] = 1 - table.tokens_total / table.tokens_yolos
    return table


def token_reduction(yolos_tokens, bavit_tokens, sparsity, as_printed: bool = False) -> float:
    """Eq. 4, the mean over pictures, from tokens and sparsities of each picture (numbers or arrays [N]).

    As meant, the saved share: (T_y - (T_b + T_y (1 - s))) / T_y. `as_printed`: T_y - (T_b + T_y s), in tokens, which
    saves most where nothing is pruned.
    """
    yolos_tokens, bavit_tokens, sparsity = (np.asarray(x, float) for x in (yolos_tokens, bavit_tokens, sparsity))
    if as_printed:
        return float(np.mean(yolos_tokens - (bavit_tokens + yolos_tokens * sparsity)))
    return float(np.mean((yolos_tokens - (bavit_tokens + yolos_tokens * (1 - sparsity))) / yolos_tokens))


def bavit_parameters(depth: int = 2, patches: int = 576) -> int:
    """Parameters of a BAViT of `depth` blocks on a square of so many patches (section 3.2)."""
    return _parameters(lambda: create_bavit(depth, PATCH_SIZE * math.isqrt(patches)))


def yolos_parameters() -> int:
    """Parameters of the published YOLOS-tiny (6.5M in section 4.1): 50 x 83 patches have positions, for 91 labels."""
    own = _parameters(lambda: create_yolos(range(91), img_size=512))
    return own + (50 * 83 - 32 * 32) * EMBED_DIM


def _parameters(create: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):  # without memory, and without drawing weights
        return sum(parameter.numel() for parameter in create().parameters())


def block_multiply_adds(tokens):
    """Multiply-adds of one transformer block on n = `tokens` tokens (a number or array): 12 n d^2 + 2 n^2 d."""
    return tokens * (4 + 2 * MLP_RATIO) * EMBED_DIM**2 + 2 * tokens**2 * EMBED_DIM


def bavit_multiply_adds(depth: int = 2, patches: int = 576) -> int:
    """Multiply-adds of BAViT on one picture (section 4.1 says 1.961 GFLOPS for the defaults)."""
    return patches * EMBED_DIM * (_PATCH_VALUES + 2) + depth * block_multiply_adds(patches)


def yolos_multiply_adds(
    kept,
    patches: int = 1024,
    depth: int = 12,
    num_detection_tokens: int = 100,
    num_labels: int = 80,
    after_layers: int = 0,
) -> float:
    """Mean multiply-adds of YOLOS on a picture, from the kept patches of each picture (a number or an array [N]).

    Each picture's own count enters the quadratic term, so ragged pictures cost more than their mean. The first
    `after_layers` layers see all `patches`; pruned patches are embedded only then. Raises ValueError for counts outside
    0 to `patches`.
    """
    kept, d, prefix = np.asarray(kept, dtype=np.float64), EMBED_DIM, 1 + num_detection_tokens
    if not kept.size or not ((kept >= 0) & (kept <= patches)).all():
        raise ValueError(f"kept counts are from 0 to {patches} patches a picture, not {kept}")
    embedded = patches if after_layers else kept
    heads = num_detection_tokens * d * (4 * d + num_labels + 1 + 4)
    dense = after_layers * block_multiply_adds(patches + prefix)
    pruned = (depth - after_layers) * block_multiply_adds(kept + prefix)
    return float(np.mean(embedded * _PATCH_VALUES * d + dense + pruned + heads))


def multiply_adds(
    kept, profile: Profile, bavit: str | None = "bavit-small", after_layers: int = 0, patches=None
) -> float:
    """Mean multiply-adds on a picture of a profile's BAViT and its detector on the kept patches.

    `kept` as in `yolos_multiply_adds`; of `patches` in each picture, by default the profile's. `bavit` None counts the
    detector alone: all patches kept, it is the dense one.
    """
    pruner = bavit_multiply_adds(DEPTHS[bavit], int(np.prod(profile.bavit_grid))) if bavit else 0
    return pruner + yolos_multiply_adds(
        kept,
        patches=int(np.prod(profile.detector_grid)) if patches is None else patches,
        depth=profile.detector_depth,
        num_detection_tokens=profile.num_detection_tokens,
        num_labels=profile.num_labels,
        after_layers=after_layers,
    )


def random_pair(profile: Profile, scale: int = 1) -> tuple[VisionTransformer, YolosForObjectDetection]:
    """BAViT-small and detector of a profile, sides times `scale`, to be timed: their weights are drawn, from seed 0."""
    torch.manual_seed(0)
    shape = profile.detector_shape | {"img_size": scale * profile.detector_img_size}
    bavit = create_bavit(DEPTHS["bavit-small"], scale * profile.bavit_img_size).eval()
    return bavit, create_yolos(class_names(profile.detector_data), **shape).eval()


def measure_latency(
    functions: Mapping[str, Callable[[], object]], repeats: int = 20, warmup: int = 3, device: str = "cpu"
) -> list[dict]:
    """Times functions against each other: a row each of `method, median_ms, q25_ms, q75_ms, speedup, repeats, threads`.

    They run in turn, the first of a round changing from round to round, after `warmup` rounds that don't count; on CUDA
    each run waits for the device. `speedup` is the first function's median over this one's. Gradients are the caller's
    choice.
    """
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    names, times = list(functions), {name: [] for name in functions}
    for turn in range(warmup + repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            wait()
            start = time.perf_counter()
            functions[name]()
            wait()
            times[name].append(1000 * (time.perf_counter() - start))
    quartiles = {name: np.percentile(t[warmup:], [25, 50, 75]) for name, t in times.items()}
    return [
        {
            "method": name,
            "median_ms": float(median),
            "q25_ms": float(low),
            "q75_ms": float(high),
            "speedup": float(quartiles[names[0]][1] / median),
            "repeats": repeats,
            "threads": torch.get_num_threads(),
        }
        for name, (low, median, high) in quartiles.items()
    ]

"""Sparse DETR's and Focus DETR's ways to score tokens, on YOLOS' patch embeddings (section 2.3, Fig. 1).

Both papers score what a CNN made of the picture. Here there is none: the scores come before the first layer, from the
detector's own patch embeddings, which is all that can be had without running it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from ..config import PATCH_SIZE
from ..cost import EMBED_DIM
from ..packed import run_block
from ..weights import fill_model, read_weights
from ..yolos import PrunedYolos

KEEP_RATIO = 0.5  # Sparse DETR's rho, of which it trains a network each; ours scores for all sparsities
# Focus DETR's scale ranges, each overlapping its neighbours: the distance to a box's centre, in shares of the picture's
# side, for patches of 16, 32 and 64 pixels. Its own are for pictures of some 1,000 pixels and strides of 8 to 64.
RANGES = ((0.0, 1 / 8), (1 / 16, 1 / 4), (1 / 8, float("inf")))


class ScoringNetwork(nn.Module):
    """The small network that both papers score tokens with: tokens `[B, N, C]` to logits `[B, N]`.

    A linear layer, half of whose features are then averaged over the picture, and three more on both halves.
    """

    def __init__(self):
        super().__init__()
        full, half, quarter = EMBED_DIM, EMBED_DIM // 2, EMBED_DIM // 4
        self.features = nn.Sequential(nn.LayerNorm(full), nn.Linear(full, full), nn.GELU())
        self.score = nn.Sequential(
            nn.Linear(full, half), nn.GELU(), nn.Linear(half, quarter), nn.GELU(), nn.Linear(quarter, 1)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[B, N]`."""
        own, shared = self.features(tokens).chunk(2, dim=-1)
        shared = shared.mean(dim=1, keepdim=True).expand_as(own)
        return self.score(torch.cat([own, shared], dim=-1)).squeeze(-1)


class SparseDetrSelector(nn.Module):
    """Sparse DETR's scoring (Roh et al. 2022, "Finding salient encoder tokens"): what the detection tokens look at.

    Changed for YOLOS: it has no decoder, so the cross-attention map is that of the detection tokens in every block, and
    tokens are cut before the first layer, not between CNN and encoder.
    """

    def __init__(self):
        super().__init__()
        self.network = ScoringNetwork()

    def forward(self, grid: Tensor) -> list[Tensor]:
        """Logits `[B, rows, cols]` of patch embeddings `[B, rows, cols, C]`, as the one level of a list."""
        return [self.network(grid.flatten(1, 2)).unflatten(1, grid.shape[1:3])]

    def loss(self, levels: Sequence[Tensor], attention: Tensor) -> Tensor:
        """Binary cross-entropy to the most looked-at `KEEP_RATIO` of the patches in `attention [B, rows, cols]`."""
        flat = attention.flatten(1)
        highest = flat.topk(round(KEEP_RATIO * flat.shape[1]), dim=1).indices
        target = torch.zeros_like(flat).scatter_(1, highest, 1.0)
        return F.binary_cross_entropy_with_logits(levels[0].flatten(1), target)


class FocusDetrSelector(nn.Module):
    """Focus DETR's foreground token selector (Zheng et al. 2023, "Scoring mechanism"): top-down score modulation.

    S_(l-1) = MLP(f_(l-1) (1 + UP(alpha_l S_l))), one network for all scales; UP copies scores. Changed for YOLOS: f are
    its patch embeddings, averaged over 1, 2 and 4 patches each way in place of a CNN's pyramid; as only the finest are
    computed later, a patch's score is the best over scales. The score of categories, which that paper adds from its
    encoder's layers on, is left out: nothing has run yet.
    """

    def __init__(self):
        super().__init__()
        self.network = ScoringNetwork()
        self.alpha = nn.Parameter(torch.full((len(RANGES) - 1,), 0.1))

    def forward(self, grid: Tensor) -> list[Tensor]:
        """Logits of each scale, the finest first, `[B, rows, cols]` to a quarter of the sides."""
        finest = grid.permute(0, 3, 1, 2)
        levels: list[Tensor] = []
        for level in reversed(range(len(RANGES))):
            x = F.avg_pool2d(finest, 2**level, ceil_mode=True) if level else finest
            if levels:
                x = x * (1 + F.interpolate(self.alpha[level] * levels[0][:, None], x.shape[2:]))
            levels.insert(0, self.network(x.flatten(2).mT).unflatten(1, x.shape[2:]))
        return levels

    def loss(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Focal loss, over the number of foreground tokens, to `focus_targets` of each picture's boxes."""
        grids = [tuple(level.shape[1:]) for level in levels]
        targets = [torch.cat([t.flatten() for t in focus_targets(one, grids)]) for one in boxes]
        logits, target = torch.cat([level.flatten(1) for level in levels], dim=1), torch.stack(targets).to(levels[0])
        return sigmoid_focal_loss(logits, target, reduction="sum") / target.sum().clamp(min=1)


def focus_targets(boxes: Tensor, grids: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Focus DETR's labels: foreground where a box holds the token's centre, and its own is as far as `RANGES` say.

    `boxes [n, 4]` are cxcywh in 0 to 1. The distance is the larger of the two along the axes ("checkerboard"), as the
    paper says; its code takes that to the farthest side of the box. Gives a float tensor [rows, cols] for each of
    `grids`, the finest first.
    """
    labels = []
    for (rows, cols), (nearest, farthest) in zip(grids, RANGES, strict=True):
        y = (torch.arange(rows, device=boxes.device) + 0.5) / rows
        x = (torch.arange(cols, device=boxes.device) + 0.5) / cols
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)  # [rows, cols, 2], x first
        off = (centres - boxes[:, None, None, :2]).abs()
        inside = (off <= boxes[:, None, None, 2:] / 2).all(dim=-1)
        distance = off.amax(dim=-1)
        labels.append((inside & (nearest <= distance) & (distance <= farthest)).any(dim=0).float())
    return labels


SELECTORS = {"sparse-detr": SparseDetrSelector, "focus-detr": FocusDetrSelector}


@torch.no_grad()
def head_scores(selector: nn.Module, detector: PrunedYolos, pixels: Tensor) -> Tensor:
    """Scores (logits) `[B, rows, cols]` of a batch normalised as the detector wants it: the best over scales."""
    levels = selector(patch_grid(detector, pixels))
    resized = [F.interpolate(level[:, None], levels[0].shape[1:])[:, 0] for level in levels]
    return torch.stack(resized).amax(dim=0)


def patch_grid(detector: PrunedYolos, pixels: Tensor) -> Tensor:
    """The detector's patch embeddings with their positions, `[B, rows, cols, C]`, of a normalised batch."""
    size, count = detector.detector.config.patch_size, detector.detector.config.num_detection_tokens
    return detector.embed(pixels)[:, 1:-count].unflatten(1, [side // size for side in pixels.shape[-2:]])


def head_multiply_adds(name: str, patches: int) -> float:
    """Multiply-adds of a picture's scores: all patches embedded, and the network on the tokens of each scale."""
    tokens = patches * (sum(0.25**level for level in range(len(RANGES))) if name == "focus-detr" else 1)
    network = sum(weight.numel() for weight in ScoringNetwork().parameters() if weight.ndim == 2)
    return patches * 3 * PATCH_SIZE**2 * EMBED_DIM + tokens * network


@torch.no_grad()
def attention_map(detector: PrunedYolos, pixels: Tensor) -> Tensor:
    """How much the dense detector's detection tokens look at each patch: `[B, rows, cols]` of a normalised batch.

    Sparse DETR's decoder cross-attention map: attention weights summed over object queries, heads and blocks.
    """
    yolos, count = detector.detector, detector.detector.config.num_detection_tokens
    x, total = detector.embed(pixels), []
    for layer in yolos.vit.encoder.layer:
        x = run_block(layer, x, partial(_watched, total, count))
    rows, cols = (side // yolos.config.patch_size for side in pixels.shape[-2:])
    return torch.stack(total).sum(dim=0).unflatten(1, (rows, cols))


def _watched(seen: list[Tensor], count: int, query: Tensor, key: Tensor, value: Tensor, scale: float, _) -> Tensor:
    """Attention of `[B, N, heads, head_dim]`; what the last `count` tokens see of the patches is added to `seen`."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    weights = (scale * query[:, :, -count:] @ key.mT).softmax(dim=-1)
    seen.append(weights[..., 1:-count].sum(dim=(1, 2)))
    return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)


def load_selector(name: str, path: str | Path, detector_hash: str) -> nn.Module:
    """Loads a selector saved by `save_weights` with metadata `model` and `detector`, in evaluation mode.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one, another kind or shape of model, and one
    that was trained on the patch embeddings of another detector than `detector_hash` names.
    """
    state, metadata = read_weights(path, name)
    if metadata.get("detector") != detector_hash:
        raise ValueError(
            f"{path} scores the patch embeddings of the detector {metadata.get('detector')}, not of {detector_hash}: "
            f"train it for this one, by bavit train-selector {name}"
        )
    return fill_model(SELECTORS[name](), state, path).eval()

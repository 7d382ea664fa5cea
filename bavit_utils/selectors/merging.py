"""Token merging inside YOLOS, the way of ToMe (Bolya et al., "Token Merging: Your ViT But Faster", 2023).

Nothing is thrown away: in each block, between attention and MLP, the patches that are most alike become one.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.yolos.modeling_yolos import YolosObjectDetectionOutput

from ..config import Profile
from ..cost import EMBED_DIM, MLP_RATIO, multiply_adds
from ..packed import run_block
from ..yolos import PrunedYolos


class MergedYolos(nn.Module):
    """A detector whose blocks merge `counts` patches each: ToMe's bipartite matching, section 3 of its paper.

    What had to change for YOLOS: besides the class token the detection tokens are never merged, and as only these are
    read at the end, nothing is unmerged. It takes pictures as `PrunedYolos` does, so `yolos.predict` runs it.
    """

    def __init__(self, pruned: PrunedYolos, counts: Sequence[int]):
        super().__init__()
        if len(counts) != pruned.detector.config.num_hidden_layers:
            raise ValueError(
                f"a count for each of {pruned.detector.config.num_hidden_layers} blocks, not {len(counts)}"
            )
        self.pruned, self.counts = pruned, list(counts)

    @property
    def detector(self) -> nn.Module:
        """The wrapped detector."""
        return self.pruned.detector

    def forward(self, pixel_values: Tensor, keep: None = None, after_layers: int = 0) -> YolosObjectDetectionOutput:
        """Detects on `pixel_values [B, 3, height, width]`: logits `[B, D, classes + 1]` and pred_boxes `[B, D, 4]`."""
        x, last = self.pruned.embed(pixel_values), self.detector.config.num_detection_tokens
        sizes = x.new_ones(*x.shape[:2], 1)
        for layer, count in zip(self.detector.vit.encoder.layer, self.counts, strict=True):
            block = _Merger(sizes, count, last)
            x = run_block(layer, x, block.attend, block.merge)
            sizes = block.sizes
        queries = self.detector.vit.layernorm(x[:, -last:])
        boxes = self.detector.bbox_predictor(queries).sigmoid()
        return YolosObjectDetectionOutput(logits=self.detector.class_labels_classifier(queries), pred_boxes=boxes)


class _Merger:
    """One block's attention and merging: `sizes [B, N, 1]` says how many patches each token stands for."""

    def __init__(self, sizes: Tensor, count: int, last: int):
        self.sizes, self.count, self.last = sizes, count, last

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        """Attention in which a token weighs as many keys as it stands for (ToMe's proportional attention, Eq. 1)."""
        self.metric = key.mean(dim=2)  # tokens are compared by their keys, averaged over heads
        batched = (part.transpose(1, 2) for part in (query, key, value))
        bias = self.sizes.log()[:, None].mT  # [B, 1, 1, N]
        context = F.scaled_dot_product_attention(*batched, attn_mask=bias, dropout_p=dropout, scale=scale)
        return context.transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """The tokens `[B, N, C]` with `count` patches fewer, each merged into the one it is most alike."""
        patches = slice(1, x.shape[1] - self.last)
        if not self.count:
            return x
        source, target, others = match(self.metric[:, patches], self.count)

        def merged(values: Tensor) -> Tensor:
            even, odd = values[:, patches][:, ::2], values[:, patches][:, 1::2]
            moved = even.take_along_dim(source[..., None], dim=1)
            odd = odd.scatter_add(1, target[..., None].expand_as(moved), moved)
            kept = even.take_along_dim(others[..., None], dim=1)
            return torch.cat([values[:, :1], kept, odd, values[:, patches.stop :]], dim=1)

        x, self.sizes = merged(x * self.sizes), merged(self.sizes)
        return x / self.sizes


def match(metric: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """ToMe's bipartite soft matching of patches by `metric [B, N, C]`, every second one against the others.

    The `count` closest pairs by cosine: `source [B, count]` among the even patches, `target [B, count]` among the odd
    ones, and the even patches that stay, `[B, N / 2 - count]`. Raises ValueError for more than half of the patches.
    """
    even, odd = F.normalize(metric[:, ::2], dim=-1), F.normalize(metric[:, 1::2], dim=-1)
    if not 0 <= count <= odd.shape[1]:
        raise ValueError(f"of {metric.shape[1]} patches at most {odd.shape[1]} can be merged at once, not {count}")
    closest, partner = (even @ odd.mT).max(dim=-1)
    order = closest.argsort(dim=-1, descending=True)
    source = order[:, :count]
    return source, partner.take_along_dim(source, dim=1), order[:, count:]


def merge_schedule(total: int, depth: int, patches: int) -> list[int]:
    """ToMe's constant schedule: `total` merged patches spread evenly over the blocks, at most half in each."""
    counts = []
    for layer in range(depth):
        counts.append(min(total // depth + (layer < total % depth), patches // 2))
        patches -= counts[-1]
    return counts


def merged_multiply_adds(counts: Sequence[int], profile: Profile, heads: int = 3) -> float:
    """Multiply-adds of a picture whose blocks merge `counts` patches each, their matching included."""
    d, patches = EMBED_DIM, int(np.prod(profile.detector_grid))
    before = patches - np.cumsum([0, *counts[:-1]])
    tokens = before + 1 + profile.num_detection_tokens
    saved_in_mlp = 2 * MLP_RATIO * d**2 * np.asarray(counts)
    saved_in_attention = 4 * d**2 * (patches - before) + 2 * d * (tokens[0] ** 2 - tokens**2)
    mlp_of_fewer = 2 * MLP_RATIO * d**2 * (patches - before)
    matching = np.where(np.asarray(counts) > 0, (before / 2) ** 2 * d / heads, 0)
    return float(
        multiply_adds(patches, profile, None) - (saved_in_attention + mlp_of_fewer + saved_in_mlp - matching).sum()
    )


def total_for(multiply_adds_wanted: float, profile: Profile) -> int:
    """The `total` of `merge_schedule` whose multiply-adds come nearest to these, by bisection."""
    patches, depth = int(np.prod(profile.detector_grid)), profile.detector_depth

    def cost(total: int) -> float:
        return merged_multiply_adds(merge_schedule(total, depth, patches), profile)

    low, high = 0, depth * (patches // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if cost(middle) > multiply_adds_wanted else (low, middle)
    return min(max(low - 1, 0), low, key=lambda total: abs(cost(total) - multiply_adds_wanted))

"""Token merging inside YOLOS, the way of ToMe (Bolya et al., "Token Merging: Your ViT But Faster", 2023).

Nothing is thrown away: in each block, between attention and MLP, the patches that are most alike become one.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.yolos.modeling_yolos import YolosObjectDetectionOutput

from ..config import Profile
from ..cost import EMBED_DIM, MLP_RATIO, block_multiply_adds, multiply_adds
from ..packed import run_block
from ..yolos import PrunedYolos


class MergedYolos(nn.Module):
    """A detector that merges a `share` of the patches over all its blocks: ToMe's bipartite matching (its section 3).

    What had to change for YOLOS: besides the class token the detection tokens are never merged, and as only these are
    read at the end, nothing is unmerged. It takes pictures as `PrunedYolos` does, so `yolos.predict` runs it.
    """

    def __init__(self, pruned: PrunedYolos, share: float):
        super().__init__()
        self.pruned, self.share, self.detector = pruned, share, pruned.detector

    def forward(self, pixel_values: Tensor, keep: None = None, after_layers: int = 0) -> YolosObjectDetectionOutput:
        """Detects on `pixel_values [B, 3, height, width]`: logits `[B, D, classes + 1]` and pred_boxes `[B, D, 4]`."""
        x, last = self.pruned.embed(pixel_values), self.detector.config.num_detection_tokens
        sizes, layers = x.new_ones(*x.shape[:2], 1), self.detector.vit.encoder.layer
        counts = merge_schedule(self.share, len(layers), x.shape[1] - 1 - last)
        for layer, count in zip(layers, counts, strict=True):
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
    ones, and the even patches that stay, `[B, N / 2 - count]`.
    """
    even, odd = F.normalize(metric[:, ::2], dim=-1), F.normalize(metric[:, 1::2], dim=-1)
    closest, partner = (even @ odd.mT).max(dim=-1)
    order = closest.argsort(dim=-1, descending=True)
    source = order[:, :count]
    return source, partner.take_along_dim(source, dim=1), order[:, count:]


def merge_schedule(share: float, depth: int, patches: int) -> list[int]:
    """ToMe's constant schedule: a `share` of the patches is merged, evenly over the blocks, at most half in each."""
    counts, total = [], round(share * patches)
    for layer in range(depth):
        counts.append(min(total // depth + (layer < total % depth), patches // 2))
        patches -= counts[-1]
    return counts


def merged_multiply_adds(share: float, profile: Profile, heads: int = 3) -> float:
    """Multiply-adds of a picture of which a `share` of the patches is merged, their matching included."""
    d, patches, depth = EMBED_DIM, int(np.prod(profile.detector_grid)), profile.detector_depth
    counts, prefix = np.array(merge_schedule(share, depth, patches)), 1 + profile.num_detection_tokens
    before = patches - np.cumsum(counts) + counts
    saved_in_mlp = 2 * MLP_RATIO * d**2 * counts  # whose tokens are merged already
    matching = np.where(counts > 0, (before / 2) ** 2 * d / heads, 0)
    around_blocks = multiply_adds(patches, profile, None) - depth * block_multiply_adds(patches + prefix)
    return float(around_blocks + (block_multiply_adds(before + prefix) - saved_in_mlp + matching).sum())


def share_for(multiply_adds_wanted: float, profile: Profile) -> float:
    """The share of patches to merge whose multiply-adds come nearest to these; above 1 the first blocks merge more."""
    patches = int(np.prod(profile.detector_grid))
    shares = np.arange(profile.detector_depth * patches // 2) / patches
    costs = np.array([merged_multiply_adds(share, profile) for share in shares])
    return float(shares[np.abs(costs - multiply_adds_wanted).argmin()])

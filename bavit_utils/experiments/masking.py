"""The two ways to prune that gain little or nothing, to be measured beside gathering: masking, and padding.

Both hide the pruned tokens from attention by a mask, so what they detect is what gathering detects.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import YolosForObjectDetection
from transformers.models.yolos.modeling_yolos import YolosObjectDetectionOutput

from ..packed import run_block


def detect_masked(
    detector: YolosForObjectDetection, pixel_values: Tensor, keep: Tensor, pad: bool = False
) -> YolosObjectDetectionOutput:
    """A detector on `pixel_values [B, 3, H, W]` that computes every token, and hides the pruned ones as keys.

    `keep` is boolean `[B, rows, cols]` on the patch grid. With `pad` the kept tokens of each picture are moved to the
    front first, and the batch is cut at its longest picture. Returns transformers' output, with logits
    `[B, D, classes + 1]` and pred_boxes `[B, D, 4]`.
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

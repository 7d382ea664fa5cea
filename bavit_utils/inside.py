"""BAViT inside the detector (the paper's future work): heads on its own patch tokens, and what they say of pictures."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import YolosForObjectDetection

from .images import in_batches
from .pruning import keep_mask
from .weights import fill_model, read_weights, save_weights
from .yolos import PrunedYolos


class PatchHead(nn.Module):
    """BAViT inside the detector: a two-way layer on its own patch tokens after `after_layers` layers (section 5).

    At a `threshold` as of `pruning.keep_mask` it prunes them there; 1 keeps all.
    """

    def __init__(self, after_layers: int, threshold: float = 1.0, embed_dim: int = 192):
        super().__init__()
        self.after_layers, self.threshold = after_layers, threshold
        self.norm, self.score = nn.LayerNorm(embed_dim), nn.Linear(embed_dim, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of background and foreground `[..., 2]` for patch tokens `[..., C]`."""
        return self.score(self.norm(tokens))

    def keep(self, tokens: Tensor, given: Tensor) -> Tensor:
        """Which of the `given` ones, boolean `[B, rows, cols]`, among the tokens `[B, rows, cols, C]` stay."""
        return given & keep_mask(self(tokens).float().softmax(dim=-1)[..., 1], self.threshold)


class _Tap(PatchHead):
    """Prunes nothing, and keeps what it sees."""

    def keep(self, tokens: Tensor, given: Tensor) -> Tensor:
        self.seen = tokens.half()
        return given


@torch.inference_mode()
def tokens_after(
    detector: YolosForObjectDetection, images: Sequence[np.ndarray], layers: Sequence[int], side: int | None = None
) -> dict[int, Tensor]:
    """The patch tokens of decoded pictures after so many layers of a detector: float16 [N, rows, cols, C] for each.

    `side` of the squares in pixels is the detector's, unless it is given.
    """
    taps = [_Tap(layer) for layer in layers]
    tapped, config = PrunedYolos(detector, taps).eval(), detector.config

    def run(pixels: Tensor) -> Tensor:
        tapped(pixels)
        return torch.stack([tap.seen for tap in taps], dim=1)

    square = (side, side) if side else tuple(config.image_size)
    tokens = in_batches(run, images, square, config.normalise, batch_size=16)
    return dict(zip(layers, tokens.unbind(dim=1), strict=True))


@torch.inference_mode()
def head_maps(
    detector: YolosForObjectDetection, head: PatchHead, images: Sequence[np.ndarray], side: int | None = None
) -> Tensor:
    """A head's foreground probability of decoded pictures, float32 [N, rows, cols]; `side` as of `tokens_after`."""
    tokens = tokens_after(detector, images, [head.after_layers], side)[head.after_layers]
    return torch.cat([head(part.float()).softmax(dim=-1)[..., 1] for part in tokens.split(64)])


def save_heads(path: str | Path, heads: Iterable[PatchHead], made_for: dict) -> Path:
    """Saves heads with their layers and thresholds; `made_for["detector"]` is the hash of their detector's file."""
    heads = list(heads)
    state = {f"{head.after_layers}.{name}": value for head in heads for name, value in head.state_dict().items()}
    thresholds = {str(head.after_layers): head.threshold for head in heads}
    return save_weights(path, state, {**made_for, "model": "heads", "thresholds": thresholds}, bits=32)


def heads_of(detector: Path) -> Path:
    """Where the heads of one of our detectors' files lie: beside it. The hub's are looked for as if it were ours."""
    return detector.with_name(re.sub("^(yolos|model)", "heads", detector.name))


def load_heads(path: str | Path, detector: str) -> dict[int, PatchHead]:
    """Loads what `save_heads` wrote, by layers; `detector` is the hash of the detector's file that they are to prune.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one and for another detector's heads.
    """
    state, metadata = read_weights(path, "heads")
    if metadata.get("detector") != detector:
        raise ValueError(f"{path} holds heads for another detector's weights: train them anew, by `bavit train-inside`")
    heads = {}
    try:
        for key, threshold in metadata["thresholds"].items():
            part = {name.removeprefix(f"{key}."): value for name, value in state.items() if name.startswith(f"{key}.")}
            heads[int(key)] = fill_model(PatchHead(int(key), threshold), part, path).eval()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} doesn't describe heads ({error!r}): restore it, or train them anew") from error
    return heads

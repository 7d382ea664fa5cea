"""A transformer block on packed tokens: images with different token counts one after another, and nothing padded."""

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.yolos.modeling_yolos import YolosLayer

try:  # attention over packed sequences of different lengths, CUDA only
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None


def run_layer(layer: YolosLayer, x: Tensor, lengths: list[int]) -> Tensor:
    """One transformer block on the packed tokens `[sum_tokens, C]` of images with `lengths` tokens each."""
    return run_block(layer, x, partial(_attend, lengths))


def run_block(
    layer: YolosLayer, x: Tensor, attend: Callable[..., Tensor], between: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """One transformer block on tokens `[..., C]`, whatever their layout: it is `attend`'s alone.

    `attend(query, key, value, scale, dropout)`, all `[..., heads, head_dim]`, gives the context in the same shape.
    `between` is done to the tokens between attention and MLP, and may leave fewer of them.
    """
    x = x + _attention(layer, x, attend)  # a function of its own, whose tensors are gone before the MLP's are made
    x = between(x) if between else x
    return layer.output(layer.intermediate(layer.layernorm_after(x)), x)


@cache
def compiled_layer() -> Callable[[YolosLayer, Tensor, list[int]], Tensor]:
    """`run_layer`, compiled once for all blocks; anew for every other list of lengths, so for steps that share one."""
    return torch.compile(run_layer, dynamic=False)


def _attention(layer: YolosLayer, x: Tensor, attend: Callable[..., Tensor]) -> Tensor:
    attention = layer.attention.attention
    normed = layer.layernorm_before(x)
    heads = (*x.shape[:-1], attention.num_attention_heads, attention.attention_head_size)
    query, key, value = (part(normed).view(heads) for part in (attention.query, attention.key, attention.value))
    dropout = attention.dropout_prob if attention.training else 0.0
    context = attend(query, key, value, attention.scaling, dropout).flatten(-2)
    return layer.attention.output(context, normed)


def _attend(lengths: list[int], query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
    """Attention within each image, `[sum_tokens, heads, head_dim]` in and out; nothing is padded."""
    if len(set(lengths)) == 1:
        return _sdpa(query, key, value, len(lengths), scale, dropout)
    if varlen_attn is not None and query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and not dropout:
        ends = torch.tensor([0, *lengths], device=query.device).cumsum(0, dtype=torch.int32)
        return varlen_attn(query, key, value, ends, ends, max(lengths), max(lengths), scale=scale)
    parts = zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)
    return torch.cat([_sdpa(*part, 1, scale, dropout) for part in parts])


def _sdpa(query: Tensor, key: Tensor, value: Tensor, images: int, scale: float, dropout: float) -> Tensor:
    """PyTorch's attention on `images` images of equally many tokens, packed."""
    query, key, value = (part.unflatten(0, (images, -1)).transpose(1, 2) for part in (query, key, value))
    if query.requires_grad and not query.is_cuda:  # the fused attention's backward takes long on a CPU
        weights = F.dropout(((query * scale) @ key.transpose(-2, -1)).softmax(dim=-1), dropout)
        context = weights.to(value.dtype) @ value
    else:
        context = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scale)
    return context.transpose(1, 2).flatten(0, 1)

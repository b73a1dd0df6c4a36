"""Tokens -> fewer tokens: similar patches become one (ToMe, arXiv:2210.09461)."""

from typing import Any

import numpy as np
from keras import ops

from vit_keras.utils.types import Tensor


def merge(
    tokens: Tensor, sizes: Tensor, keys: Tensor, count: int, prefix: int = 0
) -> tuple[Tensor, Tensor]:
    """Merges the most similar patches, by bipartite soft matching (section 3 of the paper).

    Patches are dealt alternately into two sets. Each patch of the first set has a partner in the
    second: the one with the most similar key, by the cosine of the mean over heads. The `count`
    most similar pairs become one token each, the mean of both weighted by their sizes.

    Args:
        tokens: (batch, prefix + patches, width).
        sizes: (batch, prefix + patches, 1), the number of patches in each token.
        keys: (batch, heads, prefix + patches, head_width), of the attention before.
        count: number of tokens to merge, from 1 to half of the patches.
        prefix: number of tokens before the patches; they do not change.

    Returns:
        Tokens (batch, prefix + patches - count, width) and their sizes. The prefix is first; the
        patches are in another order than before.
    """
    metric = ops.mean(keys, axis=1)
    metric = metric * ops.rsqrt(ops.sum(ops.square(metric), axis=-1, keepdims=True) + 1e-6)
    first, second = alternate(metric, prefix)
    similarity = ops.matmul(first, ops.transpose(second, (0, 2, 1)))
    # Not ops.argmax: Keras writes it with an operation that TFLite lacks.
    closest, partner = ops.top_k(similarity, 1)
    # One sort, by similarity: first the tokens to merge, then the tokens to keep.
    _, order = ops.top_k(closest[..., 0], similarity.shape[1])
    # In float32: tokens times sizes leave the range of float16.
    wide, counts = ops.cast(tokens, "float32"), ops.cast(sizes, "float32")
    weighted = ops.concatenate([wide * counts, counts], axis=-1)
    first, second = alternate(weighted, prefix)
    first, partner = take_rows(first, order), take_rows(partner[..., 0], order)
    joins = ops.one_hot(partner[:, :count], second.shape[1], dtype="float32")
    second = second + ops.matmul(ops.transpose(joins, (0, 2, 1)), first[:, :count])
    merged = ops.concatenate([weighted[:, :prefix], first[:, count:], second], axis=1)
    counts = merged[..., -1:]
    return ops.cast(merged[..., :-1] / counts, tokens.dtype), ops.cast(counts, sizes.dtype)


def alternate(x: Tensor, prefix: int) -> list[Tensor]:
    """Deals patches alternately into two sets.

    Not with slices of step two, which take longer in TFLite than a whole attention.

    Args:
        x: (batch, prefix + patches, ...).
        prefix: number of tokens before the patches.

    Returns:
        Two tensors (batch, half of the patches, ...).
    """
    return [ops.take(x, np.arange(prefix + i, x.shape[1], 2), axis=1) for i in range(2)]


def take_rows(x: Tensor, indices: Tensor) -> Tensor:
    """Takes rows of each image, as one lookup in the rows of all: TFLite has an operation for it.

    Args:
        x: (batch, rows, ...).
        indices: (batch, count).

    Returns:
        (batch, count, ...).
    """
    batch, rows = ops.shape(x)[0], x.shape[1]
    flat = ops.reshape(x, (-1, *x.shape[2:]))
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * rows, 1)
    flat_indices = ops.reshape(ops.cast(indices, "int32") + first, (-1,))
    return ops.reshape(ops.take(flat, flat_indices, axis=0), (-1, indices.shape[1], *x.shape[2:]))


def tokens_and_sizes(inputs: Any) -> tuple[Any, Any]:
    """Splits the input of a layer that also takes merged tokens.

    Args:
        inputs: tokens, or [tokens, sizes], or the shapes of either.

    Returns:
        (tokens, sizes), or their shapes; sizes are None if there are none.
    """
    only_tokens = not isinstance(inputs, list | tuple) or isinstance(inputs[0], int | None)
    return (inputs, None) if only_tokens else inputs

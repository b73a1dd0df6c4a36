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

    Sorting and looking up are products with matrices of zeros and ones, because phones' GPUs have
    no operations for them.

    Args:
        tokens: (batch, prefix + patches, width).
        sizes: (batch, prefix + patches, 1), the number of patches in each token.
        keys: (batch, heads, prefix + patches, head_width), of the attention before.
        count: number of tokens to merge, from 1 to half of the patches.
        prefix: number of tokens before the patches; they do not change.

    Returns:
        Tokens (batch, prefix + patches - count, width) and their sizes. The prefix is first, then
        the patches of the first set that are left, the most similar first, then the second set.
    """
    kept, joined = _match(ops.mean(keys, axis=1)[:, prefix:], count)
    wide, counts = ops.cast(tokens, "float32"), ops.cast(sizes, "float32")
    first, second = alternate(wide[:, prefix:])
    first_counts, second_counts = alternate(counts[:, prefix:])
    # Weights that sum to 1 keep the sums in the range of float16.
    new_counts = second_counts + ops.matmul(joined, first_counts)
    weights = joined * ops.transpose(first_counts, (0, 2, 1)) / new_counts
    second = second * (second_counts / new_counts) + ops.matmul(weights, first)
    wide = ops.concatenate([wide[:, :prefix], ops.matmul(kept, first), second], axis=1)
    kept_counts = ops.matmul(kept, first_counts)
    counts = ops.concatenate([counts[:, :prefix], kept_counts, new_counts], axis=1)
    return ops.cast(wide, tokens.dtype), ops.cast(counts, sizes.dtype)


def _match(metric: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Finds the pairs to merge.

    Args:
        metric: (batch, patches, width), in which patches are compared.
        count: number of pairs.

    Returns:
        Two float32 matrices of zeros and ones: `kept` (batch, first - count, first) has a one for
        each patch of the first set that is left, the most similar first; `joined` (batch, second,
        first) one for each pair.
    """
    metric = ops.cast(ops.stop_gradient(metric), "float32")
    # Scaled before it is squared, as in LayerNorm.
    length = ops.sum(ops.square(metric * metric.shape[-1] ** -0.5), axis=-1, keepdims=True)
    first, second = alternate(metric * ops.rsqrt(length + 1e-6))
    similarity = ops.matmul(first, ops.transpose(second, (0, 2, 1)))
    closest = ops.max(similarity, axis=-1, keepdims=True)  # (batch, first, 1)
    partners = _first_one(1 - _is_above(closest, similarity))
    # How many patches go before each one: those that are more similar, or as similar and earlier.
    patches = closest.shape[1]
    earlier = np.tri(patches, k=-1, dtype="float32")
    others = ops.transpose(closest, (0, 2, 1))
    above, below = _is_above(others, closest), _is_above(closest, others)
    rank = ops.sum(above + (1 - above - below) * earlier, axis=-1, keepdims=True)
    merged = ops.relu(1 - ops.relu(rank - (count - 1)))  # (batch, first, 1)
    places = np.arange(count, patches, dtype="float32")
    kept = ops.relu(1 - ops.abs(rank - places))  # (batch, first, first - count)
    return ops.transpose(kept, (0, 2, 1)), ops.transpose(partners * merged, (0, 2, 1))


def _is_above(x: Tensor, y: Tensor) -> Tensor:
    """1 where x > y, 0 elsewhere."""
    return ops.cast(ops.greater(x, y), "float32")


def _first_one(x: Tensor) -> Tensor:
    """(..., count) zeros and ones -> only the first one of each row stays."""
    count = x.shape[-1]
    before = ops.matmul(x, np.triu(np.ones((count, count), "float32"), k=1))
    return x * ops.relu(1 - before)


def alternate(x: Tensor) -> list[Tensor]:
    """Deals rows alternately into two sets.

    Two neighbours become one row, which is cut in half: slices of step two take longer in TFLite
    than a whole attention.

    Args:
        x: (batch, rows, width).

    Returns:
        Two tensors, (batch, rows / 2, width); with an odd number the first has one row more.
    """
    _, rows, width = x.shape
    pairs = ops.reshape(x[:, : rows // 2 * 2], (-1, rows // 2, 2 * width))
    first, second = ops.split(pairs, 2, axis=-1)
    if rows % 2:
        first = ops.concatenate([first, x[:, -1:]], axis=1)
    return [first, second]


def tokens_and_sizes(inputs: Any) -> tuple[Any, Any]:
    """Splits the input of a layer that also takes merged tokens.

    Args:
        inputs: tokens, or [tokens, sizes], or the shapes of either.

    Returns:
        (tokens, sizes), or their shapes; sizes are None if there are none.
    """
    only_tokens = not isinstance(inputs, list | tuple) or isinstance(inputs[0], int | None)
    return (inputs, None) if only_tokens else inputs

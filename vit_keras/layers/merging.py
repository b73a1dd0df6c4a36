"""Tokens -> fewer tokens: those of alike patches become one (ToMe, arXiv:2210.09461)."""

import numpy as np
from keras import ops


def merge(tokens, sizes, keys, count, prefix=0):
    """Merges the most similar patches, by bipartite soft matching (section 3 of the paper).

    Patches take turns in two sets. Each of the first set has a partner in the second: the one
    whose key is most alike, by the cosine of the mean over heads. The `count` pairs that are most
    alike become one token each, the mean of both, weighted by how many patches they stand for.

    Args:
        tokens: (batch, prefix + patches, width).
        sizes: (batch, prefix + patches, 1), how many patches each token stands for.
        keys: (batch, heads, prefix + patches, head_width), of the attention before.
        count: tokens to merge, one at least and half of the patches at the most.
        prefix: how many tokens stand before the patches; they stay as they are.

    Returns:
        tokens (batch, prefix + patches - count, width) and sizes; the prefix is first, and the
        order of the patches is another one.
    """
    metric = ops.mean(keys, axis=1)
    metric = metric * ops.rsqrt(ops.sum(ops.square(metric), axis=-1, keepdims=True) + 1e-6)
    first, second = alternate(metric, prefix)
    similarity = ops.matmul(first, ops.transpose(second, (0, 2, 1)))
    # Not ops.argmax: Keras writes it with an operation that TFLite lacks.
    closest, partner = ops.top_k(similarity, 1)
    # One sort, by similarity: first come those to merge, then those to keep.
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


def alternate(x, prefix):
    """(batch, prefix + patches, ...) -> two halves of the patches, taken by turns

    Not by slices of step two, which cost TFLite more than a whole attention.
    """
    return [ops.take(x, np.arange(prefix + i, x.shape[1], 2), axis=1) for i in range(2)]


def take_rows(x, indices):
    """(batch, rows, ...), indices (batch, count) -> (batch, count, ...), of each image its rows

    As one lookup in all images' rows: TFLite has an operation for that.
    """
    batch, rows = ops.shape(x)[0], x.shape[1]
    flat = ops.reshape(x, (-1, *x.shape[2:]))
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * rows, 1)
    chosen = ops.reshape(ops.cast(indices, "int32") + first, (-1,))
    return ops.reshape(ops.take(flat, chosen, axis=0), (-1, indices.shape[1], *x.shape[2:]))


def tokens_and_sizes(inputs):
    """Tokens, or [tokens, sizes], or the shapes of either -> (tokens, sizes or None)"""
    alone = not isinstance(inputs, list | tuple) or isinstance(inputs[0], int | None)
    return (inputs, None) if alone else inputs

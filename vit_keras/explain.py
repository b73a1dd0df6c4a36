"""A model, and images -> what it attends to, and what its first layers have learned."""

import keras
import numpy as np
from keras import ops

from vit_keras.layers.positions import sincos2d
from vit_keras.model import get_config
from vit_keras.utils.checks import check_choice
from vit_keras.utils.errors import InputError

FUSIONS = {"mean": ops.mean, "max": ops.max, "min": ops.min}


def attention_maps(model, images):
    """What every token attends to, in every head of every block.

    The weights are computed anew from what enters each block: the model is not changed, and what
    nobody looks at costs nothing. They take 4 * heads * tokens^2 bytes an image and block.

    Args:
        model: ViT.
        images: (batch, height, width, channels), normalised, as the model takes them.

    Returns:
        one tensor of the backend for each block, in order: float32 (batch, heads, queries,
        tokens), whose rows sum to 1. Queries and tokens are, in this order, those of
        `model.config.prefix_tokens` and the patches row by row; the queries of a trimmed last
        block are the first tokens alone, and where tokens are merged they are what is left.

    Raises:
        InputError: for a model that `build_vit` did not make.
    """
    names = [f"block_{index}" for index in range(get_config(model).depth)]
    return _attention_weights(model, images, names)


def attention_rollout(model, images, fusion="mean"):
    """How much each patch counts in what the head reads, through all blocks.

    Attention rollout, arXiv:2005.00928, section 3: for each block the heads are fused, the
    identity is added for the residual connection, rows are normalised, and the blocks'
    matrices multiplied. The result is read as the model pools: the row of the [CLS] token (of a
    distilled model the mean of its and the distillation token's), the mean of the patches' rows,
    or the rows weighted by the attention of the pooling itself.

    Args:
        model: ViT; also works in graphs of TensorFlow.
        images: as in `attention_maps`.
        fusion: of the heads, "mean", "max" or "min".

    Returns:
        a tensor of the backend, float32 (batch, rows, columns) of the grid of patches. Tokens
        before the patches are left out, and each map sums to 1.

    Raises:
        InputError: for a model that merges tokens, or that `build_vit` did not make.
    """
    config = get_config(model)
    check_choice("fusion", fusion, tuple(FUSIONS))
    if config.merge_tokens:
        raise InputError(
            f"merged tokens belong to no single patch, so their attention cannot be drawn on the "
            f"image. Got merge_tokens={config.merge_tokens}; build the model without, with the "
            f"same weights."
        )
    pools = ["pool", "pool_dist"] if config.distilled else ["pool"]
    names = [f"block_{index}" for index in range(config.depth)]
    weights = _attention_weights(model, images, [*names, *pools])
    fused = [FUSIONS[fusion](each, axis=1) for each in weights]
    tokens = roll_out(fused[: config.depth])
    rows = [ops.matmul(pooled, tokens)[:, 0] for pooled in fused[config.depth :]]
    patches = sum(rows)[:, config.prefix_count :]  # (batch, patches)
    patches = patches / ops.sum(patches, axis=-1, keepdims=True)
    return ops.reshape(patches, (-1, *config.grid))


def roll_out(attentions):
    """How much of each first token is in each last one.

    Args:
        attentions: of each block, (batch, queries, tokens), heads fused.

    Returns:
        (batch, queries of the last block, tokens of the first), rows that sum to 1.
    """
    result = None
    for attention in attentions:
        attention = attention + ops.eye(*attention.shape[1:], dtype=attention.dtype)
        attention = attention / ops.sum(attention, axis=-1, keepdims=True)
        result = attention if result is None else ops.matmul(attention, result)
    return result


def _attention_weights(model, images, names):
    layers = [model.get_layer(name) for name in names]
    inputs = keras.Model(model.input, [layer.input for layer in layers])(images)
    return [
        ops.cast(layer.attention_weights(entering), "float32")
        for layer, entering in zip(layers, inputs, strict=True)
    ]


def position_similarity(model):
    """Cosines between the positions of all patches: figure 7 of arXiv:2010.11929, in the middle.

    Returns:
        float32 array (rows, columns, rows, columns): [1, 2] is the map of the patch in row 1 and
        column 2.

    Raises:
        InputError: for a model that `build_vit` did not make.
    """
    config = get_config(model)
    rows, columns = config.grid
    if config.positions == "sincos2d":
        table = sincos2d(rows, columns, config.width)
    else:
        table = model.get_layer("patch_encoder").position_table
    table = ops.convert_to_numpy(table).reshape(-1, config.width)[-rows * columns :]
    table = table / np.linalg.norm(table, axis=1, keepdims=True)
    return (table @ table.T).reshape(rows, columns, rows, columns)


def patch_filters(model, count=28):
    """Principal components of the patch projection's filters: figure 7, on the left.

    Returns:
        float32 array (count, patch_size, patch_size, channels), of length 1 each, the most
        important first; fewer if there are fewer. Of shifted patches, the part in the middle.

    Raises:
        InputError: for a model whose patches are not projected from pixels.
    """
    config = get_config(model)
    if config.stem not in ("patches", "shifted_patches"):
        raise InputError(
            f"patch filters are those of a projection of pixels. Got stem={config.stem!r}."
        )
    size, channels = config.patch_size, config.channels
    kernel = ops.convert_to_numpy(model.get_layer("patch_encoder").projection.kernel)
    filters = kernel.reshape(size * size, -1, config.width)[:, :channels]
    filters = filters.reshape(-1, config.width)
    filters = filters - filters.mean(axis=1, keepdims=True)
    components, _, _ = np.linalg.svd(filters, full_matrices=False)
    # The sign of a component is anybody's choice: its largest number is positive here.
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(components.shape[1])])
    return components.T[:count].reshape(-1, size, size, channels)

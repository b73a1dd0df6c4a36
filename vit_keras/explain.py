"""A model and images -> its attention, and the patterns of its first layers."""

import keras
import numpy as np
from keras import ops

from vit_keras.layers.positions import sincos2d
from vit_keras.model import get_config
from vit_keras.utils.checks import check_choice
from vit_keras.utils.errors import InputError
from vit_keras.utils.types import Tensor

FUSIONS = {"mean": ops.mean, "max": ops.max, "min": ops.min}


def attention_maps(model: keras.Model, images: Tensor) -> list[Tensor]:
    """Computes the attention of every token, in every head of every block.

    The weights are recomputed from the input of each block: the model does not change, and
    prediction without explanation costs nothing extra. They take 4 * heads * tokens^2 bytes for
    each image and block.

    Args:
        model: ViT.
        images: (batch, height, width, channels), normalised, as the model takes them.

    Returns:
        One tensor of the backend for each block, in order: float32 (batch, heads, queries,
        tokens), whose rows sum to 1. Queries and tokens are, in this order, those of
        `model.config.prefix_tokens` and the patches row by row. The queries of a trimmed last
        block are only the first tokens; after merging there are fewer tokens.

    Raises:
        InputError: for a model that `build_vit` did not make.
    """
    names = [f"block_{index}" for index in range(get_config(model).depth)]
    return _attention_weights(model, images, names)


def attention_rollout(model: keras.Model, images: Tensor, fusion: str = "mean") -> Tensor:
    """Computes the share of each patch in the head's input, through all blocks.

    Attention rollout, arXiv:2005.00928, section 3: for each block the heads are fused, the
    identity is added for the residual connection, rows are normalised, and the blocks'
    matrices multiplied. The rows of the result are pooled as the model pools tokens: the row of
    the [CLS] token (in a distilled model the mean of its row and the distillation token's), the
    mean of the patches' rows, or the rows weighted by the attention of the pooling.

    Args:
        model: ViT; also works in TensorFlow graphs.
        images: as in `attention_maps`.
        fusion: of the heads, "mean", "max" or "min".

    Returns:
        A tensor of the backend, float32 (batch, rows, columns) of the grid of patches. Tokens
        before the patches are left out, and each map sums to 1.

    Raises:
        InputError: for a model that merges tokens, that `build_vit` did not make, or another
            fusion.
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
    fused = [FUSIONS[fusion](attention, axis=1) for attention in weights]
    tokens = roll_out(fused[: config.depth])
    rows = [_weighted_sum(pooled, tokens) for pooled in fused[config.depth :]]
    patches = sum(rows)[:, config.prefix_count :]  # (batch, patches)
    patches = patches / ops.sum(patches, axis=-1, keepdims=True)
    return ops.reshape(patches, (-1, *config.grid))


def _weighted_sum(weights: Tensor, rows: Tensor) -> Tensor:
    """Weights (batch or 1, 1, count) and rows (batch, count, tokens) -> (batch, tokens).

    Not a matrix product: phones' GPUs refuse one whose first factor is a constant.
    """
    return ops.sum(ops.transpose(weights, (0, 2, 1)) * rows, axis=1)


def roll_out(attentions: list[Tensor]) -> Tensor:
    """Computes the share of each input token in each output token of several blocks.

    Args:
        attentions: of each block, (batch, queries, tokens), heads fused.

    Returns:
        (batch, queries of the last block, tokens of the first), rows that sum to 1.
    """
    result: Tensor = None
    for attention in attentions:
        attention = attention + ops.eye(*attention.shape[1:], dtype=attention.dtype)
        attention = attention / ops.sum(attention, axis=-1, keepdims=True)
        result = attention if result is None else ops.matmul(attention, result)
    return result


def _attention_weights(model: keras.Model, images: Tensor, names: list[str]) -> list[Tensor]:
    """Attention weights of the layers with these names."""
    layers = [model.get_layer(name) for name in names]
    inputs = keras.Model(model.input, [layer.input for layer in layers])(images)
    return [
        ops.cast(layer.attention_weights(layer_input), "float32")
        for layer, layer_input in zip(layers, inputs, strict=True)
    ]


def position_similarity(model: keras.Model) -> np.ndarray:
    """Computes cosines between the positions of all patches: arXiv:2010.11929, figure 7, middle.

    Args:
        model: ViT.

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


def patch_filters(model: keras.Model, count: int = 28) -> np.ndarray:
    """Computes principal components of the patch projection's filters: figure 7, left.

    Args:
        model: ViT.
        count: number of components.

    Returns:
        float32 array (count, patch_size, patch_size, channels), of length 1 each, the most
        important first; fewer if there are fewer. Of shifted patches, the part without a shift.

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
    # The sign of a component is arbitrary: make its largest number positive.
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(components.shape[1])])
    return components.T[:count].reshape(-1, size, size, channels)

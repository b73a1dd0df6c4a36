"""Tokens -> tokens, each a weighted sum of all tokens: multi-head self-attention."""

from typing import Any, ClassVar

import keras
from keras import ops

from vit_keras.config import BlockConfig
from vit_keras.layers.block_layer import BlockLayer
from vit_keras.layers.norm import LayerNorm
from vit_keras.utils.checks import check_heads
from vit_keras.utils.types import Shape, Tensor

_register = keras.saving.register_keras_serializable(package="vit_keras")


@_register
class MultiHeadSelfAttention(BlockLayer):
    """Scaled dot-product attention of every token to every token, in parallel heads.

    (batch, tokens, width) -> (batch, tokens, width). Appendix A of arXiv:2010.11929. One Dense
    gives queries, keys and values, and no tensor has more than four axes: in TFLite a five-axis
    transpose made a Ti/16 1.3-1.6 times slower.

    Args:
        heads: divides width; required unless there is a block.
        queries: how many tokens, the first ones, attend and are returned; 0 for all.
        block: BlockConfig, of which the layer uses heads, attention_dropout as `dropout`,
            qkv_bias, qk_norm, locality_attention as `local`, and norm_epsilon.
        **options: dropout, the fraction of attention weights dropped; qkv_bias, qk_norm and
            norm_epsilon as in BlockConfig; local for its locality_attention (arXiv:2112.13492,
            section 3.2); arguments of every Keras layer.

    Raises:
        InputError: for missing heads, or a value that BlockConfig refuses; when built, for heads
            that do not divide the width.
    """

    block_arguments: ClassVar[dict[str, str]] = {
        "heads": "heads",
        "dropout": "attention_dropout",
        "qkv_bias": "qkv_bias",
        "qk_norm": "qk_norm",
        "local": "locality_attention",
        "norm_epsilon": "norm_epsilon",
    }

    def __init__(
        self,
        heads: int | None = None,
        *,
        queries: int = 0,
        block: BlockConfig | None = None,
        **options: Any,
    ) -> None:
        super().__init__(block, heads=heads, **options)
        self.queries = queries
        self.attention_dropout = keras.layers.Dropout(
            self.block.attention_dropout, dtype=self.dtype_policy
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "queries": self.queries}

    def build(self, tokens_shape: Shape) -> None:
        block, dtype = self.block, self.dtype_policy
        width: int = tokens_shape[-1]  # type: ignore[assignment]  # Keras refuses None below
        check_heads(block.heads, width)
        head_width = width // block.heads
        # Initialised as three (width, width) matrices, not as one (width, 3 * width).
        initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
        self.qkv = keras.layers.Dense(
            3 * width,
            use_bias=block.qkv_bias,
            kernel_initializer=initializer,
            name="qkv",
            dtype=dtype,
        )
        self.qkv.build(tokens_shape)
        if block.qk_norm:
            head_shape = (None, block.heads, tokens_shape[1], head_width)
            self.query_norm = LayerNorm(block.norm_epsilon, name="query_norm", dtype=dtype)
            self.key_norm = LayerNorm(block.norm_epsilon, name="key_norm", dtype=dtype)
            self.query_norm.build(head_shape)
            self.key_norm.build(head_shape)
        if block.locality_attention:
            initializer = keras.initializers.Constant(head_width**0.5)
            self.temperature = self.add_weight(
                name="temperature", shape=(block.heads, 1, 1), initializer=initializer
            )
        self.projection = keras.layers.Dense(width, name="projection", dtype=dtype)
        self.projection.build(tokens_shape)

    def call(
        self,
        tokens: Tensor,
        sizes: Tensor = None,
        return_keys: bool = False,
        training: bool | None = None,
    ) -> Tensor:
        """Attends.

        Args:
            tokens: (batch, tokens, width).
            sizes: (batch, tokens, 1), the number of patches in each token; a token of size n gets
                the attention of n equal tokens (arXiv:2210.09461, section 3.1).
            return_keys: whether to return the keys as well.
            training: whether to drop attention weights.

        Returns:
            (batch, queries, width); with return_keys also (batch, heads, tokens, width / heads).
        """
        query, key, value = self._query_key_value(tokens)
        weights = self.attention_dropout(self._weights(query, key, sizes), training=training)
        tokens = self.projection(join_heads(ops.matmul(weights, value)))
        return (tokens, key) if return_keys else tokens

    def attention_weights(self, tokens: Tensor, sizes: Tensor = None) -> Tensor:
        """Computes the attention weights.

        Args:
            tokens: (batch, tokens, width).
            sizes: as in `call`.

        Returns:
            (batch, heads, queries, tokens), rows that sum to 1.
        """
        query, key, _ = self._query_key_value(tokens)
        return self._weights(query, key, sizes)

    def _query_key_value(self, tokens):
        """(batch, tokens, width) -> three of (batch, heads, tokens, width / heads)."""
        query, key, value = (split_heads(x, self.block.heads) for x in self._project(tokens))
        if self.block.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        return query, key, value

    def _project(self, tokens):
        """(batch, tokens, width) -> three of that shape, the queries perhaps with fewer tokens."""
        if not self.queries:
            return ops.split(self.qkv(tokens), 3, axis=-1)
        width, kernel = tokens.shape[-1], self.qkv.kernel
        query = ops.matmul(tokens[:, : self.queries], kernel[:, :width])
        key_value = ops.matmul(tokens, kernel[:, width:])
        if self.block.qkv_bias:
            query, key_value = query + self.qkv.bias[:width], key_value + self.qkv.bias[width:]
        return query, *ops.split(key_value, 2, axis=-1)

    def _weights(self, query, key, sizes):
        """Queries, keys (batch, heads, tokens, width / heads) -> attention weights."""
        local = self.block.locality_attention
        query = query / self.temperature if local else query * query.shape[-1] ** -0.5
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        if local:
            diagonal = ops.eye(*scores.shape[2:], dtype=scores.dtype)
            scores = scores - 1e4 * diagonal  # within the range of float16
        if sizes is not None:
            scores = scores + ops.log(ops.reshape(sizes, (-1, 1, 1, sizes.shape[1])))
        return softmax(scores)


def softmax(scores: Tensor, axis: int = -1) -> Tensor:
    """Computes a softmax in float32, also under mixed precision.

    Args:
        scores: any shape.
        axis: the axis along which the result sums to 1.

    Returns:
        A tensor of the shape and type of the scores.
    """
    return ops.cast(ops.softmax(ops.cast(scores, "float32"), axis), scores.dtype)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, width) -> (batch, heads, tokens, width / heads)."""
    tokens, width = ops.shape(x)[1], x.shape[-1]
    x = ops.reshape(x, (-1, tokens, heads, width // heads))
    return ops.transpose(x, (0, 2, 1, 3))


def join_heads(x: Tensor) -> Tensor:
    """(batch, heads, tokens, width / heads) -> (batch, tokens, width)."""
    heads, tokens, head_width = x.shape[1], ops.shape(x)[2], x.shape[3]
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, tokens, heads * head_width))

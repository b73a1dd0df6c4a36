"""Tokens -> transformed tokens: what a transformer block is made of."""

import keras
from keras import ops

from vit_keras.config import check_integer
from vit_keras.layers.norm import LayerNorm
from vit_keras.utils.errors import InputError

_register = keras.saving.register_keras_serializable(package="vit_keras")


@_register
class MultiHeadSelfAttention(keras.layers.Layer):
    """Scaled dot-product attention of every token to every token, in parallel heads.

    (batch, tokens, width) -> (batch, tokens, width). Appendix A of arXiv:2010.11929. One Dense
    gives queries, keys and values, and no tensor has more than four axes: in TFLite a five-axis
    transpose made a Ti/16 1.3-1.6 times slower.

    Args:
        heads: divides width.
        dropout: fraction of attention weights dropped.
        qkv_bias: whether queries, keys and values have a bias.
        qk_norm: whether each head's queries and keys pass a LayerNorm (arXiv:2302.05442).
        local: locality self-attention (arXiv:2112.13492, section 3.2): a learned temperature for
            each head, and no token attends to itself.
        norm_epsilon: added to the variance in the LayerNorms of qk_norm.
        queries: how many tokens, the first ones, attend and are returned; 0 for all.
    """

    def __init__(
        self,
        heads,
        dropout=0.0,
        qkv_bias=True,
        qk_norm=False,
        local=False,
        norm_epsilon=1e-6,
        queries=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_integer("heads", heads, minimum=1)
        self.heads = heads
        self.dropout = dropout
        self.qkv_bias = qkv_bias
        self.qk_norm = qk_norm
        self.local = local
        self.norm_epsilon = norm_epsilon
        self.queries = queries
        self.attention_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, tokens_shape):
        width = tokens_shape[-1]
        if width % self.heads:
            raise InputError(f"heads must divide width. Got heads={self.heads}, width={width}.")
        head_width, dtype = width // self.heads, self.dtype_policy
        # Drawn as three (width, width) matrices would be, not as one (width, 3 * width).
        initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
        self.qkv = keras.layers.Dense(
            3 * width,
            use_bias=self.qkv_bias,
            kernel_initializer=initializer,
            name="qkv",
            dtype=dtype,
        )
        self.qkv.build(tokens_shape)
        if self.qk_norm:
            head_shape = (None, self.heads, tokens_shape[1], head_width)
            self.query_norm = LayerNorm(self.norm_epsilon, name="query_norm", dtype=dtype)
            self.key_norm = LayerNorm(self.norm_epsilon, name="key_norm", dtype=dtype)
            self.query_norm.build(head_shape)
            self.key_norm.build(head_shape)
        if self.local:
            initializer = keras.initializers.Constant(head_width**0.5)
            self.temperature = self.add_weight(
                name="temperature", shape=(self.heads, 1, 1), initializer=initializer
            )
        self.projection = keras.layers.Dense(width, name="projection", dtype=dtype)
        self.projection.build(tokens_shape)

    def call(self, tokens, sizes=None, return_keys=False, training=None):
        """Attends.

        Args:
            sizes: (batch, tokens, 1), how many patches each token stands for: it is attended to as
                if it were there so many times (arXiv:2210.09461, section 3.1).
            return_keys: whether the keys are returned, too: (batch, heads, tokens, width / heads).
        """
        query, key, value = self._query_key_value(tokens)
        weights = self.attention_dropout(self._weights(query, key, sizes), training=training)
        tokens = self.projection(join_heads(ops.matmul(weights, value)))
        return (tokens, key) if return_keys else tokens

    def attention_weights(self, tokens, sizes=None):
        """What each token attends to: (batch, heads, queries, tokens), rows that sum to 1."""
        query, key, _ = self._query_key_value(tokens)
        return self._weights(query, key, sizes)

    def _query_key_value(self, tokens):
        """(batch, tokens, width) -> three of (batch, heads, tokens, width / heads)"""
        query, key, value = (split_heads(x, self.heads) for x in self._projected(tokens))
        if self.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        return query, key, value

    def _projected(self, tokens):
        """(batch, tokens, width) -> three of that shape, or fewer queries"""
        if not self.queries:
            return ops.split(self.qkv(tokens), 3, axis=-1)
        width, kernel = tokens.shape[-1], self.qkv.kernel
        query = ops.matmul(tokens[:, : self.queries], kernel[:, :width])
        key_value = ops.matmul(tokens, kernel[:, width:])
        if self.qkv_bias:
            query, key_value = query + self.qkv.bias[:width], key_value + self.qkv.bias[width:]
        return query, *ops.split(key_value, 2, axis=-1)

    def _weights(self, query, key, sizes):
        query = query / self.temperature if self.local else query * query.shape[-1] ** -0.5
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        if self.local:
            itself = ops.eye(*scores.shape[2:], dtype=scores.dtype)
            scores = scores - 1e4 * itself  # within the range of float16
        if sizes is not None:
            scores = scores + ops.log(ops.reshape(sizes, (-1, 1, 1, sizes.shape[1])))
        return softmax(scores)


def softmax(scores, axis=-1):
    """Softmax in float32, also under mixed precision, in the type of the scores"""
    return ops.cast(ops.softmax(ops.cast(scores, "float32"), axis), scores.dtype)


def split_heads(x, heads):
    """(batch, tokens, width) -> (batch, heads, tokens, width / heads)"""
    tokens, width = ops.shape(x)[1], x.shape[-1]
    x = ops.reshape(x, (-1, tokens, heads, width // heads))
    return ops.transpose(x, (0, 2, 1, 3))


def join_heads(x):
    """(batch, heads, tokens, width / heads) -> (batch, tokens, width)"""
    heads, tokens, head_width = x.shape[1], ops.shape(x)[2], x.shape[3]
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, tokens, heads * head_width))

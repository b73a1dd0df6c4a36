"""Tokens -> transformed tokens: what a transformer block is made of."""

import keras
from keras import ops

from vit_keras.config import GELUS, check_choice, check_integer
from vit_keras.errors import InputError

_register = keras.saving.register_keras_serializable(package="vit_keras")


@_register
class LayerNorm(keras.layers.LayerNormalization):
    """Keras's LayerNormalization in the order of operations that exports best.

    (..., width) -> (..., width). Written as (x - mean) / sqrt(variance + epsilon) * gamma + beta
    it becomes 7 TFLite operations instead of 11, and gamma and beta fold into the Dense behind
    it. Statistics are taken in float32 under mixed precision.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(epsilon=epsilon, **kwargs)

    def get_config(self):
        return {**keras.layers.Layer.get_config(self), "epsilon": self.epsilon}

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        x = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
        x = x * ops.rsqrt(variance + self.epsilon)
        return ops.cast(x * self.gamma + self.beta, self.compute_dtype)


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


@_register
class MLP(keras.layers.Layer):
    """Two Dense layers with a nonlinearity between them.

    (..., width) -> (..., width). Section 3.1 of arXiv:2010.11929.

    Args:
        hidden: units between the two.
        dropout: fraction, after both layers.
        gelu: "exact", "tanh" or "quick".
        swiglu: the first layer is twice as wide, and what leaves it is silu of its first half
            times its second (arXiv:2002.05202).
    """

    def __init__(self, hidden, dropout=0.0, gelu="exact", swiglu=False, **kwargs):
        super().__init__(**kwargs)
        check_integer("mlp_width", hidden, minimum=1)
        check_choice("gelu", gelu, GELUS)
        self.hidden = hidden
        self.dropout = dropout
        self.gelu = gelu
        self.swiglu = swiglu

    def build(self, tokens_shape):
        dtype = self.dtype_policy
        units = 2 * self.hidden if self.swiglu else self.hidden
        self.expand = keras.layers.Dense(units, name="expand", dtype=dtype)
        self.reduce = keras.layers.Dense(tokens_shape[-1], name="reduce", dtype=dtype)
        self.drop_units = keras.layers.Dropout(self.dropout, dtype=dtype)
        self.expand.build(tokens_shape)
        self.reduce.build((*tokens_shape[:-1], self.hidden))

    def call(self, tokens, training=None):
        x = self.expand(tokens)
        if self.swiglu:
            gate, x = ops.split(x, 2, axis=-1)
            x = ops.silu(gate) * x
        else:
            x = gelu(x, self.gelu)
        x = self.drop_units(x, training=training)
        return self.drop_units(self.reduce(x), training=training)


def gelu(x, form):
    """x times the normal distribution's cumulative function at x (arXiv:1606.08415).

    Args:
        x: any shape.
        form: "exact", or one of the two approximations of section 2 of that paper, "tanh" or
            "quick", x * sigmoid(1.702 x).
    """
    if form == "tanh":
        return keras.activations.gelu(x, approximate=True)
    if form == "quick":
        return x * ops.sigmoid(1.702 * x)
    # Not keras.activations.gelu: it lowers to Erfc, which ONNX does not have.
    return 0.5 * x * (1.0 + ops.erf(x * 2.0**-0.5))

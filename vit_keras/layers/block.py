"""Tokens -> tokens, one transformer block further."""

import keras
from keras import ops

from vit_keras.layers.attention import MultiHeadSelfAttention
from vit_keras.layers.merging import merge, tokens_and_sizes
from vit_keras.layers.mlp import MLP
from vit_keras.layers.norm import LayerNorm


@keras.saving.register_keras_serializable(package="vit_keras")
class TransformerBlock(keras.layers.Layer):
    """Attention and an MLP, each behind a LayerNorm and beside a residual connection.

    (batch, tokens, width) -> (batch, tokens, width). Equations 2 and 3 of arXiv:2010.11929. A block
    that merges takes tokens or [tokens, sizes], sizes (batch, tokens, 1), and returns the latter.

    Args:
        heads: attention heads; divides width.
        mlp_width: hidden units of the MLP.
        dropout: fraction, after the attention projection and both MLP layers.
        attention_dropout: fraction of attention weights dropped.
        stochastic_depth: fraction of images for which a branch is left out in training; the
            others' branches are scaled up to keep the mean (arXiv:1603.09382).
        norm_epsilon: added to the variance in every LayerNorm.
        layer_scale: initial value of a learned factor for each channel of both branches
            (arXiv:2103.17239); 0 for none.
        gelu, swiglu: as in `MLP`.
        qkv_bias, qk_norm, local, queries: as in `MultiHeadSelfAttention`.
        merge_tokens: patch tokens that are merged into others between attention and MLP (ToMe,
            arXiv:2210.09461), at most half of those there are; None for a block without sizes.
        prefix: how many tokens stand before the patches; they are never merged.
    """

    def __init__(
        self,
        heads,
        mlp_width,
        dropout=0.0,
        attention_dropout=0.0,
        stochastic_depth=0.0,
        norm_epsilon=1e-6,
        layer_scale=0.0,
        gelu="exact",
        swiglu=False,
        qkv_bias=True,
        qk_norm=False,
        local=False,
        queries=0,
        merge_tokens=None,
        prefix=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.heads = heads
        self.mlp_width = mlp_width
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.stochastic_depth = stochastic_depth
        self.norm_epsilon = norm_epsilon
        self.layer_scale = layer_scale
        self.gelu = gelu
        self.swiglu = swiglu
        self.qkv_bias = qkv_bias
        self.qk_norm = qk_norm
        self.local = local
        self.queries = queries
        self.merge_tokens = merge_tokens
        self.prefix = prefix
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(norm_epsilon, name="norm1", dtype=dtype)
        self.attention = MultiHeadSelfAttention(
            heads,
            attention_dropout,
            qkv_bias,
            qk_norm,
            local,
            norm_epsilon,
            queries,
            name="attention",
            dtype=dtype,
        )
        self.norm2 = LayerNorm(norm_epsilon, name="norm2", dtype=dtype)
        self.mlp = MLP(mlp_width, dropout, gelu, swiglu, name="mlp", dtype=dtype)
        self.drop_units = keras.layers.Dropout(dropout, dtype=dtype)
        self.drop_branch = keras.layers.Dropout(
            stochastic_depth, noise_shape=(None, 1, 1), dtype=dtype
        )

    def build(self, inputs_shape):
        tokens_shape, _ = tokens_and_sizes(inputs_shape)
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(tokens_shape)
        if self.layer_scale:
            shape = (tokens_shape[-1],)
            initializer = keras.initializers.Constant(self.layer_scale)
            self.scale1 = self.add_weight(name="scale1", shape=shape, initializer=initializer)
            self.scale2 = self.add_weight(name="scale2", shape=shape, initializer=initializer)

    def call(self, inputs, training=None):
        tokens, sizes = tokens_and_sizes(inputs)
        x, keys = self.attention(
            self.norm1(tokens), sizes=sizes, return_keys=True, training=training
        )
        x = self.drop_units(x, training=training)
        x = x * self.scale1 if self.layer_scale else x
        if self.queries:
            tokens = tokens[:, : self.queries]
        tokens = tokens + self.drop_branch(x, training=training)
        if self.merge_tokens is not None:
            sizes = ops.ones_like(tokens[..., :1]) if sizes is None else sizes
            count = min(self.merge_tokens, (tokens.shape[1] - self.prefix) // 2)
            if count:
                tokens, sizes = merge(tokens, sizes, keys, count, self.prefix)
        x = self.mlp(self.norm2(tokens), training=training)
        x = x * self.scale2 if self.layer_scale else x
        tokens = tokens + self.drop_branch(x, training=training)
        return tokens if self.merge_tokens is None else [tokens, sizes]

    def attention_weights(self, inputs):
        """What each token attends to: (batch, heads, queries, tokens), rows that sum to 1."""
        tokens, sizes = tokens_and_sizes(inputs)
        return self.attention.attention_weights(self.norm1(tokens), sizes)

"""Transformed tokens -> one pooled token for each image."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from vit_keras.config import BlockConfig
from vit_keras.layers.attention import join_heads, softmax, split_heads
from vit_keras.layers.block_layer import BlockLayer
from vit_keras.layers.merging import tokens_and_sizes
from vit_keras.layers.mlp import MLP
from vit_keras.layers.norm import LayerNorm
from vit_keras.utils.checks import check_choice

_register = keras.saving.register_keras_serializable(package="vit_keras")

KINDS = ("cls", "dist", "mean")


@_register
class Pool(keras.layers.Layer):
    """Picks one token of an image, or averages its patches.

    (batch, tokens, width) -> (batch, width). The layers of this file also take [tokens, sizes],
    sizes (batch, tokens, 1): a token counts for as many patches as it stands for.

    Args:
        kind: "cls", the first token; "dist", the second; "mean", the average of the patch tokens.
        prefix: how many tokens stand before the patches.
    """

    def __init__(self, kind, prefix=0, **kwargs):
        super().__init__(**kwargs)
        check_choice("kind", kind, KINDS)
        self.kind = kind
        self.prefix = prefix

    def call(self, inputs):
        tokens, sizes = tokens_and_sizes(inputs)
        if self.kind != "mean":
            return tokens[:, KINDS.index(self.kind)]
        tokens = tokens[:, self.prefix :]
        if sizes is None:
            return ops.mean(tokens, axis=1)
        sizes = sizes[:, self.prefix :]
        return ops.sum(tokens * sizes, axis=1) / ops.sum(sizes, axis=1)

    def attention_weights(self, inputs):
        """What each token counts for where all stand for one patch: (1, 1, 1, tokens)."""
        count = tokens_and_sizes(inputs)[0].shape[1]
        chosen = slice(self.prefix, None) if self.kind == "mean" else [KINDS.index(self.kind)]
        weights = np.zeros((1, 1, 1, count), "float32")
        weights[..., chosen] = 1.0
        return ops.convert_to_tensor(weights / weights.sum())


@_register
class AttentionPool(BlockLayer):
    """A learned probe attends to the patch tokens, and an MLP follows: the "MAP" head.

    (batch, tokens, width) -> (batch, width). arXiv:2106.04560, section 3.2, and big_vision's
    MAPHead: there is no LayerNorm before the attention, and the probe is no part of a residual.

    Args:
        heads: attention heads; divides width.
        mlp_width: hidden units of the MLP.
        norm_epsilon: added to the variance in the MLP's LayerNorm.
        gelu: "exact", "tanh" or "quick".
        prefix: how many tokens stand before the patches; they are left out, as in timm.
    """

    block_arguments: ClassVar[dict[str, str]] = {
        "heads": "heads",
        "mlp_width": "mlp_width",
        "norm_epsilon": "norm_epsilon",
        "gelu": "gelu",
    }

    def __init__(
        self,
        heads: int | None = None,
        mlp_width: int | None = None,
        *,
        prefix: int = 0,
        block: BlockConfig | None = None,
        **options: Any,
    ) -> None:
        super().__init__(block, heads=heads, mlp_width=mlp_width, **options)
        self.prefix = prefix

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "prefix": self.prefix}

    def build(self, inputs_shape):
        tokens_shape, _ = tokens_and_sizes(inputs_shape)
        width, dtype = tokens_shape[-1], self.dtype_policy
        pooled_shape = (None, 1, width)
        self.probe = self.add_weight(
            name="probe", shape=(1, 1, width), initializer="glorot_uniform"
        )
        self.query = keras.layers.Dense(width, name="query", dtype=dtype)
        self.key_value = keras.layers.Dense(2 * width, name="key_value", dtype=dtype)
        self.projection = keras.layers.Dense(width, name="projection", dtype=dtype)
        self.norm = LayerNorm(self.block.norm_epsilon, name="norm", dtype=dtype)
        self.mlp = MLP(self.block.mlp_width, gelu=self.block.gelu, name="mlp", dtype=dtype)
        self.key_value.build(tokens_shape)
        for layer in (self.query, self.projection, self.norm, self.mlp):
            layer.build(pooled_shape)

    def call(self, inputs):
        weights, value = self._attend(inputs)
        x = self.projection(join_heads(ops.matmul(weights, value)))
        x = x + self.mlp(self.norm(x))
        return x[:, 0]

    def attention_weights(self, inputs):
        """What each token counts for in each head: (batch, heads, 1, tokens)."""
        weights, _ = self._attend(inputs)
        return ops.pad(weights, ((0, 0), (0, 0), (0, 0), (self.prefix, 0)))

    def _attend(self, inputs):
        """-> weights (batch, heads, 1, patches), values (batch, heads, patches, width / heads)"""
        tokens, sizes = tokens_and_sizes(inputs)
        query = split_heads(
            self.query(self.probe), self.block.heads
        )  # (1, heads, 1, width / heads)
        query = query * query.shape[-1] ** -0.5
        key, value = (
            split_heads(x, self.block.heads)
            for x in ops.split(self.key_value(tokens[:, self.prefix :]), 2, axis=-1)
        )
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        if sizes is not None:
            patches = sizes.shape[1] - self.prefix
            scores = scores + ops.log(ops.reshape(sizes[:, self.prefix :], (-1, 1, 1, patches)))
        return softmax(scores), value


@_register
class SequencePool(keras.layers.Layer):
    """A mean of all tokens, weighted by how much each matters, which is learned.

    (batch, tokens, width) -> (batch, width). CCT, arXiv:2104.05704, section 3.2.
    """

    def build(self, inputs_shape):
        tokens_shape, _ = tokens_and_sizes(inputs_shape)
        self.importance = keras.layers.Dense(1, name="importance", dtype=self.dtype_policy)
        self.importance.build(tokens_shape)

    def call(self, inputs):
        tokens, sizes = tokens_and_sizes(inputs)
        return ops.sum(self._weights(tokens, sizes) * tokens, axis=1)

    def attention_weights(self, inputs):
        """What each token counts for: (batch, 1, 1, tokens)."""
        weights = self._weights(*tokens_and_sizes(inputs))
        return ops.reshape(weights, (-1, 1, 1, weights.shape[1]))

    def _weights(self, tokens, sizes):
        scores = self.importance(tokens)  # (batch, tokens, 1)
        if sizes is not None:
            scores = scores + ops.log(sizes)
        return softmax(scores, axis=1)

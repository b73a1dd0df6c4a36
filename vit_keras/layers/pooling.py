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
from vit_keras.utils.types import Tensor

_register = keras.saving.register_keras_serializable(package="vit_keras")

KINDS = ("cls", "dist", "mean")


def only_row(x: Tensor) -> Tensor:
    """(batch, 1, width) -> (batch, width); x[:, 0] would be a slice that phones' GPUs refuse."""
    return ops.reshape(x, (-1, x.shape[-1]))


@_register
class Pool(keras.layers.Layer):
    """Picks one token of an image, or averages its patches.

    (batch, tokens, width) -> (batch, width). The layers of this file also take [tokens, sizes],
    sizes (batch, tokens, 1), the number of patches in each token, which is its weight.

    Args:
        kind: "cls", the first token; "dist", the second; "mean", the average of the patch tokens.
        prefix: number of tokens before the patches.
        **kwargs: arguments of every Keras layer.

    Raises:
        InputError: for another kind.
    """

    def __init__(self, kind: str, prefix: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_choice("kind", kind, KINDS)
        self.kind = kind
        self.prefix = prefix

    def call(self, inputs: Tensor) -> Tensor:
        tokens, sizes = tokens_and_sizes(inputs)
        if self.kind != "mean":
            index = KINDS.index(self.kind)
            return only_row(tokens[:, index : index + 1])
        tokens = tokens[:, self.prefix :]
        if sizes is None:
            return ops.mean(tokens, axis=1)
        sizes = sizes[:, self.prefix :]
        return ops.sum(tokens * sizes, axis=1) / ops.sum(sizes, axis=1)

    def attention_weights(self, inputs: Tensor) -> Tensor:
        """Returns the weight of each token if none were merged.

        Args:
            inputs: as in `call`.

        Returns:
            (1, 1, 1, tokens), a row that sums to 1.
        """
        count = tokens_and_sizes(inputs)[0].shape[1]
        pooled = slice(self.prefix, None) if self.kind == "mean" else [KINDS.index(self.kind)]
        weights = np.zeros((1, 1, 1, count), "float32")
        weights[..., pooled] = 1.0
        return ops.convert_to_tensor(weights / weights.sum())


@_register
class AttentionPool(BlockLayer):
    """A learned probe attends to the patch tokens, and an MLP follows: the "MAP" head.

    (batch, tokens, width) -> (batch, width). arXiv:2106.04560, section 3.2, and big_vision's
    MAPHead: without a LayerNorm before the attention, and without a residual around it.

    Args:
        heads: attention heads; divides width. Required unless there is a block.
        mlp_width: hidden units of the MLP; required unless there is a block.
        prefix: number of tokens before the patches; they are ignored, as in timm.
        block: BlockConfig; the layer uses its heads, mlp_width, norm_epsilon and gelu.
        **options: norm_epsilon and gelu as in BlockConfig; arguments of every Keras layer.

    Raises:
        InputError: for a missing size, or a value that BlockConfig refuses.
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

    def build(self, inputs_shape: Any) -> None:
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

    def call(self, inputs: Tensor) -> Tensor:
        weights, value = self._attend(inputs)
        x = self.projection(join_heads(ops.matmul(weights, value)))
        x = x + self.mlp(self.norm(x))
        return only_row(x)

    def attention_weights(self, inputs: Tensor) -> Tensor:
        """Computes the weight of each token in each head.

        Args:
            inputs: as in `call`.

        Returns:
            (batch, heads, 1, tokens), rows that sum to 1; 0 for the prefix.
        """
        weights, _ = self._attend(inputs)
        return ops.pad(weights, ((0, 0), (0, 0), (0, 0), (self.prefix, 0)))

    def _attend(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Computes attention weights and values.

        Returns:
            (batch, heads, 1, patches) and (batch, heads, patches, width / heads).
        """
        tokens, sizes = tokens_and_sizes(inputs)
        tokens, width = tokens[:, self.prefix :], tokens.shape[-1]
        kernel, bias = self.key_value.kernel, self.key_value.bias
        score_kernel, score_bias = self._score_weights(kernel[:, :width], bias[:width])
        scores = ops.matmul(tokens, score_kernel) + score_bias  # (batch, patches, heads)
        scores = ops.expand_dims(ops.transpose(scores, (0, 2, 1)), 2)
        value = split_heads(ops.matmul(tokens, kernel[:, width:]) + bias[width:], self.block.heads)
        if sizes is not None:
            patches = sizes.shape[1] - self.prefix
            scores = scores + ops.log(ops.reshape(sizes[:, self.prefix :], (-1, 1, 1, patches)))
        return softmax(scores), value

    def _score_weights(self, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the keys (width, width), (width,) -> of the scores (width, heads), (heads,).

        The query is the same for all images, so its product with the keys is a product of the
        tokens with constants.
        """
        heads = self.block.heads
        query = ops.reshape(self.query(self.probe), (heads, -1))
        query = query * query.shape[-1] ** -0.5
        kernel = ops.reshape(kernel, (-1, heads, query.shape[-1]))
        bias = ops.reshape(bias, (heads, -1))
        return ops.sum(kernel * query, axis=-1), ops.sum(bias * query, axis=-1)


@_register
class SequencePool(keras.layers.Layer):
    """A mean of all tokens with learned weights.

    (batch, tokens, width) -> (batch, width). CCT, arXiv:2104.05704, section 3.2.
    """

    def build(self, inputs_shape: Any) -> None:
        tokens_shape, _ = tokens_and_sizes(inputs_shape)
        self.importance = keras.layers.Dense(1, name="importance", dtype=self.dtype_policy)
        self.importance.build(tokens_shape)

    def call(self, inputs: Tensor) -> Tensor:
        tokens, sizes = tokens_and_sizes(inputs)
        return ops.sum(self._weights(tokens, sizes) * tokens, axis=1)

    def attention_weights(self, inputs: Tensor) -> Tensor:
        """Computes the weight of each token.

        Args:
            inputs: as in `call`.

        Returns:
            (batch, 1, 1, tokens), rows that sum to 1.
        """
        weights = self._weights(*tokens_and_sizes(inputs))
        return ops.reshape(weights, (-1, 1, 1, weights.shape[1]))

    def _weights(self, tokens: Tensor, sizes: Tensor) -> Tensor:
        scores = self.importance(tokens)  # (batch, tokens, 1)
        if sizes is not None:
            scores = scores + ops.log(sizes)
        return softmax(scores, axis=1)

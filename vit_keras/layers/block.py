"""Tokens -> tokens: one transformer block."""

from typing import Any, ClassVar

import keras
from keras import ops

from vit_keras.config import BlockConfig
from vit_keras.layers.attention import MultiHeadSelfAttention
from vit_keras.layers.block_layer import BlockLayer
from vit_keras.layers.merging import merge, tokens_and_sizes
from vit_keras.layers.mlp import MLP
from vit_keras.layers.norm import LayerNorm
from vit_keras.utils.types import Tensor


@keras.saving.register_keras_serializable(package="vit_keras")
class TransformerBlock(BlockLayer):
    """Attention and an MLP, each after a LayerNorm and with a residual connection.

    (batch, tokens, width) -> (batch, tokens, width). Equations 2 and 3 of arXiv:2010.11929. A block
    that merges tokens takes tokens or [tokens, sizes], sizes (batch, tokens, 1), and returns the
    latter.

    Args:
        heads: attention heads; divides width. Required unless there is a block.
        mlp_width: hidden units of the MLP; required unless there is a block.
        stochastic_depth: fraction of images for which a branch is left out in training; the
            branches of the other images are scaled up to keep the mean (arXiv:1603.09382).
        queries: how many tokens, the first ones, are computed and returned; 0 for all.
        merge_tokens: patch tokens to merge into others between attention and MLP (ToMe,
            arXiv:2210.09461), at most half of the patch tokens; None for a block without sizes.
        prefix: number of tokens before the patches; they are never merged.
        block: BlockConfig with all options of the block.
        **options: dropout, attention_dropout, norm_epsilon, layer_scale, gelu, swiglu, qkv_bias,
            qk_norm, and local for locality_attention, as in BlockConfig; arguments of every Keras
            layer.

    Raises:
        InputError: for a missing size, or a value that BlockConfig refuses.

    Example:
        >>> tokens = keras.Input((197, 192))
        >>> TransformerBlock(heads=3, mlp_width=768)(tokens).shape
        (None, 197, 192)
    """

    block_arguments: ClassVar[dict[str, str]] = {
        "heads": "heads",
        "mlp_width": "mlp_width",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "norm_epsilon": "norm_epsilon",
        "layer_scale": "layer_scale",
        "gelu": "gelu",
        "swiglu": "swiglu",
        "qkv_bias": "qkv_bias",
        "qk_norm": "qk_norm",
        "local": "locality_attention",
    }

    def __init__(
        self,
        heads: int | None = None,
        mlp_width: int | None = None,
        *,
        stochastic_depth: float = 0.0,
        queries: int = 0,
        merge_tokens: int | None = None,
        prefix: int = 0,
        block: BlockConfig | None = None,
        **options: Any,
    ) -> None:
        super().__init__(block, heads=heads, mlp_width=mlp_width, **options)
        self.stochastic_depth = stochastic_depth
        self.queries = queries
        self.merge_tokens = merge_tokens
        self.prefix = prefix
        block, dtype = self.block, self.dtype_policy
        self.norm1 = LayerNorm(block.norm_epsilon, name="norm1", dtype=dtype)
        self.attention = MultiHeadSelfAttention(
            block=block, queries=queries, name="attention", dtype=dtype
        )
        self.norm2 = LayerNorm(block.norm_epsilon, name="norm2", dtype=dtype)
        self.mlp = MLP(block=block, name="mlp", dtype=dtype)
        self.drop_units = keras.layers.Dropout(block.dropout, dtype=dtype)
        self.drop_branch = keras.layers.Dropout(
            stochastic_depth, noise_shape=(None, 1, 1), dtype=dtype
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "stochastic_depth": self.stochastic_depth,
            "queries": self.queries,
            "merge_tokens": self.merge_tokens,
            "prefix": self.prefix,
        }

    def build(self, inputs_shape: Any) -> None:
        tokens_shape, _ = tokens_and_sizes(inputs_shape)
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(tokens_shape)
        if self.block.layer_scale:
            shape = (tokens_shape[-1],)
            initializer = keras.initializers.Constant(self.block.layer_scale)
            self.scale1 = self.add_weight(name="scale1", shape=shape, initializer=initializer)
            self.scale2 = self.add_weight(name="scale2", shape=shape, initializer=initializer)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        tokens, sizes = tokens_and_sizes(inputs)
        x, keys = self.attention(
            self.norm1(tokens), sizes=sizes, return_keys=True, training=training
        )
        x = self.drop_units(x, training=training)
        x = x * self.scale1 if self.block.layer_scale else x
        if self.queries:
            tokens = tokens[:, : self.queries]
        tokens = tokens + self.drop_branch(x, training=training)
        if self.merge_tokens is not None:
            sizes = ops.ones_like(tokens[..., :1]) if sizes is None else sizes
            count = min(self.merge_tokens, (tokens.shape[1] - self.prefix) // 2)
            if count:
                tokens, sizes = merge(tokens, sizes, keys, count, self.prefix)
        x = self.mlp(self.norm2(tokens), training=training)
        x = x * self.scale2 if self.block.layer_scale else x
        tokens = tokens + self.drop_branch(x, training=training)
        return tokens if self.merge_tokens is None else [tokens, sizes]

    def attention_weights(self, inputs: Tensor) -> Tensor:
        """Computes the attention weights of the block.

        Args:
            inputs: the block's input.

        Returns:
            (batch, heads, queries, tokens), rows that sum to 1.
        """
        tokens, sizes = tokens_and_sizes(inputs)
        return self.attention.attention_weights(self.norm1(tokens), sizes)

"""Tokens -> tokens through two dense layers."""

from typing import Any, ClassVar

import keras
from keras import ops

from vit_keras.config import BlockConfig
from vit_keras.layers.block_layer import BlockLayer
from vit_keras.utils.types import Shape, Tensor

_register = keras.saving.register_keras_serializable(package="vit_keras")


@_register
class MLP(BlockLayer):
    """Two Dense layers with a nonlinearity between them.

    (..., width) -> (..., width). Section 3.1 of arXiv:2010.11929.

    Args:
        hidden: units between the two layers; required unless there is a block.
        block: BlockConfig, of which the layer uses mlp_width as `hidden`, dropout, gelu and
            swiglu.
        **options: dropout, gelu, swiglu as in BlockConfig; arguments of every Keras layer. With
            swiglu the first layer is twice as wide, and its output is silu of the first half times
            the second half (arXiv:2002.05202).

    Raises:
        InputError: for a missing `hidden`, or a value that BlockConfig refuses.
    """

    block_arguments: ClassVar[dict[str, str]] = {
        "hidden": "mlp_width",
        "dropout": "dropout",
        "gelu": "gelu",
        "swiglu": "swiglu",
    }

    def __init__(
        self, hidden: int | None = None, *, block: BlockConfig | None = None, **options: Any
    ) -> None:
        super().__init__(block, hidden=hidden, **options)

    def build(self, tokens_shape: Shape) -> None:
        block, dtype = self.block, self.dtype_policy
        units = 2 * block.mlp_width if block.swiglu else block.mlp_width
        self.expand = keras.layers.Dense(units, name="expand", dtype=dtype)
        self.reduce = keras.layers.Dense(tokens_shape[-1], name="reduce", dtype=dtype)
        self.drop_units = keras.layers.Dropout(block.dropout, dtype=dtype)
        self.expand.build(tokens_shape)
        self.reduce.build((*tokens_shape[:-1], block.mlp_width))

    def call(self, tokens: Tensor, training: bool | None = None) -> Tensor:
        x = self.expand(tokens)
        if self.block.swiglu:
            gate, x = ops.split(x, 2, axis=-1)
            x = ops.silu(gate) * x
        else:
            x = gelu(x, self.block.gelu)
        x = self.drop_units(x, training=training)
        return self.drop_units(self.reduce(x), training=training)


def gelu(x: Tensor, form: str) -> Tensor:
    """Multiplies x by the normal distribution's cumulative function at x (arXiv:1606.08415).

    Args:
        x: any shape.
        form: "exact", or one of the two approximations of section 2 of that paper, "tanh" or
            "quick", x * sigmoid(1.702 x).

    Returns:
        A tensor of the shape of x.
    """
    if form == "tanh":
        return keras.activations.gelu(x, approximate=True)
    if form == "quick":
        return x * ops.sigmoid(1.702 * x)
    # Not keras.activations.gelu: it lowers to Erfc, which ONNX does not have.
    return 0.5 * x * (1.0 + ops.erf(x * 2.0**-0.5))

"""Tokens -> tokens through two dense layers."""

import keras
from keras import ops

from vit_keras.config import GELUS, check_choice, check_integer

_register = keras.saving.register_keras_serializable(package="vit_keras")


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

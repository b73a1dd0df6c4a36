"""Operations as tf2onnx writes them -> fewer and larger ones, or ones that onnxruntime fuses."""

import numpy as np
from onnxscript.rewriter import pattern


def _norm(op, x, scale, epsilon, gamma, beta):
    centred, factor = _normed(op, x, scale, epsilon)
    return op.Add(op.Mul(op.Mul(centred, factor), gamma), beta)


def _norm_of_grappler(op, x, scale, epsilon, gamma, beta):
    # TensorFlow's graph optimiser multiplies in another order.
    centred, factor = _normed(op, x, scale, epsilon)
    return op.Add(op.Mul(centred, op.Mul(factor, gamma)), beta)


def _normed(op, x, scale, epsilon):
    anything = {"_allow_other_inputs": True, "_allow_other_attributes": True}
    centred = op.Sub(x, op.ReduceMean(x, **anything))
    scaled = op.Mul(centred, scale)
    variance = op.ReduceSum(op.Mul(scaled, scaled), **anything)
    return centred, op.Reciprocal(op.Sqrt(op.Add(variance, epsilon)))


def _is_layer_norm(context, x, scale, **_):
    """Whether the sum of squares of scaled numbers is their mean."""
    number = scale.const_value
    return number is not None and np.allclose(number.numpy() ** -2.0, x.shape[-1])


def _layer_normalization(op, x, scale, epsilon, gamma, beta):
    value = float(epsilon.const_value.numpy().item())
    return op.LayerNormalization(x, gamma, beta, axis=-1, epsilon=value)


def _exact_gelu(op, x, half, root, one):
    return op.Mul(op.Mul(x, half), op.Add(op.Erf(op.Mul(x, root)), one))


def _gelu_of_onnxruntime(op, x, half, root, one):
    """The order that onnxruntime recognises: x * (erf(x / sqrt(2)) + 1) * 0.5."""
    divided = op.Div(x, op.Constant(value_float=float(np.sqrt(2))))
    return op.Mul(op.Mul(x, op.Add(op.Erf(divided), one)), half)


def _flattened_matmul(op, x, kernel, flat, back):
    return op.Reshape(op.MatMul(op.Reshape(x, flat), kernel), back, _outputs=["result"])


def _matmul(op, x, kernel, **_):
    return op.MatMul(x, kernel)


def _keeps_its_axes(context, x, result, **_):
    """Whether a (batch, tokens, width) is only flattened for the product, and then restored."""
    shapes = x.shape, result.shape
    return all(shape is not None and len(shape) == 3 for shape in shapes) and (
        shapes[0][1] == shapes[1][1]
    )


# Each rule: the pattern to find, its replacement, and a condition or None.
RULES = pattern.RewriteRuleSet(
    [
        pattern.RewriteRule(_norm, _layer_normalization, _is_layer_norm),
        pattern.RewriteRule(_norm_of_grappler, _layer_normalization, _is_layer_norm),
        pattern.RewriteRule(_exact_gelu, _gelu_of_onnxruntime),
        pattern.RewriteRule(_flattened_matmul, _matmul, _keeps_its_axes),
    ],
    commute=True,
)

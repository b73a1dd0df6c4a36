"""A Core ML package -> the answers of its program, computed with NumPy.

The operations of MIL that models of this project consist of, by coremltools' documentation. Half
floats are computed as half floats: what overflows on a phone overflows here.
"""

from typing import Any

import coremltools
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import erf

TYPES = {"fp16": "float16", "fp32": "float32", "int32": "int32", "bool": "bool"}


def run_package(path, pixels):
    """Runs a program on one image.

    Args:
        path: of the .mlpackage.
        pixels: uint8 (height, width, channels).

    Returns:
        {output: array, or for a classifier's label a str and for its classes {label: probability}}.
    """
    package = coremltools.models.MLModel(str(path), skip_model_load=True)
    spec = package.get_spec()
    program = load(spec, spec.specificationVersion, package.weights_dir)
    function = program.functions["main"]
    (name,) = function.inputs
    values: dict[str, Any] = {name: pixels.transpose(2, 0, 1)[np.newaxis].astype("float32")}
    for operation in function.operations:
        if operation.op_type != "const":
            inputs = {key: value_of(var, values) for key, var in operation.inputs.items()}
            with np.errstate(over="ignore", invalid="ignore"):
                outputs = OPERATIONS[operation.op_type](**inputs)
            if not isinstance(outputs, tuple):
                outputs = (outputs,)
            for var, output in zip(operation.outputs, outputs, strict=True):
                values[var.name] = output
    return {output.name: values[output.name] for output in spec.description.output}


def value_of(var, values):
    """The array of a variable or constant, or the list of them."""
    if isinstance(var, list | tuple):
        return [value_of(item, values) for item in var]
    return values[var.name] if var.val is None else var.val


def softmax(x, axis):
    exponentials = np.exp(x - x.max(axis, keepdims=True))
    return exponentials / exponentials.sum(axis, keepdims=True)


def gelu(x, mode="EXACT"):
    x32 = x.astype("float32")
    if mode == "EXACT":
        return (x32 * (1 + erf(x32 / np.sqrt(2))) / 2).astype(x.dtype)
    return (x32 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x32 + 0.044715 * x32**3))) / 2).astype(x.dtype)


def sigmoid(x):
    return (1 / (1 + np.exp(-x.astype("float32")))).astype(x.dtype)


def slice_by_index(x, begin, end, begin_mask, end_mask, squeeze_mask, stride=None):
    steps = np.ones(x.ndim, int) if stride is None else stride
    slices: list[Any] = []
    for axis in range(x.ndim):
        if squeeze_mask[axis]:
            slices.append(begin[axis])
            continue
        first = None if begin_mask[axis] else begin[axis]
        slices.append(slice(first, None if end_mask[axis] else end[axis], steps[axis]))
    return x[tuple(slices)]


def windows(x, size, strides, pad_type, pad, fill):
    """(batch, channels, rows, columns) -> (batch, channels, rows, columns, *size) of windows."""
    if pad_type == "same":
        totals = [max(0, (int(np.ceil(n / s)) - 1) * s + k - n)
                  for n, k, s in zip(x.shape[2:], size, strides, strict=True)]  # fmt: skip
        pad = [half for total in totals for half in (total // 2, total - total // 2)]
    if pad_type != "valid":
        x = np.pad(x, [(0, 0), (0, 0), pad[:2], pad[2:]], constant_values=fill)
    return sliding_window_view(x, tuple(size), (2, 3))[:, :, :: strides[0], :: strides[1]]


def conv(x, weight, strides, pad_type, pad, dilations, groups, bias=None):
    assert groups == 1
    assert set(dilations) == {1}
    patches = windows(x, weight.shape[2:], strides, pad_type, pad, 0)
    result = np.einsum("bcyxij,ocij->boyx", patches, weight)
    return result if bias is None else result + bias[:, np.newaxis, np.newaxis]


def max_pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode):
    assert not ceil_mode
    return windows(x, kernel_sizes, strides, pad_type, pad, -np.inf).max((-2, -1))


def classify(probabilities, classes):
    scores = dict(zip(classes, probabilities.ravel().tolist(), strict=True))
    return max(scores, key=scores.__getitem__), scores


def matmul(x, y, transpose_x=False, transpose_y=False):
    return (x.swapaxes(-1, -2) if transpose_x else x) @ (y.swapaxes(-1, -2) if transpose_y else y)


OPERATIONS: dict[str, Any] = {
    "abs": lambda x: np.abs(x),
    "add": lambda x, y: x + y,
    "cast": lambda x, dtype: x.astype(TYPES[dtype]),
    "classify": classify,
    "concat": lambda values, axis, interleave=False: np.concatenate(values, axis),
    "conv": conv,
    "expand_dims": lambda x, axes: np.expand_dims(x, tuple(axes)),
    "greater": lambda x, y: x > y,
    "gelu": gelu,
    "inverse": lambda x, epsilon: 1 / (x + epsilon),
    "linear": lambda x, weight, bias=0: x @ weight.T + bias,
    "log": lambda x, epsilon: np.log(x + epsilon),
    "matmul": matmul,
    "max_pool": max_pool,
    "mul": lambda x, y: x * y,
    "real_div": lambda x, y: x / y,
    "reduce_max": lambda x, axes, keep_dims: x.max(tuple(axes), keepdims=bool(keep_dims)),
    "reduce_mean": lambda x, axes, keep_dims: x.mean(tuple(axes), keepdims=bool(keep_dims)),
    "reduce_sum": lambda x, axes, keep_dims: x.sum(tuple(axes), keepdims=bool(keep_dims)),
    "relu": lambda x: np.maximum(x, 0),
    "reshape": lambda x, shape: x.reshape(shape),
    "rsqrt": lambda x, epsilon: 1 / np.sqrt(x + epsilon),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "slice_by_index": slice_by_index,
    "softmax": softmax,
    "split": lambda x, num_splits, axis: tuple(np.split(x, num_splits, axis)),
    "squeeze": lambda x, axes=None: x.squeeze(None if axes is None else tuple(axes)),
    "sub": lambda x, y: x - y,
    "tile": lambda x, reps: np.tile(x, reps),
    "transpose": lambda x, perm: x.transpose(perm),
}

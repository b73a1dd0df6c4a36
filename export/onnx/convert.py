"""ViT -> .onnx for onnxruntime and others: images of the model's size in, probabilities out."""

import collections
import contextlib
import logging
import pathlib
import tempfile

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxscript import optimizer
from onnxscript.rewriter import pattern, rewrite

from export.endpoints import pixel_classifier
from export.labels import class_labels, metadata_files

OPSET = 18  # the highest that tf2onnx 1.17 writes and has LayerNormalization


def convert(model, path, options):
    """Writes a float32 .onnx, by tf2onnx, in fewer and larger operations.

    Args:
        model: ViT.
        path: the file to write.
        options: Options, of which preprocess, batch and attention count.
    """
    answer, spec = pixel_classifier(model, options.preprocess, options.attention, options.batch)
    with _quiet():
        written, _ = tf2onnx.convert.from_function(
            tf.function(answer, input_signature=[spec]), [spec], opset=OPSET
        )
    shaped = onnx.shape_inference.infer_shapes(written, data_prop=True)
    onnx.save(optimizer.optimize(rewrite(shaped, RULES)), path)


def describe(path, model, options):
    """Adds what the users of a file need, under metadata_props.

    That is labels.txt and preprocessing.json, as other artefacts carry them, and the author,
    licence and version of the model.
    """
    written = onnx.load(path)
    written.producer_name, written.producer_version = "vit-keras-edge", ""
    written.doc_string = model.description
    about = {"author": options.author, "license": options.license, "version": options.version}
    about |= metadata_files(model, class_labels(model))
    onnx.helper.set_model_props(written, {key: text for key, text in about.items() if text})
    onnx.save(written, path)


def write_dynamic(source, path, images, options):
    """Weights of 8 bits; what they multiply is brought to 8 bits anew for each image."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        inferred = pathlib.Path(folder) / "inferred.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(onnx.load(source)), inferred)
        quantize_dynamic(inferred, path, weight_type=QuantType.QInt8, per_channel=True)


def count_operations(path):
    """{name: how many} of the operations in a .onnx file, the most frequent first"""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return dict(collections.Counter(node.op_type for node in nodes).most_common())


# What tf2onnx writes, and what it becomes: operations that onnxruntime knows as one, or makes one
# of. Each rule is (what is looked for, what takes its place, a condition or None).


def _norm(op, x, epsilon, gamma, beta):
    centred, factor = _normed(op, x, epsilon)
    return op.Add(op.Mul(op.Mul(centred, factor), gamma), beta)


def _norm_of_grappler(op, x, epsilon, gamma, beta):
    centred, factor = _normed(op, x, epsilon)  # multiplied in another order
    return op.Add(op.Mul(centred, op.Mul(factor, gamma)), beta)


def _normed(op, x, epsilon):
    anything = {"_allow_other_inputs": True, "_allow_other_attributes": True}
    centred = op.Sub(x, op.ReduceMean(x, **anything))
    variance = op.ReduceMean(op.Mul(centred, centred), **anything)
    return centred, op.Reciprocal(op.Sqrt(op.Add(variance, epsilon)))


def _layer_normalization(op, x, epsilon, gamma, beta):
    value = float(epsilon.const_value.numpy().item())
    return op.LayerNormalization(x, gamma, beta, axis=-1, epsilon=value)


def _exact_gelu(op, x, half, root, one):
    return op.Mul(op.Mul(x, half), op.Add(op.Erf(op.Mul(x, root)), one))


def _gelu_of_onnxruntime(op, x, half, root, one):
    """In the order in which onnxruntime finds it: x * (erf(x / sqrt(2)) + 1) * 0.5"""
    divided = op.Div(x, op.Constant(value_float=float(np.sqrt(2))))
    return op.Mul(op.Mul(x, op.Add(op.Erf(divided), one)), half)


def _flattened_matmul(op, x, kernel, flat, back):
    return op.Reshape(op.MatMul(op.Reshape(x, flat), kernel), back, _outputs=["result"])


def _matmul(op, x, kernel, **_):
    return op.MatMul(x, kernel)


def _keeps_its_axes(context, x, result, **_):
    """Whether (batch, tokens, width) is flattened to be multiplied, and gets its shape back"""
    shapes = x.shape, result.shape
    return all(shape is not None and len(shape) == 3 for shape in shapes) and (
        shapes[0][1] == shapes[1][1]
    )


RULES = pattern.RewriteRuleSet(
    [
        pattern.RewriteRule(_norm, _layer_normalization),
        pattern.RewriteRule(_norm_of_grappler, _layer_normalization),
        pattern.RewriteRule(_exact_gelu, _gelu_of_onnxruntime),
        pattern.RewriteRule(_flattened_matmul, _matmul, _keeps_its_axes),
    ],
    commute=True,
)


@contextlib.contextmanager
def _quiet():
    """Without the logs of tf2onnx and the quantiser, which speak of what is no matter here"""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)

"""Model -> .onnx for onnxruntime and others: images of the model's size in, the answer out."""

import pathlib

import keras
import onnx
import tensorflow as tf
import tf2onnx
from onnxscript import optimizer
from onnxscript.rewriter import rewrite

from export.endpoints.pixels import pixel_function
from export.labels import metadata_files
from export.onnx.rewrites import RULES
from export.options import Options
from export.quiet import quiet

OPSET = 18  # the highest that tf2onnx 1.17 writes; it has LayerNormalization
BATCH_AXIS = "batch"


def write_onnx(model: keras.Model, path: str | pathlib.Path, options: Options) -> None:
    """Writes a float32 .onnx with tf2onnx, and rewrites it in fewer and larger operations.

    Args:
        model: the model as exported.
        path: the file to write.
        options: Options; preprocess, batch and attention are used.
    """
    answer, spec = pixel_function(model, options, options.batch)
    with quiet():
        converted, _ = tf2onnx.convert.from_function(
            tf.function(answer, input_signature=[spec]), [spec], opset=OPSET
        )
    if options.batch is None:
        _name_batch_axis(converted.graph)
    shaped = onnx.shape_inference.infer_shapes(converted, data_prop=True)
    onnx.save(optimizer.optimize(rewrite(shaped, RULES)), path)


def _name_batch_axis(graph):
    """Names the first axis of inputs and outputs; tf2onnx numbers it differently each time."""
    del graph.value_info[:]  # shapes with numbered axes; they are inferred again
    for tensor in [*graph.input, *graph.output]:
        tensor.type.tensor_type.shape.dim[0].dim_param = BATCH_AXIS


def add_properties(model: keras.Model, path: str | pathlib.Path, options: Options) -> None:
    """Adds metadata_props to a .onnx file.

    These are labels.txt and preprocessing.json, as in other artefacts, and the author, licence and
    version of the model.

    Args:
        model: the model that the file was made from.
        path: the file; it is replaced.
        options: Options; author, license and version are used.
    """
    graph = onnx.load(path)
    graph.producer_name, graph.producer_version = "vit-keras-edge", ""
    graph.doc_string = model.description
    about = {"author": options.author, "license": options.license, "version": options.version}
    about |= metadata_files(model)
    onnx.helper.set_model_props(graph, {key: text for key, text in about.items() if text})
    onnx.save(graph, path)

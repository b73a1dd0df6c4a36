"""Half floats, dynamic and static int8 of .onnx files: size, types, ranges and answers."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from support.answers import NORMALISATION, classifier
from support.shared import shared_folder

import export as exporting
from export.formats import FORMATS
from export.images import load_images
from export.options import Options
from export.source import Source
from vit_keras import InputError, Preprocessing

pytestmark = pytest.mark.slow

PROVIDERS = ["CPUExecutionProvider"]


@pytest.fixture(scope="session")
def model():
    return classifier(Preprocessing((16, 24), **NORMALISATION))


@pytest.fixture(scope="session")
def data():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (90, 16, 24, 3), "uint8"), np.arange(90) % 5


@pytest.fixture(scope="session")
def exported_onnx(model, data, tmp_path_factory):
    """(path, row of the report) of the model in float32, for batches of any size."""

    def build(folder):
        row = exporting.to_onnx(model, folder / "model.onnx", data=data)
        (folder / "row.json").write_text(json.dumps(row))

    folder = shared_folder(tmp_path_factory, "exported_for_kinds", build)
    return folder / "model.onnx", json.loads((folder / "row.json").read_text())


def test_dynamic_int8_is_smaller_and_close_to_keras(model, data, exported_onnx, tmp_path):
    _, float32 = exported_onnx
    int8 = exporting.to_onnx(
        model, tmp_path / "int8.onnx", data=data, quantization="dynamic", allow_drop=True
    )

    assert int8["bytes"] < 0.6 * float32["bytes"]  # a quarter of the weights, and the same graph
    assert int8["operations"]["MatMulInteger"] >= 10
    assert 0 < int8["max_difference"] < 0.2
    with pytest.raises(InputError, match="quantization must be one of float32, float16, dynamic"):
        exporting.to_onnx(model, tmp_path / "int8", quantization="int16x8", data=data)


@pytest.fixture(scope="session")
def quantized(model, data, exported_onnx):
    """(kind, path) -> writes that kind of `exported_onnx` without verification; returns Source."""

    def write(kind, path):
        images = load_images(model, data=data)
        source = Source(exported_onnx[0], model, images, Options())
        FORMATS["onnx"].kinds[kind].write(source, path)
        return source

    return write


def producers(graph):
    """{tensor: the node that computes it}."""
    return {output: node for node in graph.node for output in node.output}


def test_float16_is_half_as_large_and_close_to_keras(model, data, exported_onnx, tmp_path):
    path = tmp_path / "half.onnx"
    float32 = exported_onnx[1]

    row = exporting.to_onnx(model, path, data=data, quantization="float16")

    assert row["bytes"] < 0.65 * float32["bytes"]
    assert 0 < row["max_difference"] <= 0.003
    assert row["tolerance"] == 0.01
    written = onnx.load(path)
    onnx.checker.check_model(written, full_check=True)
    (images,), (output,) = written.graph.input, written.graph.output
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    weights = [tensor for tensor in written.graph.initializer if len(tensor.dims) == 2]
    assert len(weights) > 8
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}


def test_norms_and_softmax_of_a_float16_file_are_computed_in_float32(quantized, tmp_path):
    quantized("float16", tmp_path / "half.onnx")

    graph = onnx.load(tmp_path / "half.onnx").graph
    before = producers(graph)
    wide = [node for node in graph.node if node.op_type in ("LayerNormalization", "Softmax")]
    casts = [before[node.input[0]] for node in wide]
    assert len(casts) == 5 + 3  # two blocks with two norms and a softmax, the final norm and answer
    assert {node.op_type for node in casts} == {"Cast"}
    assert {node.attribute[0].i for node in casts} == {onnx.TensorProto.FLOAT}


def test_static_int8_has_every_product_with_weights_in_integers(
    model, data, exported_onnx, quantized, tmp_path
):
    quantized("int8", tmp_path / "int8.onnx")
    row = exporting.to_onnx(
        model, tmp_path / "verified.onnx", data=data, quantization="int8", allow_drop=True
    )

    assert row["bytes"] < 0.6 * exported_onnx[1]["bytes"]
    assert 0 < row["max_difference"] < 0.2
    written = onnx.load(tmp_path / "int8.onnx")
    onnx.checker.check_model(written, full_check=True)
    assert {entry.domain: entry.version for entry in written.opset_import} == {"": 18}
    before = producers(written.graph)
    products = [node for node in written.graph.node if node.op_type in ("MatMul", "Gemm")]
    # Four of a block, patches, head, and the queries of the trimmed last block; in float32 the two
    # products with attention scores in each block.
    factors = [[before[name].op_type for name in node.input[:2]] for node in products]
    integer = [names for names in factors if "DequantizeLinear" in names]
    assert integer == [["DequantizeLinear"] * 2] * (2 * 4 + 2 + 1)
    assert len(products) - len(integer) == 2 * 2
    arrays = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in written.graph.initializer
    }
    weights = [array for array in arrays.values() if array.dtype == np.int8 and array.ndim == 2]
    assert len(weights) == 2 * 4 + 2 + 1  # four of a block have weights
    assert max(np.abs(array).max() for array in weights) == 64  # products of 7 bits fit everywhere


def test_int8_ranges_are_the_least_and_greatest_of_all_calibration_images(
    exported_onnx, quantized, tmp_path
):
    source = quantized("int8", tmp_path / "int8.onnx")

    graph = onnx.load(tmp_path / "int8.onnx").graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantize = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    activations = {node.input[0]: node.input[1] for node in quantize}
    # onnxruntime computes these tensors of the float32 file, with all images in one batch.
    float32 = onnx.load(exported_onnx[0])
    for name in activations:
        float32.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    outputs = list(activations)
    loaded = onnxruntime.InferenceSession(float32.SerializeToString(), providers=PROVIDERS)
    values = loaded.run(outputs, {"images": source.images["calibration"].pixels})
    assert len(outputs) > 10
    for name, array in zip(outputs, values, strict=True):
        # A scale of 255 steps; zero is always one of the values.
        expected = (max(0, array.max()) - min(0, array.min())) / 255
        assert arrays[activations[name]] == pytest.approx(expected, rel=1e-4), name

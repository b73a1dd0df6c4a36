""".onnx files: few, fused operations; onnxruntime answers like Keras."""

import collections
import json
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from support.answers import CLASSES, NORMALISATION, classifier
from support.shared import shared_folder
from support.tiny import randomise, tiny_model

import export as exporting
from export.checks.runtimes import run_standalone
from export.checks.verify import Samples
from export.endpoints import inference_model
from export.onnx import convert as onnx_model
from export.options import Options
from vit_keras import InputError, Preprocessing, attention_rollout, build_vit, load_model

pytestmark = pytest.mark.slow

PROVIDERS = ["CPUExecutionProvider"]
AUTHOR: dict[str, Any] = {"author": "A. Nobody", "license": "MIT", "version": "2"}


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
        row = exporting.to_onnx(model, folder / "model.onnx", data=data, **AUTHOR)
        (folder / "row.json").write_text(json.dumps(row))

    folder = shared_folder(tmp_path_factory, "exported_onnx", build)
    return folder / "model.onnx", json.loads((folder / "row.json").read_text())


def session(path):
    return onnxruntime.InferenceSession(path, providers=PROVIDERS)


def operations(path):
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("gelu", ["exact", "tanh", "quick"])
@pytest.mark.parametrize("preprocess", ["in-graph", "none"])
def test_batches_of_any_size_get_the_answers_of_keras(gelu, preprocess, data, tmp_path):
    model = tiny_model(gelu=gelu)
    path = tmp_path / "model.onnx"

    row = exporting.to_onnx(model, path, data=data, preprocess=preprocess)

    assert row["max_difference"] <= 2e-5
    written = onnx.load(path)
    onnx.checker.check_model(written, full_check=True)
    assert {entry.domain: entry.version for entry in written.opset_import}[""] == 18
    loaded = session(path)
    (image_input,), (output,) = loaded.get_inputs(), loaded.get_outputs()
    assert (image_input.name, output.name) == ("images", "probabilities")
    assert image_input.type == {"in-graph": "tensor(uint8)", "none": "tensor(float)"}[preprocess]
    assert image_input.shape[0] == output.shape[0] == "batch"
    for count in (1, 3, 7):
        pixels = data[0][:count]
        normalised = np.asarray(model.preprocessing.normalise(pixels))
        images = pixels if preprocess == "in-graph" else normalised
        (answer,) = loaded.run(None, {"images": images})
        np.testing.assert_allclose(answer, keras.ops.softmax(model(normalised)), atol=1e-5)


@pytest.mark.parametrize("batch", [1, None])
def test_norms_gelus_and_dense_layers_are_single_operations(batch, model, tmp_path):
    path = tmp_path / "model.onnx"

    onnx_model.write_onnx(model, path, Options(batch=batch))

    counts = operations(path)
    # Two blocks with two norms each, and the final norm. Matrix products of a block: two
    # projections, two with the attention scores, two of the MLP; then patches and head.
    assert counts["LayerNormalization"] == 5
    assert counts["Erf"] == 2
    assert counts["MatMul"] + counts["Gemm"] == 2 * 6 + 2
    assert counts["ReduceMean"] == counts["Sqrt"] == 0
    optimised = onnxruntime.SessionOptions()
    optimised.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    optimised.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(path, optimised, providers=PROVIDERS)
    fused = operations(tmp_path / "optimised.onnx")
    assert fused["Gelu"] + fused["BiasGelu"] == 2
    assert fused["LayerNormalization"] + fused["SkipLayerNormalization"] == 5


def test_files_contain_classes_preprocessing_and_author(model, exported_onnx):
    path, _ = exported_onnx

    metadata = session(path).get_modelmeta().custom_metadata_map

    assert metadata["labels.txt"].split("\n")[:-1] == list(CLASSES)
    assert Preprocessing(**json.loads(metadata["preprocessing.json"])) == model.preprocessing
    assert AUTHOR.items() <= metadata.items()


def test_attention_is_a_second_output(model, data, tmp_path):
    exporting.to_onnx(model, tmp_path / "model.onnx", data=data, attention=True, batch=2)

    loaded = session(tmp_path / "model.onnx")
    assert [output.shape[0] for output in loaded.get_outputs()] == [2, 2]
    answers = loaded.run(["attention", "probabilities"], {"images": data[0][:2]})

    images = model.preprocessing.normalise(data[0][:2])
    np.testing.assert_allclose(answers[0], attention_rollout(model, images), atol=1e-5)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        loaded.run(None, {"images": data[0][:3]})


def test_the_error_of_onnxruntime_is_reported(tmp_path):
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Erfc", ["images"], ["probabilities"])],
        "an unknown operation",
        [onnx.helper.make_tensor_value_info("images", 1, ("n", 2, 2, 1))],
        [onnx.helper.make_tensor_value_info("probabilities", 1, ("n", 2, 2, 1))],
    )
    broken = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    broken.ir_version = 8
    onnx.save(broken, tmp_path / "broken.onnx")
    pixels = np.zeros((1, 2, 2, 1), "uint8")
    samples = Samples([], pixels, np.zeros(1, int), {}, "")

    with pytest.raises(InputError, match="does not run: .*Erfc"):
        run_standalone(
            "onnx", tmp_path / "broken.onnx", samples, Preprocessing(2, mean=(0,), std=(1,))
        )


def test_a_second_conversion_gives_identical_answers(model, data, exported_onnx, tmp_path):
    # The bytes differ: TensorFlow and tf2onnx number inner tensors differently each time.
    first, second = exported_onnx[0], tmp_path / "second.onnx"
    model.save(tmp_path / "model.keras")

    onnx_model.write_onnx(inference_model(load_model(tmp_path / "model.keras")), second, Options())

    answers = [session(path).run(None, {"images": data[0]})[0] for path in (first, second)]
    np.testing.assert_array_equal(*answers)
    assert operations(first) == operations(second)


def test_onnxruntime_runs_it_without_tensorflow(model, data, exported_onnx, tmp_path):
    np.save(tmp_path / "image.npy", data[0][:1])
    code = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(answer,) = session.run(None, {"images": numpy.load("image.npy")})
labels = session.get_modelmeta().custom_metadata_map["labels.txt"].split("\\n")
assert not {"tensorflow", "keras", "vit_keras"} & set(sys.modules)
print(labels[answer.argmax()])
"""
    command = [sys.executable, "-c", code, str(exported_onnx[0])]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)

    expected = model(model.preprocessing.normalise(data[0][:1]))
    assert printed.stdout.strip() == CLASSES[np.argmax(expected)]


def test_operation_counts_of_a_ti16(tmp_path):
    # timm's own export has 380 operations, with one per GELU; here a GELU is five.
    model = randomise(build_vit("vit_ti16", num_classes=10))
    for batch in (1, None):
        onnx_model.write_onnx(model, tmp_path / "model.onnx", Options(batch=batch))

        counts = operations(tmp_path / "model.onnx")

        assert counts["LayerNormalization"] == 25
        assert counts["Reshape"] <= 64
        assert counts["Shape"] <= 1
        assert sum(counts.values()) <= 388

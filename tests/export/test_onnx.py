""".onnx files are small graphs of large operations, and onnxruntime answers like Keras."""

import collections
import json
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from support.tiny import randomise, tiny_model

import export as exporting
from export.checks.runtimes import run_standalone
from export.checks.verify import Samples
from export.onnx import convert as onnx_model
from export.options import Options
from vit_keras import InputError, Preprocessing, attention_rollout, build_vit, load_model

pytestmark = pytest.mark.slow

CLASSES = ("ant", "bee", "cat", "dog", "èlk")


@pytest.fixture(scope="module")
def model():
    return tiny_model(
        class_names=CLASSES,
        preprocessing=Preprocessing((16, 24), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    )


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (90, 16, 24, 3), "uint8"), np.arange(90) % 5


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def operations(path):
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("gelu", ["exact", "tanh", "quick"])
@pytest.mark.parametrize("preprocess", ["in-graph", "none"])
def test_any_number_of_images_is_answered_like_keras(gelu, preprocess, data, tmp_path):
    model = tiny_model(gelu=gelu)
    path = tmp_path / "model.onnx"

    row = exporting.to_onnx(model, path, data=data, preprocess=preprocess)

    assert row["max_difference"] <= 2e-5
    written = onnx.load(path)
    onnx.checker.check_model(written, full_check=True)
    assert {entry.domain: entry.version for entry in written.opset_import}[""] == 18
    loaded = session(path)
    (taken,), (given,) = loaded.get_inputs(), loaded.get_outputs()
    assert (taken.name, given.name) == ("images", "probabilities")
    assert taken.type == {"in-graph": "tensor(uint8)", "none": "tensor(float)"}[preprocess]
    assert isinstance(taken.shape[0], str)
    for count in (1, 3, 7):
        pixels = data[0][:count]
        normalised = np.asarray(model.preprocessing.normalise(pixels))
        images = pixels if preprocess == "in-graph" else normalised
        (answer,) = loaded.run(None, {"images": images})
        np.testing.assert_allclose(answer, keras.ops.softmax(model(normalised)), atol=1e-5)


def test_norms_activations_and_layers_are_single_operations(model, tmp_path):
    for batch in (1, None):
        path = tmp_path / f"{batch}.onnx"
        onnx_model.convert(model, path, Options(batch=batch))

        found = operations(path)

        # Two blocks: two norms each and one behind them; two projections, two layers of the MLP,
        # and two products with the scores each; the projection of the patches and the head.
        assert found["LayerNormalization"] == 5
        assert found["Erf"] == 2
        assert found["MatMul"] + found["Gemm"] == 2 * 6 + 2
        assert found["ReduceMean"] == found["Sqrt"] == 0
        optimised = onnxruntime.SessionOptions()
        optimised.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        optimised.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(path, optimised, providers=["CPUExecutionProvider"])
        fused = operations(tmp_path / "optimised.onnx")
        assert fused["Gelu"] + fused["BiasGelu"] == 2
        assert fused["LayerNormalization"] + fused["SkipLayerNormalization"] == 5


def test_dynamic_int8_is_smaller_and_judged(model, data, tmp_path):
    whole = exporting.to_onnx(model, tmp_path / "whole.onnx", data=data)
    small = exporting.to_onnx(
        model, tmp_path / "small.onnx", data=data, quantization="dynamic", allow_drop=True
    )

    assert small["bytes"] < 0.6 * whole["bytes"]  # a quarter of the weights, and the graph
    assert small["operations"]["MatMulInteger"] >= 10
    assert 0 < small["max_difference"] < 0.2


def test_files_tell_their_classes_and_preprocessing(model, data, tmp_path):
    about = {"author": "A. Nobody", "license": "MIT", "version": "2"}
    exporting.to_onnx(model, tmp_path / "model.onnx", data=data, **about)

    told = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map

    assert told["labels.txt"].split("\n")[:-1] == list(CLASSES)
    assert Preprocessing(**json.loads(told["preprocessing.json"])) == model.preprocessing
    assert about.items() <= told.items()


def test_attention_is_a_second_output(model, data, tmp_path):
    exporting.to_onnx(model, tmp_path / "model.onnx", data=data, attention=True, batch=2)

    loaded = session(tmp_path / "model.onnx")
    answers = loaded.run(["attention", "probabilities"], {"images": data[0][:2]})

    images = model.preprocessing.normalise(data[0][:2])
    np.testing.assert_allclose(answers[0], attention_rollout(model, images), atol=1e-5)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        loaded.run(None, {"images": data[0][:3]})


def test_what_onnxruntime_refuses_is_no_success(tmp_path):
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Erfc", ["images"], ["probabilities"])],
        "of an operation there is not",
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


def test_the_same_model_gives_the_same_answers_again(model, data, tmp_path):
    # Not the same bytes: TensorFlow's and tf2onnx's names of inner tensors vary.
    model.save(tmp_path / "model.keras")
    answers = []
    for name in ("first", "second"):
        onnx_model.convert(load_model(tmp_path / "model.keras"), tmp_path / name, Options())
        answers.append(session(tmp_path / name).run(None, {"images": data[0]})[0])

    np.testing.assert_array_equal(*answers)
    assert operations(tmp_path / "first") == operations(tmp_path / "second")


def test_files_run_without_this_project(model, data, tmp_path):
    exporting.to_onnx(model, tmp_path / "model.onnx", data=data)
    np.save(tmp_path / "image.npy", data[0][:1])
    code = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(answer,) = session.run(None, {"images": numpy.load("image.npy")})
labels = session.get_modelmeta().custom_metadata_map["labels.txt"].split("\\n")
assert not {"tensorflow", "keras", "vit_keras"} & set(sys.modules)
print(labels[answer.argmax()])
"""
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)

    expected = model(model.preprocessing.normalise(data[0][:1]))
    assert printed.stdout.strip() == CLASSES[np.argmax(expected)]


def test_a_ti16_is_as_small_a_graph_as_timms(tmp_path):
    # timm's own had 380 operations, each GELU one of them; here it takes five.
    model = randomise(build_vit("vit_ti16", num_classes=10))
    for batch in (1, None):
        onnx_model.convert(model, tmp_path / "model.onnx", Options(batch=batch))

        found = operations(tmp_path / "model.onnx")

        assert found["LayerNormalization"] == 25
        assert found["Reshape"] <= 63
        assert found["Shape"] <= 1
        assert sum(found.values()) <= 388

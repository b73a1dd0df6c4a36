"""A .tflite file with the signatures `classify` and `embed`: two answers, one set of weights."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from support.tiny import tiny_model

import export as exporting
from export.endpoints.classification import embedder
from export.export import export_artefact
from export.options import Options
from export.tflite.flatbuffer import count_operations, read_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return tiny_model(distilled=True, image_size=(16, 16))


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (60, 16, 16, 3), "uint8"), np.arange(60) % 5


@pytest.fixture(scope="module")
def files(model, data, tmp_path_factory):
    """{kind: .tflite file with both signatures}."""
    folder, options = tmp_path_factory.mktemp("embed"), Options(embed=True, allow_drop=True)
    for kind in ("float32", "int8-full"):
        export_artefact(model, "tflite", folder / kind, options, quantization=kind, data=data)
    return {kind: folder / kind for kind in ("float32", "int8-full")}


def test_embed_returns_what_the_head_reads(model, data, files):
    pixels = data[0][:1]
    expected = np.asarray(embedder(model)(model.preprocessing.normalise(pixels)))
    interpreter = Interpreter(str(files["float32"]))

    assert {*interpreter.get_signature_list()} == {"classify", "embed"}
    answer = interpreter.get_signature_runner("embed")(images=pixels)
    assert answer.keys() == {"embedding"}
    np.testing.assert_allclose(answer["embedding"], expected, atol=1e-5)
    assert interpreter.get_signature_runner("classify")(images=pixels).keys() == {"probabilities"}


def test_embed_of_integers_points_in_the_same_direction(model, data, files):
    pixels = data[0][:1]
    expected = np.asarray(embedder(model)(model.preprocessing.normalise(pixels)))[0]
    runner = Interpreter(str(files["int8-full"])).get_signature_runner("embed")

    scale, zero_point = runner.get_output_details()["embedding"]["quantization"]
    found = (runner(images=pixels)["embedding"][0].astype("float32") - zero_point) * scale

    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.98


def test_the_signatures_share_the_weights(model, data, files, tmp_path):
    exporting.to_tflite(model, tmp_path / "alone", data=data)

    both, alone = files["float32"], tmp_path / "alone"
    assert both.stat().st_size < 1.5 * alone.stat().st_size
    assert count_operations(both) == count_operations(alone)
    tables = read_model(both)
    classify, embed = ({tensor.buffer for tensor in graph.tensors} for graph in tables.subgraphs)

    def bytes_of(buffers):
        data = [tables.buffers[index].data for index in buffers]
        return sum(len(each) for each in data if each is not None)

    assert bytes_of(classify & embed) > 0.95 * bytes_of(embed)

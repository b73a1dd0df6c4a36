"""What is written next to a SavedModel: warm-up requests, configuration, README with a client."""

import json
import re
from concurrent import futures

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format, unknown_fields
from support.answers import CLASSES, image_files, probabilities

from export.options import Options
from export.saved_model.serving import write_kit
from vit_keras.images.decoding import decode_image

pytestmark = pytest.mark.slow


def test_warm_up_requests_are_valid_for_every_signature(served, served_signatures):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = served / "1" / "assets.extra" / "tf_serving_warmup_requests"

    requested = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = apis.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        answer = served_signatures[request.model_spec.signature_name](
            **{name: tf.constant(array) for name, array in inputs.items()}
        )
        assert {len(array) for array in inputs.values()} == {1}
        assert {len(array) for array in answer.values()} == {1}
        requested.append(request.model_spec.signature_name)
        assert not len(unknown_fields.UnknownFieldSet(log))

    assert sorted(requested) == sorted(served_signatures)


def test_the_grpc_client_in_the_readme_runs(
    served, served_model, served_signatures, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("tensorflow_serving")
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        """TF Serving's Predict with the same SavedModel."""

        def Predict(self, request, context):  # noqa: N802
            assert request.model_spec.name == "vit_b16"
            inputs = {
                name: tf.constant(tf.make_ndarray(tensor))
                for name, tensor in request.inputs.items()
            }
            answer = served_signatures[request.model_spec.signature_name](**inputs)
            response = predict_pb2.PredictResponse()
            for name, tensor in answer.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
            return response

    readme = (served / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes(image_files()["JPEG"])
    monkeypatch.chdir(tmp_path)  # where the client looks for photo.jpg
    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        exec(code.replace("localhost:8500", f"localhost:{port}"), {})
    finally:
        server.stop(0)

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    expected = probabilities(served_model, decode_image(image_files()["JPEG"]))
    order = np.argsort(-expected)[:3]
    assert [label for label, _ in lines] == [CLASSES[label] for label in order]
    np.testing.assert_allclose([float(score) for _, score in lines], expected[order], atol=1e-5)


def test_the_files_are_filled_in_for_the_model(served):
    files = {path.name: path.read_text() for path in served.iterdir() if path.is_file()}

    assert set(files) == {"README.md", "batching.config", "docker-compose.yml", "models.config"}
    assert not [name for name, text in files.items() if re.search("@[a-z_]+@", text)]
    assert "`probabilities` (batch, 7)" in files["README.md"]
    assert "| `attention` | `image_bytes` | `attention` (batch, 4, 6)" in files["README.md"]
    assert "more than 20000 pixels" in files["README.md"]
    (payload,) = re.findall(r'-d "(.*)"$', files["README.md"], re.MULTILINE)
    assert json.loads(payload.replace('\\"', '"'))["instances"][0].keys() == {"b64"}
    assert "./:" not in files["docker-compose.yml"]
    assert ".:/models/vit_b16:ro" in files["docker-compose.yml"]


def parse(text):
    """models.config -> its one ModelConfig, by TF Serving's own definition."""
    configs = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    (model,) = text_format.Parse(text, configs.ModelServerConfig()).model_config_list.config
    return model


def test_models_config_is_valid_for_tf_serving(served):
    model = parse((served / "models.config").read_text())

    assert (model.name, model.base_path) == ("vit_b16", "/models/vit_b16")
    assert model.model_version_policy.latest.num_versions == 1
    assert dict(model.version_labels) == {"stable": 1}


def canary_config(served):
    """models.config with the lines of the README's canary example."""
    readme = (served / "README.md").read_text()
    (lines,) = re.findall(r"```\n(    model_version_policy.*?)```", readme, re.DOTALL)
    config = (served / "models.config").read_text()
    return re.sub(r"    model_version_policy.*?(?=  \}\n)", lines, config, flags=re.DOTALL)


@pytest.mark.parametrize(("versions", "expected"), [(["1"], [1, 2]), (["3", "4", "9"], [4, 9])])
def test_the_canary_example_labels_two_versions(served_model, versions, expected, tmp_path):
    for version in versions:
        (tmp_path / version).mkdir()

    write_kit(served_model, tmp_path / versions[-1], Options())

    model = parse(canary_config(tmp_path))
    assert list(model.model_version_policy.specific.versions) == expected
    assert dict(model.version_labels) == dict(zip(("stable", "canary"), expected, strict=True))


def test_a_models_config_with_specific_versions_stays(served, served_model, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "models.config").write_text(canary_config(served))
    write_kit(served_model, tmp_path / "1", Options())
    assert (tmp_path / "models.config").read_text() == canary_config(served)

    (tmp_path / "models.config").write_text("# not specific {\n")
    write_kit(served_model, tmp_path / "1", Options())
    assert parse((tmp_path / "models.config").read_text()).name == "vit_b16"

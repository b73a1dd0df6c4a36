"""What TF Serving would load answers as told: through C, plain TensorFlow, gRPC and warm-up."""

import io
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import zlib
from concurrent import futures

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format, unknown_fields
from PIL import Image
from support.tiny import photograph, tiny_model

from export.__main__ import main
from vit_keras import InputError, Preprocessing, attention_rollout, load_model
from vit_keras.images.decoding import decode_image

pytestmark = pytest.mark.slow

CLASSES = ("ant", "bee", "cat", "dog", "èlk", "fox", "gnu")
MAX_PIXELS = 20_000


@pytest.fixture(scope="session")
def base(photographs, tmp_path_factory):
    """TF Serving's model base path of a model with random weights"""
    folder = tmp_path_factory.mktemp("served")
    model = tiny_model(
        num_classes=7, class_names=CLASSES, preprocessing=Preprocessing((16, 24), crop=0.9)
    )
    model.save(folder / "model.keras")
    shutil.copytree(photographs / "red", folder / "samples")
    options = ["--attention", "--top-k", "3", "--max-pixels", str(MAX_PIXELS)]
    main([str(folder / "model.keras"), "--format", "savedmodel", "--out", str(folder), *options])
    return folder / "saved_model"


@pytest.fixture(scope="session")
def model(base):
    return load_model(base.parent / "model.keras")


@pytest.fixture(scope="session")
def signatures(base):
    return tf.saved_model.load(str(base / "1")).signatures


def probabilities(model, file):
    image = decode_image(file)
    return tf.nn.softmax(model(model.preprocessing(image)[tf.newaxis]))[0].numpy()


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def in_kinds(size=(40, 30)):
    """{what it is: bytes of an image file that is answered}"""
    image = photograph(1, (250, 60, 0), size)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.asarray(image.convert("L")).astype("uint16") * 257
    return {
        "JPEG": encoded(image, "jpeg"),
        "sideways": encoded(image, "jpeg", exif=exif),
        "grey": encoded(image.convert("L"), "jpeg"),
        "CMYK": encoded(image.convert("CMYK"), "jpeg"),
        "16 bits": encoded(Image.fromarray(deep), "png"),
        "transparent": encoded(image.convert("RGBA"), "png"),
        "animated": encoded(
            image, "gif", save_all=True, append_images=[photograph(2, (0, 0, 255))]
        ),
        "BMP": encoded(image, "bmp"),
        "WebP": encoded(image, "webp"),
    }


def bomb(width, height):
    """A PNG of a few bytes that says it is that large"""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_every_kind_of_image_has_kerass_answer(signatures, model):
    files = in_kinds()

    answer = signatures["serving_default"](image_bytes=tf.constant(list(files.values())))

    for index, (kind, file) in enumerate(files.items()):
        expected = probabilities(model, file)
        np.testing.assert_allclose(
            answer["probabilities"][index], expected, atol=1e-5, err_msg=kind
        )
        best = [CLASSES[place] for place in np.argsort(-expected)[:3]]
        assert [label.decode() for label in answer["labels"][index].numpy()] == best
    upright = np.asarray(Image.open(io.BytesIO(files["sideways"])).rotate(-90, expand=True))
    sideways = decode_image(files["sideways"]).numpy()
    assert sideways.shape == (40, 30, 3)
    np.testing.assert_allclose(sideways, upright, atol=3)


@pytest.mark.parametrize(
    ("what", "file"),
    [
        ("empty", b""),
        ("text", b"not an image"),
        ("cut off", in_kinds()["JPEG"][:300]),
        ("bomb", bomb(60_000, 60_000)),
        ("large JPEG", encoded(Image.new("RGB", (201, 100)), "jpeg")),
        ("large WebP", encoded(Image.new("RGB", (100, 201)), "webp")),
    ],
)
def test_what_cannot_be_decoded_fails_the_request_and_is_named(what, file, signatures):
    good = in_kinds()["JPEG"]

    for name in ("serving_default", "embed", "attention"):
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=r"no JPEG, PNG, .* of at most 20000 pixels, at positions\] \[1\]",
        ):
            signatures[name](image_bytes=tf.constant([good, file, good]))


def test_an_image_as_large_as_allowed_is_answered(signatures):
    file = encoded(Image.new("RGB", (200, 100)), "jpeg")  # 20,000 pixels

    assert signatures["serving_default"](image_bytes=tf.constant([file]))["labels"].shape == (1, 3)


def test_examples_embeddings_and_attention(signatures, model):
    files = list(in_kinds().values())[:3]
    images = tf.stack([model.preprocessing(decode_image(file)) for file in files])
    features = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[file])) for file in files]
    examples = [
        tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature}))
        for feature in features
    ]

    serialized = tf.constant([example.SerializeToString() for example in examples])
    by_example = signatures["serve_examples"](examples=serialized)
    embedding = signatures["embed"](image_bytes=tf.constant(files))["embedding"]
    attention = signatures["attention"](image_bytes=tf.constant(files))["attention"]

    by_bytes = signatures["serving_default"](image_bytes=tf.constant(files))
    for name, expected in by_bytes.items():
        assert by_example[name].numpy().tolist() == expected.numpy().tolist()
    head = model.get_layer("head")
    np.testing.assert_allclose(
        embedding.numpy() @ head.kernel.numpy() + head.bias.numpy(), model(images), atol=1e-4
    )
    np.testing.assert_allclose(attention, attention_rollout(model, images), atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image/encoded"):
        signatures["serve_examples"](examples=tf.constant([tf.train.Example().SerializeToString()]))


def test_weights_are_stored_once(base, model):
    (data,) = (base / "1" / "variables").glob("*.data-*")

    assert data.stat().st_size < 1.2 * sum(weight.nbytes for weight in model.get_weights())


def test_warm_up_requests_are_answered(base, signatures):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = base / "1" / "assets.extra" / "tf_serving_warmup_requests"

    answered = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = apis.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        answer = signatures[request.model_spec.signature_name](
            **{name: tf.constant(array) for name, array in inputs.items()}
        )
        assert {len(array) for array in inputs.values()} == {len(x) for x in answer.values()} == {1}
        answered.append(request.model_spec.signature_name)
        assert not len(unknown_fields.UnknownFieldSet(log))

    assert sorted(answered) == sorted(signatures)


def test_the_c_api_reads_jpeg_bytes_and_gives_keras_labels(base, model, tmp_path):
    root = pathlib.Path(tf.__file__).parent
    libraries = [str(root / f"libtensorflow_{name}.so.2") for name in ("cc", "framework")]
    source = pathlib.Path(__file__).parents[1] / "support" / "serve.c"
    program = tmp_path / "serve"
    subprocess.run(
        [
            "gcc",
            str(source),
            f"-I{root / 'include'}",
            *libraries,
            f"-Wl,-rpath,{root}",
            "-o",
            program,
        ],
        check=True,
    )
    signature = tf.compat.v1.saved_model.loader.load  # what names the tensors, in this process
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = signature(session, ["serve"], str(base / "1")).signature_def["serving_default"]
    tensors = [loaded.inputs["image_bytes"].name, loaded.outputs["labels"].name]
    for number, file in enumerate(in_kinds().values()):
        (tmp_path / f"{number}").write_bytes(file)

        command = [program, base / "1", *tensors, tmp_path / f"{number}"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout

        order = np.argsort(-probabilities(model, file))[:3]
        assert printed.split() == [CLASSES[place] for place in order]
    (tmp_path / "broken").write_bytes(b"no image")
    command[-1] = tmp_path / "broken"
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "running: code 3: " in failed.stderr  # INVALID_ARGUMENT
    assert "positions" in failed.stderr


def test_plain_tensorflow_serves_without_keras(base, model, tmp_path):
    (tmp_path / "a.jpg").write_bytes(in_kinds()["JPEG"])
    code = """
import sys
sys.modules["keras"] = sys.modules["vit_keras"] = sys.modules["export"] = None  # importing fails
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
print(serve(image_bytes=tf.constant([open("a.jpg", "rb").read()]))["labels"][0, 0].numpy().decode())
"""
    command = [sys.executable, "-c", code, str(base / "1")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)

    assert printed.stdout.strip() == CLASSES[probabilities(model, in_kinds()["JPEG"]).argmax()]


def test_the_readmes_grpc_client_is_answered(
    base, model, signatures, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("tensorflow_serving")
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        """Predict as TF Serving has it, around the same SavedModel"""

        def Predict(self, request, context):  # noqa: N802
            assert request.model_spec.name == "vit_b16"
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            given = {name: tf.constant(array) for name, array in inputs.items()}
            answer = signatures[request.model_spec.signature_name](**given)
            response = predict_pb2.PredictResponse()
            for name, tensor in answer.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
            return response

    readme = (base / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes(in_kinds()["JPEG"])
    monkeypatch.chdir(tmp_path)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        exec(code.replace("localhost:8500", f"localhost:{port}"), {})
    finally:
        server.stop(0)

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    expected = probabilities(model, in_kinds()["JPEG"])
    order = np.argsort(-expected)[:3]
    assert [label for label, _ in lines] == [CLASSES[place] for place in order]
    np.testing.assert_allclose([float(score) for _, score in lines], expected[order], atol=1e-5)


def test_the_kit_names_this_model(base):
    files = {path.name: path.read_text() for path in base.iterdir() if path.is_file()}

    assert set(files) == {"README.md", "batching.config", "docker-compose.yml", "models.config"}
    assert not [name for name, text in files.items() if re.search("@[a-z_]+@", text)]
    assert "`probabilities` (batch, 7)" in files["README.md"]
    assert "| `attention` | `image_bytes` | `attention` (batch, 4, 6)" in files["README.md"]
    assert "more than 20000 pixels" in files["README.md"]
    payload = re.search(r'-d "(.*)"$', files["README.md"], re.MULTILINE)[1].replace('\\"', '"')
    assert json.loads(payload)["instances"][0].keys() == {"b64"}
    assert "./:" not in files["docker-compose.yml"]
    assert ".:/models/vit_b16:ro" in files["docker-compose.yml"]


def test_the_configuration_is_tf_servings(base):
    configs = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")

    text = (base / "models.config").read_text()
    found = text_format.Parse(text, configs.ModelServerConfig()).model_config_list.config

    assert [(each.name, each.base_path) for each in found] == [("vit_b16", "/models/vit_b16")]
    assert found[0].model_version_policy.latest.num_versions == 1


def test_xla_is_used_where_it_is_faster_alone(monkeypatch, model, capsys):
    from export.options import Options
    from export.saved_model import writer as savedmodel

    compiled = []
    real = tf.function
    monkeypatch.setattr(
        savedmodel.tf,
        "function",
        lambda f, **o: compiled.append(o.get("jit_compile")) or real(f, **o),
    )
    for worth, expected in ((1e9, True), (0.0, False)):
        monkeypatch.setattr(savedmodel, "WORTH", worth)
        compiled.clear()
        functions = savedmodel.signatures(model, Options(jit_compile=True))
        assert bool(compiled[-1]) is expected
        images = np.random.default_rng(0).standard_normal((3, 16, 24, 3)).astype("float32")
        logits = functions["serve_logits"][0](tf.constant(images))["logits"]
        np.testing.assert_allclose(logits, model(images), atol=1e-5)
        printed = capsys.readouterr().out
        assert re.fullmatch(
            r"With XLA \d+\.\d\d ms an image, without \d+\.\d\d ms: .+\.\n", printed
        )


def test_attention_and_merged_tokens_do_not_go_together(base):
    merged = [str(base.parent / "model.keras"), "--merge-tokens", "2", "--attention", "--out", "x"]

    with pytest.raises(SystemExit, match="merged tokens belong to no single patch"):
        main(merged)
    with pytest.raises(InputError, match="merged tokens"):
        attention_rollout(tiny_model(merge_tokens=2), np.zeros((1, 16, 24, 3), "float32"))

"""The SavedModel that TF Serving loads: image files in every format, limits, all signatures."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.answers import CLASSES, encoded, image_files, probabilities
from support.tiny import tiny_model

from export.__main__ import main
from export.options import Options
from export.saved_model import writer
from vit_keras import InputError, attention_rollout
from vit_keras.images.decoding import decode_image

pytestmark = pytest.mark.slow


def oversized_png(width, height):
    """A PNG of about 100 bytes whose header claims that size."""

    def chunk(name, data):
        content = name + data
        return struct.pack(">I", len(data)) + content + struct.pack(">I", zlib.crc32(content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_image_files_of_every_format_get_the_answer_of_keras(served_signatures, served_model):
    files = image_files()

    answer = served_signatures["serving_default"](image_bytes=tf.constant(list(files.values())))

    for index, (name, file) in enumerate(files.items()):
        expected = probabilities(served_model, decode_image(file))
        np.testing.assert_allclose(
            answer["probabilities"][index], expected, atol=1e-5, err_msg=name
        )
        best = [CLASSES[label] for label in np.argsort(-expected)[:3]]
        assert [label.decode() for label in answer["labels"][index].numpy()] == best


def test_the_exif_orientation_is_applied():
    file = image_files()["sideways"]

    image = decode_image(file).numpy()

    upright = np.asarray(Image.open(io.BytesIO(file)).rotate(-90, expand=True))
    assert image.shape == (40, 30, 3)
    np.testing.assert_allclose(image, upright, atol=3)  # two JPEG decoders


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("empty", b""),
        ("text", b"not an image"),
        ("cut off", image_files()["JPEG"][:300]),
        ("oversized PNG", oversized_png(60_000, 60_000)),
        ("large JPEG", encoded(Image.new("RGB", (201, 100)), "jpeg")),
        ("large WebP", encoded(Image.new("RGB", (100, 201)), "webp")),
    ],
)
def test_a_request_with_an_undecodable_image_fails_and_names_it(name, file, served_signatures):
    good = image_files()["JPEG"]

    for signature in ("serving_default", "embed", "attention"):
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=r"no JPEG, PNG, .* of at most 20000 pixels, at positions\] \[1\]",
        ):
            served_signatures[signature](image_bytes=tf.constant([good, file, good]))


def test_an_image_with_exactly_max_pixels_is_answered(served_signatures):
    file = encoded(Image.new("RGB", (200, 100)), "jpeg")  # 20,000 pixels

    answer = served_signatures["serving_default"](image_bytes=tf.constant([file]))

    assert answer["labels"].shape == (1, 3)


def test_examples_embeddings_and_attention_agree_with_keras(served_signatures, served_model):
    files = list(image_files().values())[:3]
    images = tf.stack([served_model.preprocessing(decode_image(file)) for file in files])
    features = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[file])) for file in files]
    examples = [
        tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature}))
        for feature in features
    ]
    serialized = tf.constant([example.SerializeToString() for example in examples])
    image_bytes = tf.constant(files)

    by_example = served_signatures["serve_examples"](examples=serialized)
    embedding = served_signatures["embed"](image_bytes=image_bytes)["embedding"]
    attention = served_signatures["attention"](image_bytes=image_bytes)["attention"]

    by_bytes = served_signatures["serving_default"](image_bytes=image_bytes)
    for name, expected in by_bytes.items():
        assert by_example[name].numpy().tolist() == expected.numpy().tolist()
    head = served_model.get_layer("head")
    np.testing.assert_allclose(
        embedding.numpy() @ head.kernel.numpy() + head.bias.numpy(), served_model(images), atol=1e-4
    )
    np.testing.assert_allclose(attention, attention_rollout(served_model, images), atol=1e-5)
    empty = tf.train.Example().SerializeToString()
    with pytest.raises(tf.errors.InvalidArgumentError, match="image/encoded"):
        served_signatures["serve_examples"](examples=tf.constant([empty]))


def test_weights_are_stored_once(served, served_model):
    (data,) = (served / "1" / "variables").glob("*.data-*")

    assert data.stat().st_size < 1.2 * sum(weight.nbytes for weight in served_model.get_weights())


@pytest.mark.parametrize(("worth", "compiled"), [(1e9, True), (0.0, False)])
def test_xla_is_used_only_where_it_is_faster(worth, compiled, served_model, monkeypatch, capsys):
    monkeypatch.setattr(writer, "WORTH", worth)  # faster than any time, and than none

    function, spec = writer.signatures(served_model, Options(jit_compile=True))["serve_logits"]

    traced = tf.function(function, input_signature=[spec]).get_concrete_function()
    calls = [node for node in traced.graph.as_graph_def().node if "_XlaMustCompile" in node.attr]
    assert any(node.attr["_XlaMustCompile"].b for node in calls) is compiled
    images = np.random.default_rng(0).standard_normal((3, 16, 24, 3)).astype("float32")
    logits = traced(tf.constant(images))["logits"]
    np.testing.assert_allclose(logits, served_model(images), atol=1e-5)
    printed = capsys.readouterr().out
    assert re.fullmatch(r"With XLA \d+\.\d\d ms an image, without \d+\.\d\d ms: .+\.\n", printed)


def test_attention_cannot_be_combined_with_merged_tokens(served, tmp_path):
    command = [str(served.parent / "model.keras"), "--merge-tokens", "2", "--attention"]

    with pytest.raises(SystemExit, match="merged tokens belong to no single patch"):
        main([*command, "--out", str(tmp_path / "out")])
    with pytest.raises(InputError, match="merged tokens"):
        attention_rollout(tiny_model(merge_tokens=2), np.zeros((1, 16, 24, 3), "float32"))

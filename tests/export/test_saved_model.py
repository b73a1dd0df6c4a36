"""The signatures of an exported SavedModel, called in TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.answers import CLASSES, encoded, probabilities
from support.tiny import photograph

import export as exporting
from vit_keras import InputError
from vit_keras.images.decoding import decode_image


def test_serving_default_maps_image_files_to_labels(exported_model, signatures):
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        encoded(photograph(1, (255, 0, 0), size=(80, 31)), "jpeg"),
        encoded(photograph(2, (0, 255, 0), size=(30, 70)), "jpeg", exif=exif),
        encoded(photograph(3, (0, 255, 255)).convert("L"), "jpeg"),
    ]

    answer = signatures["serving_default"](image_bytes=tf.constant(files))

    for index, content in enumerate(files):
        expected = probabilities(exported_model, decode_image(content))
        np.testing.assert_allclose(answer["probabilities"][index], expected, atol=1e-5)
        order = np.argsort(-expected)[:5]
        assert answer["classes"][index].numpy().tolist() == order.tolist()
        scores = answer["scores"][index].numpy()
        assert scores.tolist() == answer["probabilities"][index].numpy()[order].tolist()
        labels = [label.decode() for label in answer["labels"][index].numpy()]
        assert labels == [CLASSES[i] for i in order]


def test_serve_images_takes_pixels_of_any_size(exported_model, signatures):
    image = np.asarray(photograph(4, (90, 200, 10), size=(51, 33)))

    answer = signatures["serve_images"](images=tf.constant(image[np.newaxis]))

    expected = probabilities(exported_model, image)
    np.testing.assert_allclose(answer["probabilities"][0], expected, atol=1e-5)


def test_serve_logits_takes_normalised_images(exported_model, signatures):
    images = np.random.default_rng(0).standard_normal((3, 16, 24, 3)).astype("float32")

    answer = signatures["serve_logits"](images=tf.constant(images))

    np.testing.assert_allclose(answer["logits"], exported_model(images), atol=1e-5)


def test_the_error_lists_the_positions_of_undecodable_files(signatures):
    good = encoded(photograph(1, (255, 0, 0)), "jpeg")
    batch = tf.constant([good, b"not an image", good, good[:200], b"", b"x", b"\xff\xd8\xff", good])

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at positions\] \[1 3 4 5 6\]"):
        signatures["serving_default"](image_bytes=batch)
    answer = signatures["serving_default"](image_bytes=tf.constant([good, good]))
    assert answer["probabilities"].shape == (2, 7)


def test_an_empty_batch_has_an_empty_answer(signatures):
    answer = signatures["serving_default"](image_bytes=tf.constant([], tf.string))

    assert answer["probabilities"].shape == (0, 7)


@pytest.mark.slow
def test_a_session_runs_it_without_this_project(exported, exported_model, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(photograph(1, (255, 0, 0)), "jpeg"))
    code = """
import sys
sys.modules["vit_keras"] = sys.modules["export"] = None  # importing them fails
import tensorflow as tf
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1])
    signature = loaded.signature_def["serving_default"]
    feed = {signature.inputs["image_bytes"].name: [open("a.jpg", "rb").read()]}
    print(session.run(signature.outputs["labels"].name, feed)[0][0].decode())
"""
    command = [sys.executable, "-c", code, str(exported / "out" / "saved_model" / "1")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)

    image = decode_image((tmp_path / "a.jpg").read_bytes())
    assert printed.stdout.strip() == CLASSES[probabilities(exported_model, image).argmax()]


@pytest.mark.slow
def test_to_saved_model_writes_float32_only(five_classes, noise, tmp_path):
    row = exporting.to_saved_model(five_classes, tmp_path / "serving" / "1", data=noise)

    assert row["max_difference"] < 2e-5
    assert (tmp_path / "serving" / "1" / "saved_model.pb").exists()
    with pytest.raises(InputError, match="quantization must be one of float32"):
        exporting.to_saved_model(five_classes, tmp_path / "2", quantization="int8", data=noise)
    assert not (tmp_path / "2").exists()

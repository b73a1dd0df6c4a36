"""The SavedModel runs without Keras: by TensorFlow's C API, and in Python."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support.answers import CLASSES, image_files, probabilities

from vit_keras.images.decoding import decode_image

SOURCE = pathlib.Path(__file__).parents[1] / "support" / "serve.c"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def serve(served, tmp_path_factory):
    """Path of an image file -> the finished process of serve.c, which prints the best labels."""
    root = pathlib.Path(tf.__file__).parent
    libraries = [str(root / f"libtensorflow_{name}.so.2") for name in ("cc", "framework")]
    program = tmp_path_factory.mktemp("program") / "serve"
    options = [f"-I{root / 'include'}", *libraries, f"-Wl,-rpath,{root}", "-o", str(program)]
    subprocess.run(["gcc", str(SOURCE), *options], check=True)
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(served / "1"))
    signature = loaded.signature_def["serving_default"]
    tensors = [signature.inputs["image_bytes"].name, signature.outputs["labels"].name]

    def run(image):
        command = [program, served / "1", *tensors, image]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_the_c_api_gives_the_labels_of_keras(serve, served_model, tmp_path):
    for name, file in image_files().items():
        image = tmp_path / name
        image.write_bytes(file)

        process = serve(image)

        assert process.returncode == 0, process.stderr
        order = np.argsort(-probabilities(served_model, decode_image(file)))[:3]
        assert process.stdout.split() == [CLASSES[label] for label in order]


def test_the_c_api_reports_an_undecodable_file_as_invalid_argument(serve, tmp_path):
    (tmp_path / "broken").write_bytes(b"not an image")

    process = serve(tmp_path / "broken")

    assert process.returncode == 1
    assert "running: code 3: " in process.stderr  # INVALID_ARGUMENT
    assert "positions" in process.stderr


def test_tensorflow_serves_it_without_keras(served, served_model, tmp_path):
    file = image_files()["JPEG"]
    (tmp_path / "a.jpg").write_bytes(file)
    code = """
import sys
sys.modules["keras"] = sys.modules["vit_keras"] = sys.modules["export"] = None  # importing fails
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
print(serve(image_bytes=tf.constant([open("a.jpg", "rb").read()]))["labels"][0, 0].numpy().decode())
"""
    command = [sys.executable, "-c", code, str(served / "1")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)

    expected = probabilities(served_model, decode_image(file))
    assert printed.stdout.strip() == CLASSES[expected.argmax()]

"""Fixtures of the export tests: a model is exported once and shared between files and processes."""

import contextlib
import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images
from support.answers import MAX_PIXELS, NORMALISATION, classifier
from support.browser import BrowserPage, start_chromium, web_server
from support.shared import shared_folder
from support.tiny import photograph, tiny_model
from support.web_page import write_page

from export.__main__ import main
from export.endpoints import inference_model
from export.formats import FORMATS, KINDS
from export.images import load_images
from export.options import Options
from export.source import Source
from export.tflite.convert import convert_in_subprocess, write_tflite
from export.tflite.finish import finish
from export.web.writer import MODEL
from vit_keras import Preprocessing, load_model


@pytest.fixture(scope="session")
def formats():
    """All export formats but two that have their own tests: "web" needs npm, "coreml" an extra."""
    return [name for name in FORMATS if name not in ("web", "coreml")]


@pytest.fixture(scope="session")
def exported(photographs, formats, tmp_path_factory):
    """A folder with model.keras (random weights), its samples/, and all formats in out/."""

    def build(folder):
        model = classifier(Preprocessing((16, 24), crop=0.9, **NORMALISATION))
        model.description = "random weights"
        model.save(folder / "model.keras")
        shutil.copytree(photographs / "red", folder / "samples")
        main([str(folder / "model.keras"), "--format", *formats, "--out", str(folder / "out")])

    return shared_folder(tmp_path_factory, "exported", build)


@pytest.fixture(scope="session")
def exported_model(exported):
    """The Keras model in `exported`."""
    return load_model(exported / "model.keras")


@pytest.fixture(scope="session")
def signatures(exported):
    """Signatures of the SavedModel in `exported`, loaded by TensorFlow."""
    return tf.saved_model.load(str(exported / "out" / "saved_model" / "1")).signatures


@pytest.fixture(scope="session")
def five_classes():
    """A ViT with random weights and the classes a to e."""
    keras.utils.set_random_seed(0)  # the same in all of pytest's processes
    return tiny_model(class_names=tuple("abcde"))


@pytest.fixture(scope="session")
def noise(five_classes):
    """120 images of noise, labelled with the answers of `five_classes`: (pixels, labels)."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 16, 24, 3)).astype("uint8")
    logits = five_classes.predict(np.asarray(five_classes.preprocessing(pixels)), verbose=0)
    return pixels, logits.argmax(axis=1)


@pytest.fixture(scope="session")
def noise_images(five_classes, noise):
    """The images of `noise` to calibrate, search and evaluate on."""
    return load_images(five_classes, data=noise)


@pytest.fixture(scope="session")
def float32_file(five_classes, tmp_path_factory):
    """The .tflite of `five_classes` that all kinds of quantization start from."""

    def build(folder):
        write_tflite(inference_model(five_classes), folder / "float32.tflite", Options())

    return shared_folder(tmp_path_factory, "float32_file", build) / "float32.tflite"


@pytest.fixture(scope="session")
def coloured_photographs(noise, tmp_path_factory):
    """A folder with a folder per class, a to e: 120 photographs, a colour per class."""

    def build(folder):
        for index, label in enumerate(noise[1]):
            (folder / "abcde"[label]).mkdir(exist_ok=True)
            image = photograph(index, (0, 50 * int(label), 99), size=(24, 16))
            image.save(folder / "abcde"[label] / f"{index}.png")

    return shared_folder(tmp_path_factory, "coloured_photographs", build)


@pytest.fixture(scope="session")
def quantized_files(five_classes, coloured_photographs, float32_file, tmp_path_factory):
    """{kind: .tflite file} of `five_classes`, calibrated on `coloured_photographs`."""

    def build(folder):
        images = load_images(five_classes, data=str(coloured_photographs))
        for name, kind in KINDS.items():
            kind.write(Source(float32_file, five_classes, images, Options()), folder / name)
            finish(five_classes, folder / name, Options())

    folder = shared_folder(tmp_path_factory, "quantized_files", build)
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(scope="session")
def served(photographs, tmp_path_factory):
    """TF Serving's model base path of a SavedModel with attention, top 3 and a limit of pixels."""

    def build(folder):
        model = classifier(Preprocessing((16, 24), crop=0.9))
        model.save(folder / "model.keras")
        shutil.copytree(photographs / "red", folder / "samples")
        options = ["--attention", "--top-k", "3", "--max-pixels", str(MAX_PIXELS)]
        place = ["--format", "savedmodel", "--out", str(folder)]
        main([str(folder / "model.keras"), *place, *options])

    return shared_folder(tmp_path_factory, "served", build) / "saved_model"


@pytest.fixture(scope="session")
def served_model(served):
    """The Keras model in `served`."""
    return load_model(served.parent / "model.keras")


@pytest.fixture(scope="session")
def served_signatures(served):
    """Signatures of the SavedModel in `served`, loaded by TensorFlow."""
    return tf.saved_model.load(str(served / "1")).signatures


@pytest.fixture
def serve():
    """Folder -> a web server of it, see `support.browser.web_server`."""
    with contextlib.ExitStack() as stack:
        yield lambda folder: stack.enter_context(web_server(folder))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A running Chromium; every test opens a page of its own."""
    driver = start_chromium(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """16 image files of different sizes and formats: parts of scikit-learn's two photographs."""

    def build(folder):
        photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
        for index in range(16):
            left, top = 30 * index, 20 * (index % 4)
            size = (60 + 23 * index, 300 - 13 * index)
            part = photographs[index % 2].crop((left, top, left + size[0], top + size[1]))
            suffix = ("png", "jpg", "bmp", "gif", "webp")[index % 5]
            part.save(folder / f"{index:02}.{suffix}", quality=95)

    return sorted(shared_folder(tmp_path_factory, "pictures", build).iterdir())


@pytest.fixture(scope="session")
def web_model():
    """The Keras model of `web_folder`."""
    return classifier(Preprocessing((16, 24), crop=0.9, **NORMALISATION))


@pytest.fixture(scope="session")
def web_folder(web_model, pictures, tmp_path_factory):
    """A page, in a folder that also holds pictures/."""

    def build(folder):
        write_page(web_model, folder / "page")
        shutil.copytree(pictures[0].parent, folder / "pictures")

    return shared_folder(tmp_path_factory, "web", build) / "page"


@pytest.fixture
def web_page(web_folder, serve, chromium):
    """The page of `web_folder` in Chromium, in a subfolder of its server."""
    return BrowserPage(chromium, f"{serve(web_folder.parent).address}/{web_folder.name}/")


@pytest.fixture(scope="session")
def brightness_folder(web_folder, tmp_path_factory):
    """A page whose "attention" is the brightness of patches, 4 rows of 6."""

    def answer(images):
        brightness = tf.reduce_mean(tf.cast(images, tf.float32), axis=-1, keepdims=True)
        patches = tf.nn.avg_pool2d(brightness, 4, 4, "VALID")[..., 0]
        return {
            "probabilities": tf.nn.softmax(tf.reduce_mean(patches, axis=1) / 255),
            "attention": patches / tf.reduce_sum(patches),
        }

    def build(folder):
        shutil.copytree(web_folder, folder / "page")
        rule = json.dumps(dataclasses.asdict(Preprocessing((16, 24), **NORMALISATION)))
        (folder / "page" / "preprocessing.json").write_text(rule)
        module, spec = tf.Module(), tf.TensorSpec((1, 16, 24, 3), tf.uint8, "images")
        module.answer = tf.function(answer, input_signature=[spec])
        tf.saved_model.save(module, str(folder / "saved_model"), module.answer)
        convert_in_subprocess(folder / "saved_model", folder / "page" / MODEL)

    return shared_folder(tmp_path_factory, "brightness", build) / "page"

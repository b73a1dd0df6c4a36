"""Artefacts answer like the Keras model in their own runtimes, or are not written."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from PIL import Image
from support.tiny import photograph, randomise, tiny_model

from export.__main__ import main
from export.checks.verify import ask_keras, compare
from export.export import export
from export.formats import FORMATS, next_version
from export.images import load_images
from export.labels import class_labels
from export.tflite.convert import convert, convert_in_subprocess
from export.tflite.flatbuffer import add_buffer
from export.tflite.metadata import attach_metadata
from vit_keras import InputError, Preprocessing, load_model
from vit_keras.images.decoding import decode_image

ALL = [name for name in FORMATS if name != "web"]  # that takes npm: tests/test_web.py
CLASSES = ("ant", "bee", "cat", "dog", "èlk", "fox", "gnu")


@pytest.fixture(scope="session")
def exported(photographs, tmp_path_factory):
    """A model with random weights, its samples, and everything exported from it."""
    folder = tmp_path_factory.mktemp("exported")
    preprocessing = Preprocessing((16, 24), crop=0.9, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    model = tiny_model(num_classes=7, class_names=CLASSES, preprocessing=preprocessing)
    model.description = "random weights"
    model.save(folder / "model.keras")
    (folder / "samples").mkdir()
    for path in (photographs / "red").iterdir():
        shutil.copy(path, folder / "samples")
    main([str(folder / "model.keras"), "--format", *ALL, "--out", str(folder / "out")])
    return folder


@pytest.fixture(scope="session")
def signatures(exported):
    """The exported SavedModel's signatures, loaded by TensorFlow"""
    loaded = tf.saved_model.load(str(exported / "out" / "saved_model" / "1"))
    return loaded.signatures


def probabilities(model, image):
    """Keras's answer for one uint8 image of any size"""
    return np.asarray(keras.ops.softmax(model(model.preprocessing(image[np.newaxis]))))[0]


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "jpeg", **options)
    return file.getvalue()


def test_every_format_is_written_verified_and_tabled(exported):
    rows = json.loads((exported / "out" / "report.json").read_text())

    assert [row["format"] for row in rows] == ALL
    for row in rows:
        assert row["images"] == 12
        assert row["max_difference"] <= row["tolerance"] == FORMATS[row["format"]].tolerance
        assert row["top1_agreement"] == row["keras_accuracy"] == row["accuracy"] == 1.0
        assert row["change"] == 0
        assert set(row["milliseconds"]) == {"1", "2"}
        assert min(row["milliseconds"].values()) > 0
        assert row["memory_mb"] > 0
        assert row["bytes"] > 100_000
        assert f"{row['path']}: random weights" in (exported / "out" / "report.md").read_text()
    names = {path.name for path in (exported / "out").iterdir()}
    reports = {"report.json", "report.md", "labels.txt", "model_card.md"}
    assert names == {"saved_model", "model.tflite", "model.onnx", *reports}
    assert (exported / "out" / "labels.txt").read_text().split("\n")[:-1] == list(CLASSES)


def test_bytes_signature_is_the_whole_way_from_file_to_label(exported, signatures):
    model = load_model(exported / "model.keras")
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        jpeg(photograph(1, (255, 0, 0), size=(80, 31))),
        jpeg(photograph(2, (0, 255, 0), size=(30, 70)), exif=exif),
        jpeg(photograph(3, (0, 255, 255)).convert("L")),
    ]

    answer = signatures["serving_default"](image_bytes=tf.constant(files))

    for index, content in enumerate(files):
        expected = probabilities(model, decode_image(content).numpy())
        np.testing.assert_allclose(answer["probabilities"][index], expected, atol=1e-5)
        order = np.argsort(-expected)[:5]
        assert answer["classes"][index].numpy().tolist() == order.tolist()
        scores = answer["scores"][index].numpy()
        assert scores.tolist() == answer["probabilities"][index].numpy()[order].tolist()
        labels = [label.decode() for label in answer["labels"][index].numpy()]
        assert labels == [CLASSES[i] for i in order]


def test_pixels_signature_takes_images_of_any_size(exported, signatures):
    model = load_model(exported / "model.keras")
    image = np.asarray(photograph(4, (90, 200, 10), size=(51, 33)))

    answer = signatures["serve_images"](images=tf.constant(image[np.newaxis]))

    np.testing.assert_allclose(answer["probabilities"][0], probabilities(model, image), atol=1e-5)


def test_logits_signature_takes_normalised_input(exported, signatures):
    model = load_model(exported / "model.keras")
    images = np.random.default_rng(0).standard_normal((3, 16, 24, 3)).astype("float32")

    answer = signatures["serve_logits"](images=tf.constant(images))

    np.testing.assert_allclose(answer["logits"], model(images), atol=1e-5)


def test_undecodable_bytes_are_named_by_position(signatures):
    good = jpeg(photograph(1, (255, 0, 0)))
    batch = tf.constant([good, b"not an image", good, good[:200], b"", b"x", b"\xff\xd8\xff", good])

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at positions\] \[1 3 4 5 6\]"):
        signatures["serving_default"](image_bytes=batch)
    answer = signatures["serving_default"](image_bytes=tf.constant([good, good]))
    assert answer["probabilities"].shape == (2, 7)


def test_empty_batches_have_empty_answers(signatures):
    answer = signatures["serving_default"](image_bytes=tf.constant([], tf.string))

    assert answer["probabilities"].shape == (0, 7)


@pytest.mark.slow
def test_saved_model_runs_in_a_session_without_this_project(exported, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(photograph(1, (255, 0, 0))))
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

    model = load_model(exported / "model.keras")
    image = decode_image((tmp_path / "a.jpg").read_bytes()).numpy()
    assert printed.stdout.strip() == CLASSES[probabilities(model, image).argmax()]


def test_tflite_runs_in_litert_alone(exported, tmp_path):
    image = np.asarray(photograph(5, (200, 100, 0), size=(24, 16)))
    np.save(tmp_path / "image.npy", image)
    code = """
import sys, numpy, ai_edge_litert.interpreter as litert
interpreter = litert.Interpreter(sys.argv[1])
interpreter.allocate_tensors()
(taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
interpreter.set_tensor(taken["index"], numpy.load("image.npy")[None])
interpreter.invoke()
numpy.save("answer.npy", interpreter.get_tensor(given["index"]))
assert not {"tensorflow", "keras", "vit_keras"} & set(sys.modules)
"""
    command = [sys.executable, "-c", code, str(exported / "out" / "model.tflite")]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)

    # The file takes images of its own size: nothing is cropped.
    model = load_model(exported / "model.keras")
    expected = np.asarray(keras.ops.softmax(model(model.preprocessing.normalise(image[None]))))
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-5)


def test_tflite_is_static_of_low_rank_and_carries_its_labels(exported):
    from ai_edge_litert.interpreter import Interpreter

    path = exported / "out" / "model.tflite"
    interpreter = Interpreter(str(path))

    (taken,) = interpreter.get_input_details()
    assert taken["shape_signature"].tolist() == [1, 16, 24, 3]
    assert taken["dtype"] is np.uint8
    assert max(len(tensor["shape"]) for tensor in interpreter.get_tensor_details()) == 4
    with zipfile.ZipFile(path) as attached:
        assert attached.read("labels.txt").decode().split("\n")[:-1] == list(CLASSES)
        rule = json.loads(attached.read("preprocessing.json"))
    assert Preprocessing(**rule) == load_model(exported / "model.keras").preprocessing


def test_a_buffer_is_added_and_nothing_else_changes(exported):
    content = (exported / "out" / "model.tflite").read_bytes()

    added = add_buffer(content, "more", b"12345")

    assert schema.Model.ModelBufferHasIdentifier(added, 0)
    assert not (buffer_places(added) % 16).any()
    old, new = schema.ModelT.InitFromPackedBuf(content), schema.ModelT.InitFromPackedBuf(added)
    assert new.buffers.pop().data.tobytes() == b"12345"
    assert new.metadata.pop().name == b"more"
    assert packed(new) == packed(old)


def test_data_behind_the_flatbuffer_is_taken_inside(exported):
    # As the quantiser writes larger files: buffers that name a place in the file.
    model = schema.ModelT.InitFromPackedBuf((exported / "out" / "model.tflite").read_bytes())
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    place, data = 2**20, bytes(largest.data)
    largest.data, largest.offset, largest.size = None, place, len(data)
    content = packed(model)
    content += bytes(place - len(content)) + data

    added = schema.ModelT.InitFromPackedBuf(add_buffer(content, "more", b"12345"))

    assert not any(buffer.offset for buffer in added.buffers)
    assert data in {buffer.data.tobytes() for buffer in added.buffers if buffer.data is not None}


def buffer_places(content):
    """Where in a .tflite file the data of each buffer begins"""
    model = schema.Model.GetRootAs(content)
    filled = [model.Buffers(i) for i in range(model.BuffersLength())]
    tables = [buffer._tab for buffer in filled if buffer.DataLength()]
    return np.array([table.Vector(table.Offset(4)) for table in tables])


def packed(model):
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_metadata_is_the_same_each_time(exported, tmp_path):
    model = load_model(exported / "model.keras")
    bare = schema.ModelT.InitFromPackedBuf((exported / "out" / "model.tflite").read_bytes())
    bare.metadata.pop()
    for name in ("a.tflite", "b.tflite"):
        (tmp_path / name).write_bytes(packed(bare))
        attach_metadata(tmp_path / name, model, author="A. Nobody", license="MIT", version="2")
    content = (tmp_path / "a.tflite").read_bytes()

    assert content == (tmp_path / "b.tflite").read_bytes()
    for text in (b"A. Nobody", b"MIT", b"random weights; Vision Transformer for 16x24 pixels"):
        assert text in content


def test_classes_without_names_are_numbered():
    assert class_labels(tiny_model(num_classes=3)) == ("0", "1", "2")


@pytest.mark.slow
def test_an_operation_tflite_lacks_is_named(tmp_path):
    @keras.saving.register_keras_serializable()
    class Exotic(keras.layers.Layer):
        def call(self, x):
            return tf.math.igamma(x + 1.0, x) + tf.raw_ops.Erfinv(x=x / 10)

    images = keras.Input((4,), batch_size=1)
    keras.Model(images, Exotic()(images)).export(tmp_path / "model", verbose=False)

    with pytest.raises(InputError, match="TFLite conversion failed: .*Igamma"):
        convert_in_subprocess(tmp_path / "model", tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()


@pytest.mark.slow
def test_half_precision_models_export_in_float32(photographs, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny_model()
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")

    data = str(photographs / "blue")

    (row,) = export(tmp_path / "model.keras", ["tflite"], tmp_path / "out", data=data)

    assert row["max_difference"] < 1e-5
    samples = ask_keras(model, load_images(model, data=data)["evaluation"])
    path = tmp_path / "out" / "model.tflite"
    run = FORMATS["tflite"].run(path, samples, model.preprocessing)
    difference, agreement = compare(run.answers, samples)
    assert 0 < difference < 5e-3  # of the model in half precision
    assert agreement == 1


@pytest.mark.slow
def test_a_relative_folder_works_from_anywhere(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    main([str(exported / "model.keras"), "--format", "tflite", "--out", "here"])

    assert (tmp_path / "here" / "model.tflite").exists()


@pytest.mark.slow
def test_tables_keep_what_was_exported_before(exported, tmp_path):
    shutil.copytree(exported / "out" / "saved_model", tmp_path / "saved_model")
    shutil.copy(exported / "out" / "report.json", tmp_path)

    export(exported / "model.keras", ["tflite"], tmp_path)

    rows = json.loads((tmp_path / "report.json").read_text())
    assert [row["path"] for row in rows] == ["saved_model/1", "model.tflite"]


def test_versions_count_up(tmp_path):
    assert next_version(tmp_path, "").name == "1"
    for name in ("1", "9", "10", ".11-abc", "notes"):
        (tmp_path / "saved_model" / name).mkdir(parents=True)
    assert next_version(tmp_path, "").name == "11"


@pytest.mark.slow
def test_a_wrong_artefact_is_not_published(exported, tmp_path, monkeypatch):
    def another_model(model, path, options):
        convert(randomise(tiny_model(num_classes=7), seed=9), path)

    wrong = dataclasses.replace(FORMATS["tflite"], prepare=another_model)
    monkeypatch.setitem(FORMATS, "tflite", wrong)
    (tmp_path / "model.tflite").write_bytes(b"the one before")

    with pytest.raises(InputError, match="tflite in float32 answers differently from Keras"):
        export(exported / "model.keras", ["tflite"], tmp_path)

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.tflite", "labels.txt", "model_card.md"}
    assert (tmp_path / "model.tflite").read_bytes() == b"the one before"


def test_not_a_number_is_outside_every_tolerance(exported):
    model = load_model(exported / "model.keras")
    samples = ask_keras(model, load_images(model, exported / "model.keras")["evaluation"])
    answer = samples.expected["pixels"].copy()
    assert compare([("pixels", answer)], samples) == (0.0, 1.0)
    answer[3, 2] += 0.25
    difference, _ = compare([("pixels", answer)], samples)
    assert difference == pytest.approx(0.25)
    answer[3, 2] = np.nan

    difference, _ = compare([("pixels", answer)], samples)

    assert not difference <= 1e9


def test_shifted_logits_differ_although_their_probabilities_do_not(exported):
    model = load_model(exported / "model.keras")
    samples = ask_keras(model, load_images(model, exported / "model.keras")["evaluation"])
    logits = samples.expected["logits"]

    difference, agreement = compare([("logits", logits + 0.5)], samples)

    assert difference == pytest.approx(0.5 / max(1, np.abs(logits).max()), rel=1e-5)
    assert agreement == 1


def test_mistakes_are_one_line(exported, tmp_path):
    model = str(exported / "model.keras")
    shutil.copy(model, tmp_path / "model.keras")
    broken = tmp_path / "images"
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"")
    for arguments, message in (
        ([model, "--format", "tflight", "--out", "x"], "no export format 'tflight'; did you mean"),
        ([model, "--quantization", "int4", "--out", "x"], "no quantization 'int4'; did you mean"),
        ([str(tmp_path / "model.keras"), "--out", "x"], "there are no images to verify"),
        ([model, "--data", str(broken), "--out", "x"], "no image of the train of"),
        ([model, "--data", "nowhere", "--out", "x"], "no such dataset or folder: nowhere"),
        ([model, "--max-drop", "2", "--out", "x"], "max_drop must be a fraction in [0, 1]"),
        (
            [model, "--format", "savedmodel", "--quantization", "int8", "--out", "x"],
            "savedmodel comes in float32. Got --quantization int8.",
        ),
        ([model, "--preprocess", "int8", "--out", "x"], "preprocess must be one of in-graph, none"),
        ([model, "--top-k", "0", "--out", "x"], "top_k must be a whole number of at least 1"),
        ([model, "--attention", "--merge-tokens", "2", "--out", "x"], "merged tokens belong"),
        (["none.keras", "--out", "x"], "none.keras does not exist"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert str(stopped.value).startswith("Error: ")
        assert message in str(stopped.value)
    assert not os.path.exists("x")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"distilled": True, "registers": 2, "layer_scale": 0.1},
        {"pooling": "map", "gelu": "quick", "pre_norm": True, "qk_norm": True},
        {"pooling": "sequence", "stem": "convolutions", "swiglu": True},
        {"stem": "resnet", "stem_width": 32, "stem_blocks": (1,), "locality_attention": True},
    ],
)
def test_every_option_of_the_family_exports_and_agrees(options, photographs, tmp_path):
    model = tiny_model(class_names=list("abcde"), **options)
    model.save(tmp_path / "model.keras")

    data = str(photographs / "red")

    export(tmp_path / "model.keras", ALL, tmp_path / "out", data=data)

    rows = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["format"] for row in rows] == ALL
    assert all(row["max_difference"] <= 2e-5 for row in rows)

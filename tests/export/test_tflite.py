""".tflite files in float32: conversion, their graph, and LiteRT's answers."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from support.answers import CLASSES
from support.tiny import photograph, randomise

import export as exporting
import vit_keras
from export.endpoints import inference_model
from export.options import Options
from export.tflite.convert import convert_in_subprocess, write_tflite
from export.tflite.flatbuffer import count_operations, read_model
from vit_keras import InputError, Preprocessing


def test_litert_runs_it_without_tensorflow(exported, exported_model, tmp_path):
    image = np.asarray(photograph(5, (200, 100, 0), size=(24, 16)))
    np.save(tmp_path / "image.npy", image)
    code = """
import sys, numpy, ai_edge_litert.interpreter as litert
interpreter = litert.Interpreter(sys.argv[1])
interpreter.allocate_tensors()
(image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
interpreter.set_tensor(image["index"], numpy.load("image.npy")[None])
interpreter.invoke()
numpy.save("answer.npy", interpreter.get_tensor(answer["index"]))
assert not {"tensorflow", "keras", "vit_keras"} & set(sys.modules)
"""
    command = [sys.executable, "-c", code, str(exported / "out" / "model.tflite")]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)

    # The file takes images of the model's size: nothing is cropped.
    normalised = exported_model.preprocessing.normalise(image[np.newaxis])
    expected = np.asarray(keras.ops.softmax(exported_model(normalised)))
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-5)


def test_shapes_are_static_and_the_file_contains_its_labels(exported, exported_model):
    path = exported / "out" / "model.tflite"
    interpreter = Interpreter(str(path))

    (image,) = interpreter.get_input_details()
    assert image["shape_signature"].tolist() == [1, 16, 24, 3]
    assert image["dtype"] is np.uint8
    assert max(len(tensor["shape"]) for tensor in interpreter.get_tensor_details()) == 4
    with zipfile.ZipFile(path) as attached:
        assert attached.read("labels.txt").decode().split("\n")[:-1] == list(CLASSES)
        rule = json.loads(attached.read("preprocessing.json"))
    assert Preprocessing(**rule) == exported_model.preprocessing


def test_tensors_have_the_names_of_the_signature(exported):
    interpreter = Interpreter(str(exported / "out" / "model.tflite"))

    assert [tensor["name"] for tensor in interpreter.get_input_details()] == ["images"]
    assert [tensor["name"] for tensor in interpreter.get_output_details()] == ["probabilities"]
    assert interpreter.get_signature_list() == {
        "classify": {"inputs": ["images"], "outputs": ["probabilities"]}
    }


def test_operations_have_their_number_in_both_fields(quantized_files):
    for path in quantized_files.values():
        for code in read_model(path).operatorCodes:
            assert code.builtinCode > 0 or code.deprecatedBuiltinCode == 0  # 0 is an addition
            assert code.deprecatedBuiltinCode == min(code.builtinCode, 127)


@pytest.mark.slow
def test_an_unsupported_operation_is_named_in_the_error(tmp_path):
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
def test_files_can_take_a_batch_of_normalised_images(five_classes, noise, tmp_path):
    path = tmp_path / "model.tflite"

    row = exporting.to_tflite(five_classes, path, data=noise, preprocess="none", batch=3)

    assert row["top1_agreement"] == 1
    (images,) = Interpreter(str(path)).get_input_details()
    assert images["shape"].tolist() == [3, 16, 24, 3]
    assert images["dtype"] is np.float32


@pytest.mark.slow
def test_operation_counts_of_a_ti16(tmp_path):
    model = randomise(vit_keras.build_vit("vit_ti16"))
    write_tflite(inference_model(model), tmp_path / "plain.tflite", Options())
    write_tflite(inference_model(model, merge_tokens=8), tmp_path / "merged.tflite", Options())

    assert count_operations(tmp_path / "plain.tflite") == {
        "MUL": 64,
        "ADD": 53,
        "FULLY_CONNECTED": 51,
        "RESHAPE": 51,
        "TRANSPOSE": 47,
        "MEAN": 25,
        "RSQRT": 25,
        "SQUARE": 25,
        "SUB": 25,
        "SUM": 25,
        "BATCH_MATMUL": 24,
        "SOFTMAX": 13,
        "GELU": 12,
        "SPLIT": 12,
        "STRIDED_SLICE": 3,
        "CAST": 1,
        "CONCATENATION": 1,
    }
    merged = count_operations(tmp_path / "merged.tflite")
    assert merged["GREATER"] == 33  # three comparisons in each of 11 blocks
    # Operations that phones' GPUs do not have.
    assert not {"CUSTOM", "GATHER", "GATHER_ND", "ONE_HOT", "SELECT_V2", "TOPK_V2"} & set(merged)
    for name in ("plain", "merged"):
        details = Interpreter(str(tmp_path / f"{name}.tflite")).get_tensor_details()
        assert max(len(tensor["shape"]) for tensor in details) <= 4
        assert all((tensor["shape_signature"] > 0).all() for tensor in details)

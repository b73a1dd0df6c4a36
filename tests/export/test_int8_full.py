"""int8-full files: integers from pixels to probabilities."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.checks.run_standalone import ask_tflite
from export.endpoints import inference_model
from export.options import Options
from export.source import Source
from export.tflite.convert import write_tflite
from export.tflite.flatbuffer import count_operations
from export.tflite.integers import write_int8_full
from export.tflite.partitions import count_integer_operations
from vit_keras import InputError


def test_int8_full_is_one_partition_from_pixels_to_probabilities(quantized_files):
    path = quantized_files["int8-full"]

    count = count_integer_operations(path)

    assert count["float"] == {}
    assert count["integer"] == count["operations"] > 90
    assert count["partitions"] == 1
    interpreter = Interpreter(str(path))
    (pixels,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (pixels["dtype"], pixels["quantization"]) == (np.uint8, (1.0, 0))
    assert (answer["dtype"], answer["quantization"]) == (np.uint8, (1 / 256, 0))


def test_int8_full_can_return_int8_and_avoid_gelu(
    five_classes, float32_file, noise_images, tmp_path
):
    options = Options(output_type="int8", gelu="sigmoid")
    source = Source(float32_file, five_classes, noise_images, options)

    write_int8_full(source, tmp_path / "full")

    interpreter = Interpreter(str(tmp_path / "full"))
    (answer,) = interpreter.get_output_details()
    assert (answer["dtype"], answer["quantization"]) == (np.int8, (1 / 256, -128))
    operations = count_operations(tmp_path / "full")
    assert operations["LOGISTIC"] == 2
    assert "GELU" not in operations
    pixels = noise_images["search"].pixels
    expected = ask_tflite(Interpreter(str(float32_file)), pixels)["probabilities"]
    answers = ask_tflite(interpreter, pixels)["probabilities"]
    assert answers.dtype == np.float32
    assert np.abs(answers - expected).max() < 0.05


def test_int8_full_refuses_normalised_images(five_classes, float32_file, noise_images, tmp_path):
    source = Source(float32_file, five_classes, noise_images, Options(preprocess="none"))

    with pytest.raises(InputError, match="takes uint8 pixels; leave out --preprocess none"):
        write_int8_full(source, tmp_path / "full")


def test_int8_full_refuses_merged_tokens(five_classes, noise_images, tmp_path):
    model = inference_model(five_classes, merge_tokens=3)
    write_tflite(model, tmp_path / "merged", Options())
    source = Source(tmp_path / "merged", model, noise_images, Options())

    with pytest.raises(InputError, match="CAST.*DIV.*GREATER.* have no good integer form"):
        write_int8_full(source, tmp_path / "full")

"""Files for old runtimes, --least-runtime."""

import subprocess

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from support.environments import environment_with

from export.checks.run_standalone import ask_tflite
from export.formats import KINDS
from export.options import Options
from export.source import Source
from export.tflite.quantize import write_dynamic
from vit_keras import InputError


@pytest.mark.parametrize("kind", ["int8", "int8-full", "int16x8"])
def test_kinds_that_old_runtimes_compute_wrongly_are_refused_for_them(
    kind, five_classes, float32_file, tmp_path
):
    source = Source(float32_file, five_classes, {}, Options(least_runtime="2.14"))

    with pytest.raises(InputError, match=f"{kind} needs .* or newer. Got --least-runtime 2.14"):
        KINDS[kind].write(source, tmp_path / "file")


def test_dynamic_for_an_old_runtime_has_one_scale_per_weight(five_classes, float32_file, tmp_path):
    for version in ("", "2.14"):
        source = Source(float32_file, five_classes, {}, Options(least_runtime=version))
        write_dynamic(source, tmp_path / f"file{version}")

    scales = {
        version: [
            len(tensor["quantization_parameters"]["scales"])
            for tensor in Interpreter(str(tmp_path / f"file{version}")).get_tensor_details()
            if tensor["dtype"] is np.int8
        ]
        for version in ("", "2.14")
    }
    assert set(scales["2.14"]) == {1}
    assert min(scales[""]) > 1


@pytest.mark.slow
def test_tflite_2_14_gives_the_labels_of_keras(
    five_classes, float32_file, noise, tmp_path, request
):
    source = Source(float32_file, five_classes, {}, Options(least_runtime="2.14"))
    write_dynamic(source, tmp_path / "model.tflite")
    np.save(tmp_path / "pixels.npy", noise[0])
    python = environment_with(
        request.config.cache, "tflite-runtime-2.14.0", "tflite-runtime==2.14.0", "numpy<2"
    )
    code = """
import numpy, tflite_runtime.interpreter as tflite
interpreter = tflite.Interpreter("model.tflite")
classify = interpreter.get_signature_runner()
answers = [classify(images=image[None])["probabilities"] for image in numpy.load("pixels.npy")]
numpy.save("answers.npy", numpy.concatenate(answers))
"""
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path)

    answers = np.load(tmp_path / "answers.npy")
    expected = ask_tflite(Interpreter(str(float32_file)), noise[0])["probabilities"]
    assert np.abs(answers - expected).max() < 0.02
    assert (answers.argmax(axis=1) == noise[1]).mean() > 0.95

""".onnx files in onnxruntime of 2023 and in OpenVINO: Keras's answers, or an error."""

import json
import pathlib
import subprocess
from typing import Any

import keras
import numpy as np
import pytest
from support.answers import NORMALISATION, classifier
from support.environments import environment_with
from support.shared import shared_folder

from export.endpoints import inference_model
from export.export import load_subject
from export.formats import FORMATS
from export.options import Options
from export.source import Source
from vit_keras import Preprocessing

pytestmark = pytest.mark.slow

SCRIPT = pathlib.Path(__file__).parents[1] / "support" / "run_onnx.py"
# {package: what pip installs}; onnxruntime 1.15 is of May 2023.
RUNTIMES = {
    "onnxruntime": ["onnxruntime==1.15.1", "numpy<2"],
    "openvino": ["openvino==2026.4.1", "numpy"],
}
MODELS: dict[str, dict[str, Any]] = {
    "cls": {},
    "merged": {"merge_tokens": 3},
    "map": {"pooling": "map", "gelu": "quick", "qk_norm": True},
    "convolutions": {"pooling": "sequence", "stem": "convolutions", "swiglu": True},
}
KINDS = FORMATS["onnx"].kinds
# Largest differences of a probability; these of the kinds are those of onnxruntime 1.32.
TOLERANCES = {"float32": 2e-5, "float16": 3e-3, "dynamic": 0.03, "int8": 0.08}
# What a runtime refuses, and a part of its message.
REFUSED = {("onnxruntime", "convolutions", "dynamic"): "ConvInteger"}


@pytest.fixture(scope="session", params=RUNTIMES)
def answers(request, files):
    """(runtime, {model and kind: its answers, or the message})."""
    packages = RUNTIMES[request.param]
    name = "-".join(packages).replace("==", "-").replace("<", "-")
    python = environment_with(request.config.cache, name, *packages)
    command = [python, "-P", SCRIPT, request.param, files]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return request.param, json.loads(process.stdout)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with MODEL-KIND.onnx of all models and kinds, pixels.npy, and MODEL.npy of Keras."""

    def build(folder):
        pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 24, 3), "uint8")
        np.save(folder / "pixels.npy", pixels)
        for name, fields in MODELS.items():
            model = inference_model(classifier(Preprocessing((16, 24), **NORMALISATION), **fields))
            data = (pixels, np.arange(60) % 7)
            subject = load_subject(model, None, data, "", 60, Options())
            source = Source(folder / f"{name}-float32.onnx", model, subject.images, Options())
            FORMATS["onnx"].write(model, source.path, source.options)
            for kind in KINDS.keys() - {"float32"}:
                KINDS[kind].write(source, folder / f"{name}-{kind}.onnx")
            logits = model(model.preprocessing.normalise(pixels))
            np.save(folder / f"{name}.npy", np.asarray(keras.ops.softmax(logits)))

    return shared_folder(tmp_path_factory, "onnx_files", build)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_answers_are_those_of_keras_or_an_error(name, kind, answers, files):
    runtime, all_answers = answers
    answer, expected = all_answers[f"{name}-{kind}"], np.load(files / f"{name}.npy")

    reason = REFUSED.get((runtime, name, kind))
    if reason:
        assert isinstance(answer, str)
        assert reason in answer
        return
    assert np.abs(np.array(answer) - expected).max() <= TOLERANCES[kind]
    margins = np.diff(np.sort(expected)[:, -2:]).ravel()
    clear = margins > 2 * TOLERANCES[kind]
    assert (np.argmax(answer, axis=1) == expected.argmax(axis=1))[clear].all()

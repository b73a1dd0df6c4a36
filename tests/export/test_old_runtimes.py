"""Every kind of .tflite file, in runtimes of other years and makers: right, or refused.

An old runtime must never answer wrongly without an error.
"""

import json
import pathlib
import subprocess

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from support.environments import environment_with
from support.shared import shared_folder
from support.tiny import tiny_model

from export.checks.run_standalone import ask_tflite
from export.endpoints import inference_model
from export.formats import KINDS
from export.images import load_images
from export.options import Options
from export.source import Source
from export.tflite.convert import write_tflite
from export.tflite.finish import finish

pytestmark = pytest.mark.slow

SCRIPT = pathlib.Path(__file__).parents[1] / "support" / "run_tflite.py"
UNKNOWN = "Didn't find op for builtin opcode 'FULLY_CONNECTED' version"
# Runtime -> its packages, and the files that it refuses: the beginnings of their names, and a part
# of the message.
RUNTIMES = {
    "tflite_runtime": (
        ["tflite-runtime==2.14.0", "numpy<2"],
        {"dynamic": UNKNOWN, "int16x8": UNKNOWN},
    ),
    "tensorflow": (["tensorflow-cpu==2.16.2"], {"dynamic": UNKNOWN, "int16x8": UNKNOWN}),
    "litert": (["ai-edge-litert==1.2.0", "numpy<2"], {"int16x8": UNKNOWN}),
    "mediapipe": (["mediapipe==0.10.14"], {"int16x8": "CalculatorGraph::Run() failed"}),
    "openvino": (["openvino==2026.4.*"], {}),
}
MODELS = {
    "exact": {},
    "quick": {"gelu": "quick", "pooling": "mean"},  # without GELU, which old runtimes lack in int16
    "merging": {"merge_tokens": 4, "pooling": "map"},
}
MERGING_KINDS = ("float32", "float16", "dynamic")
# Of the probability that moves to other classes, on average. int8 of other runtimes rounds in other
# places; runtimes that compute a file wrongly were measured to move 0.2 to 0.8.
SAME = 0.02


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with KIND-MODEL.tflite and pixels.npy, 12 images."""

    def build(folder):
        pixels = np.random.default_rng(0).integers(0, 256, (100, 16, 24, 3), "uint8")
        np.save(folder / "pixels.npy", pixels[:12])
        for name, options in MODELS.items():
            model = inference_model(classifier(options))
            images = load_images(model, data=(pixels, np.arange(100) % 5))
            write_tflite(model, folder / name, Options())
            for kind in MERGING_KINDS if name == "merging" else KINDS:
                write_kind(folder, name, kind, model, images, Options(allow_drop=True))
        old = Options(least_runtime="2.14")
        write_kind(folder, name, "dynamic", model, images, old, prefix="old-")

    return shared_folder(tmp_path_factory, "old_runtimes", build)


def classifier(options):
    keras.utils.set_random_seed(0)
    return tiny_model(class_names=tuple("abcde"), **options)


def moved(answers, expected):
    return np.abs(answers - expected).sum(axis=1).mean() / 2


def write_kind(folder, name, kind, model, images, options, prefix=""):
    path = folder / f"{prefix}{kind}-{name}.tflite"
    KINDS[kind].write(Source(folder / name, model, images, options), path)
    finish(model, path, options)


@pytest.fixture(scope="session")
def expected(files):
    """{file: answers} of the newest LiteRT, which exports are verified in."""
    pixels = np.load(files / "pixels.npy")
    return {
        path.stem: ask_tflite(Interpreter(str(path)), pixels)["probabilities"]
        for path in files.glob("*.tflite")
    }


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_file_is_right_or_refused(runtime, files, expected, request):
    packages, refused = RUNTIMES[runtime]
    python = environment_with(request.config.cache, packages[0].replace("==", "-"), *packages)

    command = [python, "-P", SCRIPT, runtime, files]
    process = subprocess.run(command, capture_output=True, check=True, text=True)
    answers = json.loads(process.stdout)

    assert answers.keys() == expected.keys()
    assert len(answers) == 2 * len(KINDS) + len(MERGING_KINDS) + 1
    for name, answer in answers.items():
        messages = [text for start, text in refused.items() if name.startswith(start)]
        if messages:
            assert messages[0] in answer, name
        else:
            assert moved(np.array(answer), expected[name]) < SAME, name


def test_the_files_are_right_in_the_newest_runtime(files, expected):
    # What the other runtimes are compared with: a random model in int8 is close, but not the same.
    for name, options in MODELS.items():
        model = classifier(options)
        pixels = np.load(files / "pixels.npy")
        logits = np.asarray(model(model.preprocessing.normalise(pixels)))
        answers = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for file in files.glob(f"*-{name}.tflite"):
            assert moved(expected[file.stem], answers) < 0.1, file

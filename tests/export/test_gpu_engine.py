"""Every family of models runs wholly on LiteRT's GPU engine, with the CPU's answers."""

import pathlib
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from sklearn.datasets import load_sample_images
from support.tiny import tiny_model

from export.checks.gpu_engine import SWIFTSHADER, run_gpu_engine
from export.checks.run_standalone import ask_tflite, feeds
from export.endpoints import inference_model
from export.endpoints.pixels import input_preprocessing
from export.export import export_artefact
from export.options import Options
from export.source import Source
from export.tflite.convert import write_tflite
from export.tflite.finish import finish
from export.tflite.flatbuffer import count_operations
from export.tflite.quantize import write_float16

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not pathlib.Path(SWIFTSHADER).exists(), reason="needs Debian's chromium"),
]

# Name -> the model's options, and those of the export.
FAMILY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cls": ({}, {}),
    "mean": ({"pooling": "mean"}, {}),
    "map": ({"pooling": "map", "gelu": "tanh"}, {"attention": True}),
    "sequence": ({"pooling": "sequence", "stem": "convolutions"}, {"attention": True}),
    "distilled": ({"distilled": True, "head_width": 8}, {"attention": True}),
    "registers": ({"registers": 2, "swiglu": True, "layer_scale": 0.1, "qk_norm": True}, {}),
    "no prefix positions": ({"prefix_positions": False, "layer_scale": 0.1}, {}),
    "sincos": ({"pooling": "mean", "positions": "sincos2d"}, {"attention": True}),
    "clip": ({"pre_norm": True, "gelu": "quick"}, {}),
    "norm after pooling": (
        {"pooling": "mean", "norm_after_pooling": True, "channels": 1},
        {"input_type": "float32"},
    ),
    "shifted": ({"stem": "shifted_patches", "locality_attention": True}, {}),
    "hybrid": (
        {"stem": "resnet", "stem_width": 32, "stem_blocks": (1, 1), "patch_size": 8},
        {"preprocess": "none"},
    ),
    "merging": ({"merge_tokens": 5, "pooling": "mean"}, {}),
    "merging cls": ({"merge_tokens": 6}, {"preprocess": "none"}),
}


@pytest.fixture(scope="session")
def crops():
    """Four parts of two photographs, uint8 (4, 32, 48, 3)."""
    photographs = load_sample_images().images
    return np.stack([photographs[i % 2][100 * i :: 3][:32, 60 : 60 + 48] for i in range(4)])


def ask_both(path, pixels, rule):
    interpreter = Interpreter(str(path))
    answers = ask_tflite(interpreter, pixels, rule.mean, rule.std)
    batches = feeds(interpreter, pixels, rule.mean, rule.std)
    images = np.concatenate([images for batch in batches for images in batch.values()])
    operations = sum(count_operations(path).values())
    return answers, run_gpu_engine(path, operations, answers, images)


@pytest.mark.parametrize("name", FAMILY)
def test_every_family_runs_wholly_and_correctly_on_the_gpu(name, crops, tmp_path):
    options, exported = FAMILY[name]
    model = inference_model(tiny_model(image_size=(32, 48), **options))
    rule = input_preprocessing(model, Options(**exported))
    pixels = crops[..., : rule.channels]
    write_tflite(model, tmp_path / "float32", Options(**exported))
    write_float16(Source(tmp_path / "float32", model, {}, Options()), tmp_path / "float16")

    for kind in ("float32", "float16"):
        finish(model, tmp_path / kind, Options(**exported))
        answers, run = ask_both(tmp_path / kind, pixels, rule)

        assert (run.cpu_operations, run.refused) == (0, [])
        assert run.max_difference <= 1e-4
        assert np.ptp(answers["probabilities"], axis=0).max() > 1e-3  # images differ in answers


@pytest.mark.parametrize("options", [{}, {"distilled": True}, {"pooling": "map"}])
def test_files_in_integers_run_wholly_on_the_gpu(options, tmp_path):
    random = np.random.default_rng(0)
    data = random.integers(0, 256, (60, 16, 16, 3), "uint8"), np.arange(60) % 5
    model = tiny_model(image_size=(16, 16), **options)

    row = export_artefact(
        model,
        "tflite",
        tmp_path / "model",
        Options(allow_drop=True),
        quantization="int8-full",
        data=data,
    )

    assert (row["gpu"]["cpu_operations"], row["gpu"]["refused"]) == (0, [])
    assert row["gpu"]["max_difference"] <= 0.05  # 13 steps of the answer, 1 / 256 each

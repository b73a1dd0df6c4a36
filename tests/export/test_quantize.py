"""Quantized .tflite files: their contents, their accuracy, and which are refused."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from support.tiny import tiny_model

from export.__main__ import main
from export.checks.run_standalone import ask_tflite
from export.export import export_model
from export.formats import FORMATS, KINDS
from export.images import load_images
from export.options import Options
from export.source import Source
from export.tflite.flatbuffer import count_operations, pack
from export.tflite.int8_search import write_int8
from export.tflite.quantize import StaticQuantizer, find_parts
from vit_keras import InputError


def output_types(path):
    """{operation: types of its output tensors} in a file."""
    interpreter = Interpreter(str(path))
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    outputs: dict[str, set] = {}
    for operation in interpreter._get_ops_details():
        outputs.setdefault(operation["op_name"], set()).update(
            types[index] for index in operation["outputs"] if index in types
        )
    return outputs


def test_only_known_operations_belong_to_no_part(float32_file):
    parts = {part.name: part.operations for part in find_parts(float32_file)}

    assert list(parts)[:2] == ["embedding", "patch_encoder/projection"]
    layers = ("attention/projection", "mlp/expand", "mlp/reduce")
    assert {f"block_{i}/{layer}" for i in (0, 1) for layer in layers} < set(parts)
    # In the last block only [CLS] has a query: queries have a matrix of their own.
    assert len(parts["block_0/attention/qkv"]["FULLY_CONNECTED"]) == 1
    assert len(parts["block_1/attention"]["FULLY_CONNECTED"]) == 2
    # Five norms. ADD and MUL are 7: before a slice, or before two layers, gamma and beta cannot
    # be folded into the next layer.
    assert {name: len(tensors) for name, tensors in parts["layer norms"].items()} == {
        "SUB": 5,
        "SQUARED_DIFFERENCE": 5,
        "RSQRT": 5,
        "ADD": 7,
        "MUL": 7,
        "MEAN": 10,
    }
    in_parts = sum(len(tensors) for part in parts.values() for tensors in part.values())
    # Without a part: cast, scale and shift of the pixels, softmax of the logits, slices.
    assert sum(count_operations(float32_file).values()) - in_parts <= 7


@pytest.mark.parametrize(
    ("kind", "fraction", "weight_type"),
    [
        ("float16", 0.62, np.float16),
        ("dynamic", 0.5, np.int8),
        ("int8", 0.55, np.int8),
        ("int16x8", 0.55, np.int8),
    ],
)
def test_quantized_files_are_smaller(kind, fraction, weight_type, quantized_files):
    path = quantized_files[kind]

    assert path.stat().st_size < fraction * quantized_files["float32"].stat().st_size
    tensors = Interpreter(str(path)).get_tensor_details()
    assert weight_type in {tensor["dtype"] for tensor in tensors}
    assert max(len(tensor["shape"]) for tensor in tensors) <= 4


def test_a_static_part_computes_in_integers(float32_file, noise_images, tmp_path):
    static = StaticQuantizer(float32_file, noise_images["calibration"], 8)
    without_softmax = [part for part in static.parts if part.name != "softmax"]

    static.write(static.parts, tmp_path / "all.tflite")
    static.write(without_softmax, tmp_path / "some.tflite")

    everything, some = output_types(tmp_path / "all.tflite"), output_types(tmp_path / "some.tflite")
    for operation in ("FULLY_CONNECTED", "BATCH_MATMUL", "GELU", "RSQRT", "SQUARED_DIFFERENCE"):
        assert everything[operation] == some[operation] == {np.int8}
    assert everything["SOFTMAX"] == {np.int8, np.float32}  # float32: softmax of the logits
    assert some["SOFTMAX"] == {np.float32}


def test_int8_leaves_the_most_harmful_parts_in_float(
    five_classes, float32_file, noise_images, tmp_path
):
    strict, lax = (
        write_int8(
            Source(float32_file, five_classes, noise_images, Options(max_drop=max_drop)),
            tmp_path / str(max_drop),
        )
        for max_drop in (0.0, 1.0)
    )

    for search in (strict, lax):
        others = [row for row in search["scan"] if not row["part"].startswith("block_")]
        distances = [row["distance"] for row in others]
        assert distances == sorted(distances, reverse=True)
        in_float = [row["in_float"] for row in search["scan"]]
        assert in_float == sorted(in_float, reverse=True)  # the first of the list, and no others
    assert not any(row["in_float"] for row in lax["scan"])
    assert any(row["in_float"] for row in strict["scan"])
    assert set(noise_images) - {"evaluation"} == set(strict["images"])


@pytest.mark.slow
def test_an_export_of_all_kinds_is_deterministic_and_evaluated(
    five_classes, coloured_photographs, quantized_files, tmp_path
):
    five_classes.save(tmp_path / "model.keras")
    out = tmp_path / "out"
    command = [str(tmp_path / "model.keras"), "--data", str(coloured_photographs), "--allow-drop"]

    main([*command, "--format", "tflite", "--quantization", "all", "--out", str(out)])

    rows = json.loads((out / "report.json").read_text())["artefacts"]
    suffixes = ["", "_float16", "_dynamic", "_int8", "_int16x8"]
    assert [row["path"] for row in rows] == [f"model{suffix}.tflite" for suffix in suffixes]
    evaluation = load_images(five_classes, data=str(coloured_photographs))["evaluation"]
    for row in rows:
        path = out / row["path"]
        assert path.read_bytes() == quantized_files[row["quantization"]].read_bytes()
        assert row["bytes"] == path.stat().st_size
        assert sum(row["operations"].values()) > 50
        answers = ask_tflite(Interpreter(str(path)), evaluation.pixels)["probabilities"]
        accuracy = (answers.argmax(axis=1) == evaluation.labels).mean()
        assert row["accuracy"] == pytest.approx(accuracy)
    assert (out / "model_int8.search.json").exists()
    assert "What stayed in float in model_int8.tflite" in (out / "report.md").read_text()
    card = (out / "model_card.md").read_text()
    assert f"| parameters | {five_classes.count_params():,} |" in card


@pytest.mark.slow
def test_a_file_that_loses_too_much_accuracy_is_not_written(
    five_classes, noise, tmp_path, monkeypatch
):
    def write_without_weights(source, path):
        file = schema.ModelT.InitFromPackedBuf(source.path.read_bytes())
        for buffer in file.buffers:
            if buffer.data is not None and len(buffer.data) > 1000:
                buffer.data = np.zeros_like(buffer.data)
        path.write_bytes(pack(file))

    monkeypatch.setitem(FORMATS["tflite"].kinds, "dynamic", write_without_weights)
    model, out = tmp_path / "model.keras", tmp_path / "out"
    five_classes.save(model)
    out.mkdir()
    (out / "model_dynamic.tflite").write_bytes(b"the earlier file")

    with pytest.raises(InputError, match=r"more than max_drop=0.01 is lost; --allow-drop"):
        export_model(model, ["tflite"], out, ["dynamic", "float16"], data=noise)

    names = {path.name for path in out.glob("*.tflite")}
    assert names == {"model_dynamic.tflite", "model_float16.tflite"}
    assert (out / "model_dynamic.tflite").read_bytes() == b"the earlier file"
    export_model(model, ["tflite"], out, ["dynamic"], data=noise, options=Options(allow_drop=True))
    signatures = Interpreter(str(out / "model_dynamic.tflite")).get_signature_list()
    assert [signature["outputs"] for signature in signatures.values()] == [["probabilities"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        {"distilled": True, "registers": 2, "layer_scale": 0.1},
        {"pooling": "map", "gelu": "quick", "qk_norm": True, "head_width": 12},
        {"pooling": "sequence", "stem": "convolutions", "swiglu": True},
        {"pooling": "mean", "stem": "shifted_patches", "locality_attention": True},
    ],
)
def test_every_model_option_in_every_kind_and_with_merged_tokens(overrides, noise, tmp_path):
    model = tiny_model(class_names=tuple("abcde"), **overrides)
    model.description = "moving average (momentum 0.99) of the weights"
    model.save(tmp_path / "model.keras")
    pixels = noise[0]
    labels = model.predict(np.asarray(model.preprocessing(pixels)), verbose=0).argmax(axis=1)
    place = tmp_path / "model.keras", ["tflite"], tmp_path / "out"
    data, options = (pixels, labels), Options(allow_drop=True)

    rows = export_model(*place, list(KINDS), data=data, options=options)
    rows += export_model(*place, ["int8"], (3,), data=data, options=options)

    assert len(rows) == len(KINDS) + 1
    for row in rows:
        assert row["model"] == "moving average (momentum 0.99) of the weights"
        exact = row["quantization"] in ("float32", "float16")
        # The weights are random: many images are close to the border between two of the 5 classes.
        assert row["top1_agreement"] >= (0.97 if exact else 0.5)


@pytest.mark.slow
def test_a_killed_export_leaves_the_earlier_file(five_classes, tmp_path, photographs):
    five_classes.save(tmp_path / "model.keras")
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.tflite").write_bytes(b"the earlier file")
    command = [sys.executable, "-m", "export", str(tmp_path / "model.keras"), "--format", "tflite"]
    command += ["--data", str(photographs / "red"), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None

    assert process.stdout.readline() == "model.tflite ...\n"
    deadline = time.monotonic() + 60
    while not list(out.glob(".model-*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)  # until the new file is being written
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert process.returncode == -signal.SIGKILL
    assert list(out.glob(".model-*/*"))
    assert (out / "model.tflite").read_bytes() == b"the earlier file"
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == {"model.tflite"}

"""Exports of quantised .tflite files: which are written, which are refused, and what they lose."""

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
from export.formats import FORMATS, KINDS, Kind
from export.images import load_images
from export.options import Options
from export.tflite.flatbuffer import pack
from vit_keras import InputError


@pytest.mark.slow
def test_an_export_of_all_kinds_is_deterministic_and_evaluated(
    five_classes, coloured_photographs, quantized_files, tmp_path
):
    five_classes.save(tmp_path / "model.keras")
    out = tmp_path / "out"
    command = [str(tmp_path / "model.keras"), "--data", str(coloured_photographs), "--allow-drop"]

    main([*command, "--format", "tflite", "--quantization", "all", "--out", str(out)])

    rows = json.loads((out / "report.json").read_text())["artefacts"]
    suffixes = ["", "_float16", "_dynamic", "_int8", "_int8-full", "_int16x8"]
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
    assert "How model_int8.tflite is quantised" in (out / "report.md").read_text()
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

    monkeypatch.setitem(FORMATS["tflite"].kinds, "dynamic", Kind(write_without_weights))
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
    rows += export_model(*place, ["int8", "int16x8"], (3,), data=data, options=options)

    assert len(rows) == len(KINDS) + 2
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
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)

    deadline = time.monotonic() + 120
    while not list(out.glob(".vit_keras-*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)  # until the new file is being written
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert process.returncode == -signal.SIGKILL
    assert list(out.glob(".vit_keras-*/*"))
    assert (out / "model.tflite").read_bytes() == b"the earlier file"
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == {"model.tflite"}

"""Quantised .tflite files: what is in them, what they lose, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from support.tiny import TINY, photograph, randomise, tiny_model

import export as exporting
import vit_keras
from export.__main__ import main
from export.checks.run_standalone import ask_tflite
from export.export import export, exportable
from export.formats import FORMATS, KINDS
from export.images import load_images
from export.options import Options
from export.tflite.convert import convert
from export.tflite.flatbuffer import count_operations
from export.tflite.int8_search import write_int8
from export.tflite.quantize import StaticQuantizer, find_parts
from export.tflite.smooth_quant import smooth
from vit_keras import InputError, load_model
from vit_keras.utils.statistics import change_of_accuracy

CLASSES = tuple("abcde")


@pytest.fixture(scope="module")
def model():
    return tiny_model(class_names=CLASSES)


@pytest.fixture(scope="module")
def data(model):
    """120 images with the model's own answers for labels"""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 16, 24, 3)).astype("uint8")
    logits = model.predict(np.asarray(model.preprocessing(pixels)), verbose=0)
    return pixels, logits.argmax(axis=1)


@pytest.fixture(scope="module")
def source(model, tmp_path_factory):
    """The float32 file that all kinds are made from"""
    path = tmp_path_factory.mktemp("source") / "float32.tflite"
    convert(exportable(model), path)
    return path


@pytest.fixture(scope="module")
def files(model, data, source, tmp_path_factory):
    """{kind: file}"""
    folder, images = tmp_path_factory.mktemp("kinds"), load_images(model, data=data)
    for kind, write in KINDS.items():
        write(source, folder / kind, images, Options(max_drop=0.05))
    return {kind: folder / kind for kind in KINDS}


def tensors(path):
    """{operation: types of the tensors it makes} in a file"""
    interpreter = Interpreter(str(path))
    names = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    made: dict[str, set] = {}
    for operation in interpreter._get_ops_details():
        made.setdefault(operation["op_name"], set()).update(
            names[index] for index in operation["outputs"] if index in names
        )
    return made


def test_every_operation_has_a_part_or_stays_in_float_on_purpose(source):
    parts = {part.name: part.operations for part in find_parts(source)}

    assert list(parts)[:2] == ["embedding", "patch_encoder/projection"]
    layers = ("attention/projection", "mlp/expand", "mlp/reduce")
    assert {f"block_{i}/{layer}" for i in (0, 1) for layer in layers} < set(parts)
    # In the last block only [CLS] asks: queries have a matrix of their own.
    assert len(parts["block_0/attention/qkv"]["FULLY_CONNECTED"]) == 1
    assert len(parts["block_1/attention"]["FULLY_CONNECTED"]) == 2
    assert {name: len(tensors) for name, tensors in parts["layer norms"].items()} == {
        **dict.fromkeys(("SUB", "SQUARED_DIFFERENCE", "ADD", "RSQRT", "MUL"), 5),
        "MEAN": 10,
        # Where a slice follows, or two layers, gamma and beta are not folded into the next layer.
    } | {"ADD": 7, "MUL": 7}
    counted = sum(len(made) for part in parts.values() for made in part.values())
    # Cast, scale and shift of the pixels, the softmax of the logits; slices of tokens and norms.
    assert sum(count_operations(source).values()) - counted <= 7


@pytest.mark.parametrize(
    ("kind", "share", "weights"),
    [
        ("float16", 0.62, np.float16),
        ("dynamic", 0.5, np.int8),
        ("int8", 0.55, np.int8),
        ("int16x8", 0.55, np.int8),
    ],
)
def test_files_are_smaller_and_hold_such_weights(kind, share, weights, files):
    assert files[kind].stat().st_size < share * files["float32"].stat().st_size
    interpreter = Interpreter(str(files[kind]))
    types = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    assert weights in types
    assert max(len(tensor["shape"]) for tensor in interpreter.get_tensor_details()) <= 4


def test_a_static_part_computes_in_integers(source, data, tmp_path, model):
    static = StaticQuantizer(source, load_images(model, data=data)["calibration"], 8)

    static.write(static.parts, tmp_path / "all.tflite")
    static.write([p for p in static.parts if p.name != "softmax"], tmp_path / "some.tflite")

    everything, some = tensors(tmp_path / "all.tflite"), tensors(tmp_path / "some.tflite")
    for operation in ("FULLY_CONNECTED", "BATCH_MATMUL", "GELU", "RSQRT", "SQUARED_DIFFERENCE"):
        assert everything[operation] == some[operation] == {np.int8}
    assert everything["SOFTMAX"] == {np.int8, np.float32}  # of the logits it is in float
    assert some["SOFTMAX"] == {np.float32}


def test_parts_that_lose_accuracy_stay_in_float(source, data, model, tmp_path):
    images = load_images(model, data=data)

    strict = write_int8(source, tmp_path / "strict", images, Options(max_drop=0.0))
    lax = write_int8(source, tmp_path / "lax", images, Options(max_drop=1.0))

    for found in (strict, lax):
        others = [row for row in found["scan"] if not row["part"].startswith("block_")]
        distances = [row["distance"] for row in others]
        assert distances == sorted(distances, reverse=True)
        in_float = [row["in_float"] for row in found["scan"]]
        assert in_float == sorted(in_float, reverse=True)  # the worst ones, and no others
    assert not any(row["in_float"] for row in lax["scan"])
    assert any(row["in_float"] for row in strict["scan"])
    assert set(images) - {"evaluation"} == set(strict["images"])


def test_change_of_accuracy_is_agresti_and_mins():
    before = np.array([True] * 60 + [False] * 40)
    after = before.copy()
    after[:5] = False
    after[60:63] = True

    change, low, high = change_of_accuracy(before, after)

    assert change == pytest.approx(-0.02)
    # (3 - 5) / 102 -+ 1.96 sqrt((9 / 102 - (2 / 102)^2) / 102), worked out by hand
    assert (low, high) == pytest.approx((-0.07713, 0.03791), abs=1e-4)
    assert change_of_accuracy(before, before)[0] == 0
    assert change_of_accuracy(before, before)[1] < 0 < change_of_accuracy(before, before)[2]


def test_images_are_drawn_by_class_and_none_twice(model):
    labels = np.repeat(np.arange(5), (300, 100, 100, 400, 100))
    pixels = np.zeros((1000, 16, 24, 3), "uint8")
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(1000) // 256, np.arange(1000) % 256

    parts = load_images(model, data=(pixels, labels), count=500)

    seen = [256 * int(p[0, 0, 0]) + int(p[0, 0, 1]) for part in parts.values() for p in part.pixels]
    assert len(seen) == len(set(seen)) == 333 + 256 + 200
    for part in parts.values():
        assert (
            labels[[256 * int(p[0, 0, 0]) + int(p[0, 0, 1]) for p in part.pixels]] == part.labels
        ).all()
        shares = np.bincount(part.labels) / len(part.labels)
        np.testing.assert_allclose(shares, [0.3, 0.1, 0.1, 0.4, 0.1], atol=0.01)
    again = load_images(model, data=(pixels, labels), count=500)
    np.testing.assert_array_equal(parts["search"].pixels, again["search"].pixels)


def test_a_run_is_judged_by_its_own_images(run_folder):
    model = load_model(run_folder / "model.keras")

    parts = load_images(model, run_folder / "model.keras")

    # 24 images, of which the recipe set 6 aside for validation; there is no test split.
    assert {part: len(images.pixels) for part, images in parts.items()} == {
        "evaluation": 6,
        "search": 9,
        "calibration": 9,
    }
    assert np.bincount(parts["evaluation"].labels).tolist() == [3, 3]


def test_a_few_images_are_too_few(model):
    with pytest.raises(InputError, match="too few images for an export: 2 in its train split"):
        load_images(model, data=(np.zeros((2, 16, 24, 3), "uint8"), np.array([0, 1])))


@pytest.mark.slow
def test_all_kinds_are_exported_judged_and_the_same_each_time(model, data, tmp_path):
    model.save(tmp_path / "model.keras")
    for name in np.unique(data[1]):
        (tmp_path / "images" / CLASSES[name]).mkdir(parents=True)
    for index, label in enumerate(data[1]):
        image = photograph(index, (0, 50 * int(label), 99), size=(24, 16))
        image.save(tmp_path / "images" / CLASSES[label] / f"{index}.png")
    command = [str(tmp_path / "model.keras"), "--data", str(tmp_path / "images"), "--allow-drop"]
    command += ["--format", "tflite", "--quantization", "all"]

    for out in ("one", "two"):
        main([*command, "--out", str(tmp_path / out)])

    rows = json.loads((tmp_path / "one" / "report.json").read_text())
    kinds = ["", "_float16", "_dynamic", "_int8", "_int16x8"]
    assert [row["path"] for row in rows] == [f"model{kind}.tflite" for kind in kinds]
    for row in rows:
        one, two = (tmp_path / out / row["path"] for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), row["path"]
        assert row["bytes"] == one.stat().st_size
        assert sum(row["operations"].values()) > 50
        answers = np.concatenate(
            [
                Interpreter(str(one)).get_signature_runner()(images=pixels[np.newaxis])[
                    "probabilities"
                ]
                for pixels in load_images(model, data=str(tmp_path / "images"))["evaluation"].pixels
            ]
        )
        labels = load_images(model, data=str(tmp_path / "images"))["evaluation"].labels
        assert row["accuracy"] == pytest.approx((answers.argmax(axis=1) == labels).mean())
    assert (tmp_path / "one" / "model_int8.search.json").exists()
    assert (
        "What stayed in float in model_int8.tflite" in (tmp_path / "one" / "report.md").read_text()
    )
    card = (tmp_path / "one" / "model_card.md").read_text()
    assert f"| parameters | {model.count_params():,} |" in card


@pytest.mark.slow
def test_what_loses_too_much_is_not_written_and_the_others_are(model, data, tmp_path, monkeypatch):
    def write_another(source, path, images, options):
        convert(randomise(tiny_model(), seed=9), path)

    monkeypatch.setitem(FORMATS["tflite"].kinds, "dynamic", write_another)
    model.save(tmp_path / "model.keras")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model_dynamic.tflite").write_bytes(b"the one before")
    given = [tmp_path / "model.keras", ["tflite"], tmp_path / "out", ["dynamic", "float16"]]

    with pytest.raises(InputError, match=r"more than max_drop=0.01 is lost; --allow-drop"):
        export(*given, data=data)

    names = {path.name for path in (tmp_path / "out").glob("*.tflite")}
    assert names == {"model_dynamic.tflite", "model_float16.tflite"}
    assert (tmp_path / "out" / "model_dynamic.tflite").read_bytes() == b"the one before"
    export(*given, data=data, options=Options(allow_drop=True))
    assert (tmp_path / "out" / "model_dynamic.tflite").stat().st_size > 1000


@pytest.mark.slow
def test_files_for_several_normalised_images_at_a_time(model, data, tmp_path):
    row = exporting.to_tflite(
        model, tmp_path / "model.tflite", data=data, preprocess="none", batch=3
    )

    assert row["top1_agreement"] == 1
    (taken,) = Interpreter(str(tmp_path / "model.tflite")).get_input_details()
    assert taken["shape"].tolist() == [3, 16, 24, 3]
    assert taken["dtype"] is np.float32
    saved = exporting.to_saved_model(model, tmp_path / "serving" / "1", data=data)
    assert saved["max_difference"] < 2e-5
    with pytest.raises(InputError, match="quantization must be one of float32"):
        exporting.to_saved_model(model, tmp_path / "2", quantization="int8", data=data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"distilled": True, "registers": 2, "layer_scale": 0.1},
        {"pooling": "map", "gelu": "quick", "qk_norm": True, "head_width": 12},
        {"pooling": "sequence", "stem": "convolutions", "swiglu": True},
        {"pooling": "mean", "stem": "shifted_patches", "locality_attention": True},
    ],
)
def test_every_option_of_the_family_in_every_kind_and_merged(options, data, tmp_path):
    model = tiny_model(class_names=CLASSES, **options)
    model.description = "moving average (momentum 0.99) of the weights"
    model.save(tmp_path / "model.keras")
    pixels = data[0]
    labels = model.predict(np.asarray(model.preprocessing(pixels)), verbose=0).argmax(axis=1)

    given = tmp_path / "model.keras", ["tflite"], tmp_path / "out"
    rest = {"data": (pixels, labels), "options": Options(allow_drop=True)}

    rows = export(*given, list(KINDS), (0,), **rest) + export(*given, ["int8"], (3,), **rest)

    assert len(rows) == len(KINDS) + 1
    for row in rows:
        assert row["model"] == "moving average (momentum 0.99) of the weights"
        if row["quantization"] in ("float32", "float16"):
            assert row["top1_agreement"] >= 0.97


@pytest.mark.slow
def test_the_operations_of_a_ti16_are_these(tmp_path):
    model = randomise(vit_keras.build_vit("vit_ti16"))
    convert(exportable(model), tmp_path / "plain.tflite")
    convert(exportable(model, merge_tokens=8), tmp_path / "merged.tflite")

    assert count_operations(tmp_path / "plain.tflite") == {
        "ADD": 53,
        "FULLY_CONNECTED": 51,
        "MEAN": 50,
        "RESHAPE": 50,
        "TRANSPOSE": 47,
        "MUL": 39,
        "RSQRT": 25,
        "SQUARED_DIFFERENCE": 25,
        "SUB": 25,
        "BATCH_MATMUL": 24,
        "SOFTMAX": 13,
        "GELU": 12,
        "SPLIT": 12,
        "STRIDED_SLICE": 3,
        "CAST": 1,
        "CONCATENATION": 1,
    }
    merged = count_operations(tmp_path / "merged.tflite")
    assert merged["TOPK_V2"] == 22
    assert merged["GATHER"] == 66
    assert not {"CUSTOM", "WHILE", "IF", "GATHER_ND", "SCATTER_ND", "BROADCAST_TO"} & set(merged)
    for name in ("plain", "merged"):
        details = Interpreter(str(tmp_path / f"{name}.tflite")).get_tensor_details()
        assert max(len(tensor["shape"]) for tensor in details) <= 4
        assert all((tensor["shape_signature"] > 0).all() for tensor in details)


@pytest.mark.slow
def test_a_killed_export_leaves_what_was_there(model, tmp_path, photographs):
    model.save(tmp_path / "model.keras")
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.tflite").write_bytes(b"the one before")
    command = [sys.executable, "-m", "export", str(tmp_path / "model.keras"), "--format", "tflite"]
    command += ["--data", str(photographs / "red"), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    assert process.stdout.readline() == "model.tflite ...\n"
    deadline = time.monotonic() + 60
    while not list(out.glob(".model-*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)  # until the new one is being written
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert process.returncode == -signal.SIGKILL
    assert (out / "model.tflite").read_bytes() == b"the one before"
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == {"model.tflite"}


def test_a_square_image_may_be_merged_down_to_few_patches():
    model = vit_keras.build_vit("vit_b16", image_size=8, **{**TINY, "depth": 3}, merge_tokens=9)

    assert model.get_layer("block_2").output[0].shape[1] == 1 + 1  # 4, 2, 1 patches


def test_smoothing_keeps_the_function_and_evens_out_the_channels(model, source, data, tmp_path):
    images, path = load_images(model, data=data), tmp_path / "smoothed"

    smooth(source, path, images["calibration"])

    before, after = (
        ask_tflite(Interpreter(str(file)), images["search"].pixels)["probabilities"]
        for file in (source, path)
    )
    np.testing.assert_allclose(after, before, atol=1e-5)
    file = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (graph,) = file.subgraphs
    names = [tensor.name.decode() for tensor in graph.tensors]
    smoothed = [index for index, name in enumerate(names) if name.endswith("/smoothed")]
    # Of block 0 both norms, of block 1 the second: of what the first gives, only a part is asked.
    assert len(smoothed) == count_operations(path)["MUL"] - count_operations(source)["MUL"] == 3
    interpreter = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    reach: dict[int, list] = {}
    for pixels in images["calibration"].pixels[:32]:
        ask_tflite(interpreter, pixels[np.newaxis])
        for index in smoothed:
            product = next(op for op in graph.operators if index in op.outputs)
            for tensor in (product.inputs[0], index):
                values = np.abs(interpreter.get_tensor(tensor)).reshape(-1, 48).max(axis=0)
                reach.setdefault(tensor, []).append(values)
    for index in smoothed:
        product = next(op for op in graph.operators if index in op.outputs)
        layer = next(op for op in graph.operators if index in op.inputs)
        kernel = file.buffers[graph.tensors[layer.inputs[1]].buffer].data.view("float32")
        columns = np.abs(kernel.reshape(-1, 48)).max(axis=0)
        old, new = (np.max(reach[tensor], axis=0) for tensor in (product.inputs[0], index))
        # max |x| ^ (1 - a) * max |w| ^ (1 - a) of what was: section 4 of the paper.
        factors = old / new
        np.testing.assert_allclose(new, (old * columns / factors) ** 0.25, rtol=1e-4)

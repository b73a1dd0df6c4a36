"""Quantised .tflite files: their contents, and what each kind leaves in float."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.checks.run_standalone import ask_tflite
from export.endpoints import inference_model
from export.formats import KINDS
from export.options import Options
from export.source import Source
from export.tflite.convert import write_tflite
from export.tflite.flatbuffer import count_operations
from export.tflite.integers import write_int8, write_int8_full
from export.tflite.norms import multiply_deviations
from export.tflite.partitions import count_integer_operations
from export.tflite.parts import find_parts
from export.tflite.quantize import StaticQuantizer, write_dynamic
from export.tflite.statistics import gather_statistics
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


def test_every_operation_belongs_to_the_part_of_its_layer(float32_file, tmp_path):
    multiply_deviations(float32_file, tmp_path / "prepared")

    parts = {part.name: part.operations for part in find_parts(tmp_path / "prepared", 8)}

    assert list(parts)[:3] == ["pixels", "embedding", "patch_encoder/projection"]
    layers = ("attention/projection", "mlp/expand", "mlp/reduce")
    assert {f"block_{i}/{layer}" for i in (0, 1) for layer in layers} < set(parts)
    # In the last block only [CLS] has a query: queries have a matrix of their own.
    assert len(parts["block_0/attention/qkv"]["FULLY_CONNECTED"]) == 1
    assert len(parts["block_1/attention"]["FULLY_CONNECTED"]) == 2
    norms = {name: len(tensors) for name, tensors in parts["layer norms"].items()}
    assert {name: norms[name] for name in ("SUB", "RSQRT", "BATCH_MATMUL", "MEAN")} == {
        "SUB": 5,  # five norms
        "RSQRT": 5,
        "BATCH_MATMUL": 5,
        "MEAN": 5,
    }
    in_parts = sum(len(tensors) for part in parts.values() for tensors in part.values())
    # The cast of the pixels has no integer form.
    assert sum(count_operations(tmp_path / "prepared").values()) - in_parts == 1


@pytest.mark.parametrize(
    ("kind", "fraction", "weight_type"),
    [
        ("float16", 0.62, np.float16),
        ("dynamic", 0.5, np.int8),
        ("int8", 0.6, np.int8),
        ("int8-full", 0.6, np.int8),
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
    multiply_deviations(float32_file, tmp_path / "prepared")
    statistics = gather_statistics(tmp_path / "prepared", noise_images["calibration"])
    static = StaticQuantizer(tmp_path / "prepared", statistics, 8)
    plan = static.plan("range")

    static.write(plan.without(["answer"]), tmp_path / "all.tflite")
    static.write(plan.without(["answer", "softmax"]), tmp_path / "some.tflite")

    everything, some = output_types(tmp_path / "all.tflite"), output_types(tmp_path / "some.tflite")
    for operation in ("FULLY_CONNECTED", "BATCH_MATMUL", "GELU", "RSQRT", "MEAN"):
        assert everything[operation] == some[operation] == {np.int8}
    assert everything["SOFTMAX"] == {np.int8, np.float32}  # float32: softmax of the logits
    assert some["SOFTMAX"] == {np.float32}


def test_a_tensor_is_quantised_for_the_statistic_of_its_part(float32_file, noise_images, tmp_path):
    statistics = gather_statistics(float32_file, noise_images["calibration"])
    static = StaticQuantizer(float32_file, statistics, 8)
    head = next(part for part in static.parts if part.name == "head")
    (logits,) = head.operations["FULLY_CONNECTED"]
    scales = {}
    for name in ("range", "average"):
        static.write(static.plan("range").with_parts(["head"], name), tmp_path / name)
        tensors = Interpreter(str(tmp_path / name)).get_tensor_details()
        (scales[name],) = {
            tensor["quantization"][0] for tensor in tensors if tensor["name"] == logits
        } - {0.0}

    for name, scale in scales.items():
        limits = statistics[name][logits]
        assert scale == pytest.approx((limits["max"] - limits["min"]) / 255, rel=1e-5)
    assert scales["average"] < scales["range"]


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

    others = [row for row in strict["scan"] if not row["part"].startswith("block_")]
    distances = [row["distance"] for row in others]
    assert distances == sorted(distances, reverse=True)
    in_float = [row["in_float"] for row in strict["scan"]]
    assert in_float == sorted(in_float, reverse=True)  # the first of the list, and no others
    assert any(in_float)
    assert not any(row["in_float"] for row in lax["scan"])
    assert lax["search"][0]["parts_in_float"] == 0
    assert set(noise_images) - {"evaluation"} == set(strict["images"])


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
    # On average: of a random model, single answers are far from each other in any 8 bits.
    assert np.abs(answers - expected).sum(axis=1).mean() / 2 < 0.03


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

"""Core ML packages: the program computes Keras's answers, and declares image, labels and texts.

Core ML is on Apple's systems only. NumPy computes the program instead, operation by operation.
"""

import json
import sys
from typing import Any

import numpy as np
import pytest
from support.answers import CLASSES, NORMALISATION, by_label, classifier, probabilities
from support.tiny import tiny_model

from export.checks.verify import RefusedError
from export.coreml import convert
from export.coreml.operations import check_interface, count_operations, read_spec
from export.endpoints import inference_model
from export.export import export_model
from export.formats import FORMATS
from export.options import Options
from export.source import Source
from vit_keras import Preprocessing, attention_rollout

pytest.importorskip("coremltools")
from support.numpy_mil import run_package

pytestmark = pytest.mark.slow

TOLERANCES = {"float32": 2e-5, "float16": 5e-3}
MODELS: dict[str, dict[str, Any]] = {
    "cls": {},
    "mean": {"pooling": "mean", "gelu": "tanh"},
    "map": {"pooling": "map", "gelu": "quick", "pre_norm": True, "qk_norm": True},
    "sequence": {"pooling": "sequence", "stem": "convolutions", "swiglu": True},
    "locality": {"locality_attention": True},
    "distilled": {
        "distilled": True,
        "registers": 2,
        "layer_scale": 0.1,
        "locality_attention": True,
    },
    "hybrid": {"stem": "resnet", "stem_width": 32, "stem_blocks": (1,)},
    "merged": {"merge_tokens": 3},
}


def write(model, folder, kinds=("float32",), options=None):
    """Writes packages as `export` does; returns {kind: path}."""
    row, options = FORMATS["coreml"], options or Options()
    row.write(model, folder / "source", options)
    paths = {kind: folder / f"{kind}.mlpackage" for kind in kinds}
    for kind, path in paths.items():
        row.kinds[kind].write(Source(folder / "source", model, {}, options), path)
        row.finish(model, path, options)
    return paths


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), "uint8")


@pytest.mark.parametrize("name", MODELS)
def test_programs_compute_the_answers_of_keras(name, pixels, tmp_path):
    model = inference_model(classifier(Preprocessing((16, 24), **NORMALISATION), **MODELS[name]))

    for kind, path in write(model, tmp_path, TOLERANCES).items():
        answer = run_package(path, pixels)
        expected = by_label(probabilities(model, pixels))
        assert answer["probabilities"] == pytest.approx(expected, abs=TOLERANCES[kind])
        if kind == "float32":
            assert answer["label"] == max(expected, key=expected.get)


def test_grey_images_have_one_channel(tmp_path):
    model = classifier(Preprocessing((16, 24), mean=(0.3,), std=(0.2,)))
    pixels = np.random.default_rng(1).integers(0, 256, (16, 24, 1), "uint8")

    path = write(model, tmp_path)["float32"]

    (image,) = read_spec(path).description.input
    assert image.type.imageType.ColorSpace.Name(image.type.imageType.colorSpace) == "GRAYSCALE"
    expected = by_label(probabilities(model, pixels))
    assert run_package(path, pixels)["probabilities"] == pytest.approx(expected, abs=2e-5)


def test_half_floats_survive_tokens_whose_squares_overflow(pixels, tmp_path):
    model = inference_model(classifier(Preprocessing((16, 24), **NORMALISATION)))
    positions = model.get_layer("patch_encoder").position_table
    large = np.zeros(positions.shape, "float32")
    large[..., 7] = 400  # its square is above 65,504
    positions.assign_add(large)

    path = write(model, tmp_path, ["float16"])["float16"]

    answer = run_package(path, pixels)["probabilities"]
    assert answer == pytest.approx(by_label(probabilities(model, pixels)), abs=5e-3)


def test_attention_is_a_second_output(pixels, tmp_path):
    model = classifier(Preprocessing((16, 24), **NORMALISATION))

    path = write(model, tmp_path, options=Options(attention=True))["float32"]

    answer = run_package(path, pixels)
    images = model.preprocessing.normalise(pixels[np.newaxis])
    np.testing.assert_allclose(answer["attention"], attention_rollout(model, images), atol=1e-5)
    expected = by_label(probabilities(model, pixels))
    assert answer["probabilities"] == pytest.approx(expected, abs=2e-5)


def test_packages_declare_image_classes_and_texts(tmp_path):
    model = classifier(Preprocessing((16, 24), **NORMALISATION))
    model.description = "random weights"
    about: dict[str, Any] = {"author": "A. Nobody", "license": "MIT", "version": "2"}

    path = write(model, tmp_path, options=Options(**about))["float32"]

    spec = read_spec(path)
    assert spec.specificationVersion == 6  # iOS 15 and macOS 12
    (image,) = spec.description.input
    assert image.name == "images"
    assert (image.type.imageType.height, image.type.imageType.width) == (16, 24)
    assert image.type.imageType.ColorSpace.Name(image.type.imageType.colorSpace) == "RGB"
    assert [output.name for output in spec.description.output] == ["label", "probabilities"]
    assert spec.description.predictedFeatureName == "label"
    assert spec.description.predictedProbabilitiesName == "probabilities"
    metadata = spec.description.metadata
    assert metadata.shortDescription == "random weights"
    assert (metadata.author, metadata.license, metadata.versionString) == ("A. Nobody", "MIT", "2")
    assert metadata.userDefined["labels.txt"].split("\n")[:-1] == list(CLASSES)
    rule = json.loads(metadata.userDefined["preprocessing.json"])
    assert Preprocessing(**rule) == model.preprocessing
    # Two blocks have two projections and two products with the scores each, and two of the MLP;
    # then patches; the head is a `linear`.
    counts = count_operations(path)
    assert counts["matmul"] + counts["linear"] == 2 * 6 + 2
    assert counts["gelu"] == 2
    assert counts["classify"] == 1
    assert "const" not in counts


def test_a_program_of_another_model_is_refused(tmp_path):
    path = write(classifier(Preprocessing((16, 24), **NORMALISATION)), tmp_path)["float32"]

    for other, reason in (
        (tiny_model(class_names=list("abcdefg"), num_classes=7), "classes .*'ant'"),
        (classifier(Preprocessing((24, 24), **NORMALISATION)), "input .*16, 24, 'RGB'"),
    ):
        with pytest.raises(RefusedError, match=reason):
            check_interface(other, path, Options())


def test_four_channels_are_refused(tmp_path):
    model = classifier(Preprocessing((16, 24), mean=(0.5,) * 4, std=(0.5,) * 4))

    with pytest.raises(RefusedError, match="1 or 3 channels, and vit_b16 takes 4"):
        write(model, tmp_path)


def test_a_missing_coremltools_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)  # as if it were not installed

    with pytest.raises(RefusedError, match=r"not installed: pip install -e \"\.\[coreml\]\""):
        convert.import_coremltools()


def test_the_report_says_not_run(photographs, tmp_path):
    model = tiny_model(class_names=list("abcde"))
    model.save(tmp_path / "model.keras")

    rows = export_model(
        tmp_path / "model.keras",
        ["coreml", "onnx"],
        tmp_path / "out",
        data=str(photographs / "red"),
    )

    assert [row["max_difference"] is None for row in rows] == [True, False]
    assert (tmp_path / "out" / "model.mlpackage" / "Manifest.json").exists()
    report = (tmp_path / "out" / "report.md").read_text()
    line = next(line for line in report.split("\n") if line.startswith("| model.mlpackage"))
    header = next(line for line in report.split("\n") if line.startswith("| artefact"))
    cells = dict(
        zip(*([c.strip() for c in text.split("|")] for text in (header, line)), strict=True)
    )
    for column in ("accuracy", "same label", "max difference", "ms, 1 thread", "memory, MB"):
        assert cells[column] == "not run"
    assert float(cells["MB"]) == pytest.approx(rows[0]["bytes"] / 1e6, abs=0.01)
    assert sum(rows[0]["operations"].values()) > 100

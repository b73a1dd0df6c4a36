"""The Python functions take the options of their format, with the types that Options gives them."""

import dataclasses
import inspect
import subprocess
import sys
import typing

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import export as exporting
from export import keywords
from export.export import export_artefact
from export.formats import FORMATS
from export.options import Options
from vit_keras import InputError

FUNCTIONS = {
    "savedmodel": (exporting.to_saved_model, keywords.SavedModelKeywords),
    "tflite": (exporting.to_tflite, keywords.TFLiteKeywords),
    "onnx": (exporting.to_onnx, keywords.PixelKeywords),
    "coreml": (exporting.to_coreml, keywords.AboutKeywords),
    "web": (exporting.to_web, keywords.AboutKeywords),
}


def types_of(known):
    """{keyword: type} of a TypedDict, whose file does not import NumPy."""
    return typing.get_type_hints(known, localns={"np": np})


def test_every_format_has_a_function_that_documents_its_keywords():
    assert set(FUNCTIONS) == set(FORMATS)
    for function, known in FUNCTIONS.values():
        documented = (inspect.getdoc(function) or "").split("keywords: ")[1]
        names = documented.removesuffix(".").replace(",", " ").split()
        assert names == list(types_of(known))
        assert function.__annotations__["keywords"] == f"Unpack[{known.__name__}]"


def test_keywords_are_fields_of_options_or_arguments_of_an_export():
    fields = typing.get_type_hints(Options)
    arguments = inspect.signature(export_artefact).parameters.keys() - fields.keys()

    used: dict[str, typing.Any] = {}
    for _, known in FUNCTIONS.values():
        used |= types_of(known)
    assert used.keys() - fields.keys() == {"merge_tokens", "data", "data_dir", "count"} <= arguments
    assert {name: used[name] for name in fields} == fields
    assert set(fields) == {field.name for field in dataclasses.fields(Options)}


def test_a_keyword_of_another_format_is_refused(tmp_path):
    with pytest.raises(InputError, match="no option 'embeded' of the format onnx; did you mean em"):
        exporting.to_onnx("model.keras", tmp_path, embeded=True)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="no option 'gelu' of the format onnx; known are: "):
        exporting.to_onnx("model.keras", tmp_path, gelu="sigmoid")  # type: ignore[call-arg]


@pytest.mark.slow
def test_keywords_reach_the_artefact(five_classes, noise, tmp_path):
    path = tmp_path / "model.tflite"

    row = exporting.to_tflite(five_classes, path, data=noise, count=20, input_type="float32")

    assert row["images"] == 20
    (pixels,) = Interpreter(str(path)).get_input_details()
    assert pixels["dtype"] is np.float32


def test_importing_export_imports_neither_keras_nor_tensorflow():
    code = "import sys, export; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

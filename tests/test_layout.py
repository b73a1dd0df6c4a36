"""The layout of the code: which folder imports which, sizes of files, annotations, docstrings."""

import ast
import graphlib
import os
import re
import subprocess
import sys

import pytest
from support.source import (
    FOLDERS,
    ROOT,
    documented_methods,
    files,
    functions,
    imported_modules,
    line_count,
    missing_annotations,
    module_name,
    parse,
    public_definitions,
    relative,
)

PACKAGES = ("vit_keras", "training", "export")
# Each folder, and the modules of the project that its files may import (with their submodules).
IMPORTS = {
    "vit_keras": ("vit_keras",),
    "training": ("training", "vit_keras"),
    "export": ("export", "vit_keras", "training.data", "training.recipe"),
    "benchmarks": ("benchmarks", "export", "training", "vit_keras"),
    "tests": (
        "support",
        "export",
        "training",
        "vit_keras",
        "fixtures",  # scripts that write the fixtures, with timm
        "benchmarks.import_timm",
    ),
}
LIBRARY_FILES_WITH_TENSORFLOW = ["vit_keras/images/decoding.py"]
# Methods that other libraries define and call; their docstrings are in the base class.
OVERRIDES = {
    "CreateNumpyVector", "__init__", "build", "call", "compute_mask", "compute_output_shape",
    "convolution_op", "from_config", "get_build_config", "get_config", "main", "on_epoch_begin",
    "on_epoch_end", "on_test_batch_end",
    "on_test_begin", "on_test_end", "on_train_batch_begin", "on_train_batch_end", "on_train_begin",
    "on_train_end", "test_step", "train_step",
}  # fmt: skip
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS = {
    "export/__main__.py:_parser": "command line options",
    "training/arguments.py:build_parser": "command line options",
    "tests/support/numpy_vit.py:random_arrays": "a table of arrays",
}


def is_in(module, package):
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("folder", IMPORTS)
def test_import_directions(folder):
    paths = files(folder)

    assert len(paths) > 4
    for file in paths:
        for module in imported_modules(file):
            ours = module.split(".")[0] in (*FOLDERS, "support")
            allowed = any(is_in(module, package) for package in IMPORTS[folder])
            assert allowed or not ours, f"{relative(file)} imports {module}"


def test_modules_do_not_import_each_other_in_circles():
    graph = {module_name(file): imported_modules(file) for file in files(*FOLDERS)}

    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError

    assert order.index("vit_keras.model") < order.index("training.fit")


def test_no_test_imports_another_test():
    for file in files("tests"):
        for module in imported_modules(file):
            parts = module.split(".")
            assert not any(part == "conftest" or part.startswith("test_") for part in parts), file


def test_library_imports_tensorflow_in_one_file():
    users = [
        relative(file)
        for file in files("vit_keras")
        if any(is_in(module, "tensorflow") for module in imported_modules(file))
    ]

    assert users == LIBRARY_FILES_WITH_TENSORFLOW
    for file in files("vit_keras"):
        text = file.read_text()
        assert "vit_keras.images.decoding" not in text, f"{file} would import it for everybody"


@pytest.mark.parametrize("module", ["vit_keras", "conftest"])
def test_library_and_conftest_import_without_tensorflow(module):
    code = f"import sys; sys.modules['tensorflow'] = None; import {module}"
    environment = {"KERAS_BACKEND": "numpy", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}

    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr


def test_files_are_short():
    lines = {relative(file): len(file.read_text().splitlines()) for file in files(*FOLDERS)}
    long = {name for name, count in lines.items() if count > MAX_FILE_LINES}

    assert long <= set(LONG_FILES)


def test_functions_are_short():
    long = {
        f"{relative(file)}:{function.name}"
        for file in files(*FOLDERS)
        for function in functions(file)
        if line_count(function) > MAX_FUNCTION_LINES
    }

    assert long <= set(LONG_FUNCTIONS)


def test_public_functions_are_annotated():
    missing = [
        f"{relative(file)}:{name}: {', '.join(missing_annotations(node))}"
        for file in files(*PACKAGES)
        for name, node in public_definitions(file)
        if not isinstance(node, ast.ClassDef) and missing_annotations(node)
    ]

    assert not missing, "\n".join(missing)


def test_public_definitions_have_docstrings():
    missing = [
        f"{relative(file)}:{name}"
        for file in files(*PACKAGES)
        for name, node in public_definitions(file)
        if node.name not in OVERRIDES
        and node.name not in documented_methods().get(name.split(".")[0], ())
        and not ast.get_docstring(node)
    ]

    assert not missing, "\n".join(missing)


def test_pre_commit_runs_what_ci_runs():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    commands = re.findall(r"entry: (.+)", hooks)

    assert len(commands) == 3
    assert set(commands) <= set((ROOT / ".ci" / "run").read_text().splitlines())


def test_tests_do_not_depend_on_the_working_folder():
    entries = {path.name for path in ROOT.iterdir()}
    for file in files("tests"):
        for node in ast.walk(parse(file)):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            path = getattr(node.args[0], "value", None)
            if name in ("Path", "PurePath", "open", "glob") and isinstance(path, str):
                assert path.split("/")[0] not in entries, f"{relative(file)}:{node.lineno}: {path}"

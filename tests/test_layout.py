"""The folders depend on each other in one direction: training -> vit_keras <- export."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ALLOWED = {
    "vit_keras": {"vit_keras"},
    "training": {"training", "vit_keras"},
    "export": {"export", "vit_keras"},
}
OURS = {*ALLOWED, "benchmarks", "tests"}


def imports(file):
    """Top-level names of all packages a file imports, wherever in the file"""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize("folder", ALLOWED)
def test_arrows(folder):
    files = list((ROOT / folder).rglob("*.py"))

    assert len(files) > 4
    for file in files:
        assert set(imports(file)) & OURS <= ALLOWED[folder], file


def test_library_needs_tensorflow_in_one_file_alone():
    users = [f.name for f in (ROOT / "vit_keras").rglob("*.py") if "tensorflow" in imports(f)]

    assert users == ["decoding.py"]
    for file in (ROOT / "vit_keras").glob("*.py"):
        assert "vit_keras.decoding" not in file.read_text()

"""The folders depend on each other in one direction: vit_keras <- training <- export/images.py."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ALLOWED = {
    "vit_keras": {"vit_keras"},
    "training": {"training", "vit_keras"},
    "export": {"export", "vit_keras"},
}
# How labelled images are found and read is known in one place.
READS_IMAGES = {"export/images.py": {"training"}}
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
        allowed = ALLOWED[folder] | READS_IMAGES.get(f"{folder}/{file.name}", set())
        assert set(imports(file)) & OURS <= allowed, file


def test_library_needs_tensorflow_in_one_file_alone():
    users = [f.name for f in (ROOT / "vit_keras").rglob("*.py") if "tensorflow" in imports(f)]

    assert users == ["decoding.py"]
    for file in (ROOT / "vit_keras").rglob("*.py"):
        assert "vit_keras.images.decoding" not in file.read_text()

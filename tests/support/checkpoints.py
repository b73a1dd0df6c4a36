"""Small checkpoints of other projects, with what their own code computed: tests/fixtures."""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
CASES = sorted(path.parent.name for path in FIXTURES.glob("*/io.npz"))
PLAIN = FIXTURES / "timm_plain" / "model.safetensors"
TOLERANCE = 2e-5


def checkpoint_path(case):
    """Path of a fixture's weights; skips the test where reading them needs torch."""
    pth = FIXTURES / case / "weights.pth"
    if pth.exists():
        pytest.importorskip("torch", reason="reading .pth files needs torch")
        return pth
    return FIXTURES / case


def changed_checkpoint(folder, case, arrays=None, **settings):
    """A copy of a fixture in `folder`, with other arrays or settings in its config.json."""
    copy = folder / "changed"
    shutil.copytree(FIXTURES / case, copy)
    if arrays is not None:
        save_file(arrays, copy / "model.safetensors")
    config = copy / "config.json"
    contents = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps({**contents, **settings}))
    return copy


def changed_file(folder, change):
    """A copy of timm_plain's weights file after `change` of its {name: array}."""
    arrays = load_file(PLAIN)
    change(arrays)
    save_file(arrays, folder / "changed.safetensors")
    return folder / "changed.safetensors"


def layer_outputs(model, inputs, *names):
    """The outputs of the layers of these names."""
    layers = [model.get_layer(name).output for name in names]
    outputs = keras.Model(model.input, layers)(inputs)
    return [np.asarray(output) for output in keras.tree.flatten(outputs)]


def assert_close(actual, expected):
    """Asserts that outputs are equal but for rounding, and not all near 0."""
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)

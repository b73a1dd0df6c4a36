"""Devices that a run cannot use are errors before it starts."""

import json

import keras
import pytest

from training.distribution.devices import find_devices
from training.recipe import Recipe
from vit_keras import InputError

WORKERS = {"worker": ["127.0.0.1:2222", "127.0.0.1:2223"]}


@pytest.mark.parametrize(
    "config",
    [
        None,
        "{",
        {"cluster": {}, "task": {"type": "worker", "index": 0}},
        {"cluster": WORKERS, "task": {"type": "worker", "index": 2}},
        {"cluster": WORKERS, "task": {"type": "ps", "index": 0}},
        {"cluster": {"worker": ["127.0.0.1"]}, "task": {"type": "worker", "index": 0}},
    ],
)
def test_missing_or_invalid_tf_config_is_an_error(config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        text = config if isinstance(config, str) else json.dumps(config)
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=r'needs the workers in TF_CONFIG, such as .{"cluster"'):
        find_devices("multi-worker")


def test_multi_worker_with_an_untested_version_of_keras_is_an_error(monkeypatch):
    config = {"cluster": WORKERS, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    with pytest.raises(InputError, match=r"Keras 3\.15's fit. This is keras 3\.99\.0; pip install"):
        find_devices("multi-worker")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"gradient_accumulation_steps": 2},
            "combined with gradient_accumulation_steps or mixed_precision=mixed_float16",
        ),
        (
            {"mixed_precision": "mixed_float16"},
            "combined with gradient_accumulation_steps or mixed_",
        ),
        (
            {"trainable": "head"},
            "combined with trainable=head, head_first=true or teacher_cache=true",
        ),
        ({"head_first": True}, "combined with trainable=head, head_first=true"),
        ({"teacher_cache": True}, "combined with trainable=head, head_first=true"),
    ],
)
def test_settings_that_several_devices_do_not_support_are_errors(changes, message):
    with pytest.raises(InputError, match=f"--distribute cannot be {message}"):
        find_devices("mirrored").check(Recipe().replace(**changes))


def test_masked_models_on_several_jax_devices_are_an_error():
    pytest.importorskip("jax")
    from training.distribution.jax_devices import Mesh

    with pytest.raises(InputError, match="with jax cannot be combined with task=mae"):
        Mesh().check(Recipe(task="mae"))


def test_distribute_option_that_the_backend_does_not_have_is_an_error():
    with pytest.raises(InputError, match="backend tensorflow has no --distribute model-parallel"):
        find_devices("model-parallel")

"""Two devices, and two processes, train as one does, whatever happens to them.

Run as a program it trains on two devices: those have to be made before TensorFlow starts.
"""

import json
import os
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from training.distribute import MISSED, SECONDS, find_devices
from training.recipe import Recipe
from vit_keras import InputError

# Of JAX, which gives up where a busy machine keeps one waiting for 40 seconds.
TWO_DEVICES = (
    "--xla_force_host_platform_device_count=2 "
    "--xla_cpu_collective_call_terminate_timeout_seconds=900"
)
PYTHON = [sys.executable, "-m", "training"]
SETTINGS = {
    "model.width": 48, "model.depth": 2, "model.mlp_width": 96, "model.stem": "patches",
    "model.positions": "learned", "batch_size": 1024, "jit": False, "steps_per_execution": 1,
    "augment": "flip,random_erasing,mixup_or_cutmix", "epochs": 4, "smaller_first": "0.5,0.5",
    "ema": 0.9, "layer_decay": 0.8, "clip_norm": 0.05, "checkpoint_every": 0,
}  # fmt: skip


def command(run, *more, **options):
    settings = SETTINGS | options
    sets = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    return ["fit", "fashion_mini", "--out", str(run), *sets, *more]


def history(run):
    return np.genfromtxt(run / "history.csv", delimiter=",", names=True)


def assert_same(run, reference):
    found, expected = history(run), history(reference)
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    np.testing.assert_array_equal(found["val_accuracy"], expected["val_accuracy"])
    accuracies = [
        json.loads((r / "evaluation.json").read_text())["accuracy"] for r in (run, reference)
    ]
    assert accuracies[0] == accuracies[1]


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def backend(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(scope="module")
def one_process(backend, tmp_path_factory):
    """The run folder of one process with one device"""
    run = tmp_path_factory.mktemp(backend) / "run"
    environment = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run([*PYTHON, *command(run)], check=True, env=environment)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mirrored", "model-parallel"])
def test_two_devices_train_as_one(backend, name, one_process, tmp_path):
    if (backend, name) == ("tensorflow", "model-parallel"):
        pytest.skip("keras.distribution has it for JAX alone")
    run = tmp_path / "run"
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": TWO_DEVICES,
    }

    line = [sys.executable, __file__, *command(run, "--distribute", name)]
    subprocess.run(line, check=True, env=environment)

    assert_same(run, one_process)


@pytest.mark.slow
def test_large_matrices_and_their_moments_are_split():
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": TWO_DEVICES}

    ran = subprocess.run(
        [sys.executable, "-c", SPLIT], env=environment, capture_output=True, text=True, check=True
    )

    split = {
        "attention/qkv/kernel": [48, 72], "attention/qkv/bias": [72],
        "attention/projection/kernel": [24, 48], "mlp/expand/kernel": [48, 48],
        "mlp/expand/bias": [48], "mlp/reduce/kernel": [48, 48],
    }  # fmt: skip
    assert json.loads(ran.stdout) == {
        f"{before}block_0{between}{path.replace('/', between)}{after}": shape
        for path, shape in split.items()
        for before, between, after in (
            ("", "/", ""), ("adam_w/", "_", "_momentum"), ("adam_w/", "_", "_velocity"),
        )
    }  # fmt: skip


SPLIT = """
import json, keras, vit_keras
from training.distribute import find_devices
with find_devices("model-parallel").scope():
    model = vit_keras.build_vit("vit_b16", num_classes=5, width=48, depth=1, heads=3, mlp_width=96)
    adam = keras.optimizers.AdamW(name="adam_w")
    adam.build(model.trainable_variables)
parts = {v.path: v.value.addressable_shards[0].data.shape for v in model.weights + adam.variables}
whole = {v.path: tuple(v.shape) for v in model.weights + adam.variables}
print(json.dumps({path: shape for path, shape in parts.items() if shape != whole[path]}))
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def start_workers(backend, *arguments):
    """Two processes; `arguments` of `python -m training`, one list for each"""
    workers = [f"127.0.0.1:{free_port()}" for _ in arguments]
    started = []
    for index, own in enumerate(arguments):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"KERAS_BACKEND": backend, "TF_CONFIG": json.dumps(config)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        line = [*PYTHON, *own, "--distribute", "multi-worker"]
        started.append(subprocess.Popen(line, env=environment, **pipes))
    return started, workers


@pytest.mark.slow
def test_two_processes_train_as_one_although_one_is_killed(backend, one_process, tmp_path):
    run = tmp_path / "run"
    (first, second), addresses = start_workers(backend, command(run), command(run))
    lines = run / "history.csv"
    while not lines.exists() or len(lines.read_text().splitlines()) < 3:
        assert first.poll() is None, first.communicate()
        time.sleep(0.1)

    second.kill()
    killed = time.monotonic()
    _, errors = first.communicate(timeout=900)

    assert time.monotonic() - killed < SECONDS * (MISSED + 2)
    assert first.returncode == 1
    lost = f"Error: worker 1 ({addresses[1]}) is lost. Start all workers again with --resume."
    assert lost in errors
    second.communicate()
    assert not (run / "report.md").exists()

    workers, _ = start_workers(backend, *[["fit", "--resume", str(run)]] * 2)
    printed = [worker.communicate(timeout=900)[0] for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0]
    assert "Going on from step" in printed[0]
    assert_same(run, one_process)


@pytest.mark.slow
def test_workers_that_differ_are_refused(backend, tmp_path):
    run = tmp_path / "run"
    workers, _ = start_workers(backend, command(run), command(run, seed=1))

    errors = [worker.communicate(timeout=900)[1] for worker in workers]

    assert [worker.returncode for worker in workers] == [1, 1]
    for text in errors:
        assert "Error: the workers do not see the same images" in text


@pytest.mark.slow
def test_a_data_service_does_the_work(tmp_path):
    run, ports = tmp_path / "run", range(free_port(), 2**16)
    serve = [*PYTHON, "data-service", "--port", str(ports[0])]
    join = [*PYTHON, "data-service", "--port", str(ports[2]), "--dispatcher"]
    first = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    address = f"localhost:{ports[0]}"
    assert f"train with --data-service {address}" in first.stdout.readline()
    second = subprocess.Popen([*join, address], stdout=subprocess.PIPE, text=True)
    assert f"Working for {address}" in second.stdout.readline()

    line = [*PYTHON, *command(run, "--data-service", address, smaller_first="", batch_size=256)]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert history(run)["val_accuracy"][-1] > 0.4
    for process in (first, second):
        process.kill()
        process.wait()
    ran = subprocess.run([*line, "--out", f"{run}2"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert f"Error: no data service answers at {address}; start one there" in ran.stderr


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
def test_workers_have_to_be_named(config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        text = config if isinstance(config, str) else json.dumps(config)
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=r'needs the workers in TF_CONFIG, such as .{"cluster"'):
        find_devices("multi-worker")


def test_other_versions_of_keras_are_refused(monkeypatch):
    config = {"cluster": WORKERS, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    with pytest.raises(InputError, match=r"Keras 3\.15's fit. This is keras 3\.99\.0; pip install"):
        find_devices("multi-worker")


@pytest.mark.parametrize(
    "changes", [{"accumulate": 2}, {"mixed_precision": "mixed_float16"}, {"tune": "head"}]
)
def test_what_devices_cannot_do_is_refused(changes):
    with pytest.raises(InputError, match="--distribute cannot be joined with accumulate"):
        find_devices("mirrored").check(Recipe(**changes))


def test_each_backend_has_its_own_ways():
    with pytest.raises(InputError, match="backend tensorflow has no --distribute model-parallel"):
        find_devices("model-parallel")


def main():
    import tensorflow as tf

    from training.__main__ import main

    (cpu,) = tf.config.list_physical_devices("CPU")
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [device, device])
    main(sys.argv[1:])


if __name__ == "__main__":
    main()

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
from support.processes import wait_for

from training.distribution.data_service import check_service
from training.distribution.devices import LONGEST, Devices, find_devices
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


def start_workers(start, backend, *arguments):
    """Two processes; `arguments` of `python -m training`, one list for each"""
    workers = [f"127.0.0.1:{free_port()}" for _ in arguments]
    started = []
    for index, own in enumerate(arguments):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"KERAS_BACKEND": backend, "TF_CONFIG": json.dumps(config)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        line = [*PYTHON, *own, "--distribute", "multi-worker"]
        started.append(start(line, env=environment, **pipes))
    return started, workers


def wait_for_two_epochs(run, process):
    lines = run / "history.csv"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) > 2, process)


@pytest.mark.slow
def test_two_processes_train_as_one_although_one_is_killed(backend, one_process, tmp_path, start):
    run = tmp_path / "run"
    workers, addresses = start_workers(start, backend, command(run), command(run))
    wait_for_two_epochs(run, workers[0])

    dies = {"tensorflow": 0, "jax": 1}[backend]  # JAX itself ends the others of the first one
    workers[dies].kill()
    killed = time.monotonic()
    _, errors = workers[1 - dies].communicate(timeout=900)

    assert time.monotonic() - killed < LONGEST
    assert workers[1 - dies].returncode == 1
    lost = f"Error: worker {dies} ({addresses[dies]}) is lost. Start it again, and this run, on all"
    assert lost in errors
    workers[dies].wait()
    assert not (run / "report.md").exists()

    workers, _ = start_workers(start, backend, *[["fit", "--resume", str(run)]] * 2)
    printed = [worker.communicate(timeout=900)[0] for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0]
    assert "Going on from step" in printed[0]
    assert_same(run, one_process)


@pytest.mark.slow
def test_workers_that_differ_are_refused(backend, tmp_path, start):
    run = tmp_path / "run"
    workers, _ = start_workers(start, backend, command(run), command(run, seed=1))

    errors = [worker.communicate(timeout=900)[1] for worker in workers]

    assert [worker.returncode for worker in workers] == [1, 1]
    for text in errors:
        assert "Error: the workers do not see the same images" in text


@pytest.mark.slow
def test_a_data_service_does_the_work_although_it_is_killed(tmp_path, start):
    run, port = tmp_path / "run", free_port()
    address = f"localhost:{port}"
    first = serve(start, address, "--port", str(port))
    second = serve(start, address, "--port", str(port + 2), "--dispatcher", address)
    settings = {"smaller_first": "", "batch_size": 256}
    line = [*PYTHON, *command(run, "--data-service", address, **settings)]
    fit = start(line, stderr=subprocess.PIPE)
    wait_for_two_epochs(run, fit)

    first.kill()
    killed = time.monotonic()
    _, errors = fit.communicate(timeout=900)

    assert time.monotonic() - killed < LONGEST
    assert fit.returncode == 1
    lost = f"Error: the data service ({address}) is lost. Start it again, and this run, on all"
    assert lost in errors

    first.wait()
    first = serve(start, address, "--port", str(port))
    line = [*PYTHON, "fit", "--resume", str(run), "--data-service", address]
    subprocess.run(line, check=True)

    assert history(run)["epoch"].tolist() == [0, 1, 2, 3]
    assert history(run)["val_accuracy"][-1] > 0.4
    for process in (first, second):
        process.kill()
        process.wait()
    line = [*PYTHON, *command(f"{run}2", "--data-service", address)]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert f"Error: no data service answers at {address}; start one there" in ran.stderr


def serve(start, address, *arguments):
    """A process that works for the service at `address`"""
    started = start([*PYTHON, "data-service", *arguments], stdout=subprocess.PIPE)
    assert started.stdout.readline().startswith(f"Working for {address}; train with --data-service")
    return started


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
    ("changes", "message"),
    [
        ({"accumulate": 2}, "joined with accumulate or mixed_precision=mixed_float16"),
        ({"mixed_precision": "mixed_float16"}, "joined with accumulate or mixed_precision"),
        ({"tune": "head"}, "joined with tune=head, head_first=true or teacher_cache=true"),
        ({"head_first": True}, "joined with tune=head, head_first=true"),
        ({"teacher_cache": True}, "joined with tune=head, head_first=true"),
    ],
)
def test_what_devices_cannot_do_is_refused(changes, message):
    with pytest.raises(InputError, match=f"--distribute cannot be {message}"):
        find_devices("mirrored").check(Recipe(**changes))


def test_jax_trains_no_masked_models_on_several_devices():
    pytest.importorskip("jax")
    from training.distribution.jax_devices import Mesh

    with pytest.raises(InputError, match="under jax cannot be joined with pretrain"):
        Mesh().check(Recipe(pretrain="mae"))


def test_a_service_and_several_workers_do_not_go_together():
    with pytest.raises(InputError, match="--data-service cannot be joined with --distribute multi"):
        check_service("localhost:5050", Devices(workers=("a:1", "b:1")))


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

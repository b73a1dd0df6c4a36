"""Two devices and two processes train as one does, also after a worker is killed."""

import json
import subprocess
import sys
import time

import pytest
from support import two_devices
from support.fashion_runs import (
    PYTHON,
    assert_same_run,
    fit_arguments,
    free_port,
    wait_for_two_epochs,
)
from support.processes import environment

from training.distribution.devices import LOST_AFTER_SECONDS

# By default JAX gives up when a busy machine keeps one device waiting for 40 seconds.
XLA_FLAGS = (
    "--xla_force_host_platform_device_count=2 "
    "--xla_cpu_collective_call_terminate_timeout_seconds=900"
)


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def backend(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(scope="module")
def one_process(backend, tmp_path_factory):
    """The run folder of one process with one device."""
    run = tmp_path_factory.mktemp(backend) / "run"
    subprocess.run(
        [*PYTHON, *fit_arguments(run)], check=True, env=environment(KERAS_BACKEND=backend)
    )
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mirrored", "model-parallel"])
def test_two_devices_train_like_one(backend, name, one_process, tmp_path):
    if (backend, name) == ("tensorflow", "model-parallel"):
        pytest.skip("keras.distribution supports it only with JAX")
    run = tmp_path / "run"
    variables = {"KERAS_BACKEND": backend, "XLA_FLAGS": XLA_FLAGS}

    line = [sys.executable, two_devices.__file__, *fit_arguments(run, "--distribute", name)]
    subprocess.run(line, check=True, env=environment(**variables))

    assert_same_run(run, one_process)


SPLIT_PROGRAM = """
import json, keras, vit_keras
from training.distribution.devices import find_devices
with find_devices("model-parallel").scope():
    model = vit_keras.build_vit("vit_b16", num_classes=5, width=48, depth=1, heads=3, mlp_width=96)
    adam = keras.optimizers.AdamW(name="adam_w")
    adam.build(model.trainable_variables)
parts = {v.path: v.value.addressable_shards[0].data.shape for v in model.weights + adam.variables}
whole = {v.path: tuple(v.shape) for v in model.weights + adam.variables}
print(json.dumps({path: shape for path, shape in parts.items() if shape != whole[path]}))
"""


@pytest.mark.slow
def test_model_parallel_splits_large_matrices_and_their_moments():
    pytest.importorskip("jax")
    ran = subprocess.run(
        [sys.executable, "-c", SPLIT_PROGRAM],
        env=environment(KERAS_BACKEND="jax", XLA_FLAGS=XLA_FLAGS),
        capture_output=True,
        text=True,
        check=True,
    )

    split = {
        "attention/qkv/kernel": [48, 72],
        "attention/qkv/bias": [72],
        "attention/projection/kernel": [24, 48],
        "mlp/expand/kernel": [48, 48],
        "mlp/expand/bias": [48],
        "mlp/reduce/kernel": [48, 48],
    }
    expected = {}
    for path, shape in split.items():
        expected[f"block_0/{path}"] = shape
        for moment in ("momentum", "velocity"):
            expected[f"adam_w/block_0_{path.replace('/', '_')}_{moment}"] = shape
    assert json.loads(ran.stdout) == expected


def start_workers(start, backend, *arguments):
    """Starts a process for each list of arguments of `python -m training`."""
    workers = [f"127.0.0.1:{free_port()}" for _ in arguments]
    processes = []
    for index, own in enumerate(arguments):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        variables = {"KERAS_BACKEND": backend, "TF_CONFIG": json.dumps(config)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        line = [*PYTHON, *own, "--distribute", "multi-worker"]
        processes.append(start(line, env=environment(**variables), **pipes))
    return processes, workers


@pytest.mark.slow
def test_two_processes_train_like_one_although_one_is_killed(backend, one_process, tmp_path, start):
    run = tmp_path / "run"
    workers, addresses = start_workers(start, backend, fit_arguments(run), fit_arguments(run))
    wait_for_two_epochs(run, workers[0])

    killed = {"tensorflow": 0, "jax": 1}[backend]  # JAX itself stops all others with the first
    workers[killed].kill()
    killed_at = time.monotonic()
    _, errors = workers[1 - killed].communicate(timeout=900)

    assert time.monotonic() - killed_at < LOST_AFTER_SECONDS
    assert workers[1 - killed].returncode == 1
    assert f"Error: worker {killed} ({addresses[killed]}) is lost. Start it again" in errors
    workers[killed].wait()
    assert not (run / "report.md").exists()

    workers, _ = start_workers(start, backend, *[["fit", "--resume", str(run)]] * 2)
    printed = [worker.communicate(timeout=900)[0] for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0]
    assert "Resuming at step" in printed[0]
    assert_same_run(run, one_process)


@pytest.mark.slow
def test_workers_with_different_recipes_are_an_error(backend, tmp_path, start):
    run = tmp_path / "run"
    different = fit_arguments(run, seed=1)
    workers, _ = start_workers(start, backend, fit_arguments(run), different)

    errors = [worker.communicate(timeout=900)[1] for worker in workers]

    assert [worker.returncode for worker in workers] == [1, 1]
    for text in errors:
        assert "Error: the workers differ in images" in text

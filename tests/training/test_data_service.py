"""A data service reads and augments images for a run, which resumes after the service is killed."""

import subprocess
import time

import pytest
from support.fashion_runs import PYTHON, fit_arguments, free_port, history, wait_for_two_epochs

from training.distribution.data_service import check_service
from training.distribution.devices import LOST_AFTER_SECONDS, Devices
from vit_keras import InputError


def start_service(start, address, *arguments):
    """Starts a process that works for the service at `address`."""
    process = start([*PYTHON, "data-service", *arguments], stdout=subprocess.PIPE)
    assert process.stdout.readline().startswith(f"Working for {address}; train with --data-service")
    return process


@pytest.mark.slow
def test_run_with_a_data_service_resumes_after_the_service_is_killed(tmp_path, start):
    run, port = tmp_path / "run", free_port()
    address = f"localhost:{port}"
    first = start_service(start, address, "--port", str(port))
    second = start_service(start, address, "--port", str(port + 2), "--dispatcher", address)
    settings = {"progressive_resizing": "", "batch_size": 256}
    line = [*PYTHON, *fit_arguments(run, "--data-service", address, **settings)]
    fit = start(line, stderr=subprocess.PIPE)
    wait_for_two_epochs(run, fit)

    first.kill()
    killed_at = time.monotonic()
    _, errors = fit.communicate(timeout=900)

    assert time.monotonic() - killed_at < LOST_AFTER_SECONDS
    assert fit.returncode == 1
    assert f"Error: the data service ({address}) is lost. Start it again" in errors

    first.wait()
    first = start_service(start, address, "--port", str(port))
    line = [*PYTHON, "fit", "--resume", str(run), "--data-service", address]
    subprocess.run(line, check=True)

    assert history(run)["epoch"].tolist() == [0, 1, 2, 3]
    assert history(run)["val_accuracy"][-1] > 0.4
    for process in (first, second):
        process.kill()
        process.wait()
    line = [*PYTHON, *fit_arguments(f"{run}2", "--data-service", address)]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert f"Error: no data service answers at {address}; start one there" in ran.stderr


def test_data_service_with_several_workers_is_an_error():
    with pytest.raises(InputError, match="--data-service cannot be joined with --distribute multi"):
        check_service("localhost:5050", Devices(workers=("a:1", "b:1")))

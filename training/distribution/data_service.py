"""A tf.data service: other machines or processes read and augment images for a run."""

import signal

import tensorflow as tf

from training.distribution.devices import Devices, is_listening
from vit_keras.utils.errors import InputError, first_line


def check_service(address: str, devices: Devices) -> None:
    """Checks that a run can use a data service.

    Args:
        address: 'HOST:PORT' of the service's dispatcher.
        devices: of the run.

    Raises:
        InputError: if nothing listens at the address, or for several workers: when the service
            loses some images, each worker would lose different ones.
    """
    if devices.workers:
        raise InputError("--data-service cannot be joined with --distribute multi-worker.")
    _check_dispatcher(address)


def _check_dispatcher(address: str) -> None:
    try:
        listening = is_listening(address)
    except ValueError:
        listening = False
    if not listening:
        raise InputError(
            f"no data service answers at {address}; start one there with python -m training "
            f"data-service --host HOST --port PORT."
        )


def serve(host: str, port: int, dispatcher: str = "") -> None:
    """Reads and augments images for runs until it is interrupted.

    Args:
        host: name or address of this machine, for the other machines.
        port: to listen at.
        dispatcher: 'HOST:PORT' of the service to join. Without one, this process is the
            dispatcher of a new service, and also works for it at the next port.

    Raises:
        InputError: if the dispatcher does not answer, or a port is in use.
    """
    service = tf.data.experimental.service
    servers = []  # servers stop when they are deleted
    try:
        if dispatcher:
            _check_dispatcher(dispatcher)
        else:
            servers.append(service.DispatchServer(service.DispatcherConfig(port=port)))
            dispatcher, port = f"{host}:{port}", port + 1
        config = service.WorkerConfig(dispatcher, worker_address=f"{host}:{port}", port=port)
        servers.append(service.WorkerServer(config))
    except tf.errors.OpError as error:
        raise InputError(f"no data service at {host}:{port}: {first_line(error)}") from error
    print(f"Working for {dispatcher}; train with --data-service {dispatcher}", flush=True)
    signal.pause()

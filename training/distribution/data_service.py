"""A tf.data service: other machines, or processes, read and augment for the one that trains."""

import signal

import tensorflow as tf

from training.distribution.devices import answers
from vit_keras.utils.errors import InputError, first_line


def check_service(address, devices):
    """Raises InputError where nothing answers at the 'HOST:PORT' of a dispatcher, or for Devices
    of several workers: of those each would miss other images when the service loses some.
    """
    if devices.workers:
        raise InputError("--data-service cannot be joined with --distribute multi-worker.")
    _check_dispatcher(address)


def _check_dispatcher(address):
    try:
        there = answers(address)
    except ValueError:
        there = False
    if not there:
        raise InputError(
            f"no data service answers at {address}; start one there with python -m training "
            f"data-service --host HOST --port PORT."
        )


def serve(host, port, dispatcher=""):
    """Works for runs until it is interrupted.

    Args:
        host: name or address of this machine, as the others know it.
        port: to listen at.
        dispatcher: 'HOST:PORT' of the service to join; without one this process is that, too, and
            works at the next port.

    Raises:
        InputError: where the dispatcher does not answer, or a port is taken.
    """
    service = tf.data.experimental.service
    servers = []  # which end with their objects
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

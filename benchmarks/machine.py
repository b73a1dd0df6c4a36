"""This computer -> one line above a table: date, cores, processor, package versions."""

import datetime
import os
import platform
from importlib import metadata

from training.runs.machine import processor_name

PACKAGES = ("tensorflow", "keras", "keras-hub", "ai-edge-litert", "numpy")


def describe_machine(*packages: str) -> str:
    """Describes the date, the machine and the versions of packages.

    Args:
        *packages: names of distributions; PACKAGES by default.

    Returns:
        a line such as '2026-01-31, 2 cores (AMD EPYC), Python 3.11.7, tensorflow 2.21.0, ...'
    """
    versions = [f"{package} {_version(package)}" for package in packages or PACKAGES]
    cores = f"{os.cpu_count()} cores ({processor_name()})"
    python = f"Python {platform.python_version()}"
    return ", ".join([datetime.date.today().isoformat(), cores, python, *versions])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "is not installed"

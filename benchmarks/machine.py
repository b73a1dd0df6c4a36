"""This computer -> one line above a table: date, cores, processor, package versions."""

import datetime
import os
import pathlib
import platform
from importlib import metadata

PACKAGES = ("tensorflow", "keras", "keras-hub", "ai-edge-litert", "numpy")


def describe_machine(*packages):
    """'2026-01-31, 2 cores (AMD EPYC), Python 3.11.7, tensorflow 2.21.0, ...'

    Args:
        *packages: whose versions are named; PACKAGES if none are.
    """
    versions = [f"{package} {_version(package)}" for package in packages or PACKAGES]
    cores = f"{os.cpu_count()} cores ({_processor()})"
    python = f"Python {platform.python_version()}"
    return ", ".join([datetime.date.today().isoformat(), cores, python, *versions])


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "is not installed"


def _processor():
    cpuinfo = pathlib.Path("/proc/cpuinfo")  # Linux; platform.processor() is often empty there
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()

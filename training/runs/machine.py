"""This computer -> the name of its processor; imports nothing but the standard library."""

import pathlib
import platform
import re


def processor_name() -> str:
    """Returns the processor's model, such as 'AMD EPYC 7B13'; its architecture if unknown."""
    info = pathlib.Path("/proc/cpuinfo")  # Linux; platform.processor() is often empty there
    if info.exists():
        model = re.search(r"^model name\s*: (.+)$", info.read_text(encoding="utf-8"), re.M)
        if model:
            return model[1]
    return platform.processor() or platform.machine()

"""int8-full files in the compiler of accelerators: Vela, for Arm's Ethos-U."""

import re
import subprocess

import pytest
from support.environments import environment_with

from export.options import Options
from export.source import Source
from export.tflite.finish import finish
from export.tflite.integers import write_int8_full

VELA = "5.2.0"


@pytest.fixture(scope="module")
def vela(request):
    """The path of Vela's command."""
    python = environment_with(request.config.cache, f"vela-{VELA}", f"ethos-u-vela=={VELA}")
    return python.with_name("vela")


@pytest.mark.slow
@pytest.mark.parametrize("accelerator", ["ethos-u55-256", "ethos-u65-512", "ethos-u85-256"])
@pytest.mark.parametrize("gelu", ["exact", "sigmoid"])
def test_vela_places_every_operation_on_the_accelerator(
    accelerator, gelu, vela, five_classes, float32_file, noise_images, tmp_path
):
    options = Options(gelu=gelu)
    source = Source(float32_file, five_classes, noise_images, options)
    write_int8_full(source, tmp_path / "model.tflite")
    finish(five_classes, tmp_path / "model.tflite", options)

    command = [vela, "model.tflite", "--accelerator-config", accelerator, "--output-dir", "out"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    counts = dict(re.findall(r"(CPU|NPU) operators = (\d+)", result.stdout))
    assert counts["CPU"] == "0"
    assert int(counts["NPU"]) > 90

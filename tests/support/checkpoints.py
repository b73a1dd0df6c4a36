"""Small checkpoints of other projects, with what their own code computed: tests/fixtures."""

import pathlib

import pytest

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"


def checkpoint_path(case):
    """Path of a fixture's weights; skips the test where reading them needs torch."""
    pth = FIXTURES / case / "weights.pth"
    if pth.exists():
        pytest.importorskip("torch", reason="reading .pth files needs torch")
        return pth
    return FIXTURES / case

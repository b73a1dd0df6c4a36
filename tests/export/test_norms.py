"""Layer norms as matrix products."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from export.checks.run_standalone import ask_tflite
from export.tflite.flatbuffer import count_operations
from export.tflite.norms import multiply_deviations


def test_squares_become_products_and_the_answers_stay(float32_file, noise_images, tmp_path):
    multiply_deviations(float32_file, tmp_path / "norms")

    before, after = (
        ask_tflite(Interpreter(str(path)), noise_images["search"].pixels)["probabilities"]
        for path in (float32_file, tmp_path / "norms")
    )
    np.testing.assert_allclose(after, before, atol=1e-5)
    old, new = count_operations(float32_file), count_operations(tmp_path / "norms")
    assert "SQUARE" not in new
    assert "SUM" not in new
    assert new["BATCH_MATMUL"] == old["BATCH_MATMUL"] + old["SQUARE"]

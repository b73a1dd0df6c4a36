"""Statistics of the values that a file computes."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.checks.run_standalone import ask_tflite
from export.tflite.statistics import TAIL, gather_statistics, tensor_values


def test_values_between_operations_lead_to_the_answers(float32_file, noise_images):
    few = noise_images["search"].first(3)
    answers = ask_tflite(Interpreter(str(float32_file)), few.pixels)["probabilities"]

    seen = list(tensor_values(float32_file, few))

    last = np.concatenate([tensors["StatefulPartitionedCall:0"] for tensors in seen])
    np.testing.assert_allclose(last, answers, atol=1e-6)
    logits = [values for name, values in seen[0].items() if "head" in name and values.size == 5]
    softmax = np.exp(logits[0]) / np.exp(logits[0]).sum()
    np.testing.assert_allclose(softmax.ravel(), answers[0], atol=1e-5)


def test_statistics_of_all_images(float32_file, noise_images):
    images = noise_images["calibration"]
    values = [tensors["rescale_1/add"] for tensors in tensor_values(float32_file, images)]

    statistics = gather_statistics(float32_file, images)

    limits = {name: ranges["rescale_1/add"] for name, ranges in statistics.items()}
    # rescale_1/add is the normalised image, which can be worked out without the file.
    expected = (images.pixels / 255 - images.mean) / images.std
    np.testing.assert_allclose(np.concatenate(values), expected, atol=1e-5)
    assert limits["range"]["max"] == pytest.approx(expected.max(), rel=1e-5)
    assert limits["average"]["max"] == pytest.approx(expected.max(axis=(1, 2, 3)).mean(), rel=1e-5)
    percentiles = np.quantile(expected.reshape(len(expected), -1), 1 - TAIL, axis=1)
    assert limits["percentile"]["max"] == pytest.approx(percentiles.mean(), rel=1e-5)

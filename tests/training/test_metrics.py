"""Metrics of predictions, and figures of them."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from training.data.datasets import find_splits
from training.reports.figures import confusion, mistakes
from training.reports.metrics import evaluate


def test_metrics_of_four_predictions(photographs):
    examples = find_splits(str(photographs), 3)["train"]().subset(np.array([0, 1, 12, 13]))
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])

    evaluation = evaluate(probabilities, examples)

    assert evaluation["accuracy"] == 0.75
    # Wilson's, z = 1.96: (0.75 + z^2 / 8 -+ z sqrt(0.1875 / 4 + z^2 / 64)) / (1 + z^2 / 4)
    assert evaluation["interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    # One prediction in each bin: 0.9 is right, 0.8 wrong, 0.6 right, 0.7 right.
    assert evaluation["ece"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.3) / 4)
    assert "top5_accuracy" not in evaluation
    assert evaluation["per_class"]["blue"]["precision"] == 1.0
    assert evaluation["per_class"]["blue"]["recall"] == 0.5
    assert evaluation["per_class"]["red"]["precision"] == pytest.approx(2 / 3)
    assert evaluation["per_class"]["red"]["f1"] == pytest.approx(0.8)


def test_figures_show_dollar_signs_of_class_names(photographs):
    examples = find_splits(str(photographs), 3)["train"]()
    examples = dataclasses.replace(examples, class_names=("a $x_$ b", "c"))
    wrong = np.eye(2)[1 - examples.labels]

    for draw in (mistakes, confusion):
        picture = io.BytesIO()
        draw(wrong, examples).savefig(picture)  # would fail if it parsed a formula
        assert Image.open(picture).size[0] > 300

"""Losses against values worked out by hand."""

import numpy as np
import pytest

from training.model.losses import LOSSES

LOGITS = np.log([[0.5, 0.25, 0.25], [4.0, 1.0, 1.0]]).astype("float32")


@pytest.mark.parametrize(
    ("name", "targets", "expected"),
    [
        ("softmax", [[1, 0, 0], [0.5, 0.5, 0]], [np.log(2), 0.5 * np.log(1.5) + 0.5 * np.log(6)]),
        # Sigmoids of the logits: 1/3, 1/5, 1/5 and 4/5, 1/2, 1/2.
        ("sigmoid", [[1, 0, 0], [0.5, 0.5, 0]],
         [np.log(3) - 2 * np.log(0.8), -0.5 * np.log(0.8 * 0.2) - 2 * np.log(0.5)]),
        ("sigmoid-any", [[1, 0, 0], [0.5, 0.5, 0]],
         [(np.log(3) - 2 * np.log(0.8)) / 3, (-np.log(0.8) - 2 * np.log(0.5)) / 3]),
    ],
)  # fmt: skip
def test_losses_by_hand(name, targets, expected):
    found = LOSSES[name](np.array(targets, "float32"), LOGITS)

    np.testing.assert_allclose(found, expected, rtol=1e-5)

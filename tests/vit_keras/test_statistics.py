"""Changes of accuracy between two sets of answers to the same images."""

import numpy as np
import pytest

from vit_keras.utils.statistics import change_of_accuracy


def test_change_of_accuracy_has_the_interval_of_agresti_and_min():
    before = np.array([True] * 60 + [False] * 40)
    after = before.copy()
    after[:5] = False
    after[60:63] = True

    change, low, high = change_of_accuracy(before, after)

    assert change == pytest.approx(-0.02)
    # (3 - 5) / 102 -+ 1.96 sqrt((9 / 102 - (2 / 102)^2) / 102), by hand
    assert (low, high) == pytest.approx((-0.07713, 0.03791), abs=1e-4)


def test_the_interval_of_no_change_contains_zero():
    answers = np.array([True] * 60 + [False] * 40)

    change, low, high = change_of_accuracy(answers, answers)

    assert change == 0
    assert low < 0 < high

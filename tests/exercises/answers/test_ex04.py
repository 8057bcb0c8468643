"""Exercise 4 against the parallel form of the package and the loop of exercise 1."""

import numpy as np
import pytest
from one_head import assert_close, draw, of_package

from exercises.answers import ex01, ex04
from refimpl import decay_mask, retention_parallel


@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
def test_scores_carry_the_mask_of_the_package(gamma):
    q, k, *_ = draw(12)
    assert_close(ex04.decayed_scores(q, k, gamma), (q @ k.T) * decay_mask(np.array([gamma]), 12)[0], 1e-13)


@pytest.mark.parametrize("time", [0, 1, 12])
@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
@pytest.mark.parametrize("from_state", [True, False])
def test_parallel_retention_is_that_of_the_package_and_the_loop(time, gamma, from_state):
    arguments = draw(time, gamma=gamma)
    arguments = arguments if from_state else (*arguments[:4], None)
    got = ex04.parallel_retention(*arguments)
    assert_close(got, of_package(retention_parallel, *arguments))
    assert_close(got, ex01.retention_loop(*arguments))

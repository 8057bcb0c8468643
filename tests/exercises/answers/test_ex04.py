"""Exercise 4 against the parallel form of the package and the loop of exercise 1."""

import numpy as np
import pytest

from exercises.answers import ex01, ex04
from refimpl import decay_mask, retention_parallel

RANDOM = np.random.default_rng(4)


def draw(time):
    q, k = RANDOM.normal(size=(2, time, 3))
    return q, k, RANDOM.normal(size=(time, 5)), RANDOM.normal(size=(3, 5))


@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
def test_scores_carry_the_mask_of_the_package(gamma):
    q, k, _, _ = draw(12)
    wanted = (q @ k.T) * decay_mask(np.array([gamma]), 12)[0]
    np.testing.assert_allclose(ex04.decayed_scores(q, k, gamma), wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("time", [0, 1, 12])
@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
@pytest.mark.parametrize("from_state", [True, False])
def test_parallel_retention_is_that_of_the_package_and_the_loop(time, gamma, from_state):
    q, k, v, state = draw(time)
    state = state if from_state else None
    got = ex04.parallel_retention(q, k, v, gamma, state)
    batched = [x if x is None else x[None, None] for x in (q, k, v, state)]
    package = retention_parallel(*batched[:3], np.array([gamma]), batched[3])
    loop = ex01.retention_loop(q, k, v, gamma, state)
    for one, other, third in zip(got, package, loop, strict=True):
        np.testing.assert_allclose(one, other[0, 0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(one, third, rtol=0, atol=1e-12)

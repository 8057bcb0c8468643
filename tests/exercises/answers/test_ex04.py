"""Exercise 4 against the parallel form of the package and the loop of exercise 1."""

import numpy as np
import pytest
from one_head import assert_close, draw, of_package

from exercises.answers import ex01, ex04
from refimpl import decay_mask, retention_parallel


@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
def test_weights_carry_the_mask_of_the_package(gamma):
    q, k, *_ = draw(12)
    assert_close(ex04.retention_weights(q, k, gamma), (q @ k.T) * decay_mask(np.array([gamma]), 12)[0], 1e-13)


@pytest.mark.parametrize("time", [0, 1, 12])
@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
@pytest.mark.parametrize("from_state", [True, False])
def test_parallel_retention_is_that_of_the_package_and_the_loop(time, gamma, from_state):
    arguments = draw(time, gamma=gamma)
    arguments = arguments if from_state else (*arguments[:4], None)
    got = ex04.parallel_retention(*arguments)
    assert_close(got, of_package(retention_parallel, *arguments))
    assert_close(got, ex01.retention_loop(*arguments))


@pytest.mark.parametrize("gamma", [0.5, 0.9, 1.0])
def test_the_rising_memory_is_eq_5_with_its_mask(gamma):
    q, k, v, *_ = draw(10)
    lag = np.subtract.outer(np.arange(10), np.arange(10))
    out, (plain, rising) = ex04.rising_retention(q, k, v, gamma, None)
    assert_close(out, (q @ k.T * np.tril((lag + 1) * gamma ** np.abs(lag))) @ v)
    assert_close(plain, ex01.retention_loop(q, k, v, gamma, None)[1])
    assert_close(q[-1] @ rising, out[-1])


@pytest.mark.parametrize("cut", range(11))
def test_calls_of_the_rising_memory_chain(cut):
    q, k, v, gamma, state = draw(10)
    states = np.stack([state, 2 - state])
    first, handed = ex04.rising_retention(q[:cut], k[:cut], v[:cut], gamma, states)
    rest, end = ex04.rising_retention(q[cut:], k[cut:], v[cut:], gamma, handed)
    assert_close((np.concatenate([first, rest]), end), ex04.rising_retention(q, k, v, gamma, states))


def test_the_rising_mask_is_that_of_the_jordan_block_as_the_notebook_says():
    block = np.array([[0.9, 1.0], [0.0, 0.9]])
    lag = np.arange(60)
    rise = (lag + 1) * 0.9**lag
    assert_close(rise, np.array([np.linalg.matrix_power(block, j + 1)[0, 1] for j in lag]))
    assert rise.max().round(2) == rise[8].round(2) == rise[9].round(2) == 3.87

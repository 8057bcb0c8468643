"""Exercise 4 against the parallel form of the package and the loop of exercise 1."""

import numpy as np
import pytest
from one_head import assert_close, draw, of_package

from exercises.answers import ex01, ex04
from refimpl import decay_mask, retention_parallel


def loop(q, k, v, gamma, state):
    """The loop of the notebook, as it stands."""
    state = np.zeros((q.shape[1], v.shape[1])) if state is None else state
    out = np.zeros(v.shape)
    for n in range(len(q)):
        state = gamma[n] * state + np.outer(k[n], v[n])
        out[n] = q[n] @ state
    return out, state


@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
def test_weights_of_equal_decays_carry_the_mask_of_the_package(gamma):
    q, k, *_ = draw(12)
    wanted = (q @ k.T) * decay_mask(np.array([gamma]), 12)[0]
    assert_close(ex04.retention_weights(q, k, np.full(12, gamma)), wanted, 1e-13)


@pytest.mark.parametrize("time", [0, 1, 12])
@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
@pytest.mark.parametrize("from_state", [True, False])
def test_parallel_retention_of_equal_decays_is_that_of_the_package(time, gamma, from_state):
    q, k, v, _, state = draw(time)
    state = state if from_state else None
    got = ex04.parallel_retention(q, k, v, np.full(time, gamma), state)
    assert_close(got, of_package(retention_parallel, q, k, v, gamma, state))


@pytest.mark.parametrize("time", [0, 1, 2, 12])
@pytest.mark.parametrize("smallest", [0.0, 1e-200, 0.5])
@pytest.mark.parametrize("from_state", [True, False])
def test_parallel_retention_is_the_loop_with_a_decay_for_each_token(time, smallest, from_state):
    q, k, v, _, state = draw(time)
    gamma = np.random.default_rng(time).choice([smallest, 0.6, 0.9, 1.0], time)
    state = state if from_state else None
    assert_close(ex04.parallel_retention(q, k, v, gamma, state), loop(q, k, v, gamma, state))
    assert_close(ex04.retention_weights(q, k, gamma) @ v, loop(q, k, v, gamma, None)[0])


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

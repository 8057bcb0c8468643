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


@pytest.mark.parametrize("from_state", [True, False])
def test_a_mix_of_decays_is_a_mix_of_loops(from_state):
    q, k, v, _, state = draw(10)
    gamma, share = np.array([0.9, 0.5, 0.99]), np.array([0.5, 2.0, 0.25])
    states = np.stack([state, 2 * state, -state]) if from_state else None
    loops = [ex01.retention_loop(q, k, v, g, None if states is None else states[r]) for r, g in enumerate(gamma)]
    wanted = sum(c * out for c, (out, _) in zip(share, loops, strict=True)), np.stack([end for _, end in loops])
    assert_close(ex04.mixed_retention(q, k, v, gamma, states, share), wanted)


def test_three_decays_forget_as_slowly_as_the_notebook_says():
    lag, gamma = np.arange(64.0), np.array([1 / 4, 3 / 4, 31 / 32])
    share = np.linalg.lstsq(gamma ** lag[:, None], 1 / (1 + lag), rcond=None)[0]
    assert np.abs(gamma ** lag[:, None] @ share - 1 / (1 + lag)).max() < 0.004

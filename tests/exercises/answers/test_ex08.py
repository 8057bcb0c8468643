"""Exercise 8 against the package: its norm, its row sums, and the parallel form with normalised scores."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from exercises.answers.ex08 import group_norm, norm_change, normalised_step
from refimpl import decay_mask, head_decays, retention_parallel
from refimpl.layers import rms_norm
from refimpl.score_norm import row_sums


@pytest.mark.parametrize("eps", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("time", [0, 1, 5])
def test_the_norm_is_that_of_the_package(time, eps):
    y = np.random.default_rng(time).standard_normal((3, time, 6))
    np.testing.assert_allclose(group_norm(y, eps), rms_norm(y, eps=eps), rtol=1e-14)


@pytest.mark.parametrize("eps", [0.0, 1e-6, 1e-2, 10.0])
def test_the_change_is_that_of_the_norm_of_the_package(eps):
    random = np.random.default_rng(0)
    y, divisor = random.standard_normal((2, 5, 4)), random.uniform(0.1, 30.0, (2, 5))
    after, before = rms_norm(y / divisor[:, :, None], eps=eps), rms_norm(y, eps=eps)
    change = norm_change(y, divisor, eps)[:, :, None]
    np.testing.assert_allclose(after, (1 + change) * before, rtol=1e-12)


def test_a_small_change_is_right_to_the_last_digits():
    y, divisor, eps = np.full((1, 1, 4), 8.0), np.array([[3.0]]), 2.0**-40
    with localcontext(prec=50):
        mean_square, exact = Decimal(64), Decimal(eps)
        wanted = ((mean_square + exact) / (mean_square + 9 * exact)).sqrt() - 1
    np.testing.assert_allclose(norm_change(y, divisor, eps), [[float(wanted)]], rtol=1e-14)


def test_steps_give_the_parallel_form_with_normalised_scores():
    heads, time, key_dim, value_dim = 3, 40, 4, 5
    random, gamma = np.random.default_rng(1), np.append(head_decays(heads - 1), 1.0)
    q, k = random.standard_normal((2, heads, time, key_dim))
    v = random.standard_normal((heads, time, value_dim))
    outs, sums = np.zeros_like(v), np.zeros((heads, time))
    state, row_sum = np.zeros((heads, key_dim, value_dim)), np.zeros(heads)
    for n in range(time):
        outs[:, n], state, row_sum = normalised_step(q[:, n], k[:, n], v[:, n], gamma, state, row_sum)
        sums[:, n] = row_sum
    np.testing.assert_allclose(sums, row_sums(gamma, time), rtol=1e-12)
    np.testing.assert_allclose(sums, decay_mask(gamma, time).sum(axis=-1), rtol=1e-12)
    out, end = retention_parallel(q[None], k[None], v[None], gamma)
    np.testing.assert_allclose(outs, out[0] / np.sqrt(sums)[:, :, None], rtol=0, atol=1e-12)
    np.testing.assert_allclose(state, end[0], rtol=0, atol=1e-12)


def test_the_change_that_the_notebook_quotes():
    gamma = head_decays(1)
    assert row_sums(gamma, 2000)[0, -1] == pytest.approx(32, rel=1e-12)
    change = norm_change(np.full((1, 1, 8), 0.004), np.array([[np.sqrt(32)]]), 1e-6)
    assert round(change[0, 0], 2) == -0.40

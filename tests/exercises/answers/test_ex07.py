"""Exercise 7 against the package, exact arithmetic and a measurement."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from exercises.answers.ex07 import forgotten_shares, head_gammas, recall_shares
from refimpl import head_decays, retention_parallel


@pytest.mark.parametrize("num_heads", [1, 2, 5, 8, 32])
def test_schedules_are_those_of_the_package(num_heads):
    released, paper = head_gammas(num_heads)
    np.testing.assert_array_equal(released, head_decays(num_heads, "released"))
    np.testing.assert_allclose(paper, head_decays(num_heads, "paper"), rtol=1e-15)


@pytest.mark.parametrize("half_life", [0.5, 1.0, 7.25, 1e3, 1e6, 1e12])
def test_a_half_life_is_right_to_the_last_digits(half_life):
    with localcontext(prec=50):
        wanted = 1 - Decimal("0.5") ** (1 / Decimal(half_life))
    np.testing.assert_allclose(forgotten_shares(np.array([half_life])), [float(wanted)], rtol=1e-15)


def test_half_of_a_token_is_left_in_the_state_of_the_package():
    half_life = np.array([1.0, 5.0, 40.0])
    gamma = 1 - forgotten_shares(half_life)
    for head, steps in enumerate(half_life.astype(int)):
        one = np.zeros((1, 3, steps + 1, 1))
        one[:, :, 0] = 1.0  # a single token, then nothing
        state = retention_parallel(one, one, one, gamma)[1]
        assert state[0, head, 0, 0] == pytest.approx(0.5, rel=1e-12)


def test_shares_are_those_measured_in_a_read_of_the_package():
    # With keys and values of its own for each token, out[l] is what the token at lag l adds to the newest output.
    gamma, lag, time = head_decays(3), np.array([0.0, 12.0, 39.0]), 40
    share, best = recall_shares(gamma, lag, time)
    tokens = np.broadcast_to(np.eye(time), (1, 3, time, time))
    out = retention_parallel(np.ones_like(tokens), tokens, tokens, gamma)[0][0, :, -1, ::-1]
    wanted = (out**2 / (out**2).sum(axis=-1, keepdims=True)).T[lag.astype(int)]
    np.testing.assert_allclose(share, wanted, rtol=1e-12)
    np.testing.assert_array_equal(best, [gamma[row.argmax()] for row in wanted])


def test_random_keys_add_in_power():
    random, gamma, time, lag = np.random.default_rng(0), 0.875, 24, 6
    keys = random.standard_normal((20_000, time))  # what a query reads of each key, up to the weight
    read = keys * gamma ** np.arange(time)
    measured = (read[:, lag] ** 2).mean() / (read.sum(axis=1) ** 2).mean()
    share, _ = recall_shares(np.array([gamma]), np.array([float(lag)]), time)
    assert measured == pytest.approx(share[0, 0], rel=0.05)


@pytest.mark.parametrize("lag", [1, 10, 100])
def test_the_best_gamma_that_the_notebook_quotes(lag):
    best = np.sqrt(lag / (lag + 1))
    gammas = np.sort(np.append(1 - 2.0 ** np.linspace(-12, -1, 1001), best))
    _, chosen = recall_shares(gammas, np.array([float(lag)]), 60 * (lag + 1))
    assert chosen[0] == best
    assert 1 / (1 - best) == pytest.approx(2 * lag + 1.5, abs=0.1)

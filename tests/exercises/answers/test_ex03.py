"""Exercise 3 against the rotation of the package."""

import numpy as np
import pytest
from one_head import assert_close, draw, of_package

from exercises.answers import ex03
from refimpl import retention_recurrent, rotate

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("offset", [-5, 0, 1, 1_000_000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rotate_is_the_rotation_of_the_package(offset, dtype):
    x, theta = RANDOM.normal(size=(11, 8)).astype(dtype), RANDOM.uniform(0, 2, 4)
    tolerance = 1e-12 if dtype is np.float64 else 1e-6
    wanted = rotate(x, offset, theta if dtype is np.float64 else theta.astype(dtype))
    np.testing.assert_allclose(ex03.rotate(x, theta.astype(dtype), offset), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("m", [0, 7, 1000])
def test_score_at_lag_is_the_score_of_two_rotated_vectors_wherever_they_stand(m):
    q, k = RANDOM.normal(size=(2, 8))
    theta, lag = RANDOM.uniform(0, 2, 4), np.arange(-6, 7)
    wanted = [(rotate(q[None], m + n, theta) @ rotate(k[None], m, theta).T)[0, 0] for n in lag.tolist()]
    np.testing.assert_allclose(ex03.score_at_lag(q, k, theta, lag.astype(float)), wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("start", [0, 1, 5, 8])
def test_joined_halves_are_the_whole_text(start):
    q, k, v, gamma, _ = draw(8, key_dim=4)
    theta = RANDOM.uniform(0, 2, 2)

    def read(piece):
        return of_package(retention_recurrent, *(rotate(x[piece], 0, theta) for x in (q, k)), v[piece], gamma, None)

    (_, first), (out, second) = read(slice(0, start)), read(slice(start, 8))
    whole, end = read(slice(0, 8))
    assert_close(ex03.join(q[start:], out, first, second, gamma, theta, start), (whole[start:], end))


def turn_halves(x, theta):
    """The training's code, as the notebook prints it, from position 0."""
    half = x.shape[1] // 2
    angle = np.arange(len(x))[:, None] * theta
    a, b = x[:, :half], x[:, half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], axis=1)


def test_repaired_weights_give_the_scores_of_the_training():
    x, theta = RANDOM.normal(size=(7, 5)), RANDOM.uniform(0, 2, 3)
    w_q, w_k = RANDOM.normal(size=(2, 5, 12))  # two heads of three pairs
    for head in (slice(0, 6), slice(6, 12)):
        wanted = turn_halves((x @ w_q)[:, head], theta) @ turn_halves((x @ w_k)[:, head], theta).T
        q, k = (ex03.rotate((x @ ex03.repair(w, 2))[:, head], theta, 0) for w in (w_q, w_k))
        np.testing.assert_allclose(q @ k.T, wanted, rtol=0, atol=1e-12)
        q, k = (ex03.rotate((x @ w)[:, head], theta, 0) for w in (w_q, w_k))
        assert np.abs(q @ k.T - wanted).max() > 0.1

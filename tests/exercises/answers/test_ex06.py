"""Exercise 6 against the package: its solutions are the package's forms, its weights those of the states."""

import numpy as np
import pytest

from exercises.answers.ex06 import CHUNK, CHUNKS, EXERCISE, WEIGHTS, retention_chunk, retention_chunks, state_weights
from refimpl import retention_chunkwise, retention_parallel

NO_ZETA = next(wrong.function for wrong in CHUNKS.wrong_answers if wrong.name == "no zeta")


def of_package(form, arguments, **more):
    """The form on one head of one batch entry."""
    q, k, v, gamma, state = arguments
    state = None if state is None else state[None, None]
    out, state = form(*(x[None, None] for x in (q, k, v)), np.array([gamma]), state, **more)
    return out[0, 0], state[0, 0]


def draw(time, key_dim, value_dim, gamma):
    random = np.random.default_rng(time)
    shapes = (time, key_dim), (time, key_dim), (time, value_dim), (key_dim, value_dim)
    q, k, v, state = (random.standard_normal(shape) for shape in shapes)
    return q, k, v, gamma, state


def assert_equal(came, wanted, tolerance=1e-12):
    for one, other in zip(came, wanted, strict=True):
        scale = np.abs(other).max(initial=1.0)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def test_the_exercise_holds_these_problems():
    assert EXERCISE.problems == (CHUNK, CHUNKS, WEIGHTS)


@pytest.mark.parametrize("gamma", [1e-12, 0.5, 31 / 32, 1.0])
@pytest.mark.parametrize("time", [1, 7, 64])
def test_a_chunk_is_the_parallel_form(time, gamma):
    arguments = draw(time, 5, 3, gamma)
    assert_equal(retention_chunk(*arguments), of_package(retention_parallel, arguments))


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 8, 64])
@pytest.mark.parametrize("time", [0, 1, 7, 16])
def test_chunks_are_the_chunkwise_form(time, chunk_size):
    arguments = draw(time, 3, 5, 31 / 32)
    wanted = of_package(retention_chunkwise, arguments, chunk_size=chunk_size)
    assert_equal(retention_chunks(*arguments, chunk_size), wanted)
    fresh = (*arguments[:4], None)
    assert_equal(retention_chunks(*fresh, chunk_size), of_package(retention_chunkwise, fresh, chunk_size=chunk_size))


@pytest.mark.parametrize(("time", "chunk_size"), [(8, 4), (9, 4), (3, 5), (5, 1), (0, 2)])
def test_weights_are_those_of_the_two_states(time, chunk_size):
    # With a key of its own for each token, row t of the state is the weight of token t.
    arguments = np.eye(time), np.eye(time), np.ones((time, 1)), 0.9, None, chunk_size
    with_zeta, without_zeta = state_weights(0.9, time, chunk_size)
    assert_equal([with_zeta], [retention_chunks(*arguments)[1][:, 0]])
    assert_equal([without_zeta], [NO_ZETA(*arguments)[1][:, 0]])


def test_the_factor_that_the_notebook_quotes():
    for gamma, factor in [(31 / 32, 1.255), (511 / 512, 1.015)]:
        with_zeta, without_zeta = (weights.sum() for weights in state_weights(gamma, 64, 16))
        assert without_zeta / with_zeta == pytest.approx(16 * (1 - gamma) / (1 - gamma**16), rel=1e-12)
        assert round(without_zeta / with_zeta, 3) == factor

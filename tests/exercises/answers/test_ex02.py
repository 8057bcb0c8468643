"""Exercise 2 against the package and against Eq. 1 as a loop."""

import numpy as np
import pytest
from one_head import assert_close, draw, of_package

from exercises.answers import ex02
from refimpl import retention_recurrent
from refimpl.family import gla_recurrent

RANDOM = np.random.default_rng(2)
Q, K, V, _, STATE = draw(9)
BASIS = RANDOM.normal(size=(3, 3)) + 2 * np.eye(3)
DECAYS = np.array([0.9, 0.5, 0.3])


def recurrence(A, state):
    """Eq. 1 as it stands."""
    out = np.zeros(V.shape)
    for n in range(len(Q)):
        state = A @ state + np.outer(K[n], V[n])
        out[n] = Q[n] @ state
    return out, state


def test_the_sum_is_the_recurrence():
    A = RANDOM.normal(size=(3, 3)) / 2
    assert_close(ex02.unrolled(Q, K, V, A, STATE), recurrence(A, STATE)[0])
    assert_close(ex02.unrolled(Q, K, V, A, None), recurrence(A, np.zeros(STATE.shape))[0])


def test_the_sum_with_one_gamma_is_the_retention_of_the_package():
    out, _ = of_package(retention_recurrent, Q, K, V, 0.8, STATE)
    assert_close(ex02.unrolled(Q, K, V, 0.8 * np.eye(3), STATE), out)


@pytest.mark.parametrize("j", [0, 1, 5])
def test_absorbing_the_basis_changes_no_score(j):
    q, k = ex02.absorb(Q, K, BASIS)
    power = np.linalg.matrix_power(BASIS @ np.diag(DECAYS) @ np.linalg.inv(BASIS), j)
    assert_close(q @ np.diag(DECAYS**j) @ k.T, Q @ power @ K.T)


def test_the_diagonal_recurrence_is_the_recurrence_with_a():
    A = BASIS @ np.diag(DECAYS) @ np.linalg.inv(BASIS)
    out, state = ex02.diagonal_recurrence(Q, K, V, BASIS, DECAYS, STATE)
    assert_close((out, state), recurrence(A, STATE))
    assert_close(out, ex02.unrolled(Q, K, V, A, STATE))


def test_the_diagonal_recurrence_in_the_basis_it_has_is_a_gate_a_channel():
    wanted = of_package(gla_recurrent, Q, K, V, np.broadcast_to(DECAYS, K.shape), STATE)
    assert_close(ex02.diagonal_recurrence(Q, K, V, np.eye(3), DECAYS, STATE), wanted)


def test_decay_and_angle_find_what_a_block_was_made_of():
    gamma, theta = RANDOM.uniform(0.1, 1.0, 20), RANDOM.uniform(0.1, 3.0, 20)
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]).transpose(2, 0, 1)
    basis = RANDOM.normal(size=(20, 2, 2)) + 2 * np.eye(2)
    found = ex02.decay_and_angle(basis @ (gamma[:, None, None] * turn) @ np.linalg.inv(basis))
    np.testing.assert_allclose(found, (gamma, theta), rtol=0, atol=1e-9)


def test_reads_to_come_are_those_of_the_memory():
    for A in (RANDOM.normal(size=(2, 2)), np.array([[0.9, 1.0], [0.0, 0.9]]), np.array([[0.0, -0.5], [0.5, 0.0]])):
        q, k = RANDOM.normal(size=(2, 2))
        reads = np.array([q @ np.linalg.matrix_power(A, j) @ k for j in range(12)])
        np.testing.assert_allclose(ex02.next_reads(reads[:4], 8), reads[4:], rtol=0, atol=1e-8 * np.abs(reads).max())

"""Exercise 1 against the oracle and the package."""

import numpy as np
import pytest
from one_head import assert_close, draw, of_package

from exercises.answers.ex01 import LOOP, replacing_step, retention_documents, retention_loop
from refimpl import retention_recurrent
from refimpl.oracle import retention_oracle


@pytest.mark.parametrize("one", LOOP.checks, ids=lambda one: one.name)
def test_solution_of_the_loop_is_the_oracle(one):
    arguments = one.inputs.values()
    wanted = of_package(retention_oracle, *arguments)
    for output, target in zip(LOOP.solution(*arguments), wanted, strict=True):
        np.testing.assert_allclose(output, target, rtol=0, atol=max(one.tolerance, 1e-12) * 10)


def test_solution_chains_and_equals_the_package():
    q, k, v, gamma, state = LOOP.checks[1].inputs.values()
    whole, end = LOOP.solution(q, k, v, gamma, state)
    first, middle = LOOP.solution(q[:1], k[:1], v[:1], gamma, state)
    second, last = LOOP.solution(q[1:], k[1:], v[1:], gamma, middle)
    assert_close((np.concatenate([first, second]), last), (whole, end), 1e-14)
    assert_close((whole, end), of_package(retention_recurrent, q, k, v, gamma, state), 1e-14)


@pytest.mark.parametrize("starts", [[], [0], [3], [0, 4], [1, 2, 7]])
@pytest.mark.parametrize("from_state", [True, False])
def test_documents_in_one_sequence_are_documents_alone(starts, from_state):
    q, k, v, gamma, state = draw(8)
    state = state if from_state else None
    first = np.isin(np.arange(8), starts).astype(float)
    outs, end = [], state
    for start, stop in zip([0, *starts], [*starts, 8], strict=True):
        piece = slice(start, stop)
        out, end = retention_loop(q[piece], k[piece], v[piece], gamma, None if start in starts else end)
        outs.append(out)
    assert_close(retention_documents(q, k, v, gamma, state, first), (np.concatenate(outs), end))


@pytest.mark.parametrize("length", [1e-200, 1e-3, 1.0, 1e200])
def test_a_replaced_value_is_read_alone_and_the_rest_of_the_memory_stays(length):
    q, k, v, gamma, state = draw(1)
    out, new = replacing_step(q[0], length * k[0], v[0], gamma, state)
    wanted = v[0] / length  # is read by the key of ordinary length, to the precision of the numbers added
    assert_close(k[0] @ new, wanted, 1e-14 * max(1.0, np.abs(wanted).max()))
    assert_close(out, q[0] @ new, 0.0)
    across = np.array([k[0, 1], -k[0, 0], 0.0])  # at a right angle to the key
    assert_close(across @ new, gamma * (across @ state), 1e-14 * max(1.0, np.abs(new).max()))


def test_a_key_of_zeros_replaces_nothing():
    q, _, v, gamma, state = draw(1)
    assert_close(replacing_step(q[0], np.zeros(3), v[0], gamma, state)[1], gamma * state, 0.0)

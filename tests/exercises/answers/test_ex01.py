"""Exercise 1 against the oracle and the package."""

import numpy as np
import pytest
from one_head import assert_close, of_package

from exercises.answers.ex01 import LOOP
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

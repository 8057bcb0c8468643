"""The gradient that goes back through the states: every number is refimpl.backward's."""

import numpy as np
import pytest
from explorables import Gradient
from explorables.node import compute

from refimpl import retention_recurrent
from refimpl.backward import retention_chunkwise_backward, retention_parallel_backward, retention_recurrent_backward

START = {"n": 6, "m": 3, "gamma": 0.8, "size": 8, "pulls": "one"}
SETTINGS = [
    {}, {"n": 1}, {"n": 8}, {"m": 1}, {"m": 8}, {"gamma": 0.5}, {"gamma": 1}, {"size": 1}, {"size": 3}, {"pulls": "all"},
    {"n": 4, "m": 4, "gamma": 0.93, "size": 4, "pulls": "all"}, {"n": 2, "m": 7, "gamma": 0.61, "size": 5},
]  # fmt: skip


def test_numbers_are_those_of_the_backward_pass():
    data = {name: np.array(part) for name, part in Gradient.course_data().items()}
    q, k, v = (data[name][None, None] for name in "qkv")
    for values, got in zip(SETTINGS, compute(Gradient, *SETTINGS), strict=True):
        n, m, gamma, size, pulls = (START | values).values()
        gammas = np.array([float(gamma)])
        grad_out = data["pull"] * (1 if pulls == "all" else np.arange(1, 9)[:, None] == n)
        backward = retention_recurrent_backward(q, k, v, gammas, grad_out[None, None])
        dq, dk, dv, before = (part[0, 0] for part in backward)
        states = [retention_recurrent(*(x[:, :, :t] for x in (q, k, v)), gammas)[1] for t in range(1, 9)]
        ends = [min(end, 8) for end in range(size, 8 + size, size)]

        def entering(t, gammas=gammas, grad_out=grad_out):
            """The gradient of the state after t tokens, from the tokens behind it: of a call that begins there."""
            behind = (x[:, :, t:] for x in (q, k, v))
            return retention_parallel_backward(*behind, gammas, grad_out[None, None, t:])[3][0, 0]

        def loss(values, gammas=gammas, grad_out=grad_out):
            return (retention_recurrent(q, k, values, gammas)[0][0, 0] * grad_out).sum()

        moved = v.copy()
        moved[0, 0, m - 1, 0] += 1
        want = {
            "out": retention_recurrent(q, k, v, gammas)[0][0, 0], "states": [state[0, 0] for state in states],
            "grad_out": grad_out, "grad_states": [entering(t) + np.outer(data["q"][t - 1], grad_out[t - 1]) for t in range(1, 9)],
            "before": before, "dq": dq, "dk": dk, "dv": dv, "loss": loss(v), "share": gamma ** (n - m) if m <= n else 0,
            "said": dv[m - 1, 0], "nudged": loss(moved) - loss(v), "ends": ends, "crossing": [entering(end) for end in ends],
        }  # fmt: skip
        assert got.pop("kept") == {"states": 8 * 3 * 2, "chunks": len(ends) * 3 * 2, "none": 3 * 2}
        assert got.keys() == want.keys()
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-12, err_msg=name)
        assert got["said"] == pytest.approx(got["nudged"], abs=1e-12)
        chunkwise = retention_chunkwise_backward(q, k, v, gammas, grad_out[None, None], chunk_size=size)
        for name, part in zip(("dq", "dk", "dv", "before"), chunkwise, strict=True):
            np.testing.assert_allclose(got[name], part[0, 0], rtol=0, atol=1e-12, err_msg=name)


def test_what_comes_after_the_output_gets_no_gradient():
    for n, got in zip(range(1, 9), compute(Gradient, *({"n": n} for n in range(1, 9))), strict=True):
        assert np.abs(got["dv"][n - 1]).min() > 0
        assert not np.any(got["dv"][n:])
        assert not np.any(got["dk"][n:])

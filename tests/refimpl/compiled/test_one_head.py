"""A reader's kernel of one head: what is said of one that is not written, does not compile, is wrong, is right."""

import numpy as np
import pytest
from numba import njit

from refimpl import retention_recurrent
from refimpl.compiled.one_head import compile_one_head, trial


def stub(q, k, v, gamma, state, chunk_size):
    raise NotImplementedError("ex11: see Eq. 7")


def recurrent(q, k, v, gamma, state, chunk_size):
    out, S = np.zeros(v.shape, v.dtype), state.copy()
    for n in range(len(q)):
        for i in range(q.shape[1]):
            for j in range(v.shape[1]):
                S[i, j] = gamma * S[i, j] + k[n, i] * v[n, j]
                out[n, j] += q[n, i] * S[i, j]
    return out, S


def without_decay(q, k, v, gamma, state, chunk_size):
    out, S = np.zeros(v.shape, v.dtype), state.copy()
    for n in range(len(q)):
        for i in range(q.shape[1]):
            for j in range(v.shape[1]):
                S[i, j] += k[n, i] * v[n, j]
                out[n, j] += q[n, i] * S[i, j]
    return out, S


def not_for_numba(q, k, v, gamma, state, chunk_size):
    return recurrent(q, k, v, gamma, state, chunk_size)  # a function of Python


def raises_an_error(q, k, v, gamma, state, chunk_size):
    return v, state[len(q) + 1000]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_heads_of_a_batch_are_computed_one_by_one(dtype):
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((2, 3, 7, width)).astype(dtype) for width in (4, 4, 5))
    state, gamma = random.standard_normal((2, 3, 4, 5)).astype(dtype), np.array([0.5, 0.9, 1.0])
    for kernel in (recurrent, njit(recurrent)):
        for before in (None, state):
            got = compile_one_head(kernel)(q, k, v, gamma, before, chunk_size=3)
            for one, wanted in zip(got, retention_recurrent(q, k, v, gamma, before), strict=True):
                assert one.dtype == dtype
                np.testing.assert_allclose(one, wanted, rtol=0, atol=1e-12 if dtype is np.float64 else 1e-5)


@pytest.mark.parametrize(
    ("kernel", "told"),
    [
        (stub, "not written yet (ex11: see Eq. 7)"),
        (not_for_numba, "Numba cannot compile it"),
        (without_decay, "it compiles, but it is no retention yet"),
        (raises_an_error, "it ends in an error: IndexError"),
        (recurrent, "checks passed"),
    ],
)
def test_a_trial_says_how_far_a_kernel_is(kernel, told):
    said = trial(kernel, rounds=1)
    assert told in said
    assert said.count("measured: ") == (3 if kernel is recurrent else 0)


@pytest.mark.parametrize("slower", [True, False])
def test_a_trial_names_causes_where_a_kernel_is_slower_than_numpy(monkeypatch, slower):
    def times(calls, rounds):
        return {name: [2.0 if (name == "yours") == slower else 1.0] for name in calls}

    monkeypatch.setattr("refimpl.compiled.one_head.time_calls", times)
    assert ("slower than NumPy" in trial(recurrent)) == slower

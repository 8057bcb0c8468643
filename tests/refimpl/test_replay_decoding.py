"""Replay decoding gives what the other forms give, keeps the contract, takes tokens back exactly, and moves the bytes it says."""

import functools
import re

import numpy as np
import pytest
import torch
from backends import BACKENDS, NUMPY, STRICT, TORCH, dtypes_of, kernel_of, name_of, on, small_model

import refimpl
from refimpl import replay
from refimpl.conformance import contract
from refimpl.conformance.problems import mixed
from refimpl.replay import ReplayState, Traffic, drop_last, drop_tokens, plain_state, replay_traffic, retention_replay

B, H, T, K, V = 2, 3, 37, 6, 5
RNG = np.random.default_rng(0)
Q, KEYS = RNG.standard_normal((2, B, H, T, K))
VALUES, STATE = RNG.standard_normal((B, H, T, V)), RNG.standard_normal((B, H, K, V))
GAMMA = np.asarray(mixed(H))


def tokens(start, stop, *arrays):
    return [x[:, :, start : min(stop, x.shape[2]), :] for x in arrays or (Q, KEYS, VALUES)]


def in_calls(q, k, v, gamma, state=None, *, length, size):
    """(out, the plain state) of calls of some tokens each, under the contract."""
    outs = [v[:, :, :0, :]]
    for start in range(0, max(q.shape[2], 1), size):
        out, state = retention_replay(*tokens(start, start + size, q, k, v), gamma, state, length=length)
        outs.append(out)
    return refimpl.retention.array_namespace(*outs).concat(outs, axis=2), plain_state(state, gamma)


def gap(got, want):
    return max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(b)), initial=0.0)) for a, b in zip(got, want, strict=True)
    )


# ---------------------------------------------------------------- against the other forms


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 100])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, T])
@pytest.mark.parametrize("state", [None, STATE], ids=["zero", "state"])
def test_replay_is_the_recurrent_form(length, size, state):
    want = refimpl.retention_recurrent(Q, KEYS, VALUES, GAMMA, state)
    got = in_calls(Q, KEYS, VALUES, GAMMA, state, length=length, size=size)
    assert gap(got, want) < 1e-12


def test_replay_is_the_step_token_by_token():
    """Each output and, written out, each state; in float32 to its rounding too, of numbers up to 50."""
    for dtype, bound in ((np.float64, 1e-12), (np.float32, 5e-5)):
        q, k, v, stepped = (x.astype(dtype) for x in (Q, KEYS, VALUES, STATE))
        replayed = stepped
        for n in range(T):
            out, replayed = retention_replay(*tokens(n, n + 1, q, k, v), GAMMA, replayed, length=5)
            want, stepped = refimpl.retention_step(*tokens(n, n + 1, q, k, v), GAMMA, stepped)
            assert gap((out, plain_state(replayed, GAMMA)), (want, stepped)) < bound
            assert out.dtype == replayed.k.dtype == replayed.state.dtype == dtype


def test_a_state_is_written_every_length_steps():
    """Between the writings the very same array is handed on; a test that it is not written."""
    state, written, kept = STATE, [], []
    for n in range(12):
        before = state.state if isinstance(state, ReplayState) else state
        _, state = retention_replay(*tokens(n, n + 1), GAMMA, state, length=4)
        written.append(state.state is not before)
        kept.append(state.k.shape[2])
    assert written == [n > 0 and n % 4 == 0 for n in range(12)]
    assert kept == [1, 2, 3, 4] * 3


def test_calls_chain_with_every_form():
    want = refimpl.retention_parallel(Q, KEYS, VALUES, GAMMA, STATE)
    out, state = refimpl.retention_chunkwise(*tokens(0, 11), GAMMA, STATE)
    outs = [out]
    for start, stop in ((11, 15), (15, 16), (16, 25)):
        out, state = retention_replay(*tokens(start, stop), GAMMA, state, length=6)
        outs.append(out)
    out, state = refimpl.retention_recurrent(*tokens(25, T), GAMMA, plain_state(state, GAMMA))
    assert gap((np.concatenate([*outs, out], axis=2), state), want) < 1e-12


CALLS = {"all": (7, 10**9), "L=1": (1, 1), "L=5": (5, 1), "threes": (5, 3)}
SHORT = {
    contract.equals_oracle,
    contract.chains,
    contract.keeps_dtypes,
}  # for calls of few tokens, of which there are many
LONGEST = ("threes", contract.chains)


@pytest.mark.parametrize("library", BACKENDS, ids=name_of)
@pytest.mark.parametrize(
    ("check", "name"),
    [
        pytest.param(check, name, id=f"{check.__name__}-{name}")
        for check in contract.CHECKS
        for name in CALLS
        if check is not contract.holds_for_long_texts and (name == "all" or check in SHORT)
    ],
)
def test_replay_keeps_the_contract(check, name, library):
    if (library is not NUMPY and name in ("L=1", "L=5")) or (library is STRICT and (name, check) == LONGEST):
        return  # takes long there; other calls of three tokens make all calls of the library
    length, size = CALLS[name]
    form = functools.partial(in_calls, length=length, size=size)
    kernel = kernel_of(form, "chunkwise C=7", library)
    if contract.CHECKS[check].declared(kernel) is None:
        for dtype in dtypes_of(check, library):
            check(kernel, dtype)


def test_halves_are_kept_as_they_come():
    """bfloat16 keys and values are kept in 16 bits; the state is float32, and nothing is rounded on the way."""
    q, k, v = (torch.from_numpy(x).bfloat16() for x in (Q, KEYS, VALUES))
    gamma = torch.from_numpy(GAMMA)
    out, state = retention_replay(q, k, v, gamma, length=50)
    assert (out.dtype, state.k.dtype, state.state.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert torch.equal(state.k, k)
    want = refimpl.retention_recurrent(q, k, v, gamma)[1]
    torch.testing.assert_close(plain_state(state, gamma), want, rtol=1e-5, atol=1e-5)


def test_a_replay_state_is_a_tree_that_jax_can_trace():
    jax = pytest.importorskip("jax")
    call, state = jax.jit(functools.partial(retention_replay, length=3)), None
    with jax.enable_x64(True):
        q, k, v, gamma = (jax.numpy.asarray(x) for x in (Q, KEYS, VALUES, GAMMA))
        for n in range(5):  # each number of tokens kept is compiled
            out, state = call(*tokens(n, n + 1, q, k, v), gamma, state)
    assert [leaf.shape for leaf in jax.tree.leaves(state)] == [(B, H, K, V), (B, H, 2, K), (B, H, 2, V)]
    want = refimpl.retention_recurrent(*tokens(0, 5), GAMMA)[0][:, :, 4:]
    assert gap((out,), (want,)) < 1e-12


# ---------------------------------------------------------------- tokens that are taken back


@pytest.mark.parametrize("library", BACKENDS, ids=name_of)
@pytest.mark.parametrize("size", [1, 4, 9])
def test_what_is_dropped_leaves_no_trace(library, size):
    """The same number from all rows, then another from each; and what is read afterwards."""
    q, k, v, gamma, state = (library.asarray(x) for x in (Q, KEYS, VALUES, GAMMA, STATE))
    _, state = refimpl.retention_recurrent(*tokens(0, 9, q, k, v), gamma, state)
    for start in range(9, 18, size):
        _, state = retention_replay(*tokens(start, min(start + size, 18), q, k, v), gamma, state, length=9)
    assert state.k.shape[2] == 9
    state = drop_last(drop_last(state, 1), library.asarray(np.array([0, 5]), "int64"))
    stops = [17, 12]
    assert [int(n) for n in state.kept] == [8, 3]
    rest = [np.stack([x[row, :, stop : stop + 10] for row, stop in enumerate(stops)]) for x in (Q, KEYS, VALUES)]
    rest = [library.asarray(x) for x in rest]
    outs = []
    for start, stop in ((0, 1), (1, 3), (3, 10)):
        out, state = retention_replay(*tokens(start, stop, *rest), gamma, state, length=9)
        outs.append(library.to_numpy(out))
        if stop == 1:
            state = drop_last(state, 0)
    got = np.concatenate(outs, axis=2), library.to_numpy(plain_state(state, gamma))
    for row, stop in enumerate(stops):
        one = slice(row, row + 1)
        want_out, want_state = refimpl.retention_recurrent(
            *(x[one, :, : stop + 10] for x in (Q, KEYS, VALUES)), GAMMA, STATE[one]
        )
        assert gap((got[0][one], got[1][one]), (want_out[:, :, stop:], want_state)) < 1e-12


def test_the_tokens_of_a_call_can_always_be_taken_back():
    """Whatever was kept before: up to L of them."""
    for before in range(8):
        for time in (1, 3, 7, 10):
            _, state = retention_replay(*tokens(0, before), GAMMA, STATE, length=7)
            _, state = retention_replay(*tokens(before, before + time), GAMMA, state, length=7)
            stop = before + time - min(time, 7)
            want = refimpl.retention_recurrent(*tokens(0, stop), GAMMA, STATE)[1]
            assert gap((plain_state(drop_last(state, min(time, 7)), GAMMA),), (want,)) < 1e-12


def test_a_dropped_token_may_have_been_no_number():
    """0 * NaN is NaN: a key or value of a dropped token must be gone and not only weigh nothing."""
    spoilt = [x.copy() for x in tokens(0, 4)]
    for x in spoilt:
        x[1, :, 3] = np.nan
    _, state = retention_replay(*spoilt, GAMMA, STATE)
    want = refimpl.retention_recurrent(*(x[1:, :, :3] for x in spoilt), GAMMA, STATE[1:])[1]
    assert gap((plain_state(drop_last(state, np.array([0, 1])), GAMMA)[1:],), (want,)) < 1e-12


@pytest.mark.parametrize("backend", [BACKENDS[0], TORCH], ids=name_of)
def test_a_model_decodes_and_takes_back(backend):
    """decode_step with it gives what it gives without; after drop_tokens the model goes on as if it had not read them."""
    params, config = small_model()
    text = np.random.default_rng(1).integers(0, 13, (2, 20))
    want, _ = refimpl.forward(params, text, config)
    params, text = on(backend, params), backend.asarray(text, "int64")
    step, state = functools.partial(retention_replay, length=4), None
    for n in range(10):
        logits, state = refimpl.decode_step(params, text[:, n], config, state, retention=step)
        assert gap((backend.to_numpy(logits),), (want[:, n],)) < 1e-10
    wrong = text[:, 10:13] * 0
    _, ahead = refimpl.forward(params, wrong, config, retention=step, state=state)
    state = drop_tokens(ahead, backend.asarray(np.array([3, 3]), "int64"))
    assert [int(n) for n in state.position] == [10, 10]
    logits, _ = refimpl.forward(params, text[:, 10:], config, retention=step, state=state)
    assert gap((backend.to_numpy(logits),), (want[:, 10:],)) < 1e-10


# ---------------------------------------------------------------- what is refused

_, KEPT = retention_replay(*tokens(0, 3), GAMMA, STATE)
ONE = tokens(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: retention_replay(*ONE, GAMMA, length=0), ValueError, "length must be at least 1, got 0"),
        (lambda: retention_replay(*ONE, GAMMA, length=2.0), TypeError, "length must be an integer, got 2.0 (float)"),
        (lambda: retention_replay(*ONE, GAMMA[:2], KEPT), ValueError, "gamma must have shape (3,)"),
        (lambda: retention_replay(*ONE, GAMMA, STATE[:1]), ValueError, "state must have shape (2, 3, 6, 5)"),
        (
            lambda: retention_replay(*ONE, GAMMA, KEPT._replace(k=KEPT.k[:, :, :2])),
            ValueError, "state.v must have shape (2, 3, 2, 5) (that of state.k, but for value_dim), got (2, 3, 3, 5)",
        ),
        (
            lambda: retention_replay(*(x.astype(np.float32) for x in ONE), GAMMA, KEPT),
            TypeError, "state must have dtype float32 when q is float32, got float64",
        ),
        (
            lambda: retention_replay(*(x.astype(np.float16) for x in ONE), GAMMA, ReplayState(*(x.astype("f") for x in KEPT[:3]))),
            TypeError, "state.k must have dtype float16 like q, got float32",
        ),
        (
            lambda: drop_last(KEPT._replace(state=KEPT.state[0]), 1),
            ValueError, "state.state must have 4 axes (batch, heads, key_dim, value_dim), got shape (3, 6, 5)",
        ),
        (
            lambda: drop_last(KEPT._replace(v=KEPT.v.astype("f")), 1),
            TypeError, "state.v must have dtype float64 like state.k, got float32",
        ),
        (lambda: retention_replay(*ONE, GAMMA, KEPT._replace(kept=2)), TypeError, "state.kept must be an array of integers"),
        (lambda: drop_last(STATE, 1), TypeError, "state must be a ReplayState that retention_replay returned, got ndarray"),
        (lambda: drop_last(KEPT, 4), ValueError, "count must be at most 3, the number of tokens that are kept, got 4"),
        (lambda: drop_last(KEPT, -1), ValueError, "count must be at least 0, got -1"),
        (lambda: drop_last(KEPT, np.array([1, 4])), ValueError, "count must lie between 0 and the number of tokens"),
        (lambda: drop_last(KEPT, np.array([1, -1])), ValueError, "got [ 1 -1] of 3"),
        (lambda: drop_last(drop_last(KEPT, np.array([0, 3])), 1), ValueError, "count must lie between 0 and the number"),
        (lambda: drop_last(KEPT, np.array([1])), ValueError, "count must have shape (2,) (one for each sequence), got (1,)"),
        (lambda: drop_last(KEPT, np.array([1.0, 2.0])), TypeError, "count must be an integer or an array of integers"),
        (lambda: plain_state(STATE, GAMMA), TypeError, "state must be a ReplayState"),
        (lambda: plain_state(KEPT, GAMMA[:2]), ValueError, "gamma must have shape (3,) (one decay for each head of state)"),
        (lambda: replay_traffic(4, 4, 0), ValueError, "length must be at least 1, got 0"),
        (lambda: replay_traffic(4, 4, 2, tokens=3), ValueError, "length must be at least tokens = 3, got 2"),
        (lambda: replay_traffic(4, 0), ValueError, "value_dim must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize(("length", "size"), [(1, 1), (4, 1), (16, 1), (7, 3), (16, 5), (5, 5)])
def test_traffic_is_what_calls_move(length, size, monkeypatch):
    """Counted from the arrays of many calls: what a call is given, keeps and writes."""
    moved, state, calls = np.zeros(2), ReplayState(STATE, KEYS[:, :, :0], VALUES[:, :, :0]), 240
    written = []
    monkeypatch.setattr(
        replay,
        "_written",
        lambda state, gamma, real=replay._written: written.append(state.k.shape[2]) or real(state, gamma),
    )
    for _ in range(calls):
        before = state
        q, k, v = tokens(0, size)
        written.clear()
        out, state = retention_replay(q, k, v, GAMMA, state, length=length)
        fold = any(written)
        moved += sum(x.nbytes for x in (q, k, v, before.state, before.k, before.v)), 0
        moved += 0, out.nbytes + k.nbytes + v.nbytes + fold * state.state.nbytes
    want = replay_traffic(K, V, length, tokens=size, itemsize=8, state_itemsize=8)
    np.testing.assert_allclose(moved / (calls * B * H), want, rtol=0.01)  # the first call has nothing before it


def test_a_step_that_writes_its_state():
    want = Traffic(read=4 * (6 * 5 + 6 + 6 + 5), written=4 * (6 * 5 + 5))
    assert replay_traffic(6, 5) == want
    half = replay_traffic(6, 5, itemsize=2)
    assert half == Traffic(4 * 30 + 2 * 17, 4 * 30 + 2 * 5)


def test_replay_saves_most_of_the_writing_of_a_wide_head():
    """K 256, V 512: of two states a step, one is left and a little; beyond some length the kept tokens cost more."""
    plain, totals = sum(replay_traffic(256, 512)), {n: sum(replay_traffic(256, 512, n)) for n in range(1, 65)}
    best = min(totals, key=totals.get)
    assert best == pytest.approx((2 * 256 * 512 / (256 + 512)) ** 0.5, abs=1)
    assert 0.5 < totals[best] / plain < 0.57
    assert round(plain / totals[16], 1) == 1.8  # as refimpl/README.md says

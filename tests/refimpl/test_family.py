"""The family of retention: every form against a literal double loop, its relations to retention, and planted bugs.

A check is a function of `family`, a module that offers the names of refimpl.family, or of `family` and the name of a
`member`; it raises AssertionError when something is wrong. Checks run on refimpl.family, which must pass, and on broken
copies of it, each of which must fail.
"""

import functools
import inspect
import re
import types
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutants import killers

import refimpl
from refimpl import family as FAMILY
from refimpl.conformance import validation
from refimpl.conformance.comparison import close, relative_rms

# ---------------------------------------------------------------- the oracles: sums as they are written


def softmax_oracle(q, k, v):
    """o_n = sum over m <= n of e^(q_n . k_m) v_m / sum over m <= n of e^(q_n . k_m)."""
    out = np.zeros(v.shape)
    for b, h, n in np.ndindex(*q.shape[:3]):
        weights = [np.exp(q[b, h, n] @ k[b, h, m]) for m in range(n + 1)]
        out[b, h, n] = sum(w * v[b, h, m] for m, w in enumerate(weights)) / sum(weights)
    return out


def linear_oracle(q, k, v, gate, state, bonus=None):
    """o_n = sum over m of q_n (gate_(m+1) ... gate_n * k_m)^T v_m, plus q_n (gate_1 ... gate_n * S_0).

    With a bonus, products end at n - 1, and bonus stands for the product at m = n. Real or complex; all (B, H, T, K),
    bonus (H, K). Products are multiplied out, one factor at a time.
    """
    (batch, heads, time, _), late = q.shape, 0 if bonus is None else 1
    out, end = np.zeros(v.shape, q.dtype), np.zeros(state.shape, q.dtype)
    for b, h in np.ndindex(batch, heads):
        for n in range(time):
            decay = np.prod(gate[b, h, : n + 1 - late], axis=0)
            out[b, h, n] = (q[b, h, n] * decay) @ state[b, h]
            for m in range(n + 1):
                decay = np.prod(gate[b, h, m + 1 : n + 1 - late], axis=0)
                if bonus is not None and m == n:
                    decay = bonus[h]
                out[b, h, n] += (q[b, h, n] * decay) @ k[b, h, m] * v[b, h, m]
        end[b, h] = np.prod(gate[b, h], axis=0)[:, None] * state[b, h]
        for m in range(time):
            end[b, h] += np.outer(np.prod(gate[b, h, m + 1 :], axis=0) * k[b, h, m], v[b, h, m])
    return out, end


# ---------------------------------------------------------------- the members and their problems


def scan(step):
    """A whole-sequence form made of one-token steps; without a token, k and v are the cache."""

    def form(q, k, v, state=None):
        outs = [v[:, :, :0]]
        for n in range(q.shape[2]):
            out, state = step(q[:, :, n : n + 1], k[:, :, n : n + 1], v[:, :, n : n + 1], state)
            outs.append(out)
        return np.concatenate(outs, axis=2), (k, v) if state is None else state

    return form


def forms(module, member):
    """The parallel and the recurrent form of a member."""
    if member == "softmax_attention":
        return module.softmax_attention, scan(module.softmax_attention_step)
    return getattr(module, f"{member}_parallel"), getattr(module, f"{member}_recurrent")


MEMBERS = ("softmax_attention", "linear_attention", "gated_retention", "gla", "rwkv", "diagonal_ssm")


@dataclass(frozen=True)
class Problem:
    """A member, its arguments and a state before; a state of None means what it means for the member."""

    member: str
    arguments: tuple
    state: object

    def part(self, start, stop):
        """The arguments of tokens start ... stop; those of 2 axes are the same for all tokens."""
        return tuple(x if x.ndim == 2 else x[:, :, start:stop] for x in self.arguments)

    @property
    def time(self):
        return next(x for x in self.arguments if x.ndim == 4).shape[2]

    @functools.cached_property
    def answer(self):
        """(out, state) by the oracles."""
        if self.member == "softmax_attention":
            q, *kv = self.arguments
            cache = kv if self.state is None else [np.concatenate(x, axis=2) for x in zip(self.state, kv, strict=True)]
            past = cache[0].shape[2] - q.shape[2]
            asked = np.concatenate([np.zeros((*q.shape[:2], past, q.shape[3])), q], axis=2)
            return softmax_oracle(asked, *cache)[:, :, past:], tuple(cache)
        q, k, v, *gates = self.arguments
        bonus = None
        if self.member == "linear_attention":
            gate = np.ones(q.shape)
        elif self.member == "gated_retention":
            gate = gates[0][..., None] * np.ones(q.shape)
        elif self.member == "diagonal_ssm":
            constant = np.ones((*v.shape[:3], q.shape[1]))
            q, k, gate = (x[:, None, :] * constant for x in (q, k, *gates))
        else:
            gate, bonus = gates[0], (gates[1] if self.member == "rwkv" else None)
        state = np.zeros((*q.shape[:2], q.shape[3], v.shape[3])) if self.state is None else self.state
        out, end = linear_oracle(q, k, v, gate, state, bonus)
        return out.real, end


@functools.cache  # each mutant meets the same problems
def problem(member, batch=2, heads=3, time=13, key_dim=4, value_dim=5, seed=0, lowest=1e-3, past=3):
    """A seeded problem with gates from `lowest` to 1; past = 0 means no state, else the length of a cache."""
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, batch, heads, time, key_dim))
    v = rng.standard_normal((batch, heads, time, value_dim))
    state = rng.standard_normal((batch, heads, key_dim, value_dim))
    gate, bonus = rng.uniform(lowest, 1.0, q.shape), rng.standard_normal((heads, key_dim))
    arguments = {
        "softmax_attention": (q, k, v),
        "linear_attention": (q, k, v),
        "gated_retention": (q, k, v, gate[..., 0]),
        "gla": (q, k, v, gate),
        "rwkv": (q, k, v, gate, bonus),
    }
    if member == "diagonal_ssm":
        c, b = rng.standard_normal((2, heads, key_dim)) + 1j * rng.standard_normal((2, heads, key_dim))
        turn = np.exp(1j * rng.uniform(-np.pi, np.pi, (heads, key_dim)))
        arguments[member] = (c, b, v, rng.uniform(lowest, 1.0, (heads, key_dim)) * turn)
        state = state + 1j * rng.standard_normal(state.shape)
    if member == "softmax_attention":
        state = tuple(rng.standard_normal((batch, heads, past, width)) for width in (key_dim, value_dim))
    return Problem(member, arguments[member], state if past else None)


@st.composite
def problems(draw, member):
    """Any small problem: lengths from 0, widths from 1, slow and fast decays, with and without a state."""
    sizes = [draw(st.integers(low, high)) for low, high in ((1, 2), (1, 3), (0, 12), (1, 4), (1, 4))]
    lowest = draw(st.sampled_from([1e-3, 0.5, 1.0]))
    return problem(member, *sizes, seed=draw(st.integers(0, 99)), lowest=lowest, past=draw(st.integers(0, 3)))


def parts(state):
    """The arrays of a state."""
    return state if isinstance(state, tuple) else (state,)


def same(got, want, tolerance=1e-10):
    """Both (out, state) pairs within tolerance."""
    close(got[0], want[0], tolerance)
    for part, other in zip(parts(got[1]), parts(want[1]), strict=True):
        close(part, other, tolerance)


def array(*numbers, axes=4):
    """Numbers along time: (1, 1, T, 1), (1, 1, T) or, for axes = 2, (1, K)."""
    return np.array(numbers).reshape({4: (1, 1, -1, 1), 3: (1, 1, -1), 2: (1, -1)}[axes])


# ---------------------------------------------------------------- checks of each member


def equals_oracle(family, member):
    """Both forms, within 1e-10, on a text and on a first token: so they equal each other."""
    _equal_oracle(family, problem(member))
    _equal_oracle(family, problem(member, time=1, past=0))


def _equal_oracle(family, case):
    for form in forms(family, case.member):
        same(form(*case.arguments, state=case.state), case.answer)


def chains(family, member):
    """Two calls, the second from the state of the first, are one: at every split and in every mix of forms."""
    case = problem(member)
    for first in forms(family, member):
        for second in forms(family, member):
            for split in range(case.time + 1):
                out, state = first(*case.part(0, split), state=case.state)
                rest, state = second(*case.part(split, case.time), state=state)
                same((np.concatenate([out, rest], axis=2), state), case.answer)


def empty_sequence_keeps_state(family, member):
    """T = 0: nothing comes out; the state that went in does, as a copy, or that of no past."""
    case, fresh = problem(member, time=0), problem(member, time=0, past=0)
    for form in forms(family, member)[: 1 if member == "softmax_attention" else 2]:
        out, state = form(*case.arguments, state=case.state)
        assert out.shape == (2, 3, 0, 5)
        for got, given_one in zip(parts(state), parts(case.state), strict=True):
            assert np.array_equal(got, given_one)
            assert not np.shares_memory(got, given_one)
        out, state = form(*fresh.arguments)
        assert out.shape == (2, 3, 0, 5)
        widths = [(0, 4), (0, 5)] if member == "softmax_attention" else [(4, 5)]
        assert [part.shape for part in parts(state)] == [(2, 3, *width) for width in widths]
        assert not any(part.any() for part in parts(state))


def keeps_dtypes(family, member):
    """out has v's dtype, the state float64's or float32's width; float32 is right to 1e-6, float16 to its rounding."""
    case, complex_state = problem(member, past=0), member == "diagonal_ssm"
    for dtype, real, bound in (
        ("float64", "float64", 1e-14),
        ("float32", "float32", 1e-6),
        ("float16", "float32", 4e-4),
    ):
        wide = np.result_type(real, np.complex64) if complex_state else np.dtype(real)
        # q, k and v of tokens are rounded; gates and what is constant in time stay as they are.
        narrow = tuple(x.astype(dtype) if i < 3 and x.ndim == 4 else x for i, x in enumerate(case.arguments))
        want, end = Problem(member, tuple(x.astype(np.result_type(x, float)) for x in narrow), None).answer
        for form in forms(family, member):
            _, state = form(*Problem(member, narrow, None).part(0, 6))
            assert all(part.dtype == wide for part in parts(state))
            out, state = form(*Problem(member, narrow, None).part(6, 13), state=state)
            assert out.dtype == dtype
            assert relative_rms(out.astype(float), want[:, :, 6:]) < bound
            for got, other in zip(parts(state), parts(end), strict=True):
                assert got.dtype == wide
                assert np.max(np.abs(got - other)) < (1e-13 if real == "float64" else 1e-5)


def gates_may_be_float32(family, member):
    """Gates of float32 are their own float64 values, exactly, where q is float64."""
    case = problem(member)
    q, k, v, *gates = case.arguments
    single = [x.astype(np.complex64 if x.dtype == complex else np.float32) for x in gates]
    double = [x.astype(gate.dtype) for x, gate in zip(single, gates, strict=True)]
    for form in forms(family, member):
        same(form(q, k, v, *single, state=case.state), form(q, k, v, *double, state=case.state), 1e-14)


def leaves_inputs_alone(family, member):
    """No argument is written to, and no result shares memory with one."""
    case = problem(member)
    before = [x.copy() for x in (*case.arguments, *parts(case.state))]
    for form in forms(family, member):
        out, state = form(*case.arguments, state=case.state)
        for x, old in zip((*case.arguments, *parts(case.state)), before, strict=True):
            assert np.array_equal(x, old)
            assert not any(np.shares_memory(x, got) for got in (out, *parts(state)))


def survives_fast_and_long(family, member):
    """600 tokens that forget 999 parts of 1,000, where gate^-600 is 10^1800: no overflow, no NaN, the forms agree."""
    case = problem(member, 1, 2, 600, 2, 3, lowest=1e-3)
    gates = [np.full_like(x, 1e-3) if i == 3 else x for i, x in enumerate(case.arguments)]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        (out, state), other = (form(*gates, state=case.state) for form in forms(family, member))
    assert np.isfinite(out).all()
    same((out, state), other)


ONES, EIGHT = array(1.0, 1.0, 1.0), np.full((1, 1, 1, 1), 8.0)
RISING, TENS = array(0.125, 0.25, 0.5), np.array([[[[1.0, 10.0]] * 2]])
IMPULSE, KEYS = np.tile(array(1.0, 0.0, 0.0, 0.0), (1, 2, 1, 1)), array(0.0, np.log(3))
BY_HAND = {  # member: (arguments, S_0, (out, state after))
    # Scores 0 and log 3 weigh 1/4 and 3/4 of values 1 and 5: 1, then 4.
    "softmax_attention": ((array(1.0, 1.0), KEYS, array(1.0, 5.0)), None, (array(1.0, 4.0), (KEYS, array(1.0, 5.0)))),
    "linear_attention": ((ONES, ONES, ONES), EIGHT, (array(9.0, 10.0, 11.0), array(11.0))),
    # Gates 1/8, 1/2, 1/4 from S_0 = 8: S = 2, then 2, then 3/2.
    "gated_retention": ((ONES, ONES, ONES, array(0.125, 0.5, 0.25, axes=3)), EIGHT, (array(2.0, 2.0, 1.5), array(1.5))),
    # Channels of gates 1/2 and 1/4, k = (1, 1), v = 1 then 2, q = (1, 10): 11, then 2 + 1/2 + 10 (2 + 1/4) = 25.
    "gla": (
        (TENS, TENS**0, array(1.0, 2.0), np.array([[[[0.9, 0.9], [0.5, 0.25]]]])),
        None,
        (array(11.0, 25.0), array(2.5, 2.25)),
    ),
    # Gates 1/8, 1/4, 1/2, bonus 3, S_0 = 8: o = 8 + 3, S = 2; o = 2 + 3, S = 3/2; o = 3/2 + 3, S = 7/4.
    "rwkv": ((ONES, ONES, ONES, RISING, array(3.0, axes=2)), EIGHT, (array(11.0, 5.0, 4.5), array(1.75))),
    # An impulse through the gate i/2 is 1, i/2, -1/4, -i/8; q = 1 reads the real, q = -i the imaginary part.
    "diagonal_ssm": (
        (np.array([[1.0 + 0j], [-1j]]), np.ones((2, 1)), IMPULSE, np.full((2, 1), 0.5j)),
        None,
        (np.array([[1, 0, -0.25, 0], [0, 0.5, 0, -0.125]])[None, :, :, None], np.full((1, 2, 1, 1), -0.125j)),
    ),
}


def equals_numbers_by_hand(family, member):
    arguments, state, want = BY_HAND[member]
    for form in forms(family, member):
        same(form(*arguments, state=state), want, 1e-14 if member in ("gla", "rwkv") else 1e-15)


# ---------------------------------------------------------------- checks of the family: ties between members, costs


def large_scores_do_not_overflow(family):
    for form in forms(family, "softmax_attention"):
        out, _ = form(array(1000.0, 1000.0, -1000.0), array(0.0, 1.0, 2.0), array(7.0, 8.0, 9.0))
        assert out.ravel().tolist() == [7, 8, 7]


def discretised_by_hand(family):
    """a = -log 2 and 0, step 1: gate 1/2 and 1, k = b / 2 / log 2 and b. Two half steps of a held input are one."""
    gate, k = family.discretise(np.array([[-np.log(2), 0.0]]), np.array([[4.0, 4.0]]), np.array([1.0]))
    close(gate, np.array([[0.5, 1.0]]) + 0j, 1e-15)
    close(k, np.array([[2 / np.log(2), 4.0]]) + 0j, 1e-14)
    a, b = np.array([[-0.5 + 3j, -0.5 + 6j, -1e-12]]), np.array([[1.0, 2j, 3.0]])
    gate, k = family.discretise(a, b, np.array([0.1]))
    half, k_half = family.discretise(a, b, np.array([0.05]))
    close(half**2, gate, 1e-15)
    close(half * k_half + k_half, k, 1e-15)


def sums_keep_their_digits(family):
    """After 300 gates of 1e-300, gates of 0.999 still count exactly: no difference of two sums of 2e5 is taken."""
    gate = array(*[1e-300] * 300, *[0.999] * 20, axes=3)
    one = np.ones((1, 1, 320, 1))
    (out, _), (other, _) = (form(one, one, one, gate) for form in forms(family, "gated_retention"))
    close(out, other, 1e-13)


def linear_attention_normalises_by_a_column_of_ones(family):
    """Of features phi = 1 + elu, [v, 1] gives numerator and normaliser of arXiv:2006.16236."""
    q, k, v = problem("linear_attention").arguments
    phi_q, phi_k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (q, k))
    want = np.zeros(v.shape)
    for b, h, n in np.ndindex(*v.shape[:3]):
        weights = np.array([phi_q[b, h, n] @ phi_k[b, h, m] for m in range(n + 1)])
        want[b, h, n] = weights @ v[b, h, : n + 1] / weights.sum()
    for form in forms(family, "linear_attention"):
        out, _ = form(phi_q, phi_k, np.concatenate([v, np.ones((*v.shape[:3], 1))], axis=3))
        close(out[..., :-1] / out[..., -1:], want)


def simpler_gates_make_simpler_members(family):
    """Linear attention is retention of gamma = 1, gated retention of a constant gate is retention, and GLA whose
    channels share a gate is gated retention.
    """
    case, gamma = problem("gated_retention"), np.array([0.3, 0.9, 1.0])
    (q, k, v, gate), state = case.arguments, case.state
    for member, gates, want in (
        ("linear_attention", (), refimpl.retention_parallel(q, k, v, np.ones(3), state)),
        ("gated_retention", (gamma[:, None] * np.ones(gate.shape),), refimpl.retention_parallel(q, k, v, gamma, state)),
        ("gla", (gate[..., None] * np.ones(q.shape),), case.answer),
    ):
        for form in forms(family, member):
            same(form(q, k, v, *gates, state), want)


def rwkv_is_retention_read_before_the_write(family):
    """Of one constant gate gamma, the states are those of retention, and the outputs:

    bonus 1 / gamma: gamma o_n is retention's output. No bonus: gamma o_n is retention's less (q_n . k_n) v_n.
    """
    case, gamma = problem("rwkv"), np.array([0.3, 0.9, 1.0])
    q, k, v, *_ = case.arguments
    decay = gamma[:, None, None]
    gate, none = decay * np.ones(q.shape), np.zeros((3, 4))
    retained = refimpl.retention_parallel(q, k, v, gamma, case.state)
    itself = np.sum(q * k, axis=-1, keepdims=True) * v
    for form in forms(family, "rwkv"):
        out, state = form(q, k, v, gate, none + 1 / gamma[:, None], case.state)
        same((decay * out, state), retained)
        out, state = form(q, k, v, gate, none, case.state)
        same((decay * out, state), (retained[0] - itself, retained[1]))


def rwkv_shifted_is_gla(family):
    """Of any gates: the state is GLA's; with no bonus and every q asked one token early, so is the output."""
    q, k, v, gate, bonus = problem("rwkv").arguments
    state = problem("rwkv").state
    want, end = family.gla_recurrent(np.roll(q, -1, axis=2), k, v, gate, state)
    for form in forms(family, "rwkv"):
        out, after = form(q, k, v, gate, 0 * bonus, state)
        close(out[:, :, :1], q[:, :, :1] @ state)
        close(out[:, :, 1:], want[:, :, :-1])
        close(after, end)


def diagonal_ssm_is_retention_of_rotated_constants(family):
    """Gates gamma e^(i theta): C as q and conj(B) as k, the same for all tokens, in pairs (real, imaginary), rotated.

    Positions count from 1, so that n is how many tokens the state has seen. Retention turns q and k and leaves the
    state still; the SSM turns its state: S_n = e^(i n theta) conj(R_n), R_n being retention's in complex numbers.
    """
    rng, (batch, heads, time, pairs, value_dim) = np.random.default_rng(4), (2, 3, 9, 2, 5)
    gamma, theta = np.array([0.5, 0.9, 1.0]), np.array([0.3, 2.0])
    c, b = rng.standard_normal((2, heads, pairs)) + 1j * rng.standard_normal((2, heads, pairs))
    v = rng.standard_normal((batch, heads, time, value_dim))
    r_0 = rng.standard_normal((batch, heads, 2 * pairs, value_dim))

    def as_tokens(x):
        """(H, K/2) complex to (B, H, T, K) real: pairs of neighbours, turned by the position."""
        flat = np.stack([x.real, x.imag], axis=-1).reshape(heads, 1, 2 * pairs)
        return refimpl.rotate(np.broadcast_to(flat, (batch, heads, time, 2 * pairs)), offset=1, ladder=theta)

    retained, r_n = refimpl.retention_parallel(as_tokens(c), as_tokens(b.conj()), v, gamma, r_0)
    s_0, s_n = (r[:, :, 0::2] - 1j * r[:, :, 1::2] for r in (r_0, r_n))
    want = retained, np.exp(1j * time * theta)[:, None] * s_n
    gate = gamma[:, None] * np.exp(1j * theta)
    for form in forms(family, "diagonal_ssm"):
        same(form(c, b, v, gate, s_0), want)
        # And both are Eq. 3 of arXiv:2307.08621v4, for so few tokens that gate^-m is no trouble.
        n = np.arange(1, time + 1)[:, None]
        left, right = c[:, None] * gate[:, None] ** n, b[:, None] * gate[:, None] ** -n.astype(float)
        close(form(c, b, v, gate)[0], (np.tril(left @ right.mT) @ v).real)


def real_gates_need_no_complex_numbers(family):
    """A diagonal SSM of real q, k and gate is GLA of constants, S4D-Real: its state has no imaginary part."""
    rng = np.random.default_rng(5)
    (c, b), gate = rng.standard_normal((2, 3, 4)), rng.uniform(0.1, 1.0, (3, 4))
    v = rng.standard_normal((2, 3, 11, 5))
    tokens = [x[:, None, :] * np.ones((2, 3, 11, 4)) for x in (c, b)]
    want = family.gla_recurrent(*tokens, v, gate[:, None, :] * np.ones((2, 3, 11, 4)))
    for form in forms(family, "diagonal_ssm"):
        same(form(c, b, v, gate), want)


def softmax_attention_is_that_of_torch(family):
    q, k, v = problem("softmax_attention").arguments
    attend = functools.partial(torch.nn.functional.scaled_dot_product_attention, is_causal=True, scale=1.0)
    want = attend(*(torch.from_numpy(x) for x in (q, k, v))).numpy()
    for form in forms(family, "softmax_attention"):
        close(form(q, k, v)[0], want)


class Counted(np.ndarray):
    """An array that counts the multiplications of real numbers done with it."""

    __module__ = "numpy"  # validation asks whose array it is
    total = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        plain = [np.asarray(x) for x in inputs]
        result = getattr(ufunc, method)(*plain, **kwargs | ({} if out is None else {"out": out}))
        if ufunc in (np.multiply, np.matmul):
            inner = plain[0].shape[-1] if ufunc is np.matmul else 1
            Counted.total += result.size * inner * np.prod([1 + np.iscomplexobj(x) for x in plain])
        return result.view(Counted)

    def __array_function__(self, function, types, args, kwargs):
        result = super().__array_function__(function, types, args, kwargs)
        return result.view(Counted) if isinstance(result, np.ndarray) else result  # broadcast_to would forget


def sizes_and_costs_are_as_stated(family):
    """What is kept is counted in the arrays, multiplications while token number 9 is done; B = H = 1, K = 4, V = 5."""
    stated = family.costs(9, 4, 5)
    assert set(stated) == {*MEMBERS, "retention"}
    for member in MEMBERS:
        case = problem(member, 1, 1, 9, past=0)
        recurrent = forms(family, member)[1]
        _, state = recurrent(*case.part(0, 8))
        Counted.total = 0
        _, state = recurrent(*(x.view(Counted) for x in case.part(8, 9)), state=state)
        numbers = sum(part.size * (1 + np.iscomplexobj(part)) for part in parts(state))
        assert (numbers, Counted.total) == stated[member], member
    one = np.ones((1, 1, 1, 4)), np.ones((1, 1, 1, 4)), np.ones((1, 1, 1, 5))
    assert refimpl.retention_step(*one, np.ones(1))[1].size == stated["retention"][0]
    assert stated["retention"] == stated["gated_retention"]


def equals_oracle_drawn(family, member):
    """Both forms, on whatever hypothesis draws. It takes longest, so it is the last."""

    @given(problems(member))
    def check(case):
        _equal_oracle(family, case)

    check()


def every_check(module):
    """(kind, label, call) of every check, known by its arguments, bound to a module."""
    for name, check in list(globals().items()):
        parameters = [*inspect.signature(check).parameters] if inspect.isfunction(check) else []
        if parameters == ["family"]:
            yield "family", name, functools.partial(check, module)
        elif parameters == ["family", "member"]:
            for member in MEMBERS:
                yield "member", f"{name} {member}", functools.partial(check, module, member)


@pytest.mark.parametrize("check", [pytest.param(call, id=label) for _, label, call in every_check(FAMILY)])
def test_family(check):
    check()


# ---------------------------------------------------------------- mutants: bugs on purpose, each of which must fail

MUTANTS = {  # name: (what stands in family.py, what the mutant has instead)
    "linear attention's mask is strict": ("np.tril(q @ k.mT) @ v", "np.tril(q @ k.mT, -1) @ v"),
    "linear attention sees the future": ("np.tril(q @ k.mT) @ v", "(q @ k.mT) @ v"),
    "linear attention forgets its state": ("k.mT @ v + state", "k.mT @ v"),
    "softmax's mask is strict": ("k=total - time)", "k=total - time - (total > time))"),
    "softmax's mask ignores the cache": ("k=total - time)", "k=0)"),
    "softmax overflows": ("np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))", "np.exp(scores)"),
    "softmax subtracts the largest score of all": ("scores.max(axis=-1, keepdims=True, ", "scores.max("),
    "the cache keeps the new token alone": ("return q, np.concatenate([state[0], k], axis=2), np.concatenate([state[1], v], axis=2), dtype", "return q, k, v, dtype"),
    "the cache holds the newest first": ("np.concatenate([state[1], v], axis=2), dtype", "np.concatenate([v, state[1]], axis=2), dtype"),
    "decay counts the token's own gate": ("np.broadcast_to(logs, (*gate.shape[:-1], rows, rows)), -1)", "np.broadcast_to(logs, (*gate.shape[:-1], rows, rows)))"),
    "decay is not causal": ("return np.tril(np.exp(sums))", "return np.exp(sums)"),
    "logarithms are as narrow as the gates": ("np.log(gate, dtype=np.float64)", "np.log(gate)"),
    "decay is a difference of running sums": (
        "sums = np.cumsum(np.tril(np.broadcast_to(logs, (*gate.shape[:-1], rows, rows)), -1), axis=-2)",
        "sums = np.cumsum(logs, axis=-2); sums = np.tril(sums - sums.mT)",
    ),
    "decay is a quotient of running products": (
        "return np.tril(np.exp(sums))",
        "run = np.exp(np.cumsum(logs, axis=-2)); return np.tril(run / run.mT)",
    ),
    "decay overflows above the diagonal": (
        "return np.tril(np.exp(sums))",
        "run = np.cumsum(logs, axis=-2); return np.exp(run - run.mT) * np.tril(np.ones((rows, rows)))",
    ),
    "xi is missing": ("(q @ state) * xi", "(q @ state)"),
    "zeta is missing": ("(v * zeta)", "v"),
    "zeta of channels is missing": ("(k * zeta).mT", "k.mT"),
    "the old state does not decay": ("whole[..., None] * state", "state"),
    "GLA uses one channel's gates for all": ("_channel_scores(q, k, kept[..., 1:, 1:]) @ v", "_channel_scores(q, k, kept[:, :, :1, 1:, 1:]) @ v"),
    "RWKV reads after the write": ("kept_before = kept[..., :-1, :]", "kept_before = kept[..., 1:, :]"),
    "RWKV has no bonus": ("+ itself[..., None] * np.eye(q.shape[2], dtype=q.dtype)", ""),
    "RWKV's bonus is of every head the first": ("bonus[:, None, :]", "bonus[:1, None, :]"),
    "the recurrence has no bonus": ("before + bonus[:, :, None] * new", "before"),
    "the bonus comes on top of the write": ("before + bonus[:, :, None] * new", "state + bonus[:, :, None] * new"),
    "the recurrence reads before the write": ("seen = state if", "seen = before if"),
    "the recurrence decays the new token": (
        "state = new + (before if gate is None else gate[token].astype(q.dtype, copy=False).mT * before)",
        "state = new + before if gate is None else gate[token].astype(q.dtype, copy=False).mT * (new + before)",
    ),
    "the recurrence uses the gate of token 0": ("gate[token].astype", "gate[:, :, :1].astype"),
    "the FFT goes round the circle": ("padded = 2 * time + 1", "padded = time + 1"),
    "the kernel starts at the first power": ("@ powers[..., :time]).real", "@ powers[..., 1:]).real"),
    "the kernel drops the phase": ("kernel = ((q * k)[:, None, :] @ powers[..., :time]).real", "kernel = (q * k)[:, None, :].real @ np.abs(powers[..., :time])"),
    "the SSM's state enters a token late": ("powers[..., 1:]).mT @ state", "powers[..., :-1]).mT @ state"),
    "the SSM's state is not turned round": ("[..., ::-1]", ""),
    "Euler's step for the exact one": ("hold = np.divide(np.expm1(step * a), a, out=step + 0 * a, where=a != 0)", "hold = step + 0 * a"),
    "halves are computed in halves": ("wide = accumulation_dtype(np, v.dtype)", "wide = v.dtype"),
    "the caller's state is handed back": ("is None else state.copy()\n", "is None else state\n"),
    "the table forgets that complex numbers are two": ("(2 * cells, 10 * cells)", "(cells, 10 * cells)"),
}  # fmt: skip


def mutated(name):
    """refimpl.family with one edit, as a module of its own."""
    old, new = MUTANTS[name]
    source = inspect.getsource(FAMILY)
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in family.py"
    module = types.ModuleType("refimpl.family_mutant")
    module.__package__ = "refimpl"
    exec(compile(source.replace(old, new), name, "exec"), vars(module))
    return module


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_killed(name):
    """By an assertion, or by an overflow where none may be."""
    failures = AssertionError, FloatingPointError
    found, crashed = killers(every_check(mutated(name)), one_is_enough=True, failures=failures)
    assert found, f"nothing sees that {name}; crashes: {crashed}"


# ---------------------------------------------------------------- refusals

Q, V = np.ones((2, 3, 5, 4)), np.ones((2, 3, 5, 6))
C = np.ones((3, 4))
Q_1, V_1 = Q[:, :, :1], V[:, :, :1]
STATE = np.zeros((2, 3, 4, 6))
OF_CACHE = "(the tokens before, else as q and v)"
OF_STATE = "(batch, heads, key_dim, value_dim)"
OF_K = "(heads of v, key_dim of q: the same for all tokens)"


def with_value(shape, index, value):
    """Ones but for one element."""
    x = np.ones(shape)
    x[index] = value
    return x


VALUE_ERRORS = {  # function: (arguments, message)
    "gated_retention_parallel": [
        ((Q[0], Q, V, Q[..., 0]), "q must have 4 axes (batch, heads, time, key_dim), got shape (3, 5, 4)"),
        ((Q, Q, V, with_value((2, 3, 5), (0, 2, 4), 1.5)), "gate must lie in (0, 1], got 1.5 at index (0, 2, 4)"),
    ],
    "gated_retention_recurrent": [
        ((Q, Q, V, Q), "gate must have shape (2, 3, 5) (batch, heads and time of q), got (2, 3, 5, 4)"),
    ],
    "gla_parallel": [
        ((Q, Q[:, :, 1:], V, Q), "k must have shape (2, 3, 5, 4) (that of q), got (2, 3, 4, 4)"),
        ((Q, Q, V, Q[..., 0]), "gate must have shape (2, 3, 5, 4) (that of q), got (2, 3, 5)"),
    ],
    "gla_recurrent": [
        ((Q, Q, V, with_value(Q.shape, (1, 0, 0, 3), 0.0)), "gate must lie in (0, 1], got 0 at index (1, 0, 0, 3)"),
    ],
    "rwkv_parallel": [
        ((Q, Q, V, Q, C, STATE.mT), f"state must have shape (2, 3, 4, 6) {OF_STATE}, got (2, 3, 6, 4)"),
        ((Q, Q, V, Q, C[:1]), "bonus must have shape (3, 4) (heads and key_dim of q), got (1, 4)"),
    ],
    "rwkv_recurrent": [
        (
            (Q, Q, V, with_value(Q.shape, (0, 0, 1, 0), np.nan), C),
            "gate must lie in (0, 1], got nan at index (0, 0, 1, 0)",
        ),
    ],
    "softmax_attention": [
        ((Q, Q, V, (V, V)), f"keys must have shape (2, 3, 5, 4) {OF_CACHE}, got (2, 3, 5, 6)"),
        ((Q, Q, V, (Q[0], V)), f"keys must have shape (2, 3, 'past', 4) {OF_CACHE}, got (3, 5, 4)"),
    ],
    "softmax_attention_step": [
        ((Q, Q, V), "q must hold one token (time = 1; take q[:, :, n : n + 1]), got time = 5"),
        ((Q_1, Q_1, V_1, (Q, V[:, :, 1:])), f"values must have shape (2, 3, 5, 6) {OF_CACHE}, got (2, 3, 4, 6)"),
    ],
    "diagonal_ssm_parallel": [
        ((Q, C, V, C), "q must have 2 axes (heads, key_dim), got shape (2, 3, 5, 4)"),
        (
            (C, C, V, 1j * with_value((3, 4), (1, 2), 1.25)),
            "gate must have modulus in (0, 1], got 1.25 at index (1, 2)",
        ),
    ],
    "diagonal_ssm_recurrent": [
        ((C, C[:2], V, C), f"k must have shape (3, 4) {OF_K}, got (2, 4)"),
        ((C, C, V[0, 0], C), "v must have 4 axes (batch, heads, time, value_dim), got shape (5, 6)"),
    ],
    "discretise": [
        ((with_value((3, 4), (0, 0), 2.0) - 1, C, np.ones(3)), "a must have a real part of at most 0, got 1"),
        ((-C, C, np.array([1.0, 0.0, 1.0])), "step must be positive, got 0"),
        ((-C, C, np.ones(1)), "step must have shape (3,) (one step for each head of a), got (1,)"),
    ],
    "costs": [((0, 4, 6), "time must be at least 1, got 0")],
}
FLOATS = "float16, bfloat16, float32, float64"
TYPE_ERRORS = {
    "linear_attention_parallel": [(([[1.0]], Q, V), "q must be a NumPy array, got list")],
    "linear_attention_recurrent": [((Q, Q, torch.ones(2, 3, 5, 6)), "v must be a NumPy array, got Tensor")],
    "gated_retention_parallel": [((Q, Q, V, 0.9), "gate must be a NumPy array, got float")],
    "gla_parallel": [((Q, Q, V, Q.astype(np.float16)), "gate must be float32 or float64, got float16")],
    "gla_recurrent": [
        ((Q, Q, V, Q, np.float32(STATE)), "state must have dtype float64 when q is float64, got float32"),
    ],
    "rwkv_recurrent": [((Q, Q, V, Q, C.astype(int)), f"bonus must have dtype {FLOATS}, got int64")],
    "softmax_attention": [
        ((Q, Q, np.float32(V)), "v must have dtype float64 like q, got float32"),
        ((Q, Q, V, STATE), "state must be a pair (keys, values) or None, got ndarray"),
        ((Q, Q, V, (Q, np.float32(V))), "values must have dtype float64 when q is float64, got float32"),
    ],
    "diagonal_ssm_parallel": [
        ((C, C, V, C.astype(int)), "gate must have a real floating or complex dtype, got int64"),
        ((C, C, V, C, STATE), "state must have dtype complex128 when v is float64, got float64"),
    ],
    "diagonal_ssm_recurrent": [((C, C, V + 0j, C), f"v must have dtype {FLOATS}, got complex128")],
}
REFUSALS = validation.refusals(ValueError, VALUE_ERRORS) + validation.refusals(TypeError, TYPE_ERRORS)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{refusal.function}: {refusal.message}")
def test_family_refuses(refusal):
    call = functools.partial(getattr(FAMILY, refusal.function), *refusal.changes)
    validation.refused(call, refusal.error, refusal.message)


def test_a_modulus_of_one_may_be_rounded_up():
    """e^(i theta) is accepted in both widths, though its modulus may come out as 1 + eps."""
    for dtype in (np.complex64, np.complex128):
        gate = np.exp(1j * np.linspace(0, 3, 12)).astype(dtype).reshape(3, 4)
        out, state = FAMILY.diagonal_ssm_parallel(C, C, V, gate)
        assert np.isfinite(out).all()
        assert np.isfinite(state).all()


@pytest.mark.parametrize(
    "member", [name for name in vars(FAMILY) if name.endswith(("_parallel", "_recurrent", "_attention", "_step"))]
)
def test_each_relative_is_short_and_names_its_source(member):
    """Side by side in a lesson: at most 25 lines without the docstring, which names the paper; the module names the model."""
    function = getattr(FAMILY, member)
    lines = inspect.getsource(function).replace(function.__doc__, "").splitlines()
    assert len(lines) <= 25
    (source, *_) = re.findall(r"\d{4}\.\d{5}", function.__doc__) or [
        "1706.03762"
    ]  # of the step, which refers to the whole
    assert re.search(rf"\w+, (arXiv:)?{re.escape(source)}", FAMILY.__doc__)

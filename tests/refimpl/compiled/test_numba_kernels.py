"""The compiled kernels keep the contract, equal the NumPy forms, refuse what those refuse, and differentiate alike."""

import functools
import multiprocessing
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import contract
import door
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import refimpl
from refimpl.backward import retention_chunkwise_backward, retention_recurrent_backward
from refimpl.compiled import kernels, threads

SIZES = (*contract.CHUNK_SIZES, 1000)
CHUNKWISE = {f"chunkwise C={size}": size for size in SIZES}


def scan(q, k, v, gamma, state=None):
    """The compiled step over the time axis; no token, no step, so the compiled recurrence takes T = 0."""
    if q.shape[2] == 0:
        return kernels.retention_recurrent_numba(q, k, v, gamma, state)
    return contract.scan(kernels.retention_step_numba)(q, k, v, gamma, state)


FORMS = {"recurrent": kernels.retention_recurrent_numba, "step": scan} | {
    name: functools.partial(kernels.retention_chunkwise_numba, chunk_size=size) for name, size in CHUNKWISE.items()
}
BACKWARD = {"recurrent": kernels.retention_recurrent_backward_numba} | {
    name: functools.partial(kernels.retention_chunkwise_backward_numba, chunk_size=size)
    for name, size in CHUNKWISE.items()
}
CHECKS = [check for check, (_, backends) in contract.RETENTION_CHECKS.items() if contract.NUMPY in backends]
by_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
by_backward = pytest.mark.parametrize("backward", BACKWARD.values(), ids=BACKWARD)

# Widths of whole tiles and not: one row and one vector of either dtype, and one more.
WIDTHS = [(1, 1), (8, 16), (9, 17), (64, 128)]


@by_form
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_kernel_keeps_the_contract(form, check):
    check(form, contract.NUMPY)


@by_form
@pytest.mark.parametrize(("key_dim", "value_dim"), WIDTHS)
def test_kernel_equals_numpy_at_the_edges_of_tiles(form, key_dim, value_dim):
    for time in (7, 8, 9, 33):
        case = contract.problem(1, 2, time, key_dim, value_dim, seed=time)
        for dtype, allowed in (("float64", 1e-10), ("float32", 1e-3)):
            want = refimpl.retention_parallel(*case.arrays(contract.NUMPY, dtype))
            for got, other in zip(form(*case.arrays(contract.NUMPY, dtype)), want, strict=True):
                contract.close(got, other, allowed)


@given(contract.problems(), st.integers(1, 30))
def test_any_chunk_size_equals_the_oracle(case, size):
    form = functools.partial(kernels.retention_chunkwise_numba, chunk_size=size)
    for got, want in zip(contract.run(form, case), case.answer, strict=True):
        contract.close(got, want)


def test_forms_mix():
    parts = list(zip(FORMS.values(), (40, 41, 41, 128, 150, 200, 257), strict=True))
    for got, want in zip(contract.run_in_parts(parts, contract.FULL()), contract.FULL().answer, strict=True):
        contract.close(got, want)


@by_form
def test_halves_are_computed_in_float32(form):
    case = contract.FULL()
    half, single = (case.arrays(contract.NUMPY, dtype) for dtype in ("float16", "float32"))
    half_out, half_state = form(*half)
    out, state = form(*(x.astype(np.float32) for x in half[:3]), *single[3:])
    assert half_out.dtype == np.float16
    assert np.array_equal(half_out, out.astype(np.float16))
    assert half_state.dtype == np.float32
    assert np.array_equal(half_state, state)


@by_form
def test_nan_comes_out_where_it_went_in(form):
    """A NaN in one channel of token 11 of one head spoils that channel from there on, and no other head or channel."""
    q, k, v, gamma, state = contract.SMALL().arrays(contract.NUMPY)
    v[0, 1, 11, 2] = np.nan
    out, end = form(q, k, v, gamma, state)
    assert np.isnan(out[0, 1, 11:, 2]).all()
    assert np.isnan(end[0, 1, :, 2]).all()
    out[0, 1, :, 2] = end[0, 1, :, 2] = 0.0
    assert np.isfinite(out).all()
    assert np.isfinite(end).all()


def uncontiguous(x):
    """Equal to x, with no axis contiguous and one running backwards."""
    if x is None:
        return None
    y = np.repeat(np.repeat(x, 2, axis=-1)[::-1].swapaxes(0, -1), 3, axis=1)
    return y.swapaxes(0, -1)[::-1, ..., ::2] if x.ndim == 1 else y[:, ::3].swapaxes(0, -1)[::-1, ..., ::2]


@by_form
def test_inputs_need_not_be_contiguous(form):
    q, k, v, gamma, state = contract.SMALL().arrays(contract.NUMPY)
    strided = [*map(uncontiguous, (q, k, v)), np.repeat(gamma, 2)[::2], uncontiguous(state)]
    for x, y in zip((q, k, v, gamma, state), strided, strict=True):
        assert np.array_equal(x, y)
        assert not y.flags.c_contiguous
    for got, want in zip(form(*strided), form(q, k, v, gamma, state), strict=True):
        assert np.array_equal(got, want)


# ---------------------------------------------------------------- the door


ENTRIES = {
    "recurrent": kernels.retention_recurrent_numba,
    "step": kernels.retention_step_numba,
    "chunkwise": functools.partial(kernels.retention_chunkwise_numba, chunk_size=2),
}
GRADIENTS = {
    "recurrent": kernels.retention_recurrent_backward_numba,
    "chunkwise": functools.partial(kernels.retention_chunkwise_backward_numba, chunk_size=2),
}


@pytest.mark.parametrize("name", door.RETENTION_REFUSALS)
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_kernel_refuses(entry, name):
    door.retention_refuses(entry, name)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_kernel_refuses_what_is_not_numpy(entry):
    arguments = {name: torch.asarray(x) for name, x in door._arguments().items()}
    door._refused(lambda: entry(**arguments), TypeError, "q must be a NumPy array, got Tensor")


@pytest.mark.parametrize("entry", [kernels.retention_chunkwise_numba, kernels.retention_chunkwise_backward_numba])
def test_kernel_refuses_chunk_sizes(entry):
    arguments = door._arguments() | ({"grad_out": np.ones((2, 3, 5, 6))} if "backward" in entry.__name__ else {})
    for size, error, message in (
        (0, ValueError, "chunk_size must be at least 1, got 0"),
        (4.0, TypeError, "chunk_size must be an integer, got 4.0 (float)"),
    ):
        door._refused(lambda size=size: entry(**arguments, chunk_size=size), error, message)


def test_step_refuses_five_tokens():
    message = "q must hold one token (time = 1; take q[:, :, n : n + 1]), got time = 5"
    door._refused(lambda: kernels.retention_step_numba(**door._arguments()), ValueError, message)


@pytest.mark.parametrize("entry", GRADIENTS.values(), ids=GRADIENTS)
def test_gradient_refuses(entry):
    good = door._arguments() | {"grad_out": np.ones((2, 3, 5, 6)), "grad_state": np.ones((2, 3, 4, 6))}
    for changes, error, message in (
        ({"gamma": np.array([0.9, 1.5, 1.0])}, ValueError, "gamma must lie in (0, 1], got 1.5 at head 1"),
        (
            {"grad_out": np.ones((2, 3, 5, 4))},
            ValueError,
            "grad_out must have shape (2, 3, 5, 6) (that of v), got (2, 3, 5, 4)",
        ),
        ({"q": torch.ones(2, 3, 5, 4)}, TypeError, "q must be a NumPy array, got Tensor"),
        ({"grad_state": [0.0]}, TypeError, "grad_state must be a NumPy array, got list"),
        (
            {"grad_state": np.ones((2, 3, 4, 6), np.float32)},
            TypeError,
            "grad_state must have dtype float64 when q is float64, got float32",
        ),
    ):
        door._refused(lambda changes=changes: entry(**(good | changes)), error, message)


# ---------------------------------------------------------------- gradients


def upstream(case, seed=9):
    """Random gradients of out and of the state returned."""
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(x.shape) for x in case.answer)


def autograd(case, grad_out, grad_state):
    """(dq, dk, dv, dstate) by torch through the parallel form; an absent state or gradient is zero."""
    q, k, v, gamma, state = case.arrays(contract.TORCH)
    state = torch.zeros(case.answer[1].shape, dtype=torch.float64) if state is None else state
    leaves = [x.requires_grad_() for x in (q, k, v, state)]
    grad_state = np.zeros(state.shape) if grad_state is None else grad_state
    results = refimpl.retention_parallel(q, k, v, gamma, state)
    grads = [torch.from_numpy(x) for x in (grad_out, grad_state)]
    # At T = 0 nothing depends on q, k and v: their gradients are empty.
    found = torch.autograd.grad(results, leaves, grads, allow_unused=True, materialize_grads=True)
    return [x.numpy() for x in found]


@by_backward
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("with_grad_state", [False, True])
@pytest.mark.parametrize("time", [0, 1, 130])
def test_gradients_are_autograd_s(backward, with_state, with_grad_state, time):
    case = contract.problem(2, 3, time, 9, 17, with_state=with_state)
    grad_out, grad_state = upstream(case)
    grad_state = grad_state if with_grad_state else None
    got = backward(case.q, case.k, case.v, case.gamma, grad_out, case.state, grad_state)
    for ours, theirs in zip(got, autograd(case, grad_out, grad_state), strict=True):
        contract.close(ours, theirs, 1e-10 * np.abs(theirs).max(initial=1.0))


@given(contract.problems(), st.integers(1, 30))
def test_gradients_of_drawn_problems_are_autograd_s(case, size):
    grads = upstream(case)
    want = autograd(case, *grads)
    for backward in (
        kernels.retention_recurrent_backward_numba,
        functools.partial(kernels.retention_chunkwise_backward_numba, chunk_size=size),
    ):
        got = backward(case.q, case.k, case.v, case.gamma, grads[0], case.state, grads[1])
        for ours, theirs in zip(got, want, strict=True):
            contract.close(ours, theirs)


@pytest.mark.parametrize(
    ("compiled", "plain"),
    [
        (kernels.retention_recurrent_backward_numba, retention_recurrent_backward),
        (kernels.retention_chunkwise_backward_numba, retention_chunkwise_backward),
    ],
)
def test_gradients_are_those_of_numpy(compiled, plain):
    case = contract.FULL()
    grads = upstream(case)
    arguments = (case.q, case.k, case.v, case.gamma, grads[0], case.state, grads[1])
    for got, want in zip(compiled(*arguments), plain(*arguments), strict=True):
        contract.close(got, want)


@by_backward
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_gradients_are_precise(backward, dtype):
    """Relative RMS error against float64 gradients of the rounded inputs; the dtypes are those of the inputs."""
    case = contract.FULL(gamma=(0.9991, 0.99913, 0.9997, 0.97))  # none is a float32 number
    q, k, v, gamma, state = case.arrays(contract.NUMPY, dtype)
    grad_out, grad_state = (x.astype(y) for x, y in zip(upstream(case), (dtype, "float32"), strict=True))
    got = backward(q, k, v, gamma, grad_out, state, grad_state)
    rounded = contract.Problem(*(x.astype(np.float64) for x in (q, k, v, gamma, state)))
    want = autograd(rounded, grad_out.astype(np.float64), grad_state.astype(np.float64))
    for x, y, bound_of in zip(got, want, (dtype, dtype, dtype, "float32"), strict=True):
        assert x.dtype == np.dtype(bound_of)
        assert contract.relative_rms(x.astype(np.float64), y) <= contract.PRECISION[bound_of]


@by_backward
def test_gradients_leave_their_arguments_alone_and_own_what_they_return(backward):
    for time in (0, 5):
        case = contract.problem(1, 2, time, 4, 6)
        arguments = case.q, case.k, case.v, case.gamma, *upstream(case), case.state
        before = [x.copy() for x in arguments]
        q, k, v, gamma, grad_out, grad_state, state = arguments
        for grad in backward(q, k, v, gamma, grad_out, state, grad_state):
            grad[...] = 7.0
        for x, y in zip(arguments, before, strict=True):
            assert np.array_equal(x, y)


@by_backward
def test_gradients_of_uncontiguous_inputs(backward):
    case = contract.SMALL()
    grads = upstream(case)
    want = backward(case.q, case.k, case.v, case.gamma, grads[0], case.state, grads[1])
    q, k, v, grad_out, state, grad_state = map(uncontiguous, (case.q, case.k, case.v, grads[0], case.state, grads[1]))
    for x, y in zip(backward(q, k, v, case.gamma, grad_out, state, grad_state), want, strict=True):
        assert np.array_equal(x, y)


# ---------------------------------------------------------------- in use


def test_model_takes_the_kernels():
    config = refimpl.RetNetConfig(vocab_size=11, dim=16, num_layers=2, num_heads=2)
    params = refimpl.init_params(config, dtype=np.float64)
    tokens = np.random.default_rng(3).integers(0, 11, (2, 70))
    want, end = refimpl.forward(params, tokens, config)
    for form in FORMS.values():
        first, state = refimpl.forward(params, tokens[:, :6], config, retention=form)
        second, state = refimpl.forward(params, tokens[:, 6:], config, retention=form, state=state)
        contract.close(np.concatenate([first, second], axis=1), want)
        for got, other in zip(state.layers, end.layers, strict=True):
            contract.close(got, other)


def test_threads_may_call_at_once():
    cases = [contract.problem(2, 4, 65, 8, 8, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for form in (kernels.retention_recurrent_numba, kernels.retention_chunkwise_numba):
            for case, results in zip(cases, pool.map(functools.partial(contract.run, form), cases), strict=True):
                for got, want in zip(results, case.answer, strict=True):
                    contract.close(got, want)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_has_threads_of_its_own():
    """The threads of the parent are not in the child, where waiting for one of them would never end."""
    case = contract.problem(1, 8, 257, 16, 16)
    contract.run(kernels.retention_chunkwise_numba, case)  # enough work for threads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is the point
        with multiprocessing.get_context("fork").Pool(1) as pool:
            results = pool.apply_async(contract.run, (kernels.retention_chunkwise_numba, case)).get(timeout=60)
    for got, want in zip(results, case.answer, strict=True):
        contract.close(got, want)


@pytest.mark.parametrize("cores", [1, 2, 3, 64])
def test_heads_are_shared_out_whatever_the_number_of_threads(cores, monkeypatch):
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", cores)
    for heads in (0, 1, 5, 7):
        seen = []
        threads.over_heads(lambda start, stop, seen=seen: seen.extend(range(start, stop)), heads, 2**30)
        assert sorted(seen) == list(range(heads))


def test_what_a_thread_raises_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 2)
    with pytest.raises(ZeroDivisionError):
        threads.over_heads(lambda start, stop: 1 // (stop - 2), 2, 2**30)

"""The compiled kernels keep the contract and equal the NumPy forms.

`test_validation.py` and `test_backward.py` test what they refuse and their gradients, beside those of the NumPy forms.
"""

import functools
import multiprocessing
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from backends import DTYPES, kernel_of, uncontiguous

import refimpl
from refimpl.bench.forms import random_inputs
from refimpl.compiled import kernels, threads
from refimpl.conformance import contract, drawn
from refimpl.conformance.comparison import all_close
from refimpl.conformance.libraries import NUMPY
from refimpl.conformance.package import forms, forms_agree, model_resumes, run
from refimpl.conformance.problems import FULL, SMALL, problem

COMPILED = SimpleNamespace(
    **vars(refimpl)
    | {
        "retention_recurrent": kernels.retention_recurrent_numba,
        "retention_step": kernels.retention_step_numba,
        "retention_chunkwise": kernels.retention_chunkwise_numba,
    }
)
FORMS = forms(COMPILED) | {"chunkwise C=1000": functools.partial(kernels.retention_chunkwise_numba, chunk_size=1000)}
del FORMS["parallel"]  # is not compiled
by_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)

# Widths of whole tiles and not: fewer than a tile, whole ones of float64, and one more.
WIDTHS = [(1, 1), (8, 16), (9, 17), (64, 128)]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_kernel_keeps_the_contract(name, check):
    kernel = kernel_of(FORMS[name], name)
    if check is contract.holds_for_slow_heads:
        return  # asked below with a tighter bound
    if check is contract.holds_for_long_texts and name == "step":
        return  # recurrent takes the same steps in one call
    if contract.CHECKS[check].declared(kernel) is None:
        for dtype in DTYPES[NUMPY]:
            check(kernel, dtype)


@pytest.mark.parametrize("name", FORMS)
def test_kernel_is_as_precise_as_float32_is(name):
    kernel = kernel_of(FORMS[name], name, slack=1)
    for dtype in DTYPES[NUMPY]:
        contract.holds_for_slow_heads(kernel, dtype)


@by_form
def test_kernel_keeps_the_contract_on_what_is_drawn(form):
    drawn.equals_oracle_drawn(form)


@pytest.mark.parametrize(
    "check",
    [
        forms_agree,
        drawn.forms_agree_drawn,
        drawn.mixes_agree,
        drawn.mixes_equal_oracle,
        drawn.any_chunk_size_equals_oracle,
        model_resumes,
    ],
    ids=lambda check: check.__name__,
)
def test_kernels_keep_the_contract_of_a_package(check):
    check(COMPILED)


@by_form
@pytest.mark.parametrize(("key_dim", "value_dim"), WIDTHS)
def test_kernel_equals_numpy_at_the_edges_of_tiles(form, key_dim, value_dim):
    for time in (7, 8, 9, 33):
        case = problem(1, 2, time, key_dim, value_dim, seed=time)
        for dtype, allowed in (("float64", 1e-10), ("float32", 1e-3)):
            want = refimpl.retention_parallel(*case.arrays(NUMPY, dtype))
            all_close(form(*case.arrays(NUMPY, dtype)), want, allowed)


@by_form
def test_halves_are_computed_in_float32(form):
    case = FULL()
    half, single = (case.arrays(NUMPY, dtype) for dtype in ("float16", "float32"))
    half_out, half_state = form(*half)
    out, state = form(*(x.astype(np.float32) for x in half[:3]), *single[3:])
    assert half_out.dtype == np.float16
    assert np.array_equal(half_out, out.astype(np.float16))
    assert half_state.dtype == np.float32
    assert np.array_equal(half_state, state)


@by_form
def test_nan_comes_out_where_it_went_in(form):
    """A NaN in one channel of token 11 of one head spoils that channel from there on, and no other head or channel."""
    q, k, v, gamma, state = SMALL().arrays(NUMPY)
    v[0, 1, 11, 2] = np.nan
    out, end = form(q, k, v, gamma, state)
    assert np.isnan(out[0, 1, 11:, 2]).all()
    assert np.isnan(end[0, 1, :, 2]).all()
    out[0, 1, :, 2] = end[0, 1, :, 2] = 0.0
    assert np.isfinite(out).all()
    assert np.isfinite(end).all()


@by_form
def test_inputs_need_not_be_contiguous(form):
    arrays = SMALL().arrays(NUMPY)
    np.testing.assert_equal(form(*map(uncontiguous, arrays)), form(*arrays))


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize("time", [2, 65])
def test_results_of_a_loop_start_with_a_cache_line(time):
    """Vectors that lie across two lines would make it a seventh slower; widths are those of no whole line."""
    for batch in (1, 3):
        q, k, v, gamma = random_inputs(batch, time, 1, 5, 7)
        assert all(x.ctypes.data % 64 == 0 for x in kernels.retention_recurrent_numba(q, k, v, gamma))


def test_threads_may_call_at_once():
    cases = [problem(2, 4, 65, 8, 8, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for form in (kernels.retention_recurrent_numba, kernels.retention_chunkwise_numba):
            for case, results in zip(cases, pool.map(functools.partial(run, form), cases), strict=True):
                all_close(results, case.answer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_has_threads_of_its_own():
    """The threads of the parent are not in the child, where waiting for one of them would never end."""
    case = problem(1, 8, 257, 16, 16)
    run(kernels.retention_chunkwise_numba, case)  # enough work for threads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is the point
        warnings.simplefilter("ignore", RuntimeWarning)  # JAX says the same, if another test has imported it
        with multiprocessing.get_context("fork").Pool(1) as pool:
            results = pool.apply_async(run, (kernels.retention_chunkwise_numba, case)).get(timeout=60)
    all_close(results, case.answer)


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

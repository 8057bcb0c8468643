"""Gradients by hand, compiled or not, are those of autograd, which the contract compares with finite differences."""

import functools

import numpy as np
import pytest
import torch
from ablations import ABLATIONS
from backends import TORCH, on, small_model, uncontiguous
from hypothesis import given, note, settings
from hypothesis import strategies as st

import refimpl
from gpu.models import operations as torch_operations
from refimpl import backward as bw
from refimpl import layers
from refimpl.compiled import kernels
from refimpl.conformance import drawn, validation
from refimpl.conformance.comparison import PRECISION, all_close, close, relative_rms
from refimpl.conformance.libraries import NUMPY
from refimpl.conformance.problems import FULL, SMALL, Problem, problem
from refimpl.tree import flatten


def of_sizes(name, backward, *sizes):
    """Chunkwise gradients of each chunk size, by name."""
    return {f"{name} C={size}": functools.partial(backward, chunk_size=size) for size in sizes}


CHUNKWISE = bw.retention_chunkwise_backward, kernels.retention_chunkwise_backward_numba
PLAIN = {
    "parallel": bw.retention_parallel_backward,
    "recurrent": bw.retention_recurrent_backward,
    **of_sizes("chunkwise", CHUNKWISE[0], 1, 3, 64),
}
COMPILED = {
    "compiled recurrent": kernels.retention_recurrent_backward_numba,
    **of_sizes("compiled chunkwise", CHUNKWISE[1], 1, 3, 7, 64, 300, 1000),
}
by_form = pytest.mark.parametrize("backward", (PLAIN | COMPILED).values(), ids=PLAIN | COMPILED)


def upstream(case, seed=9):
    """Random gradients of out and of the state returned."""
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(x.shape) for x in case.answer)


def gradients(backward, case, grad_out, grad_state):
    """(dq, dk, dv, dstate) by hand."""
    return backward(case.q, case.k, case.v, case.gamma, grad_out, case.state, grad_state)


def autograd(case, grad_out, grad_state):
    """(dq, dk, dv, dstate) of the parallel form by torch, an absent state or gradient being zero."""
    q, k, v, gamma, state = case.arrays(TORCH)
    state = torch.zeros(case.answer[1].shape, dtype=torch.float64) if state is None else state
    leaves = [x.requires_grad_() for x in (q, k, v, state)]
    results = refimpl.retention_parallel(q, k, v, gamma, state)
    grad_state = np.zeros(state.shape) if grad_state is None else grad_state
    grads = [torch.from_numpy(g) for g in (grad_out, grad_state)]
    # At T = 0 nothing depends on q, k and v: their gradients are empty.
    found = torch.autograd.grad(results, leaves, grads, allow_unused=True, materialize_grads=True)
    return [x.numpy() for x in found]


@given(drawn.problems())
def test_retention_gradients_are_autograd_s(case):
    """Of every form; autograd is asked once."""
    grads = upstream(case)
    want = autograd(case, *grads)
    for name, backward in (PLAIN | COMPILED).items():
        note(name)
        all_close(gradients(backward, case, *grads), want)


@by_form
@pytest.mark.parametrize(("key_dim", "value_dim"), [(33, 8), (72, 24), (24, 72)])
def test_gradients_hold_whichever_width_is_larger(backward, key_dim, value_dim):
    case = problem(1, 2, 20, key_dim, value_dim)
    all_close(gradients(backward, case, *upstream(case)), autograd(case, *upstream(case)))


@pytest.mark.parametrize("backward", CHUNKWISE)
def test_gradients_of_any_chunk_size_are_autograd_s(backward):
    @settings(max_examples=30)
    @given(drawn.problems(), st.integers(1, 30))
    def check(case, size):
        grads = upstream(case)
        got = gradients(functools.partial(backward, chunk_size=size), case, *grads)
        all_close(got, autograd(case, *grads))

    check()


@by_form
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("with_grad_state", [False, True])
@pytest.mark.parametrize("time", [0, 1, 130])
def test_gradients_at_the_edges_of_tiles_are_autograd_s(backward, with_state, with_grad_state, time):
    case = problem(2, 3, time, 9, 17, with_state=with_state)
    grad_out, grad_state = upstream(case)
    grads = grad_out, grad_state if with_grad_state else None
    for ours, theirs in zip(gradients(backward, case, *grads), autograd(case, *grads), strict=True):
        close(ours, theirs, 1e-10 * np.abs(theirs).max(initial=1.0))


@by_form
def test_forms_give_the_same_gradients_at_full_size(backward):
    grads = upstream(FULL())
    want = gradients(bw.retention_parallel_backward, FULL(), *grads)
    all_close(gradients(backward, FULL(), *grads), want)


@by_form
def test_gradients_chain_over_a_split(backward):
    """The state's gradient carries the later part's gradients to the earlier part."""
    case, n = SMALL(), 8
    grad_out, grad_state = upstream(case)
    whole = gradients(backward, case, grad_out, grad_state)
    first, second = ([x[:, :, part] for x in (case.q, case.k, case.v)] for part in (slice(n), slice(n, None)))
    _, middle = refimpl.retention_parallel(*first, case.gamma, case.state)
    *late, grad_middle = backward(*second, case.gamma, grad_out[:, :, n:], middle, grad_state)
    *early, dstate = backward(*first, case.gamma, grad_out[:, :, :n], case.state, grad_middle)
    all_close([*map(lambda *parts: np.concatenate(parts, axis=2), early, late), dstate], whole)


@by_form
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_gradients_are_precise(backward, dtype):
    """Relative RMS error against float64 gradients of the rounded inputs; the dtypes are those of the inputs."""
    case = FULL(gamma=(0.9991, 0.99913, 0.9997, 0.97))  # none is a float32 number
    q, k, v, gamma, state = case.arrays(NUMPY, dtype)
    grad_out, grad_state = (x.astype(y) for x, y in zip(upstream(case), (dtype, "float32"), strict=True))
    got = backward(q, k, v, gamma, grad_out, state, grad_state)
    wide = [x.astype(np.float64) for x in (q, k, v, gamma, state, grad_out, grad_state)]
    want = autograd(Problem(*wide[:5]), *wide[5:])
    for x, y, bound_of in zip(got, want, (dtype, dtype, dtype, "float32"), strict=True):
        assert x.dtype == np.dtype(bound_of)
        assert relative_rms(x.astype(np.float64), y) <= PRECISION[bound_of]


@by_form
def test_gradients_leave_their_arguments_alone_and_own_what_they_return(backward):
    """Without a token, the gradient of the state passes through, as a copy."""
    for time in (0, 5):
        case = problem(1, 2, time, 4, 6)
        (q, k, v, gamma, state), (grad_out, grad_state) = case.arrays(NUMPY), upstream(case)
        arguments = [q, k, v, gamma, grad_out, state, grad_state]
        before = [x.copy() for x in arguments]
        grads = backward(*arguments)
        assert [x.shape for x in grads] == [x.shape for x in (q, k, v, state)]
        assert time or np.array_equal(grads[3], grad_state)
        for grad in grads:
            grad[...] = 7.0
        np.testing.assert_equal(arguments, before)


@pytest.mark.parametrize("backward", COMPILED.values(), ids=COMPILED)
def test_compiled_gradients_are_those_of_contiguous_inputs(backward):
    (q, k, v, gamma, state), (grad_out, grad_state) = SMALL().arrays(NUMPY), upstream(SMALL())
    arrays = q, k, v, gamma, grad_out, state, grad_state
    np.testing.assert_equal(backward(*map(uncontiguous, arrays)), backward(*arrays))


GOOD = validation.arguments() | {"grad_out": np.ones((2, 3, 5, 6)), "grad_state": np.ones((2, 3, 4, 6))}
GRAD_STATE = "grad_state must have shape (2, 3, 4, 6) (batch, heads, key_dim, value_dim)"


@by_form
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"gamma": np.array([0.9, 1.5, 1.0])}, ValueError, "gamma must lie in (0, 1], got 1.5 at head 1"),
        ({"grad_out": GOOD["q"]}, ValueError, "grad_out must have shape (2, 3, 5, 6) (that of v), got (2, 3, 5, 4)"),
        ({"grad_out": np.float32(GOOD["v"])}, TypeError, "grad_out must have dtype float64 like q, got float32"),
        ({"grad_out": torch.ones(2, 3, 5, 6)}, TypeError, "grad_out must be a NumPy array, got Tensor"),
        ({"grad_state": GOOD["grad_state"][..., :4]}, ValueError, f"{GRAD_STATE}, got (2, 3, 4, 4)"),
        (
            {"grad_state": np.float32(GOOD["grad_state"])},
            TypeError,
            "grad_state must have dtype float64 when q is float64, got float32",
        ),
        ({"grad_state": [0.0]}, TypeError, "grad_state must be a NumPy array, got list"),
        ({"q": torch.ones(2, 3, 5, 4)}, TypeError, "q must be a NumPy array, got Tensor"),
    ],
)
def test_backward_refuses(backward, changes, error, message):
    validation.refused(lambda: backward(**(GOOD | changes)), error, message)


@pytest.mark.parametrize("size", [0, 4.0])
@pytest.mark.parametrize("backward", CHUNKWISE)
def test_backward_refuses_chunk_sizes(backward, size):
    error, message = {0: (ValueError, "at least 1, got 0"), 4.0: (TypeError, "an integer, got 4.0 (float)")}[size]
    validation.refused(lambda: backward(**GOOD, chunk_size=size), error, f"chunk_size must be {message}")


def slope_is_right(function, x, grad, tolerance=1e-7):
    """grad is the gradient of sum(function(x) * weights) at x, along random directions."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        step = 1e-5 * rng.standard_normal(x.shape)
        slope = (function(x + step) - function(x - step)) / 2
        assert np.isclose(slope, np.sum(grad * step), rtol=tolerance, atol=1e-13)


@pytest.mark.parametrize("activation", ["swish", "gelu"])
def test_activations(activation):
    x = np.linspace(-7, 7, 29)
    weights = np.cos(x)
    forward, (value, slope) = getattr(layers, activation), bw.ACTIVATIONS[activation](x)
    np.testing.assert_allclose(value, forward(x), rtol=1e-14, atol=1e-15)
    slope_is_right(lambda x: np.sum(forward(x) * weights), x, slope * weights)


TOKENS = np.random.default_rng(0).integers(0, 13, (2, 9))


@pytest.mark.parametrize("operations", [layers.REFERENCE, torch_operations.TORCH], ids=["plain", "torch"])
@pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS)
def test_model_gradients_are_autograd_s(options, operations):
    """Every parameter and the state, relative 1e-10, in every ablation, from and to a state, in every form."""
    (params, config), rng = small_model(**{"dim": 16} | options), np.random.default_rng(5)
    for name, array in flatten(params).items():  # so that no norm weight is one and no gradient vanishes
        array += 0.1 * rng.standard_normal(array.shape) * (1 if "norm" in name else 0.3)
    shape = (2, 2, config.num_heads, config.key_dim, config.value_dim)
    # A divisor of scores needs the whole text, so nothing may come before it.
    states = [] if config.score_norm is not None else list(rng.standard_normal(shape))
    grad_logits, grad_states = rng.standard_normal((2, 9, 13)), rng.standard_normal(shape)

    tree = on(TORCH, {"params": params, "states": states})
    leaves = flatten(tree)
    for leaf in leaves.values():
        leaf.requires_grad_()
    before = refimpl.State(6, tuple(tree["states"])) if states else None
    logits, after = refimpl.forward(
        tree["params"], torch.from_numpy(TOKENS), config, state=before, operations=operations
    )
    torch.autograd.backward([logits, *after.layers], [torch.from_numpy(g) for g in (grad_logits, *grad_states)])

    before, record = (refimpl.State(6, tuple(states)) if states else None), []
    refimpl.forward(params, TOKENS, config, state=before, record=record)
    given_back = functools.partial(bw.backward, params, TOKENS, config, record, grad_logits)
    for backward in PLAIN.values() if states else [PLAIN["parallel"]]:
        grads, dstate = given_back(retention_backward=backward, grad_state=refimpl.State(0, tuple(grad_states)))
        assert dstate.position == 0
        named = flatten({"params": grads, "states": list(dstate.layers) if states else []})
        assert named.keys() == leaves.keys()
        for name, grad in named.items():
            want = leaves[name].grad.numpy()
            assert np.linalg.norm(want) > 0, name
            # Plain arithmetic cannot say that the sum of scores is to be a constant: torch goes through it.
            if config.score_norm is None or operations is torch_operations.TORCH:
                assert np.linalg.norm(grad - want) <= 1e-10 * np.linalg.norm(want), name


def test_model_gradients_are_slopes():
    """Finite differences of every kind of parameter of the default model, along a random direction."""
    params, config = small_model(dim=8, num_layers=1)
    grad_logits = np.random.default_rng(6).standard_normal((2, 9, 13))
    refimpl.forward(params, TOKENS, config, record=(record := []))
    grads = flatten(bw.backward(params, TOKENS, config, record, grad_logits)[0])
    for name, array in flatten(params).items():
        original = array.copy()

        def loss(x, array=array):
            array[...] = x
            return np.sum(refimpl.forward(params, TOKENS, config)[0] * grad_logits)

        slope_is_right(loss, original, grads[name], tolerance=1e-4)
        array[...] = original


def test_a_record_of_another_model_is_refused():
    message = "record must hold 3 entries, as forward(record=[]) leaves it, got 0"
    validation.refused(
        lambda: bw.backward({}, TOKENS, refimpl.RetNetConfig(num_layers=2), [], None), ValueError, message
    )

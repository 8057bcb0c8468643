"""Gradients by hand, compiled or not: against finite differences, against autograd, and form against form."""

import functools

import numpy as np
import pytest
import torch
from ablations import ABLATIONS
from backends import TORCH, on, uncontiguous
from hypothesis import given, settings
from hypothesis import strategies as st

import refimpl
from gpu.models import operations as torch_operations
from refimpl import backward as bw
from refimpl import layers
from refimpl.compiled import kernels
from refimpl.conformance import contract, validation
from refimpl.conformance.contract import FULL, NUMPY, PRECISION, SMALL, Problem, all_close, close, problem, relative_rms
from refimpl.tree import flatten


def pair(form, backward, **options):
    """A retention and its gradients, as functions of the same options."""
    return functools.partial(form, **options), functools.partial(backward, **options)


PLAIN = {
    "parallel": (refimpl.retention_parallel, bw.retention_parallel_backward),
    "recurrent": (refimpl.retention_recurrent, bw.retention_recurrent_backward),
    **{
        f"chunkwise C={size}": pair(refimpl.retention_chunkwise, bw.retention_chunkwise_backward, chunk_size=size)
        for size in (1, 3, 64)
    },
}
CHUNKWISE = (kernels.retention_chunkwise_numba, kernels.retention_chunkwise_backward_numba)
COMPILED = {
    "compiled recurrent": (kernels.retention_recurrent_numba, kernels.retention_recurrent_backward_numba),
    **{f"compiled chunkwise C={size}": pair(*CHUNKWISE, chunk_size=size) for size in (1, 3, 7, 64, 300, 1000)},
}
FORMS = PLAIN | COMPILED
forms = pytest.mark.parametrize(("form", "backward"), FORMS.values(), ids=FORMS)


def upstream(case, seed=9):
    """Random gradients of out and of the state returned."""
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(x.shape) for x in case.answer)


def gradients(backward, case, grad_out, grad_state):
    """(dq, dk, dv, dstate) by hand."""
    return backward(case.q, case.k, case.v, case.gamma, grad_out, case.state, grad_state)


def autograd(retention, case, grad_out, grad_state):
    """(dq, dk, dv, dstate) by torch, an absent state or gradient being zero; a compiled form's by the parallel form."""
    q, k, v, gamma, state = case.arrays(TORCH)
    state = torch.zeros(case.answer[1].shape, dtype=torch.float64) if state is None else state
    leaves = [x.requires_grad_() for x in (q, k, v, state)]
    if any(retention is form for form, _ in COMPILED.values()):
        retention = refimpl.retention_parallel
    results = retention(q, k, v, gamma, state)
    grad_state = np.zeros(state.shape) if grad_state is None else grad_state
    grads = [torch.from_numpy(g) for g in (grad_out, grad_state)]
    # At T = 0 nothing depends on q, k and v: their gradients are empty.
    found = torch.autograd.grad(results, leaves, grads, allow_unused=True, materialize_grads=True)
    return [x.numpy() for x in found]


@forms
def test_retention_gradients_are_autograd_s(form, backward):
    @given(contract.problems())
    def check(case):
        grads = upstream(case)
        all_close(gradients(backward, case, *grads), autograd(form, case, *grads))

    check()


@settings(max_examples=30)
@given(contract.problems(), st.integers(1, 30))
def test_compiled_gradients_of_any_chunk_size_are_autograd_s(case, size):
    grads = upstream(case)
    backward = functools.partial(kernels.retention_chunkwise_backward_numba, chunk_size=size)
    all_close(gradients(backward, case, *grads), autograd(refimpl.retention_parallel, case, *grads))


@forms
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("with_grad_state", [False, True])
@pytest.mark.parametrize("time", [0, 1, 130])
def test_gradients_at_the_edges_of_tiles_are_autograd_s(form, backward, with_state, with_grad_state, time):
    case = problem(2, 3, time, 9, 17, with_state=with_state)
    grad_out, grad_state = upstream(case)
    grads = grad_out, grad_state if with_grad_state else None
    for ours, theirs in zip(gradients(backward, case, *grads), autograd(form, case, *grads), strict=True):
        close(ours, theirs, 1e-10 * np.abs(theirs).max(initial=1.0))


@forms
def test_retention_gradients_are_slopes(form, backward):
    """Central differences of the loss <out, G> + <state, R> along a random direction, to 1e-8."""
    case = problem(2, 2, 7, 4, 6, gamma=(0.9, 0.5))
    grads, rng = upstream(case), np.random.default_rng(4)

    def loss(q, k, v, state):
        return sum(np.sum(x * g) for x, g in zip(form(q, k, v, case.gamma, state), grads, strict=True))

    at = case.q, case.k, case.v, case.state
    for i, grad in enumerate(gradients(backward, case, *grads)):
        step = 1e-5 * rng.standard_normal(grad.shape)
        ahead, behind = ([x + sign * step if i == j else x for j, x in enumerate(at)] for sign in (1, -1))
        assert np.isclose((loss(*ahead) - loss(*behind)) / 2, np.sum(grad * step), rtol=1e-8, atol=1e-13)


@forms
def test_forms_give_the_same_gradients_at_full_size(form, backward):
    grads = upstream(FULL())
    want = gradients(bw.retention_parallel_backward, FULL(), *grads)
    all_close(gradients(backward, FULL(), *grads), want)


@forms
def test_gradients_chain_over_a_split(form, backward):
    """The state's gradient carries the later part's gradients to the earlier part."""
    case, n = SMALL(), 8
    grad_out, grad_state = upstream(case)
    whole = gradients(backward, case, grad_out, grad_state)
    first, second = ([x[:, :, part] for x in (case.q, case.k, case.v)] for part in (slice(n), slice(n, None)))
    _, middle = form(*first, case.gamma, case.state)
    *late, grad_middle = backward(*second, case.gamma, grad_out[:, :, n:], middle, grad_state)
    *early, dstate = backward(*first, case.gamma, grad_out[:, :, :n], case.state, grad_middle)
    all_close([*map(lambda *parts: np.concatenate(parts, axis=2), early, late), dstate], whole)


@forms
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_gradients_are_precise(form, backward, dtype):
    """Relative RMS error against float64 gradients of the rounded inputs; the dtypes are those of the inputs."""
    case = FULL(gamma=(0.9991, 0.99913, 0.9997, 0.97))  # none is a float32 number
    q, k, v, gamma, state = case.arrays(NUMPY, dtype)
    grad_out, grad_state = (x.astype(y) for x, y in zip(upstream(case), (dtype, "float32"), strict=True))
    got = backward(q, k, v, gamma, grad_out, state, grad_state)
    wide = [x.astype(np.float64) for x in (q, k, v, gamma, state, grad_out, grad_state)]
    want = autograd(refimpl.retention_parallel, Problem(*wide[:5]), *wide[5:])
    for x, y, bound_of in zip(got, want, (dtype, dtype, dtype, "float32"), strict=True):
        assert x.dtype == np.dtype(bound_of)
        assert relative_rms(x.astype(np.float64), y) <= PRECISION[bound_of]


@forms
def test_gradients_leave_their_arguments_alone_and_own_what_they_return(form, backward):
    """Without a token, the gradient of the state passes through, as a copy."""
    for time in (0, 5):
        case = problem(1, 2, time, 4, 6)
        arguments = case.q, case.k, case.v, case.gamma, *upstream(case), case.state
        before = [x.copy() for x in arguments]
        q, k, v, gamma, grad_out, grad_state, state = arguments
        grads = backward(q, k, v, gamma, grad_out, state, grad_state)
        assert [x.shape for x in grads] == [x.shape for x in (q, k, v, state)]
        assert time or np.array_equal(grads[3], grad_state)
        for grad in grads:
            grad[...] = 7.0
        for x, y in zip(arguments, before, strict=True):
            assert np.array_equal(x, y)


@pytest.mark.parametrize(("form", "backward"), COMPILED.values(), ids=COMPILED)
def test_compiled_gradients_are_those_of_contiguous_inputs(form, backward):
    arrays = SMALL().q, SMALL().k, SMALL().v, SMALL().gamma, *upstream(SMALL()), SMALL().state
    want, (q, k, v, gamma, grad_out, grad_state, state) = (
        gradients(backward, SMALL(), *arrays[4:6]),
        map(uncontiguous, arrays),
    )
    for x, y in zip(backward(q, k, v, gamma, grad_out, state, grad_state), want, strict=True):
        assert np.array_equal(x, y)


GOOD = validation.arguments() | {"grad_out": np.ones((2, 3, 5, 6)), "grad_state": np.ones((2, 3, 4, 6))}
GRAD_STATE = "grad_state must have shape (2, 3, 4, 6) (batch, heads, key_dim, value_dim)"


@forms
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
def test_backward_refuses(form, backward, changes, error, message):
    validation.refused(lambda: backward(**(GOOD | changes)), error, message)


@pytest.mark.parametrize("size", [0, 4.0])
@pytest.mark.parametrize("backward", [bw.retention_chunkwise_backward, kernels.retention_chunkwise_backward_numba])
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
    forward, back = getattr(layers, activation), getattr(bw, f"{activation}_backward")
    slope_is_right(lambda x: np.sum(forward(x) * weights), x, back(x, weights))


@pytest.mark.parametrize("kind", ["rms", "mean", None])
def test_group_norm(kind):
    config = refimpl.RetNetConfig(group_norm=kind, group_norm_affine=kind is not None, norm_eps=0.1)
    rng = np.random.default_rng(1)
    y, weights = rng.standard_normal((2, 2, 3, 2, 5))
    weight = None if kind is None else rng.standard_normal(5)
    dy, dweight = bw.group_norm_backward(y, weight, weights, config)
    slope_is_right(lambda y: np.sum(layers.group_norm(y, config, weight) * weights), y, dy)
    if kind is not None:
        slope_is_right(lambda w: np.sum(layers.group_norm(y, config, w) * weights), weight, dweight)


@pytest.mark.parametrize("ladder", ["released", "rotary"])
def test_rotation(ladder):
    x, weights = np.random.default_rng(2).standard_normal((2, 5, 8))
    slope_is_right(lambda x: np.sum(refimpl.rotate(x, 3, ladder) * weights), x, bw.rotate_backward(weights, 3, ladder))


TOKENS = np.random.default_rng(0).integers(0, 11, (2, 9))


def model_gradients(config, retention, backward, params, state, grad_state, grad_logits):
    record = []
    refimpl.forward(params, TOKENS, config, retention=retention, state=state, record=record)
    return bw.backward(params, TOKENS, config, record, grad_logits, retention_backward=backward, grad_state=grad_state)


@pytest.mark.parametrize("operations", [layers.REFERENCE, torch_operations.TORCH], ids=["plain", "torch"])
@pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS)
def test_model_gradients_are_autograd_s(options, operations):
    """Every parameter and the state, relative 1e-10, in every ablation, from and to a state, in every form."""
    config = refimpl.RetNetConfig(**{"vocab_size": 11, "dim": 16, "num_layers": 2, "num_heads": 2} | options)
    rng = np.random.default_rng(5)
    params = refimpl.init_params(config, dtype=np.float64)
    for name, array in flatten(params).items():  # so that no norm weight is one and no gradient vanishes
        array += 0.1 * rng.standard_normal(array.shape) * (1 if "norm" in name else 0.3)
    shape = (2, 2, config.num_heads, config.key_dim, config.value_dim)
    # A divisor of scores needs the whole text, so nothing may come before it.
    states = [] if config.score_norm is not None else list(rng.standard_normal(shape))
    grad_logits, grad_states = rng.standard_normal((2, 9, 11)), rng.standard_normal(shape)

    tree = on(TORCH, {"params": params, "states": states})
    leaves = flatten(tree)
    for leaf in leaves.values():
        leaf.requires_grad_()
    before = refimpl.State(6, tuple(tree["states"])) if states else None
    logits, after = refimpl.forward(
        tree["params"], torch.from_numpy(TOKENS), config, state=before, operations=operations
    )
    torch.autograd.backward([logits, *after.layers], [torch.from_numpy(g) for g in (grad_logits, *grad_states)])

    before, grad_state = (refimpl.State(6, tuple(states)) if states else None), refimpl.State(0, tuple(grad_states))
    for retention, backward in PLAIN.values() if states else [PLAIN["parallel"]]:
        grads, dstate = model_gradients(config, retention, backward, params, before, grad_state, grad_logits)
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
    config = refimpl.RetNetConfig(vocab_size=11, dim=8, num_layers=1, num_heads=2)
    params = refimpl.init_params(config, dtype=np.float64)
    grad_logits = np.random.default_rng(6).standard_normal((2, 9, 11))
    grads = flatten(model_gradients(config, *PLAIN["recurrent"], params, None, None, grad_logits)[0])
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

"""Gradients by hand: against finite differences, against autograd of the same source, and form against form."""

import functools
import re

import contract
import numpy as np
import pytest
import torch
from hypothesis import given
from test_model import ABLATIONS, on

import refimpl
from gpu.models.operations import TORCH
from refimpl import backward as bw
from refimpl import layers
from refimpl.tree import flatten

FORMS = {
    "parallel": (refimpl.retention_parallel, bw.retention_parallel_backward),
    "recurrent": (refimpl.retention_recurrent, bw.retention_recurrent_backward),
    **{
        f"chunkwise C={size}": (
            functools.partial(refimpl.retention_chunkwise, chunk_size=size),
            functools.partial(bw.retention_chunkwise_backward, chunk_size=size),
        )
        for size in (1, 3, 64)
    },
}
forms = pytest.mark.parametrize(("form", "backward"), FORMS.values(), ids=FORMS)


def upstream(case, seed=9):
    """Random gradients of out and of the state returned."""
    rng = np.random.default_rng(seed)
    out, state = case.answer
    return rng.standard_normal(out.shape), rng.standard_normal(state.shape)


def autograd(retention, case, grad_out, grad_state):
    """(dq, dk, dv, dstate) by torch, from a zero state if the case has none."""
    q, k, v, gamma, state = case.arrays(contract.TORCH)
    state = torch.zeros(case.answer[1].shape, dtype=torch.float64) if state is None else state
    leaves = [x.requires_grad_() for x in (q, k, v, state)]
    results = retention(q, k, v, gamma, state)
    grads = [torch.from_numpy(g) for g in (grad_out, grad_state)]
    # At T = 0 nothing depends on q, k and v: their gradients are empty.
    found = torch.autograd.grad(results, leaves, grads, allow_unused=True, materialize_grads=True)
    return [x.numpy() for x in found]


@forms
def test_retention_gradients_are_autograd_s(form, backward):
    @given(contract.problems())
    def check(case):
        grads = upstream(case)
        got = backward(case.q, case.k, case.v, case.gamma, grads[0], case.state, grads[1])
        for ours, theirs in zip(got, autograd(form, case, *grads), strict=True):
            contract.close(ours, theirs)

    check()


@forms
def test_retention_gradients_are_slopes(form, backward):
    """Central differences of the loss <out, G> + <state, R> along a random direction, to 1e-8."""
    case = contract.problem(2, 2, 7, 4, 6, gamma=(0.9, 0.5))
    arrays, grads, rng = case.arrays(contract.NUMPY), upstream(case), np.random.default_rng(4)
    got = backward(*arrays[:4], grads[0], arrays[4], grads[1])

    def loss(q, k, v, state):
        return sum(np.sum(x * g) for x, g in zip(form(q, k, v, case.gamma, state), grads, strict=True))

    at = [*arrays[:3], arrays[4]]
    for i, grad in enumerate(got):
        step = 1e-5 * rng.standard_normal(grad.shape)
        ahead, behind = ([x + sign * step if i == j else x for j, x in enumerate(at)] for sign in (1, -1))
        assert np.isclose((loss(*ahead) - loss(*behind)) / 2, np.sum(grad * step), rtol=1e-8, atol=1e-13)


def test_forms_give_the_same_gradients_at_full_size():
    case = contract.FULL()
    grads = upstream(case)
    want = bw.retention_parallel_backward(case.q, case.k, case.v, case.gamma, grads[0], case.state, grads[1])
    for _, backward in FORMS.values():
        for got, other in zip(
            backward(case.q, case.k, case.v, case.gamma, grads[0], case.state, grads[1]), want, strict=True
        ):
            contract.close(got, other)


@forms
def test_gradients_chain_over_a_split(form, backward):
    """The state's gradient carries the later part's gradients to the earlier part."""
    case, n = contract.SMALL(), 8
    grads = upstream(case)
    whole = backward(case.q, case.k, case.v, case.gamma, grads[0], case.state, grads[1])
    first, second = ([x[:, :, part] for x in (case.q, case.k, case.v)] for part in (slice(n), slice(n, None)))
    _, middle = form(*first, case.gamma, case.state)
    *late, grad_middle = backward(*second, case.gamma, grads[0][:, :, n:], middle, grads[1])
    *early, dstate = backward(*first, case.gamma, grads[0][:, :, :n], case.state, grad_middle)
    for got, want in zip(map(lambda a, b: np.concatenate([a, b], axis=2), early, late), whole[:3], strict=True):
        contract.close(got, want)
    contract.close(dstate, whole[3])


@forms
def test_narrow_inputs_keep_their_dtype_and_precision(form, backward):
    case = contract.SMALL()
    grads = upstream(case)
    want = backward(case.q, case.k, case.v, case.gamma, grads[0], case.state, grads[1])
    for dtype, bound in ((np.float32, 1e-6), (np.float16, 2e-3)):
        qkvg = [x.astype(dtype) for x in (case.q, case.k, case.v, grads[0])]
        got = backward(*qkvg[:3], case.gamma, qkvg[3], *(x.astype(np.float32) for x in (case.state, grads[1])))
        assert [x.dtype for x in got] == [dtype] * 3 + [np.float32]
        for ours, exact in zip(got, want, strict=True):
            assert contract.relative_rms(ours.astype(np.float64), exact) < bound


@forms
def test_empty_sequence_passes_the_gradient_through(form, backward):
    case = contract.problem(2, 3, 0, 4, 6)
    grad_state = np.ones((2, 3, 4, 6))
    *grads, dstate = backward(case.q, case.k, case.v, case.gamma, case.v, case.state, grad_state)
    assert [x.shape for x in grads] == [(2, 3, 0, 4), (2, 3, 0, 4), (2, 3, 0, 6)]
    assert np.array_equal(dstate, grad_state)
    assert dstate is not grad_state


@forms
def test_backward_refuses(form, backward):
    q, v, gamma, state = np.ones((1, 2, 3, 4)), np.ones((1, 2, 3, 5)), np.array([0.5, 1.0]), np.zeros((1, 2, 4, 5))
    for arguments, error, message in (
        ((q, q, v, gamma, q), ValueError, "grad_out must have shape (1, 2, 3, 5) (that of v), got (1, 2, 3, 4)"),
        ((q, q, v, gamma, v.astype(np.float32)), TypeError, "grad_out must have dtype float64 like q, got float32"),
        ((q, q, v, gamma, v, state, state[..., :4]), ValueError, "grad_state must have shape (1, 2, 4, 5)"),
        ((q, q, v, gamma, v, state, state.astype(np.float32)), TypeError, "grad_state must have dtype float64"),
        ((q, q, v, gamma, torch.ones(1, 2, 3, 5)), TypeError, "grad_out must be a NumPy array, got Tensor"),
        ((q, q, v, 2 * gamma, v), ValueError, "gamma must lie in (0, 1], got 2 at head 1"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            backward(*arguments)


def slope_is_right(function, x, grad, tolerance=1e-7):
    """grad is the gradient of sum(function(x) * weights) at x, along random directions."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        step = 1e-5 * rng.standard_normal(x.shape)
        assert np.isclose(
            (function(x + step) - function(x - step)) / 2, np.sum(grad * step), rtol=tolerance, atol=1e-13
        )


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


@pytest.mark.parametrize("operations", [layers.REFERENCE, TORCH], ids=["plain", "torch"])
@pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS)
def test_model_gradients_are_autograd_s(options, operations):
    """Every parameter and the state, relative 1e-10, in every ablation, from and to a state, in every form."""
    config = refimpl.RetNetConfig(**{"vocab_size": 11, "dim": 16, "num_layers": 2, "num_heads": 2} | options)
    rng = np.random.default_rng(5)
    params = refimpl.init_params(config, dtype=np.float64)
    for name, array in flatten(params).items():  # so that no norm weight is one and no gradient vanishes
        array += 0.1 * rng.standard_normal(array.shape) * (1 if "norm" in name else 0.3)
    state, position = None, 0
    if config.score_norm is None:
        position = 6
        state = refimpl.State(6, tuple(rng.standard_normal((2, 2, config.num_heads, config.key_dim, config.value_dim))))
    grad_logits = rng.standard_normal((2, 9, 11))
    grad_state = refimpl.State(
        0, tuple(rng.standard_normal((2, 2, config.num_heads, config.key_dim, config.value_dim)))
    )

    torch_params = on(contract.TORCH, params)
    leaves = flatten(torch_params)
    torch_state = None if state is None else refimpl.State(position, tuple(torch.from_numpy(s) for s in state.layers))
    for leaf in (*leaves.values(), *(() if state is None else torch_state.layers)):
        leaf.requires_grad_()
    logits, after = refimpl.forward(
        torch_params, torch.from_numpy(TOKENS), config, state=torch_state, operations=operations
    )
    loss = torch.sum(logits * torch.from_numpy(grad_logits))
    loss = loss + sum(torch.sum(s * torch.from_numpy(g)) for s, g in zip(after.layers, grad_state.layers, strict=True))
    loss.backward()

    offered = FORMS.values() if config.score_norm is None else [FORMS["parallel"]]
    for retention, backward in offered:
        grads, dstate = model_gradients(config, retention, backward, params, state, grad_state, grad_logits)
        named = flatten(grads)
        assert named.keys() == leaves.keys()
        for name, grad in named.items():
            want = leaves[name].grad.numpy()
            assert np.linalg.norm(want) > 0, name
            # Plain arithmetic cannot say that the sum of scores is to be a constant: torch goes through it.
            if config.score_norm is None or operations is TORCH:
                assert np.linalg.norm(grad - want) <= 1e-10 * np.linalg.norm(want), name
        if state is not None:
            for grad, leaf in zip(dstate.layers, torch_state.layers, strict=True):
                want = leaf.grad.numpy()
                assert np.linalg.norm(grad - want) <= 1e-10 * np.linalg.norm(want)


def test_model_gradients_are_slopes():
    """Finite differences of every kind of parameter of the default model, along a random direction."""
    config = refimpl.RetNetConfig(vocab_size=11, dim=8, num_layers=1, num_heads=2)
    params = refimpl.init_params(config, dtype=np.float64)
    grad_logits = np.random.default_rng(6).standard_normal((2, 9, 11))
    grads, _ = model_gradients(config, *FORMS["recurrent"], params, None, None, grad_logits)
    grads = flatten(grads)
    for name, array in flatten(params).items():
        grad = grads[name]
        original = array.copy()

        def loss(x, array=array):
            array[...] = x
            return np.sum(refimpl.forward(params, TOKENS, config)[0] * grad_logits)

        slope_is_right(loss, original, grad, tolerance=1e-4)
        array[...] = original


def test_a_record_of_another_model_is_refused():
    config = refimpl.RetNetConfig(num_layers=2)
    with pytest.raises(
        ValueError, match=re.escape("record must hold 3 entries, as forward(record=[]) leaves it, got 0")
    ):
        bw.backward({}, TOKENS, config, [], None)

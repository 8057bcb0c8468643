"""The model gives the same numbers on NumPy, torch and a strict array-API library, in every form and ablation."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
import torch
from ablations import ABLATIONS
from backends import BACKENDS, on, small_model
from backends import TORCH as TORCH_BACKEND

import refimpl
from gpu.models.operations import TORCH
from refimpl.compiled.kernels import retention_chunkwise_numba, retention_recurrent_numba, retention_step_numba
from refimpl.conformance.comparison import all_close, close
from refimpl.conformance.libraries import NUMPY
from refimpl.conformance.package import forms
from refimpl.layers import REFERENCE, Operations, erf, gelu, project, rms_norm, score_divisor, shared_phases, swish
from refimpl.model import block
from refimpl.score_norm import score_scale
from refimpl.tree import flatten, map_tree

CONFIG = refimpl.RetNetConfig(vocab_size=13, dim=24, num_layers=3, num_heads=2, value_dim=10, rotation="rotary")
TOKENS = np.random.default_rng(0).integers(0, 13, (2, 17))


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("form", forms(refimpl).values(), ids=forms(refimpl))
def test_logits_are_those_of_numpy(backend, form):
    params = refimpl.init_params(CONFIG, seed=1, dtype=np.float64)
    want, _ = refimpl.forward(params, TOKENS, CONFIG)
    tokens = backend.namespace.asarray(TOKENS)
    got, state = refimpl.forward(on(backend, params), tokens, CONFIG, retention=form)
    close(backend.to_numpy(got), want)
    assert state.position == 17
    assert [tuple(layer.shape) for layer in state.layers] == [(2, 2, 12, 10)] * 3


def test_empty_sequence_changes_nothing():
    params = refimpl.init_params(CONFIG, dtype=np.float64)
    _, state = refimpl.forward(params, TOKENS, CONFIG)
    logits, same = refimpl.forward(params, TOKENS[:, :0], CONFIG, state=state)
    assert logits.shape == (2, 0, 13)
    np.testing.assert_equal(tuple(same), tuple(state))


def test_init_is_seeded():
    first, again, other = (refimpl.init_params(CONFIG, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first["head"], again["head"])
    assert not np.array_equal(first["head"], other["head"])
    assert {array.dtype for array in flatten(first).values()} == {np.dtype(np.float32)}


def test_initialisations():
    """Deviations of large matrices; the default's bits do not change when it is named."""
    config = refimpl.RetNetConfig(dim=64, num_heads=2, num_layers=8)
    default, named, normal, depth = (
        flatten(refimpl.init_params(config, 3, np.float64, *given))
        for given in ((), ("default",), ("normal",), ("depth",))
    )
    for name, weight in default.items():
        np.testing.assert_array_equal(named[name], weight)
        if weight.ndim == 1:
            assert (normal[name] == 1).all()
            assert (depth[name] == 1).all()
            continue
        assert abs(normal[name].std() / 0.02 - 1) < 0.03, name
        factor = 0.25 if name.endswith(("w_o", "w_2")) else 1.0  # 1 / sqrt(2 x 8 layers)
        np.testing.assert_allclose(depth[name], factor * weight, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^initialisation must be one of 'default', 'normal', 'depth', got 'xavier'$"):
        refimpl.init_params(config, initialisation="xavier")


def test_norm_and_activation():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(rms_norm(x, np.array([1.0, 10.0]), eps=12.5), [[0.6, 8.0], [0, 0]])
    half = rms_norm(torch.full((2,), 300.0, dtype=torch.float16))  # 300^2 overflows float16: squared in float32
    assert half.tolist() == [1.0, 1.0]
    np.testing.assert_allclose(swish(np.array([1.0, -1.0])), [1 / (1 + np.exp(-1)), -1 / (1 + np.exp(1))])
    with pytest.raises(ValueError, match=r"weight must have shape \(2,\) \(the last axis of x\), got \(3,\)"):
        rms_norm(x, np.ones(3))


@pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS)
def test_every_choice_holds_in_every_form(options):
    """Float64 logits of all forms, in two parts and in any mix, within 1e-10; and the choice changes the function."""
    params, config = small_model(**options)
    want, end = refimpl.forward(params, TOKENS, config)
    if config.score_norm is not None:
        for call in (
            lambda: refimpl.forward(params, TOKENS, config, retention=refimpl.retention_recurrent),
            lambda: refimpl.forward(params, TOKENS, config, state=end),
        ):
            with pytest.raises(ValueError, match="score_norm must be None unless retention is retention_parallel"):
                call()
        return
    offered = list(forms(refimpl).values())
    for first, second in zip(offered, offered[::-1], strict=True):
        head, state = refimpl.forward(params, TOKENS[:, :7], config, retention=first)
        tail, state = refimpl.forward(params, TOKENS[:, 7:], config, retention=second, state=state)
        close(np.concatenate([head, tail], axis=1), want)
        all_close(state.layers, end.layers)


def test_every_choice_changes_something():
    seen = []
    for name, options in ABLATIONS.items():
        params, config = small_model(**{"num_layers": 1, "norm_eps": 1e-2} | options)
        params["layers"][0]["retention"]["w_q"] *= 40  # else no row of scores sums to more than 1, and score_norm rests
        logits, _ = refimpl.forward(params, TOKENS, config)
        same = [other for other, known in seen if known.shape == logits.shape and np.abs(known - logits).max() < 1e-9]
        assert same == [], f"{name} gives the logits of {same}"
        seen.append((name, logits))


@pytest.mark.parametrize("prefill", [refimpl.retention_chunkwise, retention_chunkwise_numba])
@pytest.mark.parametrize("step", [refimpl.retention_step, retention_step_numba])
def test_full_model_at_full_length(prefill, step):
    """4 layers, T = 300, float64: all forms, compiled or not, and decoding after a chunkwise prefill within 1e-10."""
    params, config = small_model(vocab_size=50, dim=32, num_layers=4, num_heads=4)
    tokens = np.random.default_rng(1).integers(0, 50, (1, 300))
    want, end = refimpl.forward(params, tokens, config, retention=refimpl.retention_recurrent)
    compiled = {"Numba recurrent": retention_recurrent_numba, "Numba chunkwise": retention_chunkwise_numba}
    for name, form in (forms(refimpl) | compiled).items():
        got, _ = refimpl.forward(params, tokens, config, retention=form)
        assert np.abs(got - want).max() < 1e-10, name
    _, state = refimpl.forward(params, tokens[:, :200], config, retention=prefill)
    for n in range(200, 300):
        logits, state = refimpl.forward(params, tokens[:, n : n + 1], config, retention=step, state=state)
        assert np.abs(logits[:, 0] - want[:, n]).max() < 1e-10
    all_close(state.layers, end.layers)


def test_row_norm_is_forgiven_and_score_norm_too_without_eps():
    """At eps = 0 the group norm takes any positive factor a token and head out again."""

    def logits(**options):
        params, config = small_model(**options)
        return refimpl.forward(params, TOKENS, config)[0]

    for options in ({"row_norm": True}, {"score_norm": "sum"}, {"score_norm": "absolute", "row_norm": True}):
        close(logits(norm_eps=0.0, **options), logits(norm_eps=0.0))
        if options.get("row_norm"):
            assert np.abs(logits(norm_eps=1e-3, **options) - logits(norm_eps=1e-3)).max() > 1e-3


def test_gelu_is_exact():
    x = np.linspace(-9, 9, 181)
    want = [0.5 * each * math.erfc(-each / math.sqrt(2)) for each in x]
    np.testing.assert_allclose(gelu(x), want, rtol=0, atol=1e-14)
    for function in (gelu, TORCH.gelu):
        np.testing.assert_allclose(function(torch.from_numpy(x)), want, rtol=0, atol=1e-14)


def test_phases_that_came_rounded_are_computed_again():
    """As those that FSDP hands to a layer in mixed precision."""
    params, config = small_model()
    params = map_tree(lambda _, x: torch.from_numpy(x).float(), params["layers"][0])
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 9, config.dim))).float()
    exact = shared_phases(x, config, 1000)
    want, _ = block(params, x, config, position=1000)
    for given in (exact, tuple(each.bfloat16() for each in exact)):
        got, _ = block(params, x, config, position=1000, phases=given)
        assert torch.equal(got, want)


def test_operations_are_used_in_every_layer():
    """Each as often as the layers ask for it, by forward and by decode_step, and with the same numbers in the record."""
    (params, config), calls, records = small_model(num_layers=3, score_norm="sum"), [], [[], []]

    def counted(name, operation):
        return lambda *args, **how: calls.append(name) or operation(*args, **how)

    spies = Operations(*map(counted, Operations._fields, TORCH))
    for library, operations, record in zip((NUMPY, TORCH_BACKEND), (REFERENCE, spies), records, strict=True):
        tokens = library.namespace.asarray(TOKENS)
        refimpl.forward(on(library, params), tokens, config, record=record, operations=operations)
    wanted = {
        "embed": 1,
        "linears": 3,
        "rms_norm": 3 * 3 + 1,
        "swish": 3 * 2,
        "stop_gradient": 3 * 2,
        "recomputed": 3,
        "turn_and_scale": 3 * 2,
    }
    assert Counter(calls) == wanted
    got, want = (flatten({"layers": record}) for record in records[::-1])
    assert got.keys() == want.keys()
    for name, array in want.items():
        if isinstance(array, np.ndarray):
            close(got[name].numpy(), array)

    calls.clear()
    params, config = small_model(num_layers=3, ffn="geglu")
    refimpl.decode_step(on(TORCH_BACKEND, params), torch.from_numpy(TOKENS[:, 0]), config, operations=spies)
    wanted = {
        "embed": 1,
        "linears": 3,
        "rms_norm": 3 * 2 + 1,
        "gated_norm": 3,
        "gelu": 3,
        "recomputed": 3,
        "turn_and_scale": 3 * 2,
    }
    assert Counter(calls) == wanted


@pytest.mark.parametrize("operations", [REFERENCE, TORCH], ids=["plain", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"ffn": "gelu", "group_norm": "mean"}], ids=["default", "paper"])
def test_torch_tensors_of_any_dtype_are_computed(options, dtype, operations):
    """Logits and the state, within some roundings of what float64 makes of the same weights."""
    params, config = small_model(seed=1, num_layers=3, **options)
    rounded = map_tree(lambda _, x: torch.from_numpy(x).to(dtype), params)
    exact = map_tree(lambda _, x: x.double().numpy(), rounded)
    want, end = refimpl.forward(exact, TOKENS, config)
    got, after = refimpl.forward(rounded, torch.from_numpy(TOKENS), config, operations=operations)
    assert got.dtype == dtype
    assert {layer.dtype for layer in after.layers} == {torch.float32}
    close(got.double().numpy(), want, 8 * torch.finfo(dtype).eps * np.abs(want).max())
    for layer, other in zip(after.layers, end.layers, strict=True):
        close(layer.double().numpy(), other, 8 * torch.finfo(dtype).eps * np.abs(other).max())


def test_row_sums_are_those_of_the_mask():
    gamma = np.array([1e-3, 0.5, 31 / 32, 1 - 2.0**-30, 1.0])
    for position in (0, 5):
        mask = refimpl.decay_mask(gamma, 40 + position)
        np.testing.assert_allclose(refimpl.row_sums(gamma, 40, position), mask.sum(axis=2)[:, position:], rtol=1e-14)


def test_positions_may_be_given_for_every_token():
    """As row by row for the positions of first tokens, and in any order."""
    x, gamma = np.random.default_rng(0).standard_normal((2, 3, 4, 6)), np.array([0.5, 0.99, 1.0])
    first = np.array([5, 0])
    every = first[:, None] + np.arange(4)
    close(refimpl.rotate(x, every), refimpl.rotate(x, first))
    close(refimpl.rotate(x[:, :, ::-1], every[:, ::-1])[:, :, ::-1], refimpl.rotate(x, first))
    close(refimpl.row_sums(gamma, 4, every), refimpl.row_sums(gamma, 4, first))
    for call in (lambda bad: refimpl.rotate(x, bad), lambda bad: refimpl.row_sums(gamma, 4, bad)):
        with pytest.raises(ValueError, match=r"must have shape \(2, 4\) \(one for each token\), got \(2, 3\)"):
            call(every[:, :3])


@pytest.mark.parametrize("between", [(), (3,), (3, 2)])
def test_each_sequence_is_rotated_from_its_own_position(between):
    x, first = np.random.default_rng(0).standard_normal((2, *between, 4, 6)), np.array([5, 0])
    alone = np.stack([refimpl.rotate(row, int(position)) for row, position in zip(x, first, strict=True)])
    close(refimpl.rotate(x, first), alone)
    close(refimpl.rotate(x, first[:, None] + np.arange(4)), alone)
    with pytest.raises((TypeError, ValueError), match=r"^offset must "):  # one text has one position
        refimpl.rotate(np.ones((4, 6)), np.arange(4))


def test_the_error_function_is_exact():
    x = np.linspace(-9, 9, 1801)
    close(erf(x), np.array([math.erf(value) for value in x]), 1e-14)


def test_defaults_of_layers_are_those_they_name():
    config = refimpl.RetNetConfig(vocab_size=13, dim=24, num_heads=2, row_norm=True)
    params, x = refimpl.init_params(config, dtype=np.float64), np.random.default_rng(0).standard_normal((2, 5, 24))
    close(rms_norm(1e-3 * x), rms_norm(1e-3 * x, eps=1e-6))
    projected = project(params["layers"][0]["retention"], x, config)
    all_close(projected, project(params["layers"][0]["retention"], x, config, 0))
    q, k, _, gamma = projected
    close(score_divisor(q, k, gamma, config), score_divisor(q, k, gamma, config, position=0))


def test_a_row_norm_and_a_score_norm_divide_both():
    rows = refimpl.RetNetConfig(vocab_size=13, dim=24, num_heads=2, row_norm=True)
    both = dataclasses.replace(rows, score_norm="sum")
    q, k = np.random.default_rng(0).standard_normal((2, 2, 2, 5, 12))
    gamma = np.array([0.9, 0.5])
    want = score_divisor(q, k, gamma, rows) * score_scale(q, k, gamma, "sum", True)
    close(score_divisor(q, k, gamma, both), want)

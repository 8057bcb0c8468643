"""The model is one function whatever carries it: NumPy, torch or a strict array-API library."""

import contract
import numpy as np
import pytest
import torch

import refimpl
from gpu.module import RetNet
from refimpl.layers import rms_norm, swish

CONFIG = refimpl.RetNetConfig(vocab_size=13, dim=24, num_layers=3, num_heads=2, value_dim=10, rotation="rotary")
TOKENS = np.random.default_rng(0).integers(0, 13, (2, 17))


def on(backend, tree):
    """A nested dict of NumPy arrays on another library."""
    if isinstance(tree, dict):
        return {name: on(backend, branch) for name, branch in tree.items()}
    return [on(backend, branch) for branch in tree] if isinstance(tree, list) else backend.asarray(tree)


@pytest.mark.parametrize("backend", contract.BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("form", contract.forms(refimpl).values(), ids=contract.forms(refimpl))
def test_logits_are_those_of_numpy(backend, form):
    params = refimpl.init_params(CONFIG, seed=1, dtype=np.float64)
    want, _ = refimpl.forward(params, TOKENS, CONFIG)
    tokens = backend.namespace.asarray(TOKENS)
    got, state = refimpl.forward(on(backend, params), tokens, CONFIG, retention=form)
    contract.close(backend.to_numpy(got), want)
    assert state.position == 17
    assert [tuple(layer.shape) for layer in state.layers] == [(2, 2, 12, 10)] * 3


def test_torch_module_is_the_same_model():
    model = RetNet(CONFIG, seed=1, dtype=torch.float64)
    want, _ = refimpl.forward(refimpl.init_params(CONFIG, seed=1, dtype=np.float64), TOKENS, CONFIG)
    got, _ = model(torch.from_numpy(TOKENS))
    contract.close(got.detach().numpy(), want)
    assert all(parameter.requires_grad for parameter in model.parameters())
    got.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_empty_sequence_changes_nothing():
    params = refimpl.init_params(CONFIG, dtype=np.float64)
    _, state = refimpl.forward(params, TOKENS, CONFIG)
    logits, same = refimpl.forward(params, TOKENS[:, :0], CONFIG, state=state)
    assert logits.shape == (2, 0, 13)
    assert same.position == state.position
    for got, want in zip(same.layers, state.layers, strict=True):
        assert np.array_equal(got, want)


def test_init_is_seeded_and_bounded():
    first, again, other = (refimpl.init_params(CONFIG, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first["head"], again["head"])
    assert not np.array_equal(first["head"], other["head"])
    w_q, w_o = (first["layers"][0]["retention"][name] for name in ("w_q", "w_o"))
    assert w_q.dtype == np.float32
    for weight, gain in ((w_q, 2**-2.5), (w_o, 0.5)):  # Xavier: uniform within gain sqrt(6 / (inputs + outputs))
        bound = gain * (6 / sum(weight.shape)) ** 0.5
        assert 0.9 * bound < np.abs(weight).max() <= bound * (1 + 1e-6)


def test_norm_and_activation():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(rms_norm(x, np.array([1.0, 10.0]), eps=12.5), [[0.6, 8.0], [0, 0]])
    half = rms_norm(torch.full((2,), 300.0, dtype=torch.float16))  # 300^2 overflows float16: squared in float32
    assert half.tolist() == [1.0, 1.0]
    np.testing.assert_allclose(swish(np.array([1.0, -1.0])), [1 / (1 + np.exp(-1)), -1 / (1 + np.exp(1))])
    with pytest.raises(ValueError, match=r"weight must have shape \(2,\) \(the last axis of x\), got \(3,\)"):
        rms_norm(x, np.ones(3))

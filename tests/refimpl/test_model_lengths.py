"""The model on texts of different lengths: logits, states and gradients of each are those that it has alone."""

import numpy as np
import pytest
import torch
from ablations import ABLATIONS
from backends import BACKENDS, TORCH, on, small_model
from ragged import LENGTHS, by_layout, keywords, lay, spans

import refimpl
from refimpl import backward, retention_chunkwise, retention_parallel, retention_recurrent
from refimpl.conformance.comparison import all_close, close
from refimpl.tree import flatten

TEXTS = [np.random.default_rng(n).integers(0, 13, (1, n)) for n in LENGTHS]


def alone(params, config, tokens, state=None):
    return refimpl.forward(params, tokens, config, retention=retention_recurrent, state=state)


@by_layout
@pytest.mark.parametrize("name", [name for name, options in ABLATIONS.items() if "score_norm" not in options])
def test_a_model_reads_every_text_as_alone_and_goes_on(name, layout):
    """From the start, then more tokens of each, then a step; the forms change from call to call."""
    (params, config), texts = small_model(**ABLATIONS[name]), TEXTS
    states, before = [None] * 6, None
    for form, lengths in zip((retention_parallel, retention_chunkwise), (LENGTHS, LENGTHS[::-1]), strict=True):
        tokens = lay(layout, texts, 1, fill=-100)
        logits, before = refimpl.forward(
            params, tokens, config, retention=form, state=before, **keywords(layout, lengths)
        )
        for s, place in enumerate(spans(layout, lengths)):
            want, states[s] = alone(params, config, texts[s], states[s])
            row, span = place
            close(logits[row : row + 1, span], want)
            assert before.position[s] == states[s].position
            all_close([layer[s : s + 1] for layer in before.layers], states[s].layers)
        texts = TEXTS[::-1]
    tokens = np.array([1, 2, 3, 4, 5, 6])
    logits, after = refimpl.decode_step(params, tokens, config, before)
    for s in range(6):
        want, _ = refimpl.decode_step(params, tokens[s : s + 1], config, states[s])
        close(logits[s : s + 1], want)
    assert after.position.tolist() == [n + m + 1 for n, m in zip(LENGTHS, LENGTHS[::-1], strict=True)]


@by_layout
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_model_of_every_library(backend, layout):
    params, config = small_model(row_norm=True)
    tokens = lay(layout, TEXTS, 1, fill=99)
    want, end = refimpl.forward(params, tokens, config, **keywords(layout))
    given = keywords(layout, backend=backend)
    got, state = refimpl.forward(on(backend, params), backend.namespace.asarray(tokens), config, **given)
    close(backend.to_numpy(got), want)
    all_close([backend.to_numpy(x) for x in state.layers], end.layers)
    assert [int(n) for n in state.position] == list(LENGTHS)


@by_layout
@pytest.mark.parametrize("name", ["default", "paper", "flash-linear-attention", "raw scores"])
def test_gradients_of_a_model_are_the_sum_of_those_of_each(name, layout):
    """By torch, and by hand in NumPy."""
    params, config = small_model(**ABLATIONS[name])
    leaves = on(TORCH, params)
    for x in flatten(leaves).values():
        x.requires_grad_()
    tokens = lay(layout, TEXTS, 1, fill=-1)
    logits, state = refimpl.forward(leaves, torch.from_numpy(tokens), config, **keywords(layout, backend=TORCH))
    weights = torch.zeros_like(logits)
    total, draw = 0.0, torch.Generator().manual_seed(0)
    for s, (row, span) in enumerate(spans(layout)):
        drawn = torch.randn(weights[row, span].shape, generator=draw, dtype=torch.float64)
        weights[row, span] = drawn
        apart, after = alone(leaves, config, torch.from_numpy(TEXTS[s]))
        total = total + (apart[0] * drawn).sum() + sum(x.sum() for x in after.layers)
    names = list(flatten(leaves))
    want = torch.autograd.grad(total, flatten(leaves).values())
    loss = (logits * weights).sum() + sum(x.sum() for x in state.layers)
    got = torch.autograd.grad(loss, flatten(leaves).values(), retain_graph=True)
    for one, other in zip(got, want, strict=True):
        close(one.numpy(), other.numpy())

    record = []
    _, end = refimpl.forward(params, tokens, config, record=record, **keywords(layout))
    ones = refimpl.State(0, tuple(np.ones_like(x) for x in end.layers))
    grads, _ = backward.backward(params, tokens, config, record, weights.numpy(), grad_state=ones)
    for key, other in zip(names, want, strict=True):
        close(flatten(grads)[key], other.numpy())
    everywhere = torch.ones_like(logits)  # also of the logits at padding, which mean nothing but are differentiable
    want = torch.autograd.grad(logits, flatten(leaves).values(), everywhere)
    grads, _ = backward.backward(params, tokens, config, record, everywhere.numpy())
    for key, other in zip(names, want, strict=True):
        close(flatten(grads)[key], other.numpy())


def test_an_attention_mask_is_its_sums():
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    params, config = small_model()
    tokens = np.array([[0, 0, 5, 6], [1, 2, 3, 4]])
    logits, _ = refimpl.forward(params, tokens, config, lengths=mask.sum(1), padding="left")
    close(logits[:1, 2:], refimpl.forward(params, tokens[:1, 2:], config)[0])

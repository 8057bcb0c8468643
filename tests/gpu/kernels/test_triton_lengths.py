"""The fused kernels on sequences of different lengths: what they give for each alone, with gradients."""

import numpy as np
import pytest
import torch
from ragged import at, by_layout, keywords, padding_of, sequences, spans, together

import refimpl
from refimpl.conformance.libraries import library

pytest.importorskip("triton", reason="Triton is not installed; it has packages for Linux alone")

from gpu.kernels.triton_retention import retention_chunkwise_triton

ON_GPU = torch.cuda.is_available()  # else conftest.py asks for the interpreter
DEVICE = "cuda" if ON_GPU else "cpu"
TORCH = library("torch", device=DEVICE)
LENGTHS = (70, 0, 1, 64)  # chunks are of 64 tokens
BOUNDS = {torch.float32: 1e-6, torch.bfloat16: 5e-3 if ON_GPU else 1.2e-2}  # as in test_triton.py


@by_layout
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("dtype", BOUNDS, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_each_gets_what_it_gets_alone(dtype, with_state, layout):
    each = list(sequences(with_state, LENGTHS, key_dim=16, value_dim=24, heads=2))
    *tokens, states = together(layout, each)
    leaves = [TORCH.asarray(x).to(dtype).requires_grad_() for x in tokens]
    leaves += [] if states is None else [TORCH.asarray(states).float().requires_grad_()]
    gamma = TORCH.asarray(np.array([31 / 32, 1 - 2.0**-20]))
    given = keywords(layout, LENGTHS, TORCH) | ({"max_length": 70} if layout == "packed" else {})
    out, after = retention_chunkwise_triton(*leaves[:3], gamma, *leaves[3:], **given)
    assert (out.dtype, after.dtype) == (dtype, torch.float32)
    draw = torch.Generator().manual_seed(1)
    weights, state_weights = (torch.randn(x.shape, generator=draw).to(x) for x in (out, after))
    grads = torch.autograd.grad((out, after), leaves, (weights, state_weights))

    got, want = [[] for _ in range(6)], [[] for _ in range(6)]
    for s, place in enumerate(spans(layout, LENGTHS, 70)):
        apart = [at(x, place).detach().double().requires_grad_() for x in leaves[:3]]
        apart += [x[s : s + 1].detach().double().requires_grad_() for x in leaves[3:]]
        results = refimpl.retention_parallel(*apart[:3], gamma, *apart[3:])
        wanted = torch.autograd.grad(
            results, apart, (at(weights, place).double(), state_weights[s : s + 1].double()),
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        mine = at(out, place), after[s : s + 1], *(at(x, place) for x in grads[:3]), *(x[s : s + 1] for x in grads[3:])
        for x, y, one, other in zip(got, want, mine, (*results, *wanted), strict=False):
            x.append(one.detach().double().flatten())
            y.append(other.detach().flatten())
    for x, y in zip(got[: 5 + with_state], want[: 5 + with_state], strict=True):
        x, y = torch.cat(x), torch.cat(y)
        assert (x - y).norm() <= BOUNDS[dtype] * y.norm()
    for x in (out, *grads[:3]):
        assert not padding_of(layout, x.detach().float().cpu().numpy(), LENGTHS).any()


@by_layout
def test_a_model_takes_them(layout):
    """RetNet passes the keywords on, also under autocast."""
    from gpu.models.retnet import RetNet

    model = RetNet(refimpl.RetNetConfig(vocab_size=11, dim=32, num_layers=2, num_heads=2), seed=1).to(DEVICE)
    texts = [torch.randint(11, (1, n), generator=torch.Generator().manual_seed(n)).to(DEVICE) for n in (20, 3)]
    row = torch.nn.functional.pad(texts[1], (0, 17) if layout == "right" else (17, 0), value=-100)
    tokens = torch.cat(texts, 1 if layout == "packed" else 0) if layout == "packed" else torch.cat([texts[0], row])
    given = keywords(layout, (20, 3), TORCH) | ({"max_length": 20} if layout == "packed" else {})
    for context in (torch.autocast(DEVICE, enabled=False), torch.autocast(DEVICE, torch.bfloat16)):
        with torch.no_grad(), context:
            logits, state = model(tokens, retention=retention_chunkwise_triton, **given)
            for s, (row, span) in enumerate(spans(layout, (20, 3), 20)):
                want, end = model(texts[s], retention=retention_chunkwise_triton)
                bound = 1e-5 if logits.dtype == torch.float32 else 3e-2
                assert (logits[row, span] - want[0]).norm() <= bound * want.norm()
                for layer, wanted in zip(state.layers, end.layers, strict=True):
                    assert (layer[s] - wanted[0]).norm() <= bound * wanted.norm()
        assert state.position.tolist() == [20, 3]

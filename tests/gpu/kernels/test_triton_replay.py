"""The fused step of replay decoding: that of the reference at each number of kept tokens, on buffers that it writes as said."""

import re
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

import refimpl
from refimpl.replay import ReplayState

pytest.importorskip("triton", reason="Triton is not installed")

from gpu.kernels.registry import RETENTIONS
from gpu.kernels.triton_replay import replay_step_triton
from gpu.models.retnet import RetNet
from gpu.sampling import generate as generation
from gpu.sampling.generate import GraphedReplay, Step, prefill

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"  # on a CPU in Triton's interpreter, which conftest.py turns on


def case(dtype=torch.float32, length=4, key_dim=24, value_dim=40, batch=2, heads=3, time=13, seed=0):
    """(q, k, v (B, H, T, ·), gamma, buffers of length tokens after a random state)."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape)).to(DEVICE)  # noqa: E731
    q, k = (draw(batch, heads, time, key_dim).to(dtype) for _ in range(2))
    v = draw(batch, heads, time, value_dim).to(dtype)
    gamma = torch.tensor([1.0, 0.5, 0.9991, 31 / 32, 1e-3][:heads], dtype=torch.float64, device=DEVICE)
    unread = [
        torch.full((batch, heads, length, n), torch.nan, dtype=dtype, device=DEVICE) for n in (key_dim, value_dim)
    ]
    return q, k, v, gamma, ReplayState(draw(batch, heads, key_dim, value_dim).float(), *unread)


def steps(q, k, v, gamma, buffers):
    """(out of all tokens, how many are kept after each)."""
    outs, kept, slots = [], [], 0
    for n in range(q.shape[2]):
        outs.append(replay_step_triton(*(x[:, :, n : n + 1] for x in (q, k, v)), gamma, buffers, slots))
        slots = slots % buffers.k.shape[2] + 1
        kept.append(slots)
    return torch.cat(outs, dim=2), kept


SHAPES = [{"time": 9}, {"length": 1, "time": 4}, {"length": 16, "time": 18, "batch": 1}, {"length": 17, "time": 19, "batch": 1},
          {"key_dim": 1, "value_dim": 1}, {"key_dim": 300, "value_dim": 33, "length": 3, "time": 5}, {"heads": 5, "batch": 1, "time": 6}]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_are_those_of_the_reference(dtype, shape):
    """From a state, past several writings; what stands in places that are not kept, NaN at first, is not read.

    Halves to a unit in the last place: the interpreter rounds towards 0.
    """
    q, k, v, gamma, buffers = case(dtype, **shape)
    wide = [x.double() for x in (q, k, v)]
    before, length = buffers.state.clone(), buffers.k.shape[2]
    want, _ = refimpl.retention_recurrent(*wide, gamma, before.double())
    got, kept = steps(q, k, v, gamma, buffers)
    assert got.dtype == dtype
    scale = want.abs().amax(dim=-1, keepdim=True)
    assert ((got.double() - want).abs() / scale).max() < (2e-6 if dtype == torch.float32 else 2**-7)
    unwritten = q.shape[2] - kept[-1]  # the state is that of the tokens before those that are kept
    assert unwritten % length == 0
    old = [x[:, :, :unwritten] for x in wide]
    state = refimpl.retention_recurrent(*old, gamma, before.double())[1]
    torch.testing.assert_close(buffers.state.double(), state, rtol=1e-5, atol=1e-5)
    assert torch.equal(buffers.k[:, :, : kept[-1]], k[:, :, unwritten:])
    assert torch.equal(buffers.v[:, :, : kept[-1]], v[:, :, unwritten:])


def test_a_state_is_written_when_all_places_are_taken():
    q, k, v, gamma, buffers = case(length=4)
    before, written = buffers.state.clone(), []
    for n in range(9):
        slots = n and (n - 1) % 4 + 1
        replay_step_triton(*(x[:, :, n : n + 1] for x in (q, k, v)), gamma, buffers, slots)
        written.append(not torch.equal(buffers.state, before))
        before = buffers.state.clone()
    assert written == [False] * 4 + [True] + [False] * 3 + [True]


def test_arrays_may_lie_anyhow():
    q, k, v, gamma, buffers = case(time=1)
    want = replay_step_triton(q, k, v, gamma, ReplayState(*(x.clone() for x in buffers[:3])), 0)
    spread = [
        x.mT.contiguous().mT.expand(2, 3, 1, x.shape[3]).transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v)
    ]
    assert torch.equal(replay_step_triton(*spread, gamma, buffers, 0), want)


@pytest.mark.parametrize("length", [1, 3])
def test_a_model_decodes_with_it(length, monkeypatch):
    """In graphs; without a GPU a graph that computes anew stands in for one that replays."""

    def record(call, _):
        result, graph = call(), MagicMock()
        graph.replay = lambda: result.copy_(call())
        return graph, result

    model = RetNet(refimpl.RetNetConfig(vocab_size=11, dim=16, num_layers=2, num_heads=2), seed=3).to(DEVICE)
    past = prefill(model, [torch.tensor([1, 2, 3], device=DEVICE), torch.tensor([4], device=DEVICE)])
    if not ON_GPU:
        monkeypatch.setattr(torch, "cuda", MagicMock())
        monkeypatch.setattr(generation, "record", record)
    graphed = GraphedReplay(model, past.state, length=length, step=RETENTIONS["triton"].replay_step())
    eager = Step(model, past.state)
    for n in range(7):
        tokens = torch.tensor([n, 10 - n], device=DEVICE)
        torch.testing.assert_close(graphed(tokens), eager(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"slots": 5}, ValueError, "slots must be at most 4, for which buffers.k has room, got 5"),
        ({"slots": 1.0}, TypeError, "slots must be an integer, got 1.0 (float)"),
        ({"time": 2}, ValueError, "q must hold one token"),
        ({"k": lambda x: x[:1]}, ValueError, "buffers.k must have shape (2, 3, 4, 24)"),
        ({"v": lambda x: x[..., :3]}, ValueError, "buffers.v must have shape (2, 3, 4, 40)"),
        ({"v": lambda x: x.bfloat16()}, TypeError, "buffers.v must have dtype torch.float32 like q, got torch.bfloat16"),
        ({"k": lambda x: x.mT.contiguous().mT}, ValueError, "buffers.k must be contiguous, got strides"),
        ({"state": lambda x: x.double()}, TypeError, "state must have dtype torch.float32"),
        ({"kept": lambda _: torch.ones(2)}, ValueError, "buffers.kept must be None"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changes, error, message):
    q, k, v, gamma, buffers = case(time=changes.get("time", 1))
    for name in buffers._fields:
        if name in changes:
            buffers = buffers._replace(**{name: changes[name](getattr(buffers, name))})
    with pytest.raises(error, match=re.escape(message)):
        replay_step_triton(q, k, v, gamma, buffers, changes.get("slots", 0))

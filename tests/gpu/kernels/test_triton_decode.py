"""The fused step of a whole model: that of the reference for every choice of a config, at each batch, dtype and tiling."""

import re
from unittest.mock import MagicMock

import anew
import pytest
import torch

import refimpl

pytest.importorskip("triton", reason="Triton is not installed")

from gpu.kernels import triton_model_step as fused
from gpu.kernels.registry import RETENTIONS
from gpu.kernels.triton_model_step import MOST, FusedStep, why_not
from gpu.models.retnet import RetNet
from gpu.sampling import generate as generation
from gpu.sampling.generate import GraphedStep, Step

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"  # on a CPU in Triton's interpreter, which conftest.py turns on
SMALL = {"vocab_size": 11, "dim": 16, "num_layers": 2, "num_heads": 2}
ODD = {"vocab_size": 71, "dim": 75, "num_layers": 1, "num_heads": 3, "key_dim": 22, "value_dim": 37, "ffn_dim": 83}
# Of the largest logit. Seen: 6e-7, 4e-4 and, cut off by the interpreter where a GPU rounds, 1.5e-2.
BOUNDS = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 3e-2}


def case(batch=1, dtype=torch.float32, **choices):
    """A model whose norms have weights of their own, and a state at positions far apart."""
    config = refimpl.RetNetConfig(**SMALL | choices)
    model, draw = RetNet(config, seed=3), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight += 0.3 * torch.randn(weight.shape, generator=draw)
    shape = batch, config.num_heads, config.key_dim, config.value_dim
    layers = tuple(torch.randn(shape, generator=draw).to(DEVICE) for _ in range(config.num_layers))
    return model.to(DEVICE, dtype), refimpl.State(torch.arange(batch, device=DEVICE) * 100_003 + 3, layers)


def copied(state, dtype=torch.float32):
    return refimpl.State(state.position.clone(), tuple(layer.to(dtype, copy=True) for layer in state.layers))


def errors(model, state, steps=2):
    """Of logits, and of the states after the last step, against the reference in float64: shares of the largest."""
    wide = RetNet(model.config, seed=None, dtype=torch.float64).to(DEVICE)
    wide.load_state_dict(model.state_dict())
    got, want, found = FusedStep(model, copied(state)), Step(wide, copied(state, torch.float64)), []
    for n in range(steps):
        tokens = (3 * torch.arange(len(state.position), device=DEVICE) + n) % model.config.vocab_size
        logits, wanted = got(tokens), want(tokens)
        assert logits.dtype == model.embedding.dtype
        found.append((logits - wanted).abs().max() / wanted.abs().max())
    assert torch.equal(got.state.position, want.state.position)
    pairs = zip(got.state.layers, want.state.layers, strict=True)
    return max(found), max((a - b).abs().max() / b.abs().max() for a, b in pairs)


CHOICES = [
    {}, ODD, {"gate": False}, {"group_norm": "mean"}, {"group_norm": None}, {"group_norm": None, "gate": False},
    {"group_norm": "mean", "group_norm_affine": True, "rotation": "rotary", "norm_eps": 0.1},
    {"group_norm_affine": True, "gate": False, "rotation": None, "ffn": "gelu"},
    {"ffn": "geglu", "scale_keys": False, "embedding_scale": 3.0, "gamma_schedule": "paper"},
    {"gamma_schedule": 1.0, "num_heads": 1, "dim": 1, "key_dim": 2, "value_dim": 1, "ffn_dim": 1, "vocab_size": 2},
]  # fmt: skip


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_steps_are_those_of_the_reference(choices):
    assert max(errors(*case(**choices))) < BOUNDS[torch.float32]


@pytest.mark.parametrize("choices", [ODD, CHOICES[6]], ids=str)
def test_sequences_go_on_side_by_side(choices):
    assert max(errors(*case(3, **choices))) < BOUNDS[torch.float32]


@pytest.mark.parametrize("choices", [ODD, CHOICES[6], CHOICES[7], {"group_norm": None, "gate": False}], ids=str)
def test_many_sequences_share_a_kernel_between_products(choices, monkeypatch):
    monkeypatch.setattr(fused, "MOST", 2)
    monkeypatch.setattr(fused, "MANY", fused.MANY | {"numbers": 256})
    model, state = case(3, **choices)
    assert [fused.are_few(n, model.config) for n in (1, 2, 3)] == [True, True, False]
    assert not FusedStep(model, copied(state)).few
    assert max(errors(model, state, 1)) < BOUNDS[torch.float32]


@pytest.mark.parametrize(("dtype", "batch"), [(torch.float16, 1), (torch.bfloat16, 1), (torch.bfloat16, 5)])
def test_halves_are_rounded_once(dtype, batch):
    logits, states = errors(*case(batch, dtype, **ODD), 1)
    assert logits < BOUNDS[dtype]
    assert states < BOUNDS[dtype] / 10  # one layer: they come before most roundings


@pytest.mark.parametrize("batch", [1, MOST])
def test_products_are_split_and_states_read_in_blocks(batch, monkeypatch):
    """Several blocks of rows in each of several splits; keys wider than a tile."""
    monkeypatch.setattr(fused, "TILES", fused.TILES | {"row": 64, "numbers": 256, "programs": 8})
    monkeypatch.setattr(fused, "STATE", fused.STATE | {"BK": 64})
    monkeypatch.setattr(fused.common, "multiprocessors", lambda device: 4)
    model, state = case(batch, **ODD | {"num_heads": 1, "key_dim": 70, "dim": 70, "ffn_dim": 80})
    step = FusedStep(model, copied(state))
    assert [each.splits for each in (step.read, step.merge, step.widen, step.narrow, step.head)] == [2, 3, 3, 5, 1]
    assert step.read.tiles["BK"] == 16
    assert step.tiles["BK"] == 64
    assert max(errors(model, state, 1)) < BOUNDS[torch.float32]


@pytest.mark.parametrize("choices", [{}, ODD, CHOICES[3], CHOICES[4], CHOICES[6], CHOICES[7], CHOICES[9]], ids=str)
def test_inputs_of_a_wide_model_are_prepared(choices, monkeypatch):
    """In several programs each, and products in several of several tiles."""
    monkeypatch.setattr(fused, "WIDE", 1)
    monkeypatch.setattr(fused, "PREPARED", fused.PREPARED | {"row": 64, "bytes": 1024, "tiles": 2})
    monkeypatch.setattr(fused, "GATHER", fused.GATHER | {"BK": 16})
    model, state = case(**choices)
    step = FusedStep(model, copied(state))
    assert step.widen.tiles["BK"] == 16
    assert step.widen.splits == fused.common.blocks(model.config.dim, 32)
    assert step.widen.sums == fused.common.blocks(model.config.dim, 16)
    assert max(errors(model, state, 1)) < BOUNDS[torch.float32]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_prepared_inputs_are_float32(dtype, monkeypatch):
    monkeypatch.setattr(fused, "WIDE", 1)
    model, state = case(1, dtype, **ODD)
    assert FusedStep(model, copied(state)).merge.vector.dtype == torch.float32
    logits, states = errors(model, state, 1)
    assert logits < BOUNDS[dtype]
    assert states < BOUNDS[dtype] / 10


@pytest.mark.parametrize(("batch", "dim", "prepared"), [(1, 16, True), (2, 16, False), (1, 15, False)])
def test_one_sequence_of_a_wide_model_has_prepared_products(batch, dim, prepared, monkeypatch):
    monkeypatch.setattr(fused, "WIDE", 16)
    model, state = case(batch, dim=dim, key_dim=8, value_dim=16, ffn_dim=16)
    assert isinstance(FusedStep(model, state).read, fused._Prepared) == prepared


def test_wide_models_leave_the_products_of_several_sequences_to_torch(monkeypatch):
    config = refimpl.RetNetConfig(**SMALL)
    monkeypatch.setattr(fused, "NARROW", config.dim - 1)
    assert [fused.are_few(n, config) for n in (1, 2)] == [True, False]


def test_the_same_bits_again_and_nothing_is_read_before_it_is_written():
    """Memory that nobody has written to is NaN."""
    model, state = case(2, **ODD)
    torch.use_deterministic_algorithms(True)
    try:
        steps = [FusedStep(model, copied(state)) for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert steps[0].read.out.isnan().all()
    tokens = torch.tensor([3, 5], device=DEVICE)
    first, second = (step(tokens) for step in steps)
    assert torch.isfinite(first).all()
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(steps[0].state.layers, steps[1].state.layers, strict=True))


def test_a_sequence_is_alone_in_its_batch():
    model, state = case(4)
    tokens = torch.tensor([1, 2, 3, 4], device=DEVICE)
    want = FusedStep(model, copied(state))(tokens)
    other = refimpl.State(state.position, tuple(torch.cat([x[:1], 9 * x[1:]]) for x in state.layers))
    got = FusedStep(model, copied(other))(tokens)
    assert torch.equal(got[0], want[0])
    assert not torch.equal(got[1], want[1])


REASONS = {
    "row_norm": ({"row_norm": True}, None, "the model must have no row_norm and no score_norm"),
    "score_norm": ({"score_norm": "sum"}, None, "the model must have no row_norm and no score_norm"),
    "float64": ({"dtype": torch.float64}, None, "must be float32, bfloat16 or float16, got torch.float64"),
    "width": ({"batch": MOST + 1, "value_dim": 4097}, None, "value_dim must be at most 4096 beside torch's products, got 4097"),
    "position": ({}, lambda state: state._replace(position=3), "state.position must be a tensor (B,), got int"),
    "no state": ({}, lambda state: state._replace(layers=(None, None)), "must be contiguous float32 (1, 2, 8, 16) on"),
    "batch": ({}, lambda state: state._replace(position=state.position.repeat(2)), "must be contiguous float32 (2, 2, 8, 16)"),
    "depth": ({}, lambda state: state._replace(layers=state.layers[:1]), "the state of each layer must be"),
    "strides": (
        {}, lambda state: state._replace(layers=tuple(x.mT.contiguous().mT for x in state.layers)), "must be contiguous float32"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_what_it_does_not_take_has_a_reason(name):
    """And is left to the layers, one after another."""
    choices, change, reason = REASONS[name]
    model, state = case(**choices)
    state = change(state) if change else state
    assert reason in why_not(model, state)
    assert RETENTIONS["triton"].model_step(model, state) is None
    with pytest.raises(ValueError, match=re.escape(reason)):
        FusedStep(model, state)


def test_weights_that_lie_otherwise_have_a_reason():
    model, state = case(ffn_dim=16)
    assert why_not(model, state) is None
    weight = model.layers[1].ffn.w_2
    weight.data = weight.data.t()
    assert why_not(model, state) == "parameters must be contiguous and all torch.float32"


@pytest.mark.parametrize("choices", [{}, {"row_norm": True}], ids=str)
def test_the_graph_takes_it_where_it_can(choices, monkeypatch):
    """Without a GPU, a graph that computes anew stands in for one that replays."""
    model, state = case(2, **choices)
    if not ON_GPU:
        monkeypatch.setattr(generation, "record", anew.record)
        monkeypatch.setattr(torch.cuda, "device", MagicMock())
    graphed = GraphedStep(model, state, fused=RETENTIONS["triton"].model_step)
    eager, before = Step(model, copied(state)), state.position.clone()
    assert isinstance(graphed.step, FusedStep) == (not choices)
    for n in range(2):
        tokens = torch.tensor([n, 10 - n], device=DEVICE)
        torch.testing.assert_close(graphed(tokens), eager(tokens), rtol=1e-4, atol=1e-5)
    assert torch.equal(graphed.buffers.position, before + 2)
    assert torch.equal(state.position, before)

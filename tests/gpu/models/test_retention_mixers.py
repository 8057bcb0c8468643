"""Retention as a mixer, gated retention, and hybrids with attention: each against the reference, and what they keep."""

import numpy as np
import pytest
import torch

from gpu.models.baseline import Baseline, BaselineConfig
from gpu.models.build import build, numbers_kept
from gpu.models.gated_retention import TEMPERATURE, gated_retention
from gpu.models.registry import HYBRID_COLOURS, MODELS, look
from gpu.numerics import autocast, layer_caller, numerics
from gpu.training.config import RunConfig
from gpu.training.step import Trainer
from refimpl import head_decays
from refimpl.family import gated_retention_parallel, gated_retention_recurrent
from refimpl.layers import multi_scale_retention

SMALL = {"vocab_size": 17, "dim": 32, "num_layers": 2, "num_heads": 4, "ffn_dim": 40, "key_dim": 6, "value_dim": 10}
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 21, 32))


def mixer_of(**options):
    """The first mixer of a model in float64, and its weights as the reference takes them."""
    mixer = Baseline(BaselineConfig(**SMALL | options), seed=1).double().layers[0].mixer
    names = ("w_q", "w_k", "w_v", "w_g", "w_o")
    return mixer, {name: getattr(mixer, name).weight.detach().numpy().T for name in names}


@pytest.mark.parametrize("options", [{}, {"gamma_schedule": "0.9"}, {"rotation": None}, {"decays": "learnt"}], ids=str)
def test_the_mixer_is_the_layer_of_the_reference(options):
    mixer, params = mixer_of(mixer="retention", **options)
    state = RNG.standard_normal((2, 4, 6, 10))
    with torch.no_grad():
        got, after = mixer(torch.from_numpy(X), None, 5, torch.from_numpy(state))
    want, want_after = multi_scale_retention(params, X, mixer.config, state=state, position=5)
    tolerance = {"atol": 1e-6} if options.get("decays") else {"atol": 1e-12}  # logits of decays are float32
    np.testing.assert_allclose(got, want, **tolerance)
    np.testing.assert_allclose(after, want_after, **tolerance)


def test_learnt_decays_start_at_the_schedule_and_move():
    config = RunConfig(model="retention", decays="learnt", gamma_schedule="paper", dim=32, num_layers=1, window=16)
    model = build(config)
    mixer = model.layers[0].mixer
    before = mixer.decay.double().sigmoid().detach().numpy()
    np.testing.assert_allclose(before, head_decays(4, "paper"), atol=1e-7)
    assert (
        sum(x.numel() for x in model.parameters())
        - sum(
            x.numel() for x in Baseline(model.config.__class__(**vars(model.config) | {"decays": "fixed"})).parameters()
        )
        == 4
    )  # a decay a head
    tokens = np.random.default_rng(0).integers(0, 256, (16, 17))
    trainer = Trainer(model, config)
    assert all(np.isfinite(trainer.step(tokens[:, :-1], tokens[:, 1:], 1e-2)).all() for _ in range(3))
    after = mixer.decay.double().sigmoid().detach().numpy()
    assert (np.abs(after - before) > 1e-6).all()
    assert ((after > 0) & (after < 1)).all()


@pytest.mark.parametrize("chunk_size", [1, 8, 21, 64])
def test_gated_retention_is_the_family_s(chunk_size):
    q, k = RNG.standard_normal((2, 2, 3, 21, 6))
    v, state = RNG.standard_normal((2, 3, 21, 5)), RNG.standard_normal((2, 3, 6, 5))
    gate = RNG.uniform(0.05, 1.0, (2, 3, 21))
    for before in (None, state):
        given = [torch.from_numpy(x) for x in (q, k, v, np.log(gate))]
        got = gated_retention(*given, None if before is None else torch.from_numpy(before), chunk_size=chunk_size)
        for form in (gated_retention_parallel, gated_retention_recurrent):
            for ours, theirs in zip(got, form(q, k, v, gate, before), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_gates_are_the_sixteenth_root_of_a_sigmoid():
    mixer, params = mixer_of(mixer="gated")
    x = torch.from_numpy(X)
    with torch.no_grad():
        got, none = mixer(x, None)
        gate = (1 / (1 + np.exp(-(X @ mixer.w_gamma.weight.numpy().T)))) ** (1 / TEMPERATURE)
    retention = lambda q, k, v, gamma, state: gated_retention_parallel(q, k, v, gate.swapaxes(1, 2), state)  # noqa: E731
    want, _ = multi_scale_retention(params, X, mixer.config, retention=retention)
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert none is None


def test_gates_far_in_the_past_overflow_nothing():
    """A thousand tokens of gates near 0: finite values and gradients, where a quotient of products would have none."""
    shape = (1, 1, 1024, 2)
    q, k, v = (torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in range(3))
    log_gate = torch.full((1, 1, 1024), -20.0, requires_grad=True)
    out, _ = gated_retention(q, k, v, log_gate)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(log_gate.grad).all()
    torch.testing.assert_close(out, (q * k).sum(-1, keepdim=True) * v, atol=1e-5, rtol=1e-5)


def test_hybrids_have_attention_where_they_say():
    four = BaselineConfig(**SMALL | {"num_layers": 4}, mixer="retention", attention_every=4)
    assert four.mixers == ("retention", "retention", "retention", "transformer")
    two = BaselineConfig(**SMALL | {"num_layers": 5}, mixer="gated", attention_every=2)
    assert two.mixers == ("gated", "transformer", "gated", "transformer", "gated")
    kinds = [type(layer.mixer).__name__ for layer in Baseline(two).layers]
    assert kinds == ["GatedRetention", "Attention", "GatedRetention", "Attention", "GatedRetention"]


def test_the_future_is_hidden_from_every_model():
    tokens = torch.from_numpy(RNG.integers(0, 17, (1, 12)))
    for options in ({"mixer": "retention"}, {"mixer": "gated"}, {"mixer": "gated", "attention_every": 2}):
        model = Baseline(BaselineConfig(**SMALL | options), seed=3)
        with torch.no_grad():
            logits, other = model(tokens)[0], model(torch.cat((tokens[:, :8], (tokens[:, 8:] + 1) % 17), dim=1))[0]
        torch.testing.assert_close(logits[:, :8], other[:, :8])
        assert not torch.equal(logits[:, 8:], other[:, 8:])


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"model": "retnet"}, 4 * 4 * 8 * 16),
        ({"model": "retention"}, 4 * 4 * 8 * 16),
        ({"model": "gated"}, 4 * 4 * 8 * 16),
        ({"model": "transformer"}, 4 * 2 * 64 * 100),
        ({"model": "transformer", "kv_heads": 1}, 4 * 2 * 16 * 100),
        ({"model": "linear"}, 4 * 4 * 16 * 17),
        ({"model": "gru"}, 4 * 64),
        ({"model": "gated", "attention_every": 2}, 2 * 4 * 8 * 16 + 2 * 2 * 64 * 100),
        ({"model": "retention", "attention_every": 4}, 3 * 4 * 8 * 16 + 2 * 64 * 100),
    ],
    ids=str,
)
def test_numbers_that_are_kept(options, kept):
    config = RunConfig(dim=64, num_layers=4, num_heads=4, key_dim=8, value_dim=16, ffn_dim=200, **options)
    assert numbers_kept(config, 100) == kept


def test_colours_differ():
    looks = [look(name) for name in MODELS] + [look("retention", every) for every in HYBRID_COLOURS]
    for kind in zip(*looks, strict=True):
        assert len(set(kind)) == len(looks)


@pytest.mark.parametrize(
    "options", [{"model": "gated"}, {"model": "retention", "retention": "chunkwise", "chunk_size": 4}]
)
@pytest.mark.parametrize("how", [{}, {"recompute": True}, {"precision": "bfloat16"}], ids=str)
def test_they_learn_in_every_way_of_training(options, how):
    config = RunConfig(dim=32, num_layers=2, num_heads=2, attention_every=2, window=16, batch_size=4, **options, **how)
    tokens = np.random.default_rng(0).integers(0, 256, (4, 17))
    trainer = Trainer(build(config), config)
    losses = [trainer.step(tokens[:, :-1], tokens[:, 1:], 1e-2)[0] for _ in range(8)]
    assert losses[-1] < losses[0] - 1


@pytest.mark.parametrize(
    "options", [{"model": "gated"}, {"model": "retention", "decays": "learnt"}, {"model": "retention"}], ids=str
)
def test_layers_can_be_compiled(options):
    """Traced whole under autocast, where a context manager of ours would break the graph."""
    config = RunConfig(dim=32, num_layers=2, num_heads=2, compile=True, precision="bfloat16", **options)
    model, tokens = build(config), torch.from_numpy(RNG.integers(0, 256, (2, 12)))
    with numerics(config, "cpu"), autocast(config, "cpu"), torch.no_grad():
        want, got = model(tokens)[0], model(tokens, layer=layer_caller(config, backend="eager"))[0]
    torch.testing.assert_close(got, want)

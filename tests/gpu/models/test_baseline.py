"""The baselines: as many parameters as RetNet, decoding that gives the parallel logits, and they learn."""

import re

import numpy as np
import pytest
import torch

from gpu.models.baseline import Baseline, BaselineConfig, FeedForward, matched, parameters
from gpu.models.build import build
from gpu.models.operations import turn_and_scale
from gpu.models.registry import MODELS
from gpu.models.retnet import RetNet
from gpu.training.config import RunConfig
from refimpl import RetNetConfig, init_params, rotate
from refimpl.config import FEED_FORWARDS
from refimpl.family import softmax_attention
from refimpl.layers import feed_forward
from refimpl.model import INITIALISATIONS
from refimpl.tree import flatten

SHAPES = {
    "default": {},
    "deep": {"dim": 64, "num_layers": 8},
    "tiny": {"dim": 16, "num_layers": 1, "num_heads": 2},
    "wide": {"dim": 512, "num_layers": 2, "num_heads": 4, "vocab_size": 1024},
}
SMALL = {"vocab_size": 17, "dim": 32, "num_layers": 2, "num_heads": 4, "ffn_dim": 40}
VARIANTS = {
    "attention": {},
    "two key heads": {"kv_heads": 2},
    "one key head": {"kv_heads": 1},
    "linear attention": {"mixer": "linear"},
    "gru": {"mixer": "gru"},
    "retention": {"mixer": "retention"},
    "learnt decays": {"mixer": "retention", "decays": "learnt", "key_dim": 6, "value_dim": 5},
    "gated retention": {"mixer": "gated", "key_dim": 6},
    "hybrid": {"mixer": "retention", "attention_every": 2},
    "gated hybrid": {"mixer": "gated", "attention_every": 2, "num_layers": 3},
}
TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, 17, (2, 21)))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "options",
    [*({"mixer": name} for name in MODELS if name != "retnet"), {"mixer": "retention", "attention_every": 2}],
    ids=str,
)
def test_parameters_are_as_many_as_retnet_s(shape, options):
    retnet = RetNetConfig(**{"num_layers": 2} | shape)
    if retnet.num_layers == 1:  # none is left for attention
        options = {"mixer": options["mixer"]}
    wanted = sum(array.size for array in flatten(init_params(retnet)).values())
    same = {name: getattr(retnet, name) for name in ("vocab_size", "dim", "num_layers", "num_heads")}
    config = matched(BaselineConfig(**same, **options), retnet)
    model = Baseline(config)
    have = sum(weight.numel() for weight in model.parameters())
    assert have == parameters(config)
    assert abs(have / wanted - 1) < 0.01
    assert (len(model.layers), model.head.in_features) == (retnet.num_layers, retnet.dim)


def test_grouped_heads_give_their_parameters_to_the_feed_forward():
    full, grouped = (build(RunConfig(model="transformer", kv_heads=heads)) for heads in (None, 1))
    assert grouped.config.ffn_dim > full.config.ffn_dim
    counts = [sum(weight.numel() for weight in model.parameters()) for model in (full, grouped, build(RunConfig()))]
    assert max(counts) / min(counts) < 1.02
    room = [model.memory(1, 10).layers[0][0].numel() for model in (full, grouped)]
    assert room == [10 * 128, 10 * 32]


@pytest.mark.parametrize("kind", FEED_FORWARDS)
def test_the_feed_forward_is_the_reference_s(kind):
    layer = FeedForward(BaselineConfig(dim=8, ffn_dim=12, num_heads=2, ffn=kind)).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    params = {name.removesuffix(".weight"): weight.detach().numpy().T for name, weight in layer.named_parameters()}
    np.testing.assert_allclose(layer(x).detach().numpy(), feed_forward(params, x.numpy(), kind), atol=1e-13)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_s_initialisation_is_its_model_s(model):
    """Of RetNet NumPy's own draw, of a baseline the same deviations; its default divides output projections already."""
    sizes = {"model": model, "dim": 64, "num_layers": 8, "num_heads": 2, "seed": 3}
    default, normal, depth = (
        dict(build(RunConfig(**sizes, initialisation=name)).named_parameters()) for name in INITIALISATIONS
    )
    if model == "retnet":
        numpy = flatten(init_params(RunConfig(**sizes).retnet, 3, initialisation="depth"))
        assert all((depth[name].detach().numpy() == weight).all() for name, weight in numpy.items())
    for name, weight in normal.items():
        if weight.ndim == 2:
            assert abs(weight.std().item() / 0.02 - 1) < 4 * (2 * weight.numel()) ** -0.5, name  # errors of a deviation
        else:
            assert (weight == default[name]).all(), name
        assert model == "retnet" or (depth[name] == default[name]).all()
    with pytest.raises(ValueError, match=r"^initialisation must be one of 'default', 'normal', 'depth', got 'xavier'$"):
        RunConfig(**sizes, initialisation="xavier")


def test_no_room_for_a_feed_forward_is_an_error():
    small = RetNetConfig(dim=64, num_layers=1, ffn_dim=1, value_dim=2)
    with pytest.raises(ValueError, match="dim must leave room for a feed-forward: with gru"):
        matched(BaselineConfig(mixer="gru", dim=64, num_layers=1), small)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_decoding_gives_the_parallel_logits(options):
    model = Baseline(BaselineConfig(**SMALL | options), seed=1)
    with torch.no_grad():
        want, none = model(TOKENS)
        assert none is None
        for prefix in (1, 8):  # then one token at a time, and three at once
            logits, memory = model(TOKENS[:, :prefix], model.memory(2, 21))
            parts = [logits]
            while memory.position < 21:
                new = TOKENS[:, memory.position : memory.position + (3 if memory.position == 12 else 1)]
                logits, memory = model(new, memory)
                parts.append(logits)
            np.testing.assert_allclose(torch.cat(parts, dim=1), want, atol=1e-5)
            assert memory.position == 21


def test_the_cache_is_allocated_once_and_full_is_an_error():
    model = Baseline(BaselineConfig(**SMALL, kv_heads=2))
    memory = model.memory(2, 4, torch.bfloat16)
    places = [room.data_ptr() for rooms in memory.layers for room in rooms]
    assert memory.layers[0][0].shape == (2, 2, 4, 8)
    assert memory.layers[0][0].dtype == torch.bfloat16
    with torch.no_grad():
        for n in range(4):
            _, memory = model(TOKENS[:, n : n + 1], memory)
    assert [room.data_ptr() for rooms in memory.layers for room in rooms] == places
    with torch.no_grad(), pytest.raises(ValueError, match="memory must have room for 5 tokens, its capacity is 4"):
        model(TOKENS[:, :1], memory)


def test_attention_is_the_softmax_attention_of_the_reference():
    config = BaselineConfig(**SMALL | {"num_layers": 1, "kv_heads": 2})
    mixer = Baseline(config, seed=2).layers[0].mixer.double()
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 9, 32)))
    cos, sin = (each.double() for each in mixer.shared(config, 0, 9, "cpu"))
    with torch.no_grad():
        got, _ = mixer(x, (cos, sin))
        q, k, v = (
            w(x).reshape(2, 9, heads, 8).transpose(1, 2).numpy()
            for w, heads in ((mixer.w_q, 4), (mixer.w_k, 2), (mixer.w_v, 2))
        )
        k, v = (np.repeat(each, 2, axis=1) for each in (k, v))
        out, _ = softmax_attention(rotate(q, ladder="rotary") * 8**-0.5, rotate(k, ladder="rotary"), v)
        want = mixer.w_o(torch.from_numpy(out.swapaxes(1, 2).reshape(2, 9, 32)))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_turning_is_the_rotation_of_the_reference():
    x = torch.randn(2, 3, 11, 8, generator=torch.Generator().manual_seed(0))
    attention = BaselineConfig(**SMALL)
    shared = Baseline(attention).layers[0].mixer.shared(attention, 1000, 11, "cpu")
    np.testing.assert_allclose(turn_and_scale(x, *shared), rotate(x, 1000, "rotary"), atol=1e-6)


def test_linear_attention_is_the_weighted_mean_it_is_said_to_be():
    """Against its definition: weights phi(q_n) phi(k_m), divided by their sum over m <= n."""
    model = Baseline(BaselineConfig(**SMALL, mixer="linear")).double()
    mixer, x = model.layers[0].mixer, torch.randn(2, 300, 32, dtype=torch.float64)  # more than a chunk
    phi = torch.nn.ELU()
    q, k, v = (w(x).view(2, 300, 4, 8).transpose(1, 2) for w in (mixer.w_q, mixer.w_k, mixer.w_v))
    weights = ((phi(q) + 1) @ (phi(k) + 1).mT).tril()
    mean = weights / weights.sum(dim=-1, keepdim=True) @ v
    out, none = mixer(x, None)
    want = mixer.w_o(mean.transpose(1, 2).reshape(2, 300, 32))
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)
    assert none is None


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_seeded_and_come_back_from_their_file(name, tmp_path):
    config = RetNetConfig(**SMALL) if name == "retnet" else BaselineConfig(**SMALL, mixer=name)
    kind = RetNet if name == "retnet" else Baseline
    model, same, other = (kind(config, seed=seed) for seed in (3, 3, 4))
    model.save(tmp_path / "weights.safetensors")
    again = kind.load(tmp_path / "weights.safetensors")
    assert again.config == config
    wanted, logits = dict(model.named_parameters()), model(TOKENS)[0]
    assert wanted.keys() >= {"layers.0.retention.w_q" if name == "retnet" else "head.weight"}
    for each in (same, again):
        found = dict(each.named_parameters())
        assert list(found) == list(wanted)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not torch.equal(other(TOKENS)[0], logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixer": "lstm"}, "mixer must be one of 'transformer', 'linear', 'gru', 'retention', 'gated', got 'lstm'"),
        ({"dim": 36}, "dim must be a multiple of 2 num_heads = 8, got 36"),
        ({"kv_heads": 3}, "kv_heads must divide num_heads = 4, got 3"),
        ({"mixer": "linear", "dim": 34}, "dim must be a multiple of num_heads = 4, got 34"),
        ({"ffn_dim": 0}, "ffn_dim must be at least 1, got 0"),
        ({"mixer": "retention", "attention_every": 1}, "attention_every must be at least 2, got 1"),
        (
            {"mixer": "gated", "attention_every": 4},
            "attention_every must be left out of attention alone, and at most num_layers = 2, got 4",
        ),
        ({"attention_every": 2}, "attention_every must be left out of attention alone"),
        ({"mixer": "retention", "attention_every": 2, "dim": 36}, "dim must be a multiple of 2 num_heads = 8, got 36"),
        ({"mixer": "retention", "key_dim": 5}, "key_dim must be even"),
        ({"decays": "random"}, "decays must be one of 'fixed', 'learnt', got 'random'"),
    ],
)
def test_impossible_shapes_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        BaselineConfig(**SMALL | options)

"""Cache against state: memory counted on arrays of the shapes that the models keep, not by the formula."""

import numpy as np
import pytest
from explorables import CacheRace
from explorables.cache import PAPER
from explorables.node import compute, controls

from gpu.bench.config import SIZES
from refimpl import decode_step, retention_step
from refimpl.weights import load_pretrained

SETTINGS = [
    {},
    {"written": 0},
    {"written": 120},
    *({"model": name} for name in ("ours", *PAPER)),
    {"batch": 8, "share": "8", "wide": "4", "written": 120, "model": "1.3B"},
    {"batch": 3, "share": "4", "wide": "2", "written": 47, "model": "2.7B"},
    {"batch": 0, "share": "1", "wide": "4", "written": 0, "model": "ours"},
]


def state_shape(config):
    """The shape of the state of one layer, as the recurrent form returns it."""
    q = np.zeros((1, config.num_heads, 1, config.key_dim), np.float32)
    v = np.zeros((1, config.num_heads, 1, config.value_dim), np.float32)
    return retention_step(q, q, v, np.full(config.num_heads, 0.5))[1].shape


def test_memory_is_that_of_the_arrays_that_models_keep():
    start = {name: control["value"] for name, control in ((each["name"], each) for each in controls(CacheRace))}
    configs = CacheRace.configs()
    for values, got in zip(SETTINGS, compute(CacheRace, *SETTINGS), strict=True):
        now = start | values
        config, texts, tokens = configs[now["model"]], 2 ** now["batch"], round(10 ** (now["written"] / 20))
        # The smallest step of each size; strides of zero, so that large arrays take no memory.
        key = np.broadcast_to(np.float16(0), (texts, config.num_layers, config.dim // int(now["share"])))
        state = np.broadcast_to(
            np.dtype(f"f{now['wide']}").type(0), (texts, config.num_layers, *state_shape(config)[1:])
        )
        a_token = 2 * key.nbytes  # a key and a value
        want = {
            "tokens": tokens,
            "texts": texts,
            "cache_of_a_token": a_token,
            "cache": tokens * a_token,
            "state": state.nbytes,
            "times": max(tokens * a_token / state.nbytes, state.nbytes / (tokens * a_token)),
            "equal": state.nbytes / a_token,
            "full": 80 * 10**9 // a_token,
            "from": a_token,
            "to": 10**6 * a_token,
        }
        assert got.keys() == want.keys()
        for name, value in want.items():
            assert got[name] == pytest.approx(value, rel=1e-12), (values, name)
        # The course's rule: without grouping and in one precision, the state is the cache of K tokens.
        assert got["equal"] == config.key_dim * int(now["share"]) * int(now["wide"]) / 2


def test_the_state_of_the_shipped_model_has_that_size_at_any_length():
    params, config = load_pretrained()
    state = None
    (got,) = compute(CacheRace, {"model": "ours", "wide": "4"})
    for token in b"In":
        _, state = decode_step(params, np.array([token]), config, state)
        assert sum(layer.nbytes for layer in state.layers) == got["state"]


def test_sizes_are_those_of_the_benchmarks():
    assert {name: SIZES[name] for name in PAPER} == PAPER

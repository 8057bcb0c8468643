"""Exercise 9 against the shapes, states and files of the package, against its counts, and against counting one by one."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import exercises
from exercises import check
from exercises.answers.ex09 import count_parameters, decode_bytes, tokens_until_larger, training_flops
from refimpl import RetNetConfig, forward, init_params, retention_recurrent
from refimpl.bench.flops import useful_flops
from refimpl.model import param_shapes
from refimpl.tree import flatten
from refimpl.weights import PRETRAINED, load_pretrained

CONFIGS = (
    RetNetConfig(),
    RetNetConfig(vocab_size=11, dim=12, num_layers=1, num_heads=5, key_dim=2, value_dim=3, ffn_dim=7),
    RetNetConfig(vocab_size=50, dim=6, num_layers=7, num_heads=3, ffn="gelu"),
)


def numbers(shapes):
    return sum(int(np.prod(shape)) for shape in flatten(shapes).values())


def arguments(config, tied=0):
    gated = int(config.ffn != "gelu")
    sizes = config.vocab_size, config.dim, config.num_layers, config.num_heads
    return *sizes, config.key_dim, config.value_dim, config.ffn_dim, gated, tied


def text_of(cell_id):
    (path,) = Path(exercises.__file__).parent.glob("ex09_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return " ".join("".join(next(cell["source"] for cell in cells if cell["id"] == cell_id)).split())


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_are_those_of_the_package(config):
    shapes = param_shapes(config)
    parts = count_parameters(*arguments(config))
    layers = shapes["layers"]
    assert parts.tolist() == [
        numbers({name: shapes[name] for name in ("embedding", "head")}),
        numbers({"layers": [layer["retention"] for layer in layers]}),
        numbers({"layers": [layer["ffn"] for layer in layers]}),
        numbers({"last": shapes["final_norm"], "layers": [{n: a[n] for n in a if n.endswith("norm")} for a in layers]}),
    ]
    assert parts.sum() == numbers(shapes)
    assert count_parameters(*arguments(config, tied=1)).sum() == numbers(shapes) - numbers({"head": shapes["head"]})


@pytest.mark.parametrize(("key_dim", "value_dim"), [(2, 3), (64, 128)])
def test_operations_of_retention_are_those_of_the_benchmark(key_dim, value_dim):
    time, chunk_size, layers, heads = np.array([4.0, 64.0, 1000.0]), np.array([2.0, 64.0, 8.0]), 3, 5
    forms = training_flops(time, chunk_size, 70, layers, heads, key_dim, value_dim)
    for form, got in zip(("parallel", "chunkwise"), forms, strict=True):
        for n in range(3):
            size = heads, int(time[n]), key_dim, value_dim
            forwards = useful_flops(form, *size, int(chunk_size[n]))
            assert got[n] == pytest.approx(6 * 70 + 3.5 * layers * forwards / time[n], rel=1e-14)
            if form == "chunkwise":
                assert useful_flops("backward", *size, int(chunk_size[n])) == pytest.approx(2.5 * forwards, rel=1e-12)


@pytest.mark.parametrize(("time", "chunk"), [(1, 1), (6, 2), (6, 3), (12, 12)])
def test_operations_of_retention_are_those_of_counting_one_by_one(time, chunk):
    key_dim, value_dim = 3, 5
    parallel = chunkwise = 0
    for n in range(time):
        for m in range(n + 1):
            score_and_use = 2 * key_dim + 2 * value_dim
            parallel += score_and_use
            chunkwise += score_and_use if m // chunk == n // chunk else 0
        chunkwise += 2 * (2 * key_dim * value_dim)  # read and write
    got = training_flops(np.array([float(time)]), np.array([float(chunk)]), 0, 1, 1, key_dim, value_dim)
    np.testing.assert_allclose(np.ravel(got), 3.5 * np.array([parallel, chunkwise]) / time, rtol=1e-14)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("texts", [1, 3])
def test_bytes_of_the_states_are_those_of_the_package(config, texts):
    params = init_params(config)
    tokens = np.zeros((texts, 4), dtype=int)
    _, state = forward(params, tokens, config, retention=retention_recurrent)
    held = sum(layer.nbytes for layer in state.layers)
    sizes = config.num_layers, config.num_heads, config.key_dim, config.value_dim, 1, 8
    bits = np.array([16.0, 8.0 * state.layers[0].itemsize, 16.0])
    retnet, _ = decode_bytes(np.array([0.0, 50.0]), texts, 1000, *sizes, bits)
    assert retnet.tolist() == [2000 + 2 * held] * 2


def test_bytes_of_a_cache_are_those_of_its_arrays():
    layers, texts, kv_heads, head_dim, time = 3, 2, 4, 5, 7
    cache = np.zeros((layers, 2, texts, kv_heads, time, head_dim), dtype=np.float16)
    new = cache[..., :1, :]
    _, transformer = decode_bytes(
        np.array([float(time)]), texts, 0, layers, 8, 1, 1, kv_heads, head_dim, np.array([8.0, 8.0, 16.0])
    )
    assert transformer.tolist() == [cache.nbytes + new.nbytes]


def test_the_crossing_is_where_counting_up_finds_it():
    for batch, heads, kv_heads, head_dim, bits in itertools.product(
        (1, 2, 3), (1, 4), (1, 2), (1, 3), ((32.0, 16.0), (8.0, 16.0))
    ):
        prompts = np.arange(0.0, 40.0, 3.0)
        tokens = tokens_until_larger(prompts, batch, heads, 2, 3, kv_heads, head_dim, np.array(bits))
        for prompt, got in zip(prompts, tokens, strict=True):
            states = batch * heads * 2 * 3 * bits[0]
            caches = ((prompt + batch * time) * 2 * kv_heads * head_dim * bits[1] for time in itertools.count())
            assert got == next(time for time, cache in enumerate(caches) if cache > states)


def test_what_the_notebook_says_of_the_model_that_comes_with_the_course():
    params, config = load_pretrained()
    parts = count_parameters(*arguments(config))
    size = PRETRAINED.stat().st_size
    header = int.from_bytes(PRETRAINED.read_bytes()[:8], "little")
    said = text_of("end")
    assert arguments(config) == (256, 320, 5, 5, 64, 128, 640, 1, 0)
    assert f"count_parameters{arguments(config)}" in said
    assert parts.sum() == sum(array.size for array in flatten(params).values()) == 7_335_360
    assert size == 2 * parts.sum() + 8 + header
    weights = int(parts[:3].sum() - params["embedding"].size)
    for number in (int(2 * parts.sum()), size, size - int(2 * parts.sum()), header, weights):
        assert f"{number:,}" in said
    (parallel,), (chunkwise,) = training_flops(np.array([1024.0]), np.array([64.0]), weights, 5, 5, 64, 128)
    for flops in (parallel, chunkwise, 6 * weights):
        assert f"{flops / 1e6:.1f} million" in said
    assert f"{100 * (1 - chunkwise / parallel):.0f} % fewer" in said


# What a mistake is told, in several ways to make it.


def report_of(name, function, capsys):
    exec(f"check('ex09', '{name}')", {"check": check, name: function})
    return " ".join(capsys.readouterr().out.split())


def _crossing_by(whole):
    def tokens(prompt, batch, num_heads, key_dim, value_dim, kv_heads, head_dim, bits):
        states = batch * num_heads * key_dim * value_dim * bits[0]
        token = 2 * kv_heads * head_dim * bits[1]
        return np.maximum(whole((states / token - prompt) / batch), 0.0)

    return tokens


ROUNDED = {
    "ceil": (np.ceil, "you stop where both are equal"),
    "floor": (np.floor, "you rounded down"),
    "round": (np.round, "you rounded to the nearest"),
    "nothing": (lambda x: x, "you returned the quotient"),
    "both": (lambda x: np.ceil(x) + 1, "you rounded up and added 1"),
}


@pytest.mark.parametrize(("whole", "told"), ROUNDED.values(), ids=ROUNDED)
def test_each_way_to_round_is_named(whole, told, capsys):
    report = report_of("tokens_until_larger", _crossing_by(whole), capsys)
    assert told in report
    assert not any(word in report for word in ("wanted", "raised", "Hint"))


def test_a_quotient_in_floating_point_is_right_too(capsys):
    report = report_of("tokens_until_larger", _crossing_by(lambda x: np.floor(x) + 1), capsys)
    assert "FAIL" not in report


def test_integers_for_parameters_are_told(capsys):
    report = report_of("count_parameters", lambda *sizes: count_parameters(*sizes).astype(int), capsys)
    assert "parts must hold real floating-point numbers, got dtype int64" in report

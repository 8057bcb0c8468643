"""Exercise 13 against arrays of these shapes, against counting step by step, and against trying every possibility."""

import json
from pathlib import Path

import numpy as np
import pytest

import exercises
from exercises.answers.ex09 import decode_bytes, tokens_until_larger
from exercises.answers.ex13 import attention_layers, crossings, served, serving_periods

SIZES = (2, 6, 3, 5, 2, 4)  # layers, heads, K, V, heads of keys and values, their width


def texts_of(cell_id):
    (path,) = Path(exercises.__file__).parent.glob("ex13_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return " ".join("".join(next(cell["source"] for cell in cells if cell["id"] == cell_id)).split())


@pytest.mark.parametrize("bits", [(32.0, 16.0), (16.0, 8.0)])
@pytest.mark.parametrize("texts", [1, 3])
def test_crossings_are_those_of_exercise_9_where_the_weights_are_equal(texts, bits):
    heads, key_dim, value_dim, kv_heads, head_dim = SIZES[1:]
    kept, moved = crossings(np.array([float(texts)]), np.array([70.0, 70.0]), *SIZES, np.array(bits))
    after = tokens_until_larger(
        np.zeros(1), texts, heads, key_dim, value_dim, kv_heads, head_dim, np.array(bits)
    )  # the first whole number above
    assert np.floor(kept) + 1 == after
    before = moved - 1  # exercise 9 counts the tokens before the new one
    each = decode_bytes(before, texts, 35, *SIZES[:4], kv_heads, head_dim, np.array([16.0, *bits]))
    assert each[0] == pytest.approx(each[1], rel=1e-12)


@pytest.mark.parametrize("weights", [(900.0, 100.0), (100.0, 130.0), (0.0, 1e6)])
def test_at_a_crossing_both_models_take_as_much_or_the_transformer_more(weights):
    layers, heads, key_dim, value_dim, kv_heads, head_dim = SIZES
    batch = np.array([1.0, 4.0, 50.0])
    both = crossings(batch, np.array(weights), *SIZES, np.array([32.0, 16.0]))
    for tokens, copies in zip(both, (1, 2), strict=True):
        for texts, at in zip(batch, tokens, strict=True):
            state = np.zeros((layers, heads, key_dim, value_dim), np.float32).nbytes
            token = np.zeros((layers, 2, kv_heads, head_dim), np.float16).nbytes
            retnet = weights[0] + texts * copies * state
            transformer = weights[1] + texts * token * at
            assert transformer == pytest.approx(retnet) if at else transformer >= retnet


def test_a_full_server_has_no_room_for_one_text_more():
    tokens = np.array([1.0, 7.0, 90.0, 4000.0])
    sizes = {"weights": 30, "weight_bits": 4, "memory": 9000.0, "state_bytes": 70.0, "token_bytes": 3.0}
    texts, rate = served(tokens, **sizes, bandwidth=40.0, operations=600.0)
    for row, copies, kept in ((0, 2, 70.0 + 0 * tokens), (1, 1, 3.0 * tokens)):
        for number, speed, each in zip(texts[row], rate[row], kept, strict=True):
            assert 15 + number * each <= 9000 < 15 + (number + 1) * each
            step = max((15 + number * copies * each) / 40, 2 * 30 * number / 600)
            assert speed == number / step


@pytest.mark.parametrize("period", [1, 2, 3, 16])
def test_bytes_of_replay_are_those_of_its_steps_one_by_one(period):
    state, token, moved = 4 * 3 * 4 * 6, 2 * 3 * (4 + 6), []
    kept = period  # what is there just before the state is written
    for _ in range(3 * period):
        moved.append(state + kept * token + token + (state if kept == period else 0))
        kept = 1 if kept == period else kept + 1
    rate, best = serving_periods(
        np.array([float(period)]), 3, 4, 6, np.array([32.0, 16.0]), 500.0, np.array([20_000.0]), 2000.0
    )
    texts = (20_000 - 500) // (state + period * token)
    assert rate[0, 0] == pytest.approx(texts * 2000 / (500 + texts * np.mean(moved)), rel=1e-12)
    assert best == period


def test_layers_of_attention_are_the_most_that_fit():
    tokens = np.arange(0.0, 30.0)
    for texts, memory in ((1, 200.0), (2, 500.0), (3, 450.0)):
        got = attention_layers(tokens, texts, memory, 4, 40.0, 5.0)
        for at, layers in zip(tokens, got, strict=True):
            fits = [n for n in range(5) if texts * ((4 - n) * 40 + n * 5 * at) <= memory]
            assert layers == max(fits, default=-1)


def test_what_the_notebook_says_of_weights_of_4_bits():
    said = texts_of("end")
    sizes = {"memory": 130e9, "state_bytes": 268_435_456.0, "token_bytes": 524_288.0}
    found = [
        served(np.array([8192.0]), 7_650_000_000, bits, **sizes, bandwidth=4.19e12, operations=7.7e14)
        for bits in (16, 4)
    ]
    (texts, rate), (more, faster) = found
    for row in (0, 1):
        assert f"{rate[row, 0]:,.0f} to {faster[row, 0]:,.0f}" in said
        assert f"{texts[row, 0]:.0f} and {more[row, 0]:.0f}" in said
    assert (
        f"{faster[0, 0] / rate[0, 0] - 1:.0%} and {faster[1, 0] / rate[1, 0] - 1:.0%} more".replace("%", " %") in said
    )

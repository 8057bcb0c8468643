"""The model: its sizes are those of its parameters and states, its guesses those of the shipped weights."""

import numpy as np
import pytest
from explorables import ModelDiagram
from explorables.node import compute

from refimpl import decode_step, forward, init_params, retention_recurrent
from refimpl.layers import linear, rms_norm
from refimpl.training.text import encode
from refimpl.tree import flatten
from refimpl.weights import load_pretrained, pretrained_card

START = {"n": 21, "step": 9, "form": "parallel"}
SETTINGS = [{}, *({"n": n, "form": form} for form in ("parallel", "recurrent") for n in (1, 22, 65, 221)), {"step": 0}]


@pytest.fixture(scope="module")
def model():
    return load_pretrained()


def test_sizes_are_those_of_the_parameters_and_the_states(model):
    params, config = model
    sizes = {name: array.size for name, array in flatten(init_params(config)).items()}
    assert sizes == {name: array.size for name, array in flatten(params).items()}
    assert sum(sizes.values()) == pretrained_card()["parameters"]

    def parameters(prefix, part=""):
        return sum(size for name, size in sizes.items() if name.startswith(prefix) and part in name)

    states = decode_step(params, np.array([0]), config)[1].layers
    tokens = np.zeros((1, 3), int)
    meetings = []

    def watched(q, k, v, gamma, state=None):
        meetings.append((q @ k.mT)[0].size)
        return retention_recurrent(q, k, v, gamma, state)

    logits, _ = forward(params, tokens, config, retention=watched)
    assert set(meetings) == {config.num_heads * 3**2}
    one = config.num_layers * 2 * config.dim  # what a Transformer keeps of a token: a key and a value in each layer
    text, guesses = (ModelDiagram.course_data()[name] for name in ("text", "guesses"))
    for values, got in zip(SETTINGS, compute(ModelDiagram, *SETTINGS), strict=True):
        n, _, form = (START | values).values()
        rows, layers = n if form == "parallel" else 1, range(config.num_layers)
        ends = [stage[n - 1][0] for stage in guesses]
        want = {
            "since": min(i for i in range(len(ends)) if set(ends[i:]) == {ends[-1]}),
            "shapes": [[rows], *[[rows, config.dim]] * (config.num_layers + 2), [rows, logits.shape[-1]], [1]],
            "parameters": [0, sizes["embedding"], *(parameters(f"layers.{i}.") for i in layers),
                           sizes["final_norm"], sizes["head"], 0],
            "retention": parameters("layers.0.retention."), "feedForward": parameters("layers.0.ffn."),
            "total": sum(sizes.values()), "mixing": config.num_heads * n**2 if form == "parallel" else states[0].size,
            "kept": sum(state.size for state in states), "cache": n * one,
            "crossing": next(n for n in range(1, 1000) if n * one > sum(state.size for state in states)),
            "guesses": [stage[n - 1] for stage in guesses], "next": text[n],
        }  # fmt: skip
        assert got == want


def test_guesses_are_those_of_the_shipped_model(model):
    params, config = model
    data, record = ModelDiagram.course_data(), []
    logits, _ = forward(params, encode(data["text"][:-1])[None], config, record=record)
    streams = [layer["x"] for layer in record]  # what enters each block, and at last what leaves them
    for x, guesses in zip(streams, data["guesses"], strict=True):
        z = linear(rms_norm(x, params["final_norm"], eps=config.norm_eps), params["head"])[0].astype(float)
        p = np.exp(z - z.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose([guess[1] for guess in guesses], p.max(axis=-1), rtol=0, atol=6e-4)
        chosen = p[np.arange(len(p)), [ord(guess[0]) for guess in guesses]]
        np.testing.assert_allclose(chosen, p.max(axis=-1), rtol=0, atol=1e-4)
    written = "".join(guess[0] for guess in data["guesses"][-1])[data["prompt"] - 1 :]
    assert written == data["text"][data["prompt"] :], "the model wrote this text"
    np.testing.assert_allclose(linear(record[-1]["normed"], params["head"]), logits)

"""What heads read is what retention multiplies the values by; without a head is the model whose retention leaves it out."""

import numpy as np
import pytest
from explorables import Heads
from explorables.node import compute

from refimpl import forward, head_decays, retention_parallel
from refimpl.training.text import encode
from refimpl.weights import load_pretrained

SETTINGS = [
    {},
    {"byte": 0},
    {"byte": 119},
    *({"layer": str(layer)} for layer in range(5)),
    *({"head": str(head)} for head in range(5)),
    {"byte": 119, "layer": "4", "head": "4"},
    {"byte": 31, "layer": "2", "head": "3"},
    {"byte": 1, "layer": "3", "head": "1"},
]


@pytest.fixture(scope="module")
def model():
    """params, config, the text (T,), the byte after each of its bytes, and what its layers compute."""
    params, config = load_pretrained()
    text = encode(Heads.course_data()["text"])
    record = []
    forward(params, text[None, :-1], config, record=record)
    return params, config, text[:-1], text[1:], record


def weights(layer):
    """(H, T, T): with the rows of the identity as values, the output of retention is its weights."""
    q, k, gamma = (layer["retention"][name] for name in ("q", "k", "gamma"))
    time, heads = q.shape[2], q.shape[1]
    return retention_parallel(q, k, np.broadcast_to(np.eye(time, dtype=q.dtype), (1, heads, time, time)), gamma)[0][0]


def log2_chances(model, layer=None, head=None):
    """(T, 256): the log of the probabilities, with that head's retention put to zero."""
    params, config, text, _, _ = model
    calls = iter(range(config.num_layers))

    def silent(q, k, v, gamma, state=None):
        out, state = retention_parallel(q, k, v, gamma, state)
        if next(calls) == layer:
            out[:, head] = 0
        return out, state

    logits = forward(params, text[None], config, retention=silent)[0][0].astype(np.float64)
    return (logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)) / np.log(2)


def test_heads_read_what_their_weights_say(model):
    _, config, _, _, record = model
    gammas = head_decays(config.num_heads, config.gamma_schedule)
    for values, got in zip(SETTINGS, compute(Heads, *SETTINGS), strict=True):
        now = {"byte": 84, "layer": "0"} | values
        byte = now["byte"]
        true = weights(record[int(now["layer"])])[:, byte, byte::-1].astype(np.float64)  # (H, n + 1) by distance
        for head, row, gamma in zip(got["heads"], true, gammas, strict=True):
            shares = np.array(head["shares"])
            assert np.abs(shares).sum() == pytest.approx(1, rel=1e-12)
            # Weights are kept in 255 steps of the largest, so each is within half a step.
            relative = shares / np.abs(shares).max()
            np.testing.assert_allclose(relative, row / np.abs(row).max(), rtol=0, atol=0.5 / 127 + 1e-4)
            reached = np.abs(shares).cumsum()
            assert reached[head["median"]] >= 0.5 - 1e-12
            assert head["median"] == 0 or reached[head["median"] - 1] < 0.5 + 1e-12
            exactly = (np.abs(row).cumsum() / np.abs(row).sum() >= 0.5).argmax()
            assert abs(head["median"] - exactly) <= 1
            assert head["gamma"] == pytest.approx(gamma, rel=1e-7)
            assert head["half_life"] == pytest.approx(np.log(0.5) / np.log(gamma), rel=1e-4)
            assert head["gamma"] ** head["half_life"] == pytest.approx(0.5, rel=1e-12)
            np.testing.assert_allclose(head["fade"], head["gamma"] ** np.arange(0, byte + 1, 4), rtol=1e-12)


def test_predictions_are_those_of_the_model_with_and_without_the_head(model):
    _, config, _, later, _ = model
    places = np.arange(len(later))
    all_heads = log2_chances(model)
    one_off = {(i, h): log2_chances(model, i, h) for i in range(config.num_layers) for h in range(config.num_heads)}
    for values, got in zip(SETTINGS, compute(Heads, *SETTINGS), strict=True):
        now = {"byte": 84, "layer": "0", "head": "0"} | values
        byte, layer, head = now["byte"], int(now["layer"]), int(now["head"])
        for shown, table in ((got["whole"], all_heads), (got["without"], one_off[layer, head])):
            chances = 2 ** table[byte]
            for rank, best in enumerate(shown["best"]):
                # Kept in steps of 1/255; nearly equal bytes may change places in float32.
                assert best["chance"] == pytest.approx(chances[best["token"]], abs=0.5 / 255 + 1e-4)
                assert best["chance"] == pytest.approx(np.sort(chances)[-1 - rank], abs=0.5 / 255 + 1e-4)
            assert shown["cost"] == pytest.approx(-table[byte, later[byte]], abs=0.005 + 1e-3)
            assert shown["loss"] == pytest.approx(-table[places, later].mean(), abs=1e-3)
        for h, each in enumerate(got["heads"]):
            rise = (all_heads - one_off[layer, h])[places, later].mean()
            assert each["rise"] == pytest.approx(rise, abs=1e-3)


def test_the_text_was_held_out_and_the_first_picture_says_what_it_shows():
    (start,) = compute(Heads, {})
    assert (
        start["without"]["loss"] > start["whole"]["loss"] + 1
    )  # the first head of the first layer carries the spelling
    assert start["whole"]["best"][0]["token"] == ord("s") != start["without"]["best"][0]["token"]
    assert max(each["rise"] for each in start["heads"][1:]) < 0.08

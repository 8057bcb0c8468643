"""What is measured of the shipped model is what it says: each number found in another way, and the file again from the text."""

import lzma
import zlib

import numpy as np
import pytest

from refimpl import RetNetConfig, forward, init_params, retention_parallel, retention_recurrent
from refimpl.training import facts
from refimpl.training.text import encode, load_corpus
from refimpl.training.train import cross_entropy
from refimpl.weights import load_pretrained, pretrained_card

FOUND = facts.load_facts()
CONFIG = RetNetConfig(dim=16, num_layers=2, num_heads=2)
PARAMS = init_params(CONFIG, dtype=np.float64)
PASSAGE = np.random.default_rng(0).integers(0, 256, facts.SPAN + 1).astype(np.uint8)


def test_bits_are_the_cross_entropy():
    logits = forward(PARAMS, PASSAGE[None, :50], CONFIG)[0]
    assert facts.bits(logits, PASSAGE[None, 1:51]).mean() == pytest.approx(
        cross_entropy(logits, PASSAGE[None, 1:51])[0]
    )


@pytest.mark.parametrize("lag", [64, 512])
def test_with_past_reads_each_byte_after_lag_to_twice_lag_bytes(lag):
    costs = []
    for n in range(facts.SPAN - facts.TAIL, facts.SPAN):  # byte n is read, byte n + 1 is judged
        step = min(lag, facts.TAIL)
        first = facts.SPAN - facts.TAIL + (n - facts.SPAN + facts.TAIL) // step * step - lag
        assert lag <= n - first < 2 * lag
        if n % 37 and n != facts.SPAN - 1:
            continue
        logits = forward(PARAMS, PASSAGE[None, first : n + 1], CONFIG, retention=retention_recurrent)[0][0, -1]
        costs.append((n, facts.bits(logits, PASSAGE[n + 1])))
    where, want = zip(*costs, strict=True)
    every = []
    original = facts.bits
    facts.bits = lambda *given: every.append(original(*given)) or every[-1]
    try:
        facts.with_past(PARAMS, CONFIG, PASSAGE, lag)
    finally:
        facts.bits = original
    np.testing.assert_allclose(every[0].ravel()[np.array(where) - facts.SPAN + facts.TAIL], want, rtol=1e-9)


def test_a_head_that_is_off_is_a_retention_that_gives_zero_there():
    read = PASSAGE[facts.SPAN - facts.TAIL - facts.WARM :]
    whole, off = facts.heads_off(PARAMS, CONFIG, PASSAGE)

    def loss(layers, head):
        calls = iter(range(CONFIG.num_layers))

        def deaf(q, k, v, gamma, state=None):
            out, state = retention_parallel(q, k, v, gamma, state)
            if next(calls) in layers:
                out[:, head] = 0
            return out, state

        logits = forward(PARAMS, read[None, :-1], CONFIG, retention=deaf)[0][0, facts.WARM :]
        return facts.bits(logits, read[facts.WARM + 1 :]).mean()

    want = [[loss(layers, head) for head in (0, 1)] for layers in ([0], [1], [0, 1])]
    np.testing.assert_allclose(off, want, rtol=1e-9)
    assert whole == pytest.approx(loss([], 0))


def test_xz_counts_what_the_text_adds():
    training, text = b"In the beginning " * 500, bytes(PASSAGE)
    assert facts.xz_after(training, training) < 0.1 < 7.9 < facts.xz_after(training, text)
    assert facts.xz_after(b"", text) == pytest.approx(8 * len(lzma.compress(text)) / len(text), rel=0.05)


def test_another_corpus_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("One book.\n" * 500)
    with pytest.raises(ValueError, match=r"corpus must be one that the card scores, 'kjv \+ data/sotu' or"):
        facts.measure(str(tmp_path))


def test_the_file_is_of_the_weights_that_ship_and_spans_the_held_out_text():
    rows = FOUND["passages"]
    assert FOUND["weights"] == pretrained_card()["sha256"]
    assert (FOUND["training_bytes"], FOUND["held_out_bytes"]) == (13_410_004, 1_489_389)
    assert FOUND["corpus"] in pretrained_card()["scores"]
    assert FOUND["command"] == f"python -m refimpl facts --corpus '{FOUND['corpus']}' --passages {len(rows)}"
    starts = [row["start"] for row in rows]
    assert (starts[0], starts[-1]) == (0, FOUND["held_out_bytes"] - FOUND["span"] - 1)
    assert max(np.diff(starts)) - min(np.diff(starts)) <= 1
    assert len(rows) >= 32


def test_a_passage_measured_again_gives_its_row():
    """The held-out text begins with Genesis."""
    params, config = load_pretrained()
    row = FOUND["passages"][1]
    book = encode(load_corpus().documents["Genesis"])
    passage = book[row["start"] : row["start"] + facts.SPAN + 1]
    assert row["document"] == "kjv/Genesis"
    lag = 32
    again = facts.with_past(params, config, passage, lag)
    assert again == pytest.approx(row["with_past"][facts.LAGS.index(lag)], abs=2e-4)
    logits = forward(params, passage[None, :1024], config)[0]
    assert facts.bits(logits, passage[None, 1:1025]).mean() == pytest.approx(row["window"], abs=2e-4)
    assert row["zlib"] == pytest.approx(8 * len(zlib.compress(passage[1:].tobytes(), 9)) / facts.SPAN, rel=0.01)

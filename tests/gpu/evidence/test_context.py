"""Loss by position and by lag: pieces give what a whole window gives, and a forgetting retention is the sum it says."""

import numpy as np
import pytest
import torch

from gpu.evidence import context
from gpu.models.build import build
from gpu.training.config import RunConfig
from refimpl import retention_recurrent
from refimpl.training.bpe import Tokenizer
from refimpl.training.loop import Text

TINY = {"dim": 16, "num_layers": 2, "num_heads": 2, "window": 16, "chunk_size": 8}


@pytest.mark.parametrize("model", ["retnet", "transformer", "linear"])
def test_pieces_give_what_a_whole_window_gives(model):
    config = RunConfig(model=model, retention="chunkwise", **TINY)
    network = build(config)
    rows = np.random.default_rng(0).integers(0, 256, (3, 41))
    whole = context.costs(network, config, rows)
    assert whole.shape == (3, 40)
    np.testing.assert_allclose(context.costs(network, config, rows, piece=7), whole, atol=2e-5)
    logits, _ = network(torch.from_numpy(rows[:, :-1]))
    want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(rows[:, 1:]).flatten()) / np.log(2)
    assert whole.mean() == pytest.approx(want.item(), abs=1e-5)


@pytest.mark.parametrize("lag", [1, 3, 8, 13, 29, 100])
@pytest.mark.parametrize("head", [None, 1])
def test_a_forgetting_retention_is_the_sum_over_its_lag(lag, head):
    rng = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 3, 21, width, generator=rng) for width in (4, 4, 5))
    gamma = torch.tensor([0.5, 0.9, 1.0])
    out, state = context.forgetting(lag, head)(q, k, v, gamma)
    assert state is None
    want = torch.zeros_like(v, dtype=torch.float64)
    for n in range(21):
        for m in range(n + 1):
            weight = gamma.double() ** (n - m) * (q[:, :, n] * k[:, :, m]).double().sum(-1)
            for h in range(3):
                if n - m < lag or (head is not None and h != head):
                    want[:, h, n] += weight[:, h, None] * v[:, h, m].double()
    np.testing.assert_allclose(out.numpy(), want.numpy(), atol=1e-4)
    whole, state = retention_recurrent(q, k, v, gamma)
    if lag == 100:
        np.testing.assert_allclose(out.numpy(), whole.numpy(), atol=1e-4)
    with pytest.raises(ValueError, match="state must be None"):
        context.forgetting(lag)(q, k, v, gamma, state)


def test_positions_are_grouped_and_weighed_by_bytes():
    bits, sizes = np.array([[1.0, 3.0, 2.0, 8.0]]), np.array([[1, 3, 1, 1]])
    assert [each.tolist() for each in context.by_position(bits, sizes, [0, 2, 4])] == [[[4.0, 10.0]], [[4, 2]]]
    assert context.edges_of(512) == [0, 16, 32, 64, 128, 256, 512]
    tokens = np.arange(100)
    assert context.windows(tokens, 10, 3).tolist()[1] == list(range(40, 51))
    assert len(context.windows(tokens, 10, 99)) == 9
    with pytest.raises(ValueError, match="length must be below the 100 tokens of the held-out text, got 100"):
        context.windows(tokens, 100, 3)
    ones = np.ones((2, 1))
    assert context.mean_and_error(np.array([[1.0], [3.0]]), ones) == ([2.0], [1.0])
    assert context.mean_and_error(ones[:1], ones[:1]) == ([1.0], [None])


def test_a_loss_is_the_bits_of_all_windows_over_their_bytes_with_an_error_that_holds():
    """Windows of few bytes have more bits a byte: the mean of their own losses would be too high by 3 errors."""
    rng, missed = np.random.default_rng(3), []
    for _ in range(400):
        sizes = rng.integers(20, 100, (40, 1))
        bits = 30 + 1.5 * sizes + rng.normal(size=(40, 1))
        (mean,), (error,) = context.mean_and_error(bits, sizes)
        missed.append((mean - (30 + 1.5 * 59.5) / 59.5) / error)
    assert abs(np.mean(missed)) < 0.3
    assert 0.85 < np.std(missed) < 1.2


def test_lengths_and_lags_of_a_model():
    config = RunConfig(retention="chunkwise", **TINY)
    network, tokens = build(config), np.random.default_rng(0).integers(0, 256, 400).astype(np.uint8)
    text = Text(tokens, tokens, Tokenizer())
    rows = context.read_at_lengths(network, config, text, lengths=(32, 64, 1024), tokens=128)
    assert [(row["length"], row["windows"], row["edges"]) for row in rows] == [
        (32, 4, [0, 16, 32]), (64, 4, [0, 16, 32, 64]),
    ]  # fmt: skip
    assert rows[0]["whole"][0] == pytest.approx(
        np.mean(rows[0]["mean"]), abs=1e-4
    )  # groups of one size, a byte a token
    lost = context.forgets(network, config, text, lags=(1, 8, 16, 64), length=32, count=5)
    assert [(row["lag"], row["head"]) for row in lost["rows"]][:4] == [(1, None), (8, None), (16, None), (1, 0)]
    assert len(lost["rows"]) == 9
    assert max(abs(row["over"]) for row in lost["rows"] if row["head"] is None and row["lag"] == 1) > 0

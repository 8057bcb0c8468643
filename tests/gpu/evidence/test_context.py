"""Loss by position and by lag: pieces give what a whole window gives, and a forgetting retention is the sum it says."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from drawn_texts import prose
from runs import QUIET
from typer.testing import CliRunner

from gpu.__main__ import app
from gpu.evidence import context
from gpu.models.build import build
from gpu.training.config import RunConfig
from gpu.training.run import train
from refimpl import retention_recurrent
from refimpl.training.bpe import Tokenizer
from refimpl.training.loop import Text, load_text

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


def test_a_run_is_read_with_its_own_tokeniser_whatever_the_text(tmp_path):
    (tmp_path / "own.txt").write_text(prose(1, 900))
    (tmp_path / "other.txt").write_text(prose(2, 900)[::-1])
    shape = {
        **TINY,
        "vocab_size": 280,
        "steps": 2,
        "warmup": 0,
        "evaluate_every": 2,
        "batch_size": 2,
        "sample_bytes": 4,
    }
    config = RunConfig(corpus=str(tmp_path / "own.txt"), retention="chunkwise", **shape)
    train(config, tmp_path / "run", console=QUIET)
    words = ["context", str(tmp_path / "run"), "--length", "16", "--lag-length", "0", "--device", "cpu"]

    def losses(*more):
        out = tmp_path / "context.json"
        done = CliRunner().invoke(app, [*words, "--out", str(out), *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(out.read_text())["rows"][0]["lengths"][0]["whole"]

    other = losses("--corpus", str(tmp_path / "other.txt"))
    text = (tmp_path / "other.txt").read_text()
    model, config = context.trained(tmp_path / "run")
    tokenizer = Tokenizer.load(tmp_path / "run" / "tokenizer.json")
    source = dataclasses.replace(config, corpus=str(tmp_path / "other.txt"))
    held_out = tokenizer.decode(load_text(source, tokenizer).held_out)
    assert text.endswith(held_out)
    rows = context.windows(tokenizer.encode(held_out), 16, 2**19)
    bits, sizes = context.by_position(context.costs(model, config, rows), tokenizer.lengths[rows[:, 1:]], [0, 16])
    assert other[0] == pytest.approx(bits.sum() / sizes.sum(), abs=1e-4)


def test_a_run_of_a_task_has_no_text_to_read(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "run.toml").write_text(
        'task = "recall"\npairs = [2]\nvocab_size = 16\nwindow = 16\ndim = 16\nnum_heads = 2\n'
    )
    with pytest.raises(ValueError, match=r"run must be one that learnt a text, '.*' learnt the task recall"):
        context.trained(tmp_path)

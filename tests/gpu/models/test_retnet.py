"""Training, saving and sampling the torch module, at a size that takes seconds."""

import json
import re

import numpy as np
import pytest
import torch

import refimpl
from gpu.models.retnet import RetNet
from gpu.sampling.generate import Sample, generate
from gpu.training import run as training
from gpu.training.config import RunConfig
from gpu.training.run import train

TINY = {"dim": 16, "num_layers": 1, "num_heads": 2, "batch_size": 4, "window": 16, "sample_bytes": 12, "warmup": 2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "abc.txt"
    path.write_text("abcabcabc abc\n" * 300)
    return str(path)


def test_training_learns_and_leaves_a_whole_run(corpus, tmp_path):
    config = RunConfig(corpus=corpus, steps=30, evaluate_every=10, learning_rate=0.02, prompt="abc", **TINY)
    result = train(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 31))
    log = [line for line in lines if "held_out" in line]
    assert [line["step"] for line in log] == [10, 20, 30]
    assert log[-1]["held_out"] < 1.0  # a text of period 14 is learnt; untrained, a byte costs 8 bits
    assert log[-1]["held_out"] < 0.8 * log[0]["held_out"]
    assert 0 < result["decoding_disagreement"] < training.LOGIT_TOLERANCE
    assert 0 < result["numpy_disagreement"] < training.LOGIT_TOLERANCE
    saved = json.loads((tmp_path / "run" / "result.json").read_text())
    assert saved["bits_per_byte"] == {name: log[-1][name] for name in ("step", "training", "held_out")}
    assert saved["best"] == {"step": 30, "held_out": min(line["held_out"] for line in log)}
    assert saved["config"]["corpus"] == corpus
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    sample = (tmp_path / "run" / "sample.txt").read_text()
    assert sample.startswith("abc")
    assert len(sample) == 3 + 12 + 1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "best.safetensors", "checkpoint.safetensors", "log.jsonl", "loss.png", "result.json", "run.toml", "sample.txt",
        "tokenizer.json", "weights.safetensors",
    ]  # fmt: skip


def test_training_is_seeded(corpus, tmp_path):
    config = RunConfig(corpus=corpus, steps=3, **TINY)
    first, again = (train(config, tmp_path / name)["bits_per_byte"] for name in ("a", "b"))
    assert first == again


def test_run_fails_if_decoding_differs(corpus, tmp_path, monkeypatch):
    """The assertion in the run looks: logits off by a thousandth stop it before a result is written."""

    def wrong(*args, **kwargs):
        sample = generate(*args, **kwargs)
        return Sample(sample.tokens, sample.logits * 1.001)

    monkeypatch.setattr(training, "generate", wrong)
    with pytest.raises(AssertionError, match=r"recurrent and parallel logits differ by 1\.\de-03 of the largest logit"):
        train(RunConfig(corpus=corpus, steps=1, **TINY), tmp_path)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0, got -1.0"),
        ({"prompt": ""}, "prompt must hold at least one character, got ''"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        RunConfig(**change)


MODEL = RetNet(refimpl.RetNetConfig(vocab_size=17, dim=16, num_layers=2, num_heads=2), seed=3)
PROMPT = torch.tensor([[1, 2, 3], [4, 5, 6]])


def test_weights_there_and_back(tmp_path):
    MODEL.save(tmp_path / "weights.safetensors")
    loaded = RetNet.load(tmp_path / "weights.safetensors")
    assert loaded.config == MODEL.config
    for (name, want), (other, got) in zip(MODEL.named_parameters(), loaded.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(got, want)
    assert "layers.0.retention.w_q" in dict(MODEL.named_parameters())


def test_a_file_without_a_config_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no config"):
        RetNet.load(tmp_path / "other.safetensors")


def test_sampled_logits_are_those_of_the_parallel_form():
    sample = generate(MODEL, PROMPT, 20, seed=1)
    assert sample.tokens.shape == (2, 23)
    assert sample.logits.shape == (2, 20, 17)
    assert torch.equal(sample.tokens[:, :3], PROMPT)
    parallel, _ = MODEL(sample.tokens[:, :-1])
    np.testing.assert_allclose(sample.logits, parallel[:, 2:].detach(), atol=1e-5)


def test_sampling_is_seeded_and_temperature_zero_is_greedy():
    once, again, other = (generate(MODEL, PROMPT, 20, seed=seed).tokens for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    greedy = generate(MODEL, PROMPT, 5, temperature=0)
    assert torch.equal(greedy.tokens[:, 3:], greedy.logits.argmax(dim=-1))


def test_sampling_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="new_tokens must be at least 1, got 0"):
        generate(MODEL, PROMPT, 0)
    with pytest.raises(ValueError, match="temperature must be 0 or from 1e-6 to finite, got nan"):
        generate(MODEL, PROMPT, 1, temperature=float("nan"))
    with pytest.raises(ValueError, match=r"prompt must have shape \(batch, time\) with time at least 1, got \(2, 0\)"):
        generate(MODEL, PROMPT[:, :0], 1)

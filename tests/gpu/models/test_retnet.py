"""Training the torch module, at a size that takes seconds, and what may go wrong with it."""

import json

import pytest
import torch
from runs import log_lines
from safetensors.torch import save_file

from gpu.models.retnet import RetNet
from gpu.sampling.generate import Sample, generate
from gpu.training import run as training
from gpu.training.config import RunConfig
from gpu.training.run import train

TINY = {"dim": 16, "num_layers": 1, "num_heads": 2, "batch_size": 4, "window": 16, "sample_bytes": 12, "warmup": 2}


def test_training_learns_and_leaves_a_whole_run(corpus, tmp_path, whole_loss_figure):
    config = RunConfig(corpus=corpus, steps=30, evaluate_every=10, learning_rate=0.02, prompt="abc", **TINY)
    result = train(config, tmp_path / "run")
    lines = log_lines(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(1, 31))
    log = [line for line in lines if "held_out" in line]
    assert [line["step"] for line in log] == [10, 20, 30]
    assert log[-1]["held_out"] < 1.0  # a text that repeats itself is learnt; untrained, a byte costs 8 bits
    assert log[-1]["held_out"] < 0.8 * log[0]["held_out"]
    assert 0 < result["decoding_disagreement"] < training.LOGIT_TOLERANCE
    assert 0 < result["numpy_disagreement"] < training.LOGIT_TOLERANCE
    saved = json.loads((tmp_path / "run" / "result.json").read_text())
    assert saved["bits_per_byte"] == {name: log[-1][name] for name in ("step", "training", "held_out")}
    assert saved["best"] == {"step": 30, "held_out": min(line["held_out"] for line in log)}
    assert saved["config"]["corpus"] == corpus
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    sample = (tmp_path / "run" / "sample.txt").read_text()
    assert sample.startswith("abc")
    assert len(sample) == 3 + 12 + 1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "best.safetensors", "checkpoint.safetensors", "log.jsonl", "loss.png", "result.json", "run.toml", "sample.txt",
        "tokenizer.json", "weights.safetensors",
    ]  # fmt: skip


def test_run_fails_if_decoding_differs(corpus, tmp_path, monkeypatch):
    """The assertion in the run looks: logits off by a thousandth stop it before a result is written."""

    def wrong(*args, **kwargs):
        sample = generate(*args, **kwargs)
        return Sample(sample.tokens, sample.logits * 1.001)

    monkeypatch.setattr(training, "generate", wrong)
    with pytest.raises(AssertionError, match=r"recurrent and parallel logits differ by 1\.\de-03 of the largest logit"):
        train(RunConfig(corpus=corpus, steps=1, **TINY), tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_a_file_without_a_config_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no config"):
        RetNet.load(tmp_path / "other.safetensors")

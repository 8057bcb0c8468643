"""The run file: what it says is what runs, and a mistake in it has a name."""

import dataclasses
import json
import re
import tomllib
import typing

import pytest
import safetensors.torch
import torch
from paths import ROOT

from gpu.bench.config import BenchmarkConfig
from gpu.models import build
from gpu.training.checkpoint import NAME, load_checkpoint
from gpu.training.config import MODELS, RunConfig, read_settings, to_toml
from refimpl.config import FEED_FORWARDS
from refimpl.training.loop import Progression
from refimpl.training.train import TrainConfig


def test_a_file_there_and_back(tmp_path):
    config = RunConfig(
        model="transformer", kv_heads=2, learning_rate=1e-5, corpus='a "quoted" path\\é', compile=True, steps=7
    )
    (tmp_path / "run.toml").write_text(to_toml(config))
    assert RunConfig(**read_settings(tmp_path / "run.toml")) == config
    (tmp_path / "run.toml").write_text(to_toml(RunConfig()))
    assert RunConfig(**read_settings(tmp_path / "run.toml")) == RunConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 1.0", "config: unknown key 'learning_rat' in"),
        ("learning_rat = 1.0", "did you mean 'learning_rate'?"),
        ("[model]\ndim = 3\n[zzz]", "config: unknown key 'zzz'"),
        ("steps = ", "is not TOML"),
    ],
)
def test_unknown_keys_are_errors(tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_settings(tmp_path / "run.toml")


WRONG = [
    ("steps", "9", TypeError, "steps must be an integer, got '9' (str)"),
    ("steps", 0, ValueError, "steps must be at least 1, got 0"),
    ("learning_rate", -1.0, ValueError, "learning_rate must be above 0, got -1.0"),
    ("batch_size", 0, ValueError, "batch_size must be at least 1, got 0"),
    ("learning_rate", "fast", TypeError, "learning_rate must be a number, got 'fast' (str)"),
    ("clip", 0.0, ValueError, "clip must be above 0, got 0.0"),
    ("weight_decay", -1.0, ValueError, "weight_decay must be at least 0, got -1"),
    (
        "initialisation",
        "xavier",
        ValueError,
        "initialisation must be one of 'default', 'normal', 'depth', got 'xavier'",
    ),
    ("vocab_size", 255, ValueError, "vocab_size must be at least 256, got 255"),
    (
        "model",
        "lstm",
        ValueError,
        "model must be one of 'retnet', 'transformer', 'linear', 'gru', 'retention', 'gated', got 'lstm'",
    ),
    (
        "attention_every",
        2,
        ValueError,
        "attention_every must be left out for model = 'retnet' (of which 'retention' is",
    ),
    ("decays", "learnt", ValueError, "decays must be 'fixed' unless model = 'retention' and retention is 'parallel'"),
    ("kv_heads", 2, ValueError, "kv_heads must not be given for model = 'retnet', got 2"),
    (
        "retention",
        "fused",
        ValueError,
        "retention must be one of 'parallel', 'chunkwise', 'triton', 'fla', got 'fused'",
    ),
    ("precision", "float16", ValueError, "precision must be one of 'float32', 'bfloat16', got 'float16'"),
    ("accumulation", 3, ValueError, "accumulation must divide batch_size = 16, got 3"),
    ("chunk_size", 0, ValueError, "chunk_size must be at least 1, got 0"),
    ("compile", 1, TypeError, "compile must be a bool, got 1"),
    ("graph", "yes", TypeError, "graph must be a bool, got 'yes'"),
    ("recompute", "no", TypeError, "recompute must be a bool, got 'no'"),
    ("corpus", 3, TypeError, "corpus must be a str, got 3"),
    ("prompt", "", ValueError, "prompt must hold at least one character, got ''"),
    ("dim", 0, ValueError, "dim must be at least 1, got 0"),
    (
        "gamma_schedule",
        1.5,
        ValueError,
        "gamma_schedule must be one of 'released', 'paper', 'quarter' or a gamma in (0, 1], got 1.5",
    ),
    ("rotation", "xpos", ValueError, "rotation must be one of 'released', 'rotary', 'none', got 'xpos'"),
    ("gate", 1, TypeError, "gate must be a bool, got 1"),
    ("ffn", "relu", ValueError, "ffn must be one of 'swiglu', 'geglu', 'gelu', got 'relu'"),
    ("group_norm", "layer", ValueError, "group_norm must be one of 'rms', 'mean', 'none', got 'layer'"),
]


def test_the_choices_of_the_retnet():
    config = RunConfig(gamma_schedule=0.9, rotation="none", gate=False, group_norm="none", row_norm=True)
    shape = config.retnet
    assert (shape.gamma_schedule, shape.rotation, shape.gate, shape.group_norm, shape.row_norm) == (
        0.9, None, False, None, True,
    )  # fmt: skip
    assert RunConfig(gamma_schedule="1").retnet.gamma_schedule == 1.0
    default = RunConfig().retnet
    assert default == TrainConfig().retnet
    assert RunConfig(gamma_schedule="paper", rotation="rotary").retnet == dataclasses.replace(
        default, gamma_schedule="paper", rotation="rotary"
    )


@pytest.mark.parametrize(("name", "value", "kind", "message"), WRONG)
def test_wrong_values_are_named(name, value, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        RunConfig(**{name: value})


def test_every_key_is_explained():
    for config in (RunConfig, BenchmarkConfig):
        hints = typing.get_type_hints(config, include_extras=True)
        assert set(hints) == {field.name for field in dataclasses.fields(config)}
        for name, hint in hints.items():
            assert hint.__metadata__[0], name


def test_runs_from_before_the_key_ffn_still_load(tmp_path):
    settings = {name: value for name, value in dataclasses.asdict(RunConfig(dim=16)).items() if name != "ffn"}
    lines = to_toml(RunConfig(dim=16)).splitlines(keepends=True)
    (tmp_path / "run.toml").write_text("".join(line for line in lines if not line.startswith("ffn ")))
    assert len(read_settings(tmp_path / "run.toml")) == len(lines) - 1
    assert RunConfig(**read_settings(tmp_path / "run.toml")) == RunConfig(dim=16)
    metadata = {"config": json.dumps(settings), "progression": Progression().to_json(), "text": ""}
    (tmp_path / NAME).write_bytes(safetensors.torch.save({}, metadata))
    assert load_checkpoint(tmp_path).config == RunConfig(dim=16)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ffn", FEED_FORWARDS)
def test_every_model_takes_the_feed_forward(model, ffn):
    config = RunConfig(model=model, ffn=ffn, dim=16, num_layers=1, num_heads=2)
    assert config.retnet.ffn == ffn
    built = build(config)
    assert built.config.ffn == ffn
    gates = [name for name, _ in built.named_parameters() if "w_gate" in name]
    assert len(gates) == (ffn != "gelu")
    logits, _ = built(torch.zeros(1, 3, dtype=torch.int64))
    assert logits.isfinite().all()


def test_the_readme_s_run_is_one():
    readme = (ROOT / "gpu" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    settings = tomllib.loads(example)
    assert dataclasses.asdict(RunConfig(**settings)).items() >= settings.items()

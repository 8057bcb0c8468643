"""Sweeps: every model with every rate, the best marked, and nothing computed twice."""

import json
import sys

import pytest
import torch
from runs import QUIET
from typer.testing import CliRunner

from gpu.__main__ import app
from gpu.training.config import RunConfig
from gpu.training.sweep import sweep

RATES, MODELS = (1e30, 3e-2, 1e-4), ("retnet", "gru")
SMALL = {
    "dim": 16, "num_layers": 1, "num_heads": 2, "batch_size": 4, "window": 16, "warmup": 2, "steps": 12, "sample_bytes": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of .txt files, as speeches come."""
    folder = tmp_path_factory.mktemp("corpus")
    for i in range(12):
        (folder / f"{1790 + i}.txt").write_text("abcabcabc abc\n" * (20 + i))
    return str(folder)


@pytest.fixture(scope="module")
def swept(corpus, tmp_path_factory):
    """Folder and output of the program with three rates of two models, on top of a file."""
    folder = tmp_path_factory.mktemp("sweep")
    path = folder / "run.toml"
    path.write_text("".join(f"{k} = {v}\n" for k, v in (SMALL | {"steps": 3}).items()) + f'corpus = "{corpus}"\n')
    arguments = ["sweep", f"{path}", "--steps", f"{SMALL['steps']}", "--out", f"{folder / 'out'}"]
    arguments += [word for model in MODELS for word in ("--model", model)]
    arguments += [word for rate in RATES for word in ("--learning-rate", f"{rate}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gpu", *arguments])
        result = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--device", "cpu"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    return folder / "out", result.output


def test_the_program_tries_every_rate_and_overrides_the_file(corpus, swept):
    out, output = swept
    saved = json.loads((out / "sweep.json").read_text())
    assert [saved["config"][name] for name in ("steps", "dim", "corpus")] == [12, 16, corpus]
    assert saved["command"].startswith("python -m gpu sweep ")
    assert [(row["model"], row["learning_rate"]) for row in saved["rows"]] == [
        (m, r) for m in MODELS for r in sorted(RATES)
    ]
    for model in MODELS:
        slow, good, broken = (row for row in saved["rows"] if row["model"] == model)
        assert broken["held_out"] is None
        assert broken["remark"].startswith("failed: stopped: the ")
        assert slow["held_out"] > good["held_out"]
        assert (slow["remark"], good["remark"]) == ("", "best")
        assert output.count(model) >= 3
        assert f"{good['held_out']:.3f}" in output
    assert (out / "retnet_0.03" / "log.jsonl").read_text().count("\n") == 12
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_was_finished_is_not_computed_again(corpus, swept):
    out, _ = swept
    config, rates = RunConfig(corpus=corpus, **SMALL), RATES[1:]
    before = [row for row in json.loads((out / "sweep.json").read_text())["rows"] if row["held_out"] is not None]
    rows = sweep(config, rates, MODELS, out, ("cpu", "cpu"), QUIET)
    assert [(row["model"], row["learning_rate"]) for row in rows] == [(m, r) for m in MODELS for r in sorted(rates)]
    assert json.loads((out / "sweep.json").read_text())["rows"] == rows
    for name in ("held_out", "seconds"):  # the time of the one run that there was
        assert [row[name] for row in rows] == [row[name] for row in before]
    assert abs(rows[0]["parameters"] / rows[2]["parameters"] - 1) < 0.02
    assert [row["remark"] for row in rows].count("best, at an end of the range: widen it") == 2

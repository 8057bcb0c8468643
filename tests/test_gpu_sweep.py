"""Sweeps: every model with every rate, the best marked, and nothing computed twice."""

import json

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from gpu.__main__ import app
from gpu.config import RunConfig
from gpu.sweep import sweep

QUIET, TWO = Console(quiet=True), ("cpu", "cpu")
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


def test_every_model_with_every_rate(corpus, tmp_path):
    config = RunConfig(corpus=corpus, **SMALL)
    rates, models = (1e30, 3e-2, 1e-4), ("retnet", "gru")
    rows = sweep(config, rates, models, tmp_path, TWO, QUIET)
    assert [(row["model"], row["learning_rate"]) for row in rows] == [(m, r) for m in models for r in sorted(rates)]
    saved = json.loads((tmp_path / "sweep.json").read_text())
    assert saved["rows"] == rows
    assert saved["config"]["corpus"] == corpus
    for model in models:
        slow, good, broken = (row for row in rows if row["model"] == model)
        assert broken["held_out"] is None
        assert broken["remark"].startswith("failed: stopped: the ")
        assert slow["held_out"] > good["held_out"]
        assert (slow["remark"], good["remark"]) == ("", "best")
    one, other = (rows[n]["parameters"] for n in (0, 3))
    assert abs(one / other - 1) < 0.02
    again = sweep(config, rates[1:], models, tmp_path, TWO, QUIET)
    finished = [row for row in rows if row["held_out"] is not None]
    for name in ("held_out", "seconds"):  # the time of the one run that there was
        assert [row[name] for row in again] == [row[name] for row in finished]
    assert "best, at an end of the range: widen it" in {
        row["remark"] for row in sweep(config, (1e-4, 3e-2), ("gru",), tmp_path, TWO, QUIET)
    }


def test_the_program_sweeps_and_overrides_the_file(corpus, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        f'corpus = "{corpus}"\nsteps = 3\n' + "".join(f"{k} = {v}\n" for k, v in SMALL.items() if k != "steps")
    )
    arguments = ["sweep", f"{path}", "--learning-rate", "0.01", "--learning-rate", "0.03", "--model", "transformer"]
    arguments += ["--steps", "2", "--out", f"{tmp_path / 'out'}", "--device", "cpu"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert rows["config"]["steps"] == 2
    assert rows["config"]["dim"] == 16
    assert result.output.count("transformer") >= 2
    assert "best, at an end of the range" in result.output
    assert (tmp_path / "out" / "transformer_0.03" / "log.jsonl").read_text().count("\n") == 2
    assert not torch.are_deterministic_algorithms_enabled()

"""Sweeps: every model with every rate, the best marked, and nothing computed twice."""

import json
import sys

import pytest
import torch
from processes import forked_runs
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
    with pytest.MonkeyPatch.context() as patch, forked_runs():
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


def failing(line, wanted, monkeypatch, tmp_path):
    """A function that sweeps by the program, where every run fails with a line; wanted: receives the runs."""

    def run_all(runs, out, *_):
        wanted.update(runs)
        for name in runs:
            (out / name).mkdir(parents=True)
            (out / name / "output.txt").write_text(f"training\n{line}\n")
        return dict.fromkeys(runs)

    monkeypatch.setattr("gpu.training.sweep.run_all", run_all)
    return lambda *words: CliRunner().invoke(app, ["sweep", *words, "--device", "cpu", "--out", f"{tmp_path / 'out'}"])


@pytest.mark.parametrize(
    ("line", "status"), [("stopped: the loss is nan", 0), ("error: corpus", 1), ("KeyError: 3", 1)]
)
def test_a_mistake_is_told_by_the_exit_status(line, status, monkeypatch, tmp_path):
    result = failing(line, {}, monkeypatch, tmp_path)("--learning-rate", "0.1")
    assert result.exit_code == status
    assert line in result.output


def test_no_rate_is_taken_for_another(monkeypatch, tmp_path):
    wanted, rates = {}, (0.001, 0.0010000001, 0.1, 0.10000000000000002)
    failing("stopped: the loss is inf", wanted, monkeypatch, tmp_path)(
        *(w for rate in rates for w in ("--learning-rate", f"{rate!r}"))
    )
    assert sorted(config.learning_rate for config in wanted.values()) == sorted(rates)


def test_a_model_s_own_settings_go_to_it_alone(monkeypatch, tmp_path):
    wanted, models = {}, ("retnet", "transformer", "gru")
    options = ["--learning-rate", "0.1", "--kv-heads", "1", *(word for model in models for word in ("--model", model))]
    result = failing("stopped: the loss is inf", wanted, monkeypatch, tmp_path)(*options)
    assert result.exit_code == 0, result.output
    assert {config.model: config.kv_heads for config in wanted.values()} == {
        "retnet": None,
        "transformer": 1,
        "gru": None,
    }


def test_an_unknown_model_is_named(tmp_path):
    result = CliRunner().invoke(app, ["sweep", "--learning-rate", "0.1", "--model", "bogus", "--out", f"{tmp_path}"])
    assert f"{result.exception}".startswith("model must be one of 'retnet', ")
    with pytest.raises(ValueError, match=r"model must be one of 'retnet', .*, got 'bogus'"):
        sweep(RunConfig(), [0.1], ["bogus"], tmp_path)

"""Studies: every variant with every seed, in processes of their own; what was finished is kept, what was stopped goes on."""

import dataclasses
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

import pytest
from processes import forked_runs
from runs import QUIET
from typer.testing import CliRunner

from gpu.__main__ import app
from gpu.models.baseline import retnet_parameters
from gpu.models.build import build
from gpu.training import study as module
from gpu.training.study import Study, read_study, run_study, summary
from refimpl.training.folder import locked

STUDY = """
corpus = "{corpus}"
dim = 16
num_layers = 1
num_heads = 2
batch_size = 4
window = 16
warmup = 2
steps = 12
sample_bytes = 2
seeds = [3, 4]
[variants.RetNet]
[variants."no gate"]
gate = false
quoted = {{ "perplexity, 200M" = 27.84 }}
"""


TWO_CPUS = ["--device", "cpu"] * 2


@pytest.fixture
def file(tmp_path, corpus):
    path = tmp_path / "small.toml"
    path.write_text(STUDY.format(corpus=corpus))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus):
    """Folder and output of the program with all of the study, run in a folder that holds one called gpu.

    The first run is a process as users have it, which must not import that folder.
    """
    folder = tmp_path_factory.mktemp("study")
    (folder / "gpu").mkdir()
    (folder / "gpu" / "__init__.py").touch()
    (folder / "small.toml").write_text(STUDY.format(corpus=corpus))
    arguments = ["study", f"{folder / 'small.toml'}", "--out", f"{folder / 'out'}", *TWO_CPUS]
    with pytest.MonkeyPatch.context() as patch, forked_runs(real=1):
        patch.chdir(folder)
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return folder / "out", result.output


def test_the_file_says_what_runs(file):
    study = read_study(file)
    assert study.seeds == [3, 4]
    assert study.quoted == {"RetNet": {}, "no gate": {"perplexity, 200M": 27.84}}
    runs = study.runs["no gate"].values()
    assert [(config.seed, config.gate, config.retnet.gate, config.dim) for config in runs] == [
        (seed, False, False, 16) for seed in (3, 4)
    ]
    assert study.runs["RetNet"][3].gate


@pytest.mark.parametrize(
    ("before", "after", "error", "message"),
    [
        ("gate = false", "gates = false", ValueError, "unknown key 'gates'"),
        ("gate = false", "seed = 1", ValueError, "seed must be left to seeds in a study, got 1"),
        ("gate = false", "gate = 0", TypeError, "gate must be a bool, got 0"),
        ("seeds = [3, 4]", "seeds = [3, 3]", ValueError, "seeds must be a list of different integers, got [3, 3]"),
        ("seeds = [3, 4]", "seeds = []", ValueError, "seeds must be a list of different integers, got []"),
        ("seeds = [3, 4]", "seeds = ['a']", TypeError, "seeds must be an integer, got 'a' (str)"),
        ('"no gate"', '"no/gate"]\n[variants."no:gate"', ValueError, "variants must have names that differ in letters"),
        ("[variants.RetNet]", "[variant.RetNet]", ValueError, "unknown key 'variant'"),
    ],
)
def test_mistakes_in_the_file_are_named(file, before, after, error, message):
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    with pytest.raises(error, match=re.escape(message)):
        read_study(file)


def test_no_variants(file):
    file.write_text("steps = 3\n")
    with pytest.raises(ValueError, match=r"variants: there are none in .*; write one as \[variants.RetNet\]"):
        read_study(file)


def test_the_program_runs_all_and_repeats_nothing(file, finished):
    out, output = finished
    saved = json.loads((out / "study.json").read_text())
    first, second = saved["rows"]
    assert saved["seeds"] == [3, 4]
    assert saved["settings"]["steps"] == 12
    assert "gate" not in saved["settings"]
    assert second["settings"] == {"gate": False}
    for row in (first, second):
        folders = [out / module.folder_name(row["variant"], seed) for seed in (3, 4)]
        results = [json.loads((folder / "result.json").read_text()) for folder in folders]
        assert row["held_out"] == [each["bits_per_byte"]["held_out"] for each in results]
        assert row["mean"] == statistics.fmean(row["held_out"])
        assert row["deviation"] == statistics.stdev(row["held_out"])
        assert [each["config"]["seed"] for each in results] == [3, 4]
        assert [each[-1] for each in row["evaluations"]] == [[12, round(loss, 4)] for loss in row["held_out"]]
    assert second["over"] == pytest.approx(second["mean"] - first["mean"])
    assert first["parameters"] - second["parameters"] == 16 * 32  # W_G
    assert f"{second['mean']:.3f}" in output
    assert "27.84 †" in output
    written = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    assert len(written) == 4
    assert run_study(read_study(file), out, ["cpu"], QUIET) == saved["rows"]
    assert {path: path.stat().st_mtime_ns for path in written} == written
    other = dataclasses.replace(read_study(file).runs["RetNet"][3], steps=13)  # other settings are another run
    assert module._result(out / "RetNet_3", other) is None
    same, echo = dataclasses.replace(other, steps=12), out / "RetNet_3" / "run.toml"
    assert module._result(out / "RetNet_3", same) is not None
    echo.write_text(echo.read_text().replace('ffn = "swiglu"\n', ""))  # as a run wrote it before there was this key
    assert module._result(out / "RetNet_3", same) is not None


def test_finished_runs_of_other_settings_are_replaced_on_demand_alone(file, finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    before = (out / "RetNet_3" / "result.json").read_bytes()
    file.write_text(file.read_text().replace("steps = 12", "steps = 2").replace("[3, 4]", "[3]"))
    command = ["study", f"{file}", "--out", f"{out}", "--device", "cpu"]
    error = CliRunner().invoke(app, command).exception
    assert f"{error}" == (
        f"out: {str(out / 'RetNet_3')!r} holds a finished run of other settings: --fresh (fresh=True) replaces it, another "
        "--out (out) keeps both"
    )
    assert (out / "RetNet_3" / "result.json").read_bytes() == before
    with locked(out):
        assert (
            "out must be a folder that no other run works in"
            in f"{CliRunner().invoke(app, [*command, '--fresh']).exception}"
        )
    with forked_runs():
        assert CliRunner().invoke(app, [*command, "--fresh"], catch_exceptions=False).exit_code == 0
    assert json.loads((out / "RetNet_3" / "result.json").read_text())["config"]["steps"] == 2


def test_a_failed_run_does_not_affect_the_others(file, finished, tmp_path):
    text = file.read_text().replace("[3, 4]", "[3]").replace("gate = false", "learning_rate = 1e30")
    file.write_text(text)
    shutil.copytree(finished[0], tmp_path / "out")  # RetNet is the same there, the other variant has other settings
    command = ["study", f"{file}", "--out", f"{tmp_path / 'out'}", "--fresh", *TWO_CPUS]
    with forked_runs():
        result = CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    assert result.exit_code == 1  # for a run is missing
    assert "no-gate_3 failed: stopped: the " in result.output
    rows = json.loads((tmp_path / "out" / "study.json").read_text())["rows"]
    assert rows[0]["mean"] is not None
    assert (rows[1]["mean"], rows[1]["held_out"], rows[1]["over"]) == (None, [None], None)
    (fine,), (failed,) = (row["training"] for row in rows)
    assert fine.keys() == {"steps", "first", "largest_rise", "spikes", "largest_gradient_norm"}
    assert fine["steps"] == 12
    assert re.fullmatch(r"stopped: the [a-z ]+ is \w+ at step \d+", failed["failed"])
    assert failed.get("steps", 0) < 12
    assert "stopped: the " in (tmp_path / "out" / "no-gate_3" / "output.txt").read_text()


def stopped(command, ready):
    """The result of the program with these arguments, in this process, which gets SIGTERM once ready() is true."""

    def stop():
        patience = time.monotonic() + 60
        while not ready() and time.monotonic() < patience:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # for a program that has ended by then
    thread = threading.Thread(target=stop)
    thread.start()
    try:
        with forked_runs():
            return CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    finally:
        thread.join()
        signal.signal(signal.SIGTERM, before)


def test_a_stopped_study_goes_on(file, tmp_path):
    text = file.read_text().replace("steps = 12", "steps = 4000\nevaluate_every = 1000")
    file.write_text(text.replace("[3, 4]", "[3]"))
    out = tmp_path / "out"
    command = ["study", f"{file}", "--out", f"{out}", *TWO_CPUS]
    logs = [out / f"{name}_3" / "log.jsonl" for name in ("RetNet", "no-gate")]
    result = stopped(command, lambda: all(log.exists() and log.stat().st_size > 2000 for log in logs))
    assert result.exit_code == 128 + signal.SIGTERM, result.output
    assert "stopped after 0 of 2 runs; the same command goes on" in result.output
    before = [log.read_text() for log in logs]
    assert all(0 < len(text.splitlines()) < 4000 for text in before)
    longer = lambda: all(log.stat().st_size > 1.2 * len(text) for log, text in zip(logs, before, strict=True))  # noqa: E731
    assert stopped(command, longer).exit_code == 128 + signal.SIGTERM
    assert longer()
    for log, text in zip(logs, before, strict=True):  # the steps that were taken are not taken again
        assert log.read_text().startswith(text)


def test_runs_of_a_study_that_was_killed_stop(file, tmp_path):
    text = file.read_text().replace("steps = 12", "steps = 400000\nevaluate_every = 100000")
    file.write_text(text.replace("[3, 4]", "[3]"))
    out, patience = tmp_path / "out", time.monotonic() + 60
    command = [sys.executable, "-m", "gpu", "study", f"{file}", "--out", f"{out}", *TWO_CPUS]
    runs = [out / f"{name}_3" for name in ("RetNet", "no-gate")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while not all((run / "log.jsonl").exists() and (run / "log.jsonl").stat().st_size > 2000 for run in runs):
                assert time.monotonic() < patience
                assert process.poll() is None
                time.sleep(0.05)
        finally:  # also if the runs were too slow: they would go on for hours
            process.kill()
    while not all("stopped after step" in (run / "output.txt").read_text() for run in runs):
        assert time.monotonic() < patience + 60
        time.sleep(0.05)
    assert all((run / "checkpoint.safetensors").exists() for run in runs)


def test_the_summary_pairs_seeds(file):
    study = read_study(file)
    losses = {"RetNet_3": 2.0, "RetNet_4": 3.0, "no-gate_3": 2.5, "no-gate_4": 3.1}
    results = {
        name: {"parameters": 5, "seconds": 1.0, "bits_per_byte": {"held_out": loss}, "evaluations": [[9, loss]]}
        for name, loss in losses.items()
    }
    first, second = summary(study, results)
    assert (first["mean"], first["over"], first["over_deviation"]) == (2.5, 0.0, 0.0)
    assert second["over"] == pytest.approx(0.3)
    assert second["over_deviation"] == pytest.approx(statistics.stdev([0.5, 0.1]))
    del results["RetNet_4"]
    first, second = summary(study, results)
    assert (first["held_out"], first["deviation"]) == ([2.0, None], None)
    assert first["training"] == [None, None]
    assert summary(study, results, {"RetNet_4": {"steps": 3}})[0]["training"] == [None, {"steps": 3}]
    assert (second["over"], second["over_deviation"]) == (0.5, None)
    assert isinstance(study, Study)


@pytest.mark.parametrize("content", ["{", "[]", "{}", "3", "[" * 100_000])
def test_a_damaged_result_is_none(content, tmp_path):
    """So the run writes it again."""
    config = module.RunConfig(dim=16)
    (tmp_path / "run.toml").write_text(module.to_toml(config))
    (tmp_path / "result.json").write_text(content)
    assert module._result(tmp_path, config) is None


def test_matched_variants_have_as_many_parameters_as_the_first(file):
    file.write_text(
        file.read_text().replace("steps = 12", "steps = 12\nmatched = true\nlearning_rates = [2e-3, 1e-3]").replace(
            "dim = 16\n", "dim = 64\n"
        )
        + "[variants.Transformer]\nmodel = \"transformer\"\n"
    )  # fmt: skip
    study = read_study(file)
    assert study.rates == (1e-3, 2e-3)
    configs = {name: runs[3] for name, runs in study.runs.items()}
    first = retnet_parameters(configs["RetNet"].retnet)
    layers = first - 2 * 256 * 64
    assert configs["RetNet"].retnet.ffn_dim == 128
    assert configs["no gate"].retnet.ffn_dim > 128
    assert abs(retnet_parameters(configs["no gate"].retnet) - first) <= 0.01 * layers
    assert abs(sum(p.numel() for p in build(configs["Transformer"]).parameters()) - first) <= 0.01 * layers
    assert study.runs["no gate"][4] == dataclasses.replace(configs["no gate"], seed=4)


def test_each_variant_takes_its_own_best_rate_by_a_seed_of_its_own(file, tmp_path, monkeypatch):
    file.write_text(file.read_text().replace("steps = 12", "steps = 12\nlearning_rates = [1e-3, 2e-3, 4e-3]"))
    asked = []

    def run_all(runs, out, devices, console=None, finished=lambda results: None, fresh=False):
        results = {}
        for name, config in runs.items():
            asked.append((out.name, config.seed, config.gate, config.learning_rate))
            best = 2e-3 if config.gate else 1e-3
            diverged = config.learning_rate == 4e-3
            loss = 1.0 + abs(config.learning_rate - best)
            results[name] = None if diverged else {
                "bits_per_byte": {"held_out": loss}, "evaluations": [[1, loss]], "parameters": 1, "seconds": 2.0, "device": "cpu",
                "versions": {},
            }  # fmt: skip
        finished(results)
        return results

    monkeypatch.setattr(module, "run_all", run_all)
    rows = run_study(read_study(file), tmp_path / "out", ["cpu"])
    assert {seed for folder, seed, *_ in asked if folder == "rates"} == {5}  # not one of the seeds 3 and 4
    assert {(gate, rate) for folder, _, gate, rate in asked if folder == "out"} == {(True, 2e-3), (False, 1e-3)}
    assert [row["settings"]["learning_rate"] for row in rows] == [2e-3, 1e-3]
    shown = json.loads((tmp_path / "out" / "study.json").read_text())
    assert len(shown["trials"]) == 6
    assert [each["held_out"] is None for each in shown["trials"]] == [False, False, True] * 2
    assert shown["trials"][0]["evaluations"]


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("learning_rates = 1e-3", ValueError, r"learning_rates must be a list of numbers above 0, got 0\.001"),
        ("learning_rates = [-1.0]", ValueError, r"learning_rates must be a list of numbers above 0, got \[-1\.0\]"),
        ("matched = 1", TypeError, "matched must be true or false, got 1"),
        (
            "learning_rates = [1e-3]\nlearning_rate = 1e-3",
            ValueError,
            r"learning_rate must be left to learning_rates, got 0\.001",
        ),
    ],
)
def test_wrong_rates_are_refused(file, line, error, message):
    file.write_text(file.read_text().replace("steps = 12", f"steps = 12\n{line}"))
    with pytest.raises(error, match=message):
        read_study(file)

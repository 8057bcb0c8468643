"""A run that is killed, stopped or broken goes on as if nothing had happened."""

import dataclasses
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from runs import QUIET, at_step, log_lines, start_of_a_figure

from gpu.training.checkpoint import load_checkpoint
from gpu.training.config import RunConfig
from gpu.training.run import train
from refimpl.training.loop import StoppedError
from refimpl.training.stopping import stop_on_signals
from refimpl.weights import load_params

SMALL = {
    "dim": 8, "num_layers": 2, "num_heads": 2, "batch_size": 4, "window": 16, "sample_bytes": 4, "warmup": 2, "steps": 40,
    "evaluate_every": 4, "prompt": "abc",
}  # fmt: skip
SERVER = multiprocessing.get_context("forkserver")  # imports torch once; every process is a fork of it
SERVER.set_forkserver_preload(["gpu.training.run", "torch._dynamo", "matplotlib.backends.backend_agg"])


@pytest.fixture(scope="module")
def config(corpus):
    return RunConfig(corpus=corpus, **SMALL)


def run(config, out, resume):
    """In a process of its own: train, and exit as `python -m gpu train` does."""
    torch.set_num_threads(1)
    pytest.MonkeyPatch().setattr("gpu.training.run.save_figure", start_of_a_figure)
    try:
        train(config, out, console=QUIET, resume=resume)
    except StoppedError as error:
        raise SystemExit(128 + error.signal) from None


def start(config, out, resume=False):
    process = SERVER.Process(target=run, args=(config, out, resume))
    process.start()
    return process


def finish(process):
    process.join(60)
    return process.exitcode


def wait_for_step(out, step):
    """Until the log has that many lines."""
    log = out / "log.jsonl"
    for _ in range(20_000):
        if log.exists() and log.read_bytes().count(b"\n") >= step:
            return
        time.sleep(0.001)
    raise AssertionError(f"step {step} never came")


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of the run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(config, out)) == 0
    return out


def same_run(out, whole):
    assert log_lines(out) == log_lines(whole)  # every loss, gradient norm and rate, to the bit
    for name in ("weights.safetensors", "best.safetensors", "sample.txt", "tokenizer.json", "run.toml"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    results = [json.loads((folder / "result.json").read_text()) for folder in (out, whole)]
    assert [result.pop("seconds") for result in results]
    assert results[0] == results[1]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.parametrize("kill", range(10))
def test_killed_at_any_moment_a_run_goes_on_to_the_bit(kill, config, whole, tmp_path):
    """SIGKILL at a random step, and at a random moment of it; then what is on disk is whole, and resuming is exact."""
    chance, out = random.Random(kill), tmp_path / "run"
    process = start(config, out)
    wait_for_step(out, chance.randrange(1, 36))
    time.sleep(0.02 * chance.random())
    process.kill()
    assert finish(process) == -signal.SIGKILL
    done = log_lines(out)
    assert len(done) < 40
    assert done == log_lines(whole)[: len(done)]
    kept = load_checkpoint(out)
    if kept is not None:
        last = len(done) - len(done) % 4
        assert kept.progression.step in (last, last - 4)  # the latter if it was killed between the line and the file
    if (out / "best.safetensors").exists():
        load_params(out / "best.safetensors")
    assert finish(start(config, out, resume=True)) == 0
    same_run(out, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_with_a_checkpoint(number, config, whole, tmp_path):
    out = tmp_path / "run"
    process = start(config, out)
    wait_for_step(out, 5)
    os.kill(process.pid, number)
    assert finish(process) == 128 + number
    step = len(log_lines(out))
    assert load_checkpoint(out).progression.step == step < 40
    assert not (out / "result.json").exists()
    message = f"holds one, at step {step}: --resume .* goes on with it, --fresh .* replaces it"
    with pytest.raises(ValueError, match=message):
        train(config, out)
    assert finish(start(config, out, resume=True)) == 0
    same_run(out, whole)


def test_a_second_signal_does_what_it_always_does():
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as request:
        assert not request()
        signal.raise_signal(signal.SIGTERM)
        assert request()
        assert request.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_stays_so(number):
    """As nohup ignores SIGHUP."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_on_signals() as request:
            signal.raise_signal(number)
            assert not request()
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_finished_run_is_not_repeated_and_may_be_replaced(config, whole):
    before = log_lines(whole)
    assert finish(start(config, whole, resume=True)) == 0
    assert log_lines(whole) == before
    short = dataclasses.replace(config, steps=3)
    with pytest.raises(ValueError, match=r"steps must be at least 40 as in the checkpoint \(more .*\), got 3"):
        train(short, whole, resume=True)
    with pytest.raises(
        ValueError, match=r"holds a finished one: --fresh .* --resume .* larger --steps .* another --out"
    ):
        train(config, whole)
    assert log_lines(whole) == before


def test_a_text_or_log_that_changed_is_noticed(config, tmp_path):
    text = tmp_path / "text.txt"
    shutil.copy(config.corpus, text)
    config, out = dataclasses.replace(config, corpus=str(text), steps=4), tmp_path / "run"
    train(config, out)
    log = (out / "log.jsonl").read_bytes()
    (out / "log.jsonl").write_bytes(log[:-1])
    message = f"must hold the {len(log)} bytes that the checkpoint expects, got {len(log) - 1}"
    with pytest.raises(ValueError, match=message):
        train(config, out, resume=True)
    text.write_text("abcabcabc abc\nabba!\n" * 60)
    with pytest.raises(ValueError, match="corpus must be the text that the checkpoint was trained on"):
        train(config, out, resume=True)
    (out / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"resume: .* is no checkpoint"):
        train(config, out, resume=True)


def test_a_broken_loss_names_step_parameter_and_checkpoint(config, tmp_path):
    """A learning rate of 1e30 at step 6 breaks step 7; what step 4 kept is untouched."""
    with at_step(6, lambda: 1e30), pytest.raises(FloatingPointError) as error:
        train(config, tmp_path)
    assert re.fullmatch(
        r"the (loss|norm of the gradient) is nan at step 7; the largest gradient of (that step|the step before) was that of "
        r"[\w.]+, of norm (nan|[\d.e+-]+); "
        + re.escape(f"{tmp_path / 'checkpoint.safetensors'} is good, of step 4; a lower learning_rate may help"),
        f"{error.value}",
    )
    assert load_checkpoint(tmp_path).progression.step == 4
    assert all(np.isfinite(tensor).all() for tensor in load_checkpoint(tmp_path).tensors.values())
    assert len(log_lines(tmp_path)) == 6
    with pytest.raises(FloatingPointError, match=r"is nan at step 2; .*; there is no checkpoint yet"):
        train(dataclasses.replace(config, learning_rate=1e30), tmp_path, fresh=True)


@pytest.mark.parametrize("model", ["transformer", "gru"])
def test_baselines_resume_too(model, config, tmp_path):
    """Stopped after step 7 by a signal of this process to itself."""
    config = dataclasses.replace(config, model=model, steps=12, precision="bfloat16")
    whole = train(config, tmp_path / "whole", console=QUIET)
    assert whole["sample"] is None
    stop = at_step(7, lambda: signal.raise_signal(signal.SIGTERM))
    with stop, pytest.raises(StoppedError, match="stopped after step 7 of 12"):
        train(config, tmp_path / "parts")
    train(config, tmp_path / "parts", resume=True)
    assert log_lines(tmp_path / "parts") == log_lines(tmp_path / "whole")

"""A training run shared out over processes is the run of one: its losses, its files, its stops and its errors."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from processes import in_processes
from runs import QUIET, at_step, for_each, log_lines

from gpu.models.build import build
from gpu.numerics import layer_caller
from gpu.parallel import strategies as parallelism
from gpu.training.checkpoint import load_checkpoint
from gpu.training.config import PARALLELISMS, RunConfig, to_toml
from gpu.training.run import train
from gpu.training.step import Trainer
from refimpl.libraries import values_trusted
from refimpl.training.loop import StoppedError
from refimpl.weights import load_params

SMALL = {
    "dim": 16, "num_layers": 2, "num_heads": 2, "batch_size": 8, "window": 17, "sample_bytes": 4, "warmup": 2, "steps": 8,
    "evaluate_every": 4, "prompt": "abc",
}  # fmt: skip


@pytest.fixture(scope="module")
def config(corpus):
    return RunConfig(corpus=corpus, **SMALL)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of the run of one process."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(config, out, console=QUIET)
    return out


def steps(config, shared):
    """Losses and norms of five steps in float64, a loss of fewer windows than processes, and a step after it."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, config.vocab_size, (7, config.batch_size, config.window + 1))
    trainer = Trainer(build(config).double(), config, "cpu", shared)
    with values_trusted():
        taken = [trainer.step(batch[:, :-1], batch[:, 1:], 1e-2) for batch in tokens[:5]]
        taken.append([trainer.loss(tokens[5, :few, :-1], tokens[5, :few, 1:]) for few in (3, 1)])
        taken.append(trainer.step(tokens[6, :, :-1], tokens[6, :, 1:], 1e-2))
    return taken, trainer.explain()


def steps_of_each(configs):
    """Of each run, `steps` shared out and `steps` alone."""
    return [
        [steps(each, shared) for shared in (parallelism.parallelism(each), parallelism.OneProcess())]
        for each in configs
    ]


EACH = [
    {"parallelism": "data"},
    {"parallelism": "data", "accumulation": 2, "recompute": True},
    {"parallelism": "sharded"},
    {"parallelism": "sharded", "accumulation": 2, "recompute": True},
    {"parallelism": "sequence"},
    {"parallelism": "sequence", "accumulation": 2, "recompute": True},
    {"parallelism": "sequence", "retention": "chunkwise", "chunk_size": 5},
    {"parallelism": "sharded", "model": "transformer"},
    {"parallelism": "sharded", "model": "gru"},
]


def test_losses_and_norms_are_those_of_one_process():
    by_process = in_processes(2, steps_of_each, [RunConfig(**SMALL | settings) for settings in EACH])
    for settings, first, second in zip(EACH, *by_process, strict=True):
        assert first == second  # each process says the same, to the bit
        (got, words), (want, wanted) = first
        np.testing.assert_allclose(got, want, rtol=1e-12, err_msg=f"{settings}")
        assert words == wanted


def test_bfloat16_is_as_close_to_one_process_as_its_rounding():
    """Parameters are float64 here, and matrix products bfloat16: shared out in any way, they round in the same places."""
    configs = [RunConfig(**SMALL, precision="bfloat16", parallelism=x) for x in PARALLELISMS]
    first, second = in_processes(2, steps_of_each, configs)
    assert first == second
    for answers in first:
        np.testing.assert_allclose(*([loss for loss, _ in taken[:3]] for taken, _ in answers), rtol=1e-2)


def compiled():
    """Loss and norm of a step, plain and compiled, and the number of graphs: of FSDP2's layers; of the split retention."""
    answers, graphs = [], []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    warnings.simplefilter("ignore")  # Dynamo explains what it does
    tokens = np.random.default_rng(0).integers(0, 256, (8, 18))
    for kind in ("sharded", "sequence"):
        config, pair = RunConfig(**SMALL, recompute=True, parallelism=kind), []
        for compiling in (False, True):
            trainer = Trainer(build(config).double(), config, "cpu", parallelism.parallelism(config))
            if compiling and kind == "sharded":
                trainer.how["layer"] = layer_caller(dataclasses.replace(config, compile=True), backend)
            elif compiling:  # the retention alone: whole layers take Dynamo long, and no graph holds what is sent
                trainer.how["retention"] = torch.compile(trainer.how["retention"], backend=backend)
            with values_trusted():
                pair.append(trainer.step(tokens[:, :-1], tokens[:, 1:], 1e-2))
        answers.append((*pair, len(graphs)))
    return answers


def test_compiled_layers_and_retention_are_shared_out_too():
    first, second = in_processes(2, compiled)
    assert first == second
    (want, got, layers), (wanted, split, graphs) = first
    np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(split, wanted, rtol=1e-12)
    assert (layers, graphs) == (1, 1 + 1)  # one for all layers; and the retention between what is sent each way


def run(config, out, resume=False, quits=None, number=signal.SIGKILL):
    """Train; process `quits` sends itself a signal before step 7, and what stops the run is returned."""
    send = lambda: os.kill(os.getpid(), number) if quits == torch.distributed.get_rank() else None  # noqa: E731
    try:
        with at_step(7, send):
            return train(config, out, console=QUIET, resume=resume)
    except (StoppedError, ValueError, OSError, FloatingPointError) as error:
        return f"{type(error).__name__}: {error}", getattr(error, "signal", None)


def close(got, want):
    """The same log to the rounding of float32."""
    assert [sorted(line) for line in got] == [sorted(line) for line in want]
    for line, wanted in zip(got, want, strict=True):
        np.testing.assert_allclose(list(line.values()), [wanted[name] for name in line], rtol=2e-4)


def at(config, kind):
    return dataclasses.replace(config, parallelism=kind)


def test_a_run_leaves_the_files_of_one_process_and_goes_on_in_any_other_way(config, whole, tmp_path):
    """Process 1 gets a signal at step 7 and both stop there; then the run goes on with the same, with another, and with one."""
    stops = [(at(config, kind), tmp_path / kind, False, 1, signal.SIGTERM) for kind in PARALLELISMS]
    for answers in in_processes(2, for_each, run, stops):
        assert answers == [("StoppedError: stopped after step 7 of 8", signal.SIGTERM)] * 3
    arguments = [(at(config, kind), tmp_path / f"whole {kind}") for kind in PARALLELISMS]
    for before, other in zip(PARALLELISMS, (*PARALLELISMS[1:], PARALLELISMS[0]), strict=True):
        close(log_lines(tmp_path / before), log_lines(whole)[:7])
        assert load_checkpoint(tmp_path / before).progression.step == 7
        for after in (before, other):
            shutil.copytree(tmp_path / before, tmp_path / f"{before} {after}")
            arguments.append((at(config, after), tmp_path / f"{before} {after}", True))
    first, second = in_processes(2, for_each, run, arguments)
    assert first == second  # every process returns the result
    for result, (_, out, *_) in zip(first, arguments, strict=True):
        assert result["processes"] == 2
        assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())
        close(log_lines(out), log_lines(whole))
        for name in ("weights", "best"):
            params, shape = load_params(out / f"{name}.safetensors")
            wanted, same = load_params(whole / f"{name}.safetensors")
            assert shape == same
            np.testing.assert_allclose(params["head"], wanted["head"], rtol=1e-3, atol=1e-4)
    for kind in PARALLELISMS:  # in the same way, to the bit
        for name in ("weights", "best"):
            resumed, straight = (tmp_path / f"{x} {kind}" / f"{name}.safetensors" for x in (kind, "whole"))
            assert resumed.read_bytes() == straight.read_bytes()
        assert log_lines(tmp_path / f"{kind} {kind}") == log_lines(tmp_path / f"whole {kind}")
        train(config, tmp_path / kind, console=QUIET, resume=True)
        close(log_lines(tmp_path / kind), log_lines(whole))


def test_processes_start_from_the_weights_of_a_run(config, whole, tmp_path):
    config = dataclasses.replace(config, from_weights=f"{whole}", steps=2)
    train(config, tmp_path / "one", console=QUIET)
    assert log_lines(tmp_path / "one")[0]["training"] < log_lines(whole)[0]["training"] - 0.5
    in_processes(2, for_each, run, [(at(config, kind), tmp_path / kind) for kind in PARALLELISMS])
    for kind in PARALLELISMS:
        close(log_lines(tmp_path / kind), log_lines(tmp_path / "one"))


def test_a_killed_process_ends_the_run_and_what_was_kept_goes_on(config, whole, tmp_path):
    config = at(config, "sharded")
    with pytest.raises(AssertionError, match="process 0 of 2 failed"):
        in_processes(2, run, config, tmp_path / "run", False, 1)
    assert load_checkpoint(tmp_path / "run").progression.step == 4
    in_processes(2, run, config, tmp_path / "run", True)
    close(log_lines(tmp_path / "run"), log_lines(whole))


REFUSED = {
    "batch_size must be a multiple of accumulation x processes = 4 x 2, got 4": {"batch_size": 4, "accumulation": 4},
    "window must be at least 2, a token for each process, got 1": {"window": 1, "parallelism": "sequence"},
    "corpus: there is no file or folder 'no/such/file'": {"corpus": "no/such/file"},
}


def broken(config, out):
    """The error of this process for each refused setting, and for a loss that is not finite."""
    answers = [run(dataclasses.replace(config, **change), out)[0] for change in REFUSED.values()]
    with at_step(1, lambda: 1e30):
        return [*answers, *(run(at(config, kind), out / kind)[0] for kind in PARALLELISMS)]


def test_errors_are_the_same_on_every_process(config, tmp_path):
    first, second = in_processes(2, broken, config, tmp_path)
    assert first == second
    for answer, message in zip(first, REFUSED, strict=False):
        assert re.match(r"(ValueError|FileNotFoundError): " + re.escape(message), answer)
    for answer in first[3:]:
        assert re.fullmatch(
            r"FloatingPointError: the (loss|norm of the gradient) is (nan|inf) at step 2; the largest gradient of .* was "
            r"that of [\w.]+, of norm [\w.+-]+; there is no checkpoint yet; a lower learning_rate may help",
            answer,
        )


@pytest.mark.parametrize("kind", ["sharded", "sequence"])
def test_one_process_has_nothing_to_share(kind, config, tmp_path):
    message = f"parallelism must be 'data' for one process, got '{kind}': start several, as in torchrun"
    with pytest.raises(ValueError, match=message):
        train(at(config, kind), tmp_path)


@pytest.mark.parametrize("model", ["transformer", "gru"])
def test_only_retention_s_state_joins_slices(model):
    message = f"parallelism must be 'data' or 'sharded' for model = '{model}', got 'sequence': slices of a window are"
    with pytest.raises(ValueError, match=message):
        RunConfig(model=model, parallelism="sequence")


def test_torchrun_stops_a_run_on_a_signal_and_says_so_once(config, tmp_path):
    """The program itself: a SIGTERM to torchrun goes to all, and all stop at one step."""
    (tmp_path / "run.toml").write_text(to_toml(dataclasses.replace(config, steps=1_000_000, evaluate_every=10)))
    command = (
        "-m torch.distributed.run --standalone --nproc-per-node 2 -m gpu train --device cpu --parallelism sequence"
    )
    command = [sys.executable, *command.split(), f"{tmp_path / 'run.toml'}", "--out", f"{tmp_path / 'run'}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        try:
            log = tmp_path / "run" / "log.jsonl"
            for _ in range(6000):
                if log.exists() and log.read_bytes().count(b"\n") > 12:
                    break
                time.sleep(0.01)
            process.terminate()
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    step = len(log_lines(tmp_path / "run"))
    assert step > 12, stderr
    assert stdout.count(f"stopped after step {step} of 1000000; python -m gpu train") == 1
    assert load_checkpoint(tmp_path / "run").progression.step == step

"""A run's folder, of NumPy and torch alike: one process at a time, nothing lost in silence, runs that go on."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from runs import QUIET, at_step, log_lines

from gpu.training import run as torch_run
from gpu.training.config import RunConfig
from refimpl import RetNetConfig
from refimpl.interop import load_folder, save_folder
from refimpl.training import folder, loop
from refimpl.training import train as numpy_run
from refimpl.training.bpe import learn_tokenizer
from refimpl.training.checkpoint import NAME
from refimpl.training.folder import LOCK, locked
from refimpl.training.settings import configured, run_config, to_toml
from refimpl.training.start import load_start
from refimpl.training.stopping import StoppedError
from refimpl.tree import flatten
from refimpl.weights import load_params, save_params

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "dim": 8, "num_layers": 1, "num_heads": 2, "batch_size": 4, "window": 16, "sample_bytes": 2, "warmup": 2, "steps": 8,
    "evaluate_every": 3, "prompt": "abc",
}  # fmt: skip
KINDS = {
    "NumPy": (numpy_run.TrainConfig, numpy_run.train),
    "torch": (RunConfig, functools.partial(torch_run.train, device="cpu")),
}


@pytest.fixture(params=KINDS)
def kind(request, corpus):
    """A config and the function that trains it, of each library."""
    config, train = KINDS[request.param]
    return config(corpus=corpus, **SMALL), functools.partial(train, console=QUIET)


def weights(out):
    return flatten(load_params(out / "weights.safetensors")[0])


def same_weights(one, other):
    for name, array in weights(one).items():
        np.testing.assert_array_equal(array, weights(other)[name], err_msg=name)


def stopped(train, config, out, step, number=signal.SIGINT, **how):
    """Train until a signal of this process to itself."""
    stop = at_step(step, lambda: signal.raise_signal(number))
    with stop, pytest.raises(StoppedError, match=f"stopped after step {step} of") as error:
        train(config, out, **how)
    assert error.value.signal == number


# ---------------------------------------------------------------- going on


@pytest.fixture
def heard():
    """SIGHUP is not ignored, as it is in what nohup starts: a run ignores it then, too."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_run_goes_on_to_the_bit(kind, number, tmp_path, heard):
    config, train = kind
    train(config, tmp_path / "whole")
    stopped(train, config, tmp_path / "parts", 5, number)
    assert len(log_lines(tmp_path / "parts")) == 5
    assert not (tmp_path / "parts" / "weights.safetensors").exists()
    train(config, tmp_path / "parts", resume=True)
    assert log_lines(tmp_path / "parts") == log_lines(tmp_path / "whole")
    same_weights(tmp_path / "parts", tmp_path / "whole")
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }


def test_a_finished_run_gets_more_steps(kind, tmp_path):
    """From its end on it follows the schedule of the longer run; stopped in between, it goes on to the bit."""
    config, train = kind
    longer = dataclasses.replace(config, steps=12)
    for out in (tmp_path / "one", tmp_path / "two"):
        train(config, out)
        before = log_lines(out)
    train(longer, tmp_path / "one", resume=True)
    log = log_lines(tmp_path / "one")
    assert log[:8] == before
    assert [line["learning_rate"] for line in log[8:]] == [loop.scheduled_rate(step, longer) for step in range(9, 13)]
    assert [line["step"] for line in log if "held_out" in line] == [3, 6, 8, 9, 12]
    assert folder.load_checkpoint(tmp_path / "one", type(config)).progression.extended == [[8, 8]]
    assert run_config(type(config), tmp_path / "one", True, {}) == longer
    stopped(train, longer, tmp_path / "two", 10, resume=True)
    assert not (tmp_path / "two" / "result.json").exists()  # it is no finished run
    with pytest.raises(ValueError, match="holds one, at step 10"):
        train(longer, tmp_path / "two")
    train(longer, tmp_path / "two", resume=True)
    assert log_lines(tmp_path / "two") == log
    same_weights(tmp_path / "one", tmp_path / "two")
    if isinstance(config, RunConfig):
        assert json.loads((tmp_path / "two" / "result.json").read_text())["extended"] == [[8, 8]]


def test_an_unfinished_run_may_get_more_steps_but_never_fewer(kind, tmp_path):
    config, train = kind
    stopped(train, config, tmp_path / "run", 4)
    with pytest.raises(ValueError, match=r"steps must be at least 8 as in the checkpoint \(more .*\), got 7"):
        train(dataclasses.replace(config, steps=7), tmp_path / "run", resume=True)
    train(dataclasses.replace(config, steps=9), tmp_path / "run", resume=True)
    assert len(log_lines(tmp_path / "run")) == 9


def test_the_text_may_have_moved_but_not_changed(kind, tmp_path):
    config, train = kind
    stopped(train, config, tmp_path / "run", 4)
    moved = dataclasses.replace(config, corpus=str(tmp_path / "moved.txt"))
    (tmp_path / "moved.txt").write_text(Path(config.corpus).read_text() + "!")
    with pytest.raises(ValueError, match="corpus must be the text that the checkpoint was trained on"):
        train(moved, tmp_path / "run", resume=True)
    (tmp_path / "moved.txt").write_text(Path(config.corpus).read_text())
    train(moved, tmp_path / "run", resume=True)
    assert len(log_lines(tmp_path / "run")) == 8


# ---------------------------------------------------------------- nothing is lost


def test_no_run_is_replaced_in_silence(kind, tmp_path):
    config, train = kind
    train(config, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    other = dataclasses.replace(config, seed=1)
    message = (
        f"out must be a folder without a run; {str(tmp_path / 'run')!r} holds a finished one: --fresh (fresh=True) "
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        train(other, tmp_path / "run")
    with pytest.raises(ValueError, match="seed must be 0 as in the checkpoint, got 1"):
        train(other, tmp_path / "run", resume=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    train(other, tmp_path / "run", fresh=True)
    train(other, tmp_path / "other")
    same_weights(tmp_path / "run", tmp_path / "other")


def test_weights_without_a_checkpoint_are_not_replaced_either(kind, tmp_path):
    """As runs of an earlier version left them; --resume could only begin again."""
    config, train = kind
    train(config, tmp_path / "run")
    (tmp_path / "run" / NAME).unlink()
    before = weights(tmp_path / "run")
    with pytest.raises(ValueError, match="holds a finished one"):
        train(config, tmp_path / "run")
    with pytest.raises(ValueError, match=r"resume: the finished run in .* has no checkpoint; --fresh"):
        train(config, tmp_path / "run", resume=True)
    np.testing.assert_equal(weights(tmp_path / "run"), before)


def test_a_corpus_that_cannot_be_read_leaves_no_folder(kind, tmp_path):
    config, train = kind
    with pytest.raises(FileNotFoundError, match="corpus: there is no file or folder"):
        train(dataclasses.replace(config, corpus="no/such/file"), tmp_path / "a" / "run")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"out must be a folder, .* is none"):
        train(config, tmp_path / "file")


def test_folders_that_are_not_there_are_made(kind, tmp_path):
    config, train = kind
    train(config, tmp_path / "a" / "b" / "run")
    assert weights(tmp_path / "a" / "b" / "run")


def test_numpy_and_torch_do_not_go_on_with_each_other_s_runs(tmp_path, corpus):
    """Their checkpoints hold other moments; but the one may start from the other's weights."""
    for ours, theirs in (("NumPy", "torch"), ("torch", "NumPy")):
        (config, train), (other, train_other) = KINDS[ours], KINDS[theirs]
        out = tmp_path / ours
        train(config(corpus=corpus, **SMALL), out, console=QUIET)
        for how in ({}, {"resume": True}):
            with pytest.raises(
                ValueError, match=rf"must be of a {other.__name__}, got that of a {config.__name__}: .*--fresh"
            ):
                train_other(other(corpus=corpus, **SMALL), out, console=QUIET, **how)
        tuned = configured(other, SMALL | {"corpus": corpus, "from_weights": str(out)})
        train_other(tuned, tmp_path / f"{theirs} from {ours}", console=QUIET)
        train_other(other(corpus=corpus, **SMALL), out, console=QUIET, fresh=True)
        assert folder.load_checkpoint(out, other).progression.step == 8


# ---------------------------------------------------------------- the lock


def test_two_runs_into_one_folder_are_refused_at_once(kind, tmp_path):
    """While one trains, the other is told who does; the first is not disturbed."""
    config, train = kind
    train(config, tmp_path / "alone")
    refusals = []

    def second():
        for how in ({}, {"resume": True}, {"fresh": True}):
            with pytest.raises(ValueError, match="out must be a folder that no other run works in") as error:
                train(config, tmp_path / "run", **how)
            refusals.append(f"{error.value}")

    with at_step(4, second):
        train(config, tmp_path / "run")
    assert len(refusals) == 3
    assert all(f"process {os.getpid()} of " in line and repr(f"{tmp_path / 'run'}") in line for line in refusals)
    assert all("--out" in line for line in refusals)
    same_weights(tmp_path / "run", tmp_path / "alone")
    assert not (tmp_path / "run" / LOCK).exists()


HOLD = "import sys, time\nfrom refimpl.training.folder import locked\nwith locked(sys.argv[1]):\n  print(1, flush=True)\n  time.sleep(60)"


def test_the_lock_of_a_dead_process_is_none(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        with pytest.raises(ValueError, match=f"process {process.pid} of .* works in"), locked(tmp_path):
            pass
        process.kill()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert re.fullmatch(rf"process {os.getpid()} of \S+", (tmp_path / LOCK).read_text())
    assert not (tmp_path / LOCK).exists()


def test_of_many_that_come_and_go_one_at_a_time_is_inside(tmp_path):
    """The lock's file is removed again and again; a process that has opened the old one must not come in."""
    inside, most, entered = [], [], []

    def come_and_go():
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            with contextlib.suppress(ValueError), locked(tmp_path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()
                entered.append(1)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) > 20
    assert max(most) == 1


# ---------------------------------------------------------------- from weights


ODD = {"key_dim": 6, "value_dim": 5, "ffn_dim": 7, "gamma_schedule": "0.9", "rotation": "none", "gate": False,
       "group_norm": "mean", "group_norm_affine": True, "ffn": "geglu", "scale_keys": False, "row_norm": True,
       "embedding_scale": 2.0, "norm_eps": 1e-5}  # fmt: skip


@pytest.mark.parametrize("shape", [{}, ODD], ids=["default", "odd"])
def test_a_run_starts_from_the_weights_of_another(kind, shape, tmp_path):
    """Its first loss is that of the weights; its shape is theirs, whatever the defaults are."""
    config, train = kind
    config = dataclasses.replace(config, **shape)
    train(config, tmp_path / "first")
    small = {name: SMALL[name] for name in ("batch_size", "window", "sample_bytes", "steps", "prompt")}
    for source in ("first", "first/weights.safetensors"):
        given = {"corpus": config.corpus, "from_weights": str(tmp_path / source), "learning_rate": 1e-12, **small}
        tuned = configured(type(config), given)
        assert tuned.retnet == config.retnet
        out = tmp_path / source.replace("/", "-")
        train(tuned, out / "tuned")
        start = load_start(tmp_path / source)
        for name, array in weights(out / "tuned").items():
            np.testing.assert_allclose(array, flatten(start.params)[name], atol=1e-9, err_msg=name)
    assert run_config(type(config), out / "tuned", True, {}) == tuned


def test_a_run_starts_from_a_folder_as_found_on_a_hub(kind, tmp_path, corpus):
    """Such a model has another norm and another rotation than a run has by default."""
    config, train = kind
    shape = RetNetConfig(dim=16, num_layers=1, num_heads=2, rotation="rotary", group_norm_affine=True)
    save_folder(tmp_path / "hub", numpy_run.init_params(shape, 5), shape, library="fla")
    small = {name: SMALL[name] for name in ("batch_size", "window", "sample_bytes", "steps", "prompt")}
    given = {"corpus": corpus, "from_weights": str(tmp_path / "hub"), "learning_rate": 1e-12, **small}
    tuned = configured(type(config), given)
    train(tuned, tmp_path / "tuned")
    found, (wanted, read) = weights(tmp_path / "tuned"), load_folder(tmp_path / "hub")
    assert tuned.retnet == read
    for name, array in flatten(wanted).items():
        np.testing.assert_allclose(found[name], array, atol=1e-9, err_msg=name)


def test_it_goes_on_without_the_weights_that_it_started_from(kind, tmp_path):
    config, train = kind
    train(config, tmp_path / "first")
    tuned = configured(type(config), SMALL | {"corpus": config.corpus, "from_weights": str(tmp_path / "first")})
    train(tuned, tmp_path / "whole")
    stopped(train, tuned, tmp_path / "parts", 5)
    for path in (tmp_path / "first").iterdir():
        path.unlink()
    train(run_config(type(config), tmp_path / "parts", True, {}), tmp_path / "parts", resume=True)
    same_weights(tmp_path / "parts", tmp_path / "whole")


def test_the_best_weights_are_taken_and_halves_are_widened(tmp_path, corpus):
    config = numpy_run.TrainConfig(corpus=corpus, **SMALL).retnet
    best, last = (numpy_run.init_params(config, seed, np.float16) for seed in (1, 2))
    save_params(tmp_path / "weights.safetensors", last, config)
    np.testing.assert_array_equal(load_start(tmp_path).params["head"], last["head"].astype(np.float32))
    save_params(tmp_path / "best.safetensors", best, config)
    start = load_start(tmp_path)
    assert start.path.name == "best.safetensors"
    np.testing.assert_array_equal(start.params["head"], best["head"].astype(np.float32))
    assert start.params["head"].dtype == np.float32


def test_weights_that_do_not_fit_are_refused_by_name(kind, tmp_path):
    config, train = kind
    train(config, tmp_path / "first")
    start = {"from_weights": str(tmp_path / "first")}
    message = "num_layers must be 1 as in the weights .*, or left out, got 2"
    with pytest.raises(ValueError, match=message):
        train(configured(type(config), SMALL | start | {"corpus": config.corpus, "num_layers": 2}), tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
    with pytest.raises(FileNotFoundError, match=r"from_weights: there is no file or folder 'no/such'"):
        configured(type(config), {"from_weights": "no/such"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"from_weights must be a file of weights or a folder with one of .* holds nothing"
    ):
        configured(type(config), {"from_weights": str(tmp_path / "empty")})
    with pytest.raises(TypeError, match="from_weights must be a str, got 3"):
        configured(type(config), {"from_weights": 3})
    params, scored = numpy_run.init_params(config.retnet), dataclasses.replace(config.retnet, score_norm="sum")
    save_params(tmp_path / "scored", params, scored)
    with pytest.raises(ValueError, match=r"from_weights must be of a model without a score_norm, .* has 'sum'"):
        configured(type(config), {"from_weights": str(tmp_path / "scored")})
    with pytest.raises(ValueError, match="initialisation must be left out with from_weights, got 'normal'"):
        type(config)(from_weights="a", initialisation="normal")
    if isinstance(config, RunConfig):
        with pytest.raises(ValueError, match="from_weights must not be given for model = 'gru', got 'a'"):
            RunConfig(model="gru", from_weights="a")


def test_the_tokens_stay_those_of_the_weights(kind, tmp_path, corpus):
    """Of another text other pairs would be learnt; the weights know only theirs."""
    config, train = kind
    config = dataclasses.replace(config, vocab_size=258)
    train(config, tmp_path / "first")
    (tmp_path / "other.txt").write_text("xyzxyz xyz abc\n" * 100)
    given = SMALL | {"corpus": str(tmp_path / "other.txt"), "from_weights": str(tmp_path / "first")}
    train(configured(type(config), given), tmp_path / "tuned")
    train(configured(type(config), given | {"steps": 9}), tmp_path / "tuned", resume=True)
    tokenizer = (tmp_path / "tuned" / "tokenizer.json").read_text()
    assert tokenizer == (tmp_path / "first" / "tokenizer.json").read_text()
    assert json.loads(tokenizer)["merges"] != list(map(list, learn_tokenizer("xyzxyz xyz abc\n" * 90, 258).merges))
    (tmp_path / "first" / "tokenizer.json").unlink()
    with pytest.raises(
        ValueError, match=r"weights must be of a model over 256 tokens, as .* says or bytes are, got 258"
    ):
        configured(type(config), given)


# ---------------------------------------------------------------- names of any kind


NAMES = [
    "$5_$ and $\\frac{$ [bold] [red]x -o --out", "x][ :smile: {x} %s %(x)d \\N{x}", "it's \"quoted\" `x` #x a + b",
    "線形 ★ \U0001f700 é tab\tline\nbreak\x7f\x01", " two  spaces  a*b?[c] \\back\\slash\\u12 ",
]  # fmt: skip


def trained_in(place, title, config, train):
    """The log of a run on a text in a folder of this title, into another, and of some more steps."""
    (place / title).mkdir(parents=True)
    (place / title / title).write_bytes(Path(config.corpus).read_bytes())
    run, out = dataclasses.replace(config, corpus=f"{place / title}", steps=3), place / f"run {title}"
    train(run, out, console=None)
    assert (out / "run.toml").read_text(encoding="utf-8") == to_toml(run)
    longer = run_config(type(config), out, True, {"steps": 4})
    assert dataclasses.replace(longer, steps=3) == run
    train(longer, out, resume=True)
    return log_lines(out)


def test_results_do_not_depend_on_the_characters_of_a_path(kind, tmp_path, capsys, whole_loss_figure):
    """The same text gives the same losses, from a folder of any name into a folder of any name."""
    plain = trained_in(tmp_path, "text", *kind)
    for name in NAMES:
        assert trained_in(tmp_path / name, name, *kind) == plain, name
    assert capsys.readouterr().err == ""


def test_a_name_that_utf_8_cannot_hold_is_refused_at_the_door():
    for config, _ in KINDS.values():
        with pytest.raises(ValueError, match=r"corpus must be text that UTF-8 can hold, got '\\udcff'"):
            config(corpus="\udcff")

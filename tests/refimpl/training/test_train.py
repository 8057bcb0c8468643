"""Training in NumPy: each part against torch's, and a whole run step for step."""

import dataclasses
import functools
import io
import json
import sys

import numpy as np
import pytest
import torch
from rich.console import Console

import refimpl
from gpu.models.retnet import RetNet
from gpu.training.config import RunConfig
from gpu.training.step import Trainer
from refimpl.backward import retention_chunkwise_backward
from refimpl.conformance.validation import refused
from refimpl.training import loop
from refimpl.training import train as tr
from refimpl.training.text import random_batch
from refimpl.tree import flatten, map_tree
from refimpl.weights import load_params, save_params, unflatten

RNG = np.random.default_rng


def test_cross_entropy_is_torch_s():
    logits, targets = 30 * RNG(0).standard_normal((2, 3, 7)), RNG(1).integers(0, 7, (2, 3))
    value, grad = tr.cross_entropy(logits, targets)
    leaf = torch.from_numpy(logits).requires_grad_()
    want = torch.nn.functional.cross_entropy(leaf.flatten(0, 1), torch.from_numpy(targets).flatten()) / np.log(2)
    want.backward()
    assert np.isclose(value, want.item(), rtol=1e-13)
    np.testing.assert_allclose(grad, leaf.grad.numpy(), atol=1e-15)
    assert tr.cross_entropy(np.full((1, 1, 2), 1e4), np.array([[0]]))[0] == 1.0  # one bit, without overflow
    assert tr.cross_entropy(logits.astype(np.float32), targets)[1].dtype == np.float32


def test_adamw_and_clipping_are_torch_s():
    ours = {name: RNG(2).standard_normal(shape) for name, shape in (("a", (3, 4)), ("b", (5,)))}
    theirs = {name: torch.tensor(array, requires_grad=True) for name, array in ours.items()}
    optimizer = torch.optim.AdamW(theirs.values(), betas=(0.9, 0.98), weight_decay=0.1)
    adamw = tr.AdamW(ours, weight_decay=0.1)
    for step in range(8):
        grads = {
            name: (10.0 if step % 2 else 1e-3) * RNG(step).standard_normal(array.shape) for name, array in ours.items()
        }
        for name, leaf in theirs.items():
            leaf.grad = torch.tensor(grads[name])
        norm = torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0)
        assert np.isclose(tr.clip_by_norm(grads, 1.0), norm.item())
        optimizer.param_groups[0]["lr"] = rate = 0.01 * (step + 1)
        optimizer.step()
        adamw.step(grads, rate)
        for name, array in ours.items():
            np.testing.assert_allclose(array, theirs[name].detach(), rtol=1e-12)


def test_schedule():
    config = tr.TrainConfig(steps=1000, warmup=49, learning_rate=2.0)
    rates = [loop.scheduled_rate(step, config) for step in range(1, 1001)]
    assert rates[0] == 2.0 / 50  # a fiftieth after the first of 49 warm-up steps
    assert np.argmax(rates) == 49
    assert np.isclose(rates[500], 2.0 * 0.55)
    assert 0.2 < rates[-1] < 0.2001
    assert np.all(np.diff(rates[49:]) < 0)


TINY = {"dim": 16, "num_layers": 2, "num_heads": 2, "batch_size": 4, "window": 16, "warmup": 3, "learning_rate": 0.01}


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-3)])
def test_losses_follow_torch_step_for_step(dtype, tolerance):
    """Same seed, same batches, forty steps: gradients by hand and AdamW here, autograd and torch's AdamW there."""
    config = RunConfig(steps=40, **TINY)
    params = refimpl.init_params(config.retnet, 3, dtype)
    model = RetNet(config.retnet, seed=3, dtype=getattr(torch, np.dtype(dtype).name))
    for name, param in model.named_parameters():
        assert np.array_equal(param.detach().numpy(), flatten(params)[name])
    step, loss = tr.trainer(params, config, refimpl.retention_chunkwise, retention_chunkwise_backward)
    torch_side = Trainer(model, config)
    tokens, rng = refimpl.training.text.encode(refimpl.training.text.load_corpus().text), RNG(4)
    losses = []
    for number in range(1, 41):
        batch = random_batch(tokens, config.batch_size, config.window, rng)
        rate = loop.scheduled_rate(number, config)
        losses.append((step(*batch, rate), torch_side.step(*batch, rate)))
    (ours, our_norms), (theirs, their_norms) = np.array(losses).transpose(1, 2, 0)
    np.testing.assert_allclose(our_norms[:10], their_norms[:10], rtol=1e-3)
    assert np.abs(ours - theirs)[:10].max() < min(tolerance, 1e-5)  # later steps amplify rounding
    assert np.abs(ours - theirs).max() < tolerance
    assert ours[-1] < 0.6 * ours[0]
    assert np.isclose(loss(*batch), torch_side.loss(*batch), atol=tolerance)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "abc.txt"
    path.write_text("abcabcabc abc\n" * 300)
    return str(path)


def test_a_run_learns_and_is_seeded(corpus, tmp_path):
    config = tr.TrainConfig(corpus=corpus, steps=30, evaluate_every=10, **TINY)
    folder = tmp_path / "runs" / "of today"  # neither is there before
    params, log = tr.train(config, folder)
    assert [line["step"] for line in log] == list(range(1, 31))
    held_out = {line["step"]: line["held_out"] for line in log if "held_out" in line}
    assert list(held_out) == [10, 20, 30]
    assert held_out[30] < 1.5
    assert held_out[30] < 0.7 * held_out[10]
    assert [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] == log
    seconds = [line.pop("seconds") for line in log]
    assert seconds == sorted(seconds)
    again, same = tr.train(config, tmp_path / "again")
    assert [line.pop("seconds") for line in same]
    assert same == log
    np.testing.assert_equal(again, params)


def test_a_run_that_reads_once_takes_each_window_once_and_refuses_more(corpus, tmp_path):
    config, seen = tr.TrainConfig(corpus=corpus, steps=8, once=True, **TINY), []

    def step(inputs, targets, rate):
        seen.append(inputs)
        return 1.0, 1.0

    loop.fit(config, step, lambda *_: 1.0, tmp_path)
    windows = np.concatenate(seen)
    training = loop.load_text(config).training
    assert len(windows) == 32
    most = (len(training) - 1) // 64
    loop.load_text(dataclasses.replace(config, steps=most))
    with pytest.raises(ValueError, match=r"once: steps x batch_size x window = .* fewer steps, or a longer text"):
        loop.load_text(dataclasses.replace(config, steps=most + 1))


def test_the_loop_makes_the_folder_of_its_log(corpus, tmp_path):
    """Also where nobody has locked it: the loop is called by itself too."""
    config = tr.TrainConfig(corpus=corpus, steps=1, **TINY)
    loop.fit(config, lambda *_: (1.0, 1.0), lambda *_: 1.0, tmp_path / "neither" / "is there")
    assert (tmp_path / "neither" / "is there" / "log.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("error", [BrokenPipeError, OSError])
def test_a_run_goes_on_where_nobody_reads(error, corpus, tmp_path, monkeypatch):
    """A closed pipe, and a closed terminal."""

    class Closed(io.StringIO):
        def write(self, text):
            raise error

    with open(tmp_path / "stdout", "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)  # rich redirects it
        config, steps = tr.TrainConfig(corpus=corpus, steps=3, **TINY), []
        text = loop.load_text(config)._replace(remarks=("a remark",))
        console = Console(file=Closed(), force_terminal=True)
        loop.fit(config, lambda *_: (1.0, 1.0), lambda *_: 1.0, tmp_path / "run", console, text=text, keep=steps.append)
    assert [each.step for each in steps] == [3]


def test_a_loss_that_is_not_finite_stops_the_run(corpus, tmp_path):
    config = tr.TrainConfig(corpus=corpus, steps=5, **TINY)
    nan = float("nan")
    for second, third, what in (
        ((nan, 1.0), 0.0, "the loss is nan at step 2"),
        ((3.0, nan), 0.0, "the norm of the gradient is nan at step 2"),
        ((3.0, 1.0), nan, "the held-out loss is nan at step 5"),
    ):
        values, kept = iter([(3.0, 1.0), *[second] * 4]), []
        with pytest.raises(FloatingPointError, match=what):
            loop.fit(config, lambda *_, v=values: next(v), lambda *_, t=third: t, tmp_path, keep=kept.append)
        assert kept == []  # nothing of a broken run replaces what is good


@pytest.mark.parametrize(("loss", "scale"), [(3.0, np.nan), (3.0, np.inf), (np.nan, 1.0), (np.inf, 1.0)])
def test_a_step_that_is_not_finite_changes_no_parameter(loss, scale, monkeypatch):
    config = tr.TrainConfig(**TINY)
    params = refimpl.init_params(config.retnet)
    before = map_tree(lambda _, array: array.copy(), params)
    step, _ = tr.trainer(params, config)
    monkeypatch.setattr(tr, "cross_entropy", lambda logits, _: (loss, scale * np.ones_like(logits)))
    with np.errstate(invalid="ignore", over="ignore"):
        value, norm = step(np.zeros((1, 3), int), None, 0.1)
    assert not (np.isfinite(value) and np.isfinite(norm))
    np.testing.assert_equal(params, before)
    monkeypatch.undo()
    step(np.zeros((1, 3), int), np.zeros((1, 3), int), 0.1)
    assert not np.array_equal(params["head"], before["head"])


def test_a_setting_has_a_least_value():
    least = dict.fromkeys(("steps", "batch_size", "window", "evaluate_every", "sample_bytes"), 1)
    least |= dict.fromkeys(("warmup", "seed", "weight_decay"), 0) | {"vocab_size": 256}
    assert least.items() <= vars(tr.TrainConfig(**least)).items()
    for name, value in least.items():
        with pytest.raises(ValueError, match=f"{name} must be at least {value}, got {value - 1}"):
            tr.TrainConfig(**{name: value - 1})
    for name in ("learning_rate", "clip"):
        with pytest.raises(ValueError, match=f"{name} must be above 0, got 0"):
            tr.TrainConfig(**{name: 0.0})


def test_a_setting_has_a_largest_value():
    for name in (
        "batch_size",
        "window",
        "dim",
        "num_layers",
        "num_heads",
        "vocab_size",
        "key_dim",
        "value_dim",
        "ffn_dim",
    ):
        for value in (2**28 + 1, 10**25):
            with pytest.raises(ValueError, match=f"{name} must be at most {2**28}, got {value}"):
                tr.TrainConfig(**{name: value})


def test_weights_there_and_back_on_both_sides(tmp_path):
    config = tr.TrainConfig(**TINY).retnet
    params = refimpl.init_params(config, 5)
    save_params(tmp_path / "numpy.safetensors", params, config)
    RetNet(config, seed=5).save(tmp_path / "torch.safetensors")
    for path in (tmp_path / "numpy.safetensors", tmp_path / "torch.safetensors"):
        np.testing.assert_equal(load_params(path), (params, config))
        loaded = {name: parameter.detach().numpy() for name, parameter in RetNet.load(path).named_parameters()}
        np.testing.assert_equal(loaded, flatten(params))


def test_wrong_weights_are_named(tmp_path):
    config = tr.TrainConfig(**TINY).retnet
    flat = flatten(refimpl.init_params(config))
    lacking = {name: array for name, array in flat.items() if name != "layers.1.ffn.w_2"}
    for wrong, message in (
        (lacking, "params: layers.1.ffn.w_2 is missing"),
        (flat | {"bias": np.zeros(1)}, "params: bias is no parameter of this config"),
        (flat | {"head": flat["head"].T}, "params: head must have shape (16, 256) (by the config), got (256, 16)"),
    ):
        refused(functools.partial(unflatten, wrong, config), ValueError, message)
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(ValueError, match="path must be a safetensors file"):
        load_params(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        load_params(tmp_path / "nowhere")


def test_a_corpus_too_short_is_refused_before_training(tmp_path):
    (tmp_path / "short.txt").write_text("line of text\n" * 30)
    config = tr.TrainConfig(corpus=str(tmp_path / "short.txt"))
    with pytest.raises(ValueError, match="corpus must have a held-out part of more than window = 64 bytes, got 39"):
        loop.fit(config, None, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()

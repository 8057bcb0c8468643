"""A finished run is exported as rounded weights and a card that describes them, or refused."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from rich.console import Console
from runs import QUIET
from typer.testing import CliRunner

import gpu.__main__ as program
from gpu.training import export as exporting
from gpu.training.config import RunConfig
from gpu.training.export import MARGIN, command, export, greedy_text, robust_greedy
from gpu.training.run import train
from refimpl import RetNetConfig, forward, init_params
from refimpl.corpus.build import CorpusConfig, build
from refimpl.corpus.sources import DOMAIN, local
from refimpl.training import train as numpy_run
from refimpl.training.text import decode, encode
from refimpl.tree import flatten, map_tree
from refimpl.weights import load_params, save_params

SMALL = {
    "dim": 8, "num_layers": 2, "num_heads": 2, "batch_size": 8, "window": 16, "sample_bytes": 4, "warmup": 2, "steps": 200,
    "evaluate_every": 50, "learning_rate": 0.02, "prompt": "abc",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run, and its settings."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "abc.txt").write_text("abcabcabc abc\nabba é\n" * 60, encoding="utf-8")
    config = RunConfig(corpus=str(folder / "abc.txt"), **SMALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(config, folder / "run", console=Console(quiet=True))
    torch.set_num_threads(threads)
    return folder / "run", config


def copied(run, tmp_path, **changes):
    """A copy of the run whose result.json has other settings."""
    folder = tmp_path / "-".join(["copy", *changes])
    folder.mkdir()
    for path in run.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    result = json.loads((folder / "result.json").read_text())
    result["config"] |= changes
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.mark.parametrize("weights", ["best", "last"])
def test_an_export_holds_the_rounded_weights_and_describes_them(run, tmp_path, weights):
    folder, config = run
    card = export(folder, tmp_path / "new", weights=weights)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"retnet.safetensors", "retnet.json"}
    assert json.loads((tmp_path / "new" / "retnet.json").read_text(encoding="utf-8")) == json.loads(json.dumps(card))
    trained, shape = load_params(folder / exporting.FILES[weights])
    halves, config_read = load_params(tmp_path / "new" / "retnet.safetensors")
    assert config_read == shape == config.retnet
    for name, half in flatten(halves).items():
        assert np.array_equal(half, flatten(trained)[name].astype(np.float16))
    result = json.loads((folder / "result.json").read_text())
    recorded = result["best" if weights == "best" else "bits_per_byte"]
    assert (card["weights"], card["step"]) == (weights, recorded["step"])
    assert card["bits_per_byte"]["float32"] == pytest.approx(recorded["held_out"], abs=1e-4)
    assert card["settings"] == dataclasses.asdict(config) | {"corpus": "abc.txt"}
    assert str(folder.parent) not in json.dumps(card)


def test_the_figure_of_the_card_is_that_of_the_rounded_weights(run, tmp_path, monkeypatch):
    """With a coarser rounding the figure changes, and only that of what ships."""
    plain = export(run[0], tmp_path / "plain")["bits_per_byte"]
    monkeypatch.setattr(exporting, "_rounded", lambda _, array: np.round(array * 8).astype(np.float16) / 8)
    coarse = export(run[0], tmp_path / "coarse")["bits_per_byte"]
    assert coarse["float32"] == plain["float32"]
    assert abs(coarse["float16"] - plain["float16"]) > 1e-3


def test_the_command_is_the_settings_that_differ():
    config = RunConfig(corpus="my texts", dim=64)
    assert command(config) == "python -m gpu train --corpus 'my texts' --dim 64"
    assert command(RunConfig(compile=True, deterministic=False)).endswith("train --compile --no-deterministic")
    assert command(RunConfig()) == "python -m gpu train"


def test_bad_runs_are_refused_and_leave_nothing(run, tmp_path):
    folder, out = run[0], tmp_path / "out"

    def refused(error, message, folder=folder, **arguments):
        with pytest.raises(error, match=re.escape(message)):
            export(folder, out, **arguments)
        assert not out.exists()

    refused(FileNotFoundError, "run: there is no folder", folder=tmp_path / "nowhere")
    refused(ValueError, "weights must be one of 'best', 'last', got 'first'", weights="first")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    refused(ValueError, "holds no result.json: python -m gpu train --out", folder=unfinished)
    other = tmp_path / "other.txt"
    other.write_text("zyx wvu\n" * 200)
    refused(ValueError, "corpus must be the text of the run, on which its weights have", corpus=str(other))
    for changes, message in (
        ({"model": "transformer"}, "run must have model = 'retnet', got 'transformer'"),
        ({"vocab_size": 300}, "run must have vocab_size = 256, got 300"),
    ):
        refused(ValueError, message, folder=copied(folder, tmp_path, **changes))


@pytest.mark.parametrize("content", ["{", "{}", "[]", "3", '{"config": {}}', "[" * 100_000])
def test_a_damaged_result_is_named(content, run, tmp_path):
    folder = copied(run[0], tmp_path)
    (folder / "result.json").write_text(content)
    for read in (export, lambda folder, _: exporting.model_of(folder)):
        with pytest.raises(ValueError, match=re.escape(f"run: {str(folder / 'result.json')!r} is no result of a run")):
            read(folder, tmp_path / "out")


def test_a_run_of_numpy_gives_its_weights_alone(corpus, tmp_path):
    small = {"dim": 8, "num_layers": 1, "num_heads": 2, "batch_size": 2, "window": 8, "steps": 1, "warmup": 0}
    params, _ = numpy_run.train(numpy_run.TrainConfig(corpus=corpus, **small), tmp_path / "run", console=QUIET)
    with pytest.raises(ValueError, match=r"run must be of torch, .* is one of NumPy, of which --onnx alone exports"):
        export(tmp_path / "run", tmp_path / "out")
    model, tokenizer = exporting.model_of(tmp_path / "run")
    assert np.array_equal(model.head.detach().numpy(), params["head"])
    assert tokenizer.vocab_size == 256
    (tmp_path / "run" / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match=r"must be a finished run; .*: python -m refimpl train --out .* --resume"):
        exporting.model_of(tmp_path / "run")


def test_weights_that_do_not_fit_are_refused(run, tmp_path, monkeypatch):
    folder = copied(run[0], tmp_path)
    monkeypatch.setattr(exporting, "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"run must have weights of at most 1,000 bytes in float16, got \d"):
        export(folder, tmp_path / "out")
    params, config = load_params(folder / "best.safetensors")
    params["head"][0, 0] = -1e5
    save_params(folder / "best.safetensors", params, config)
    with pytest.raises(ValueError, match=r"of at most 65504; head has 1e\+05"):
        export(folder, tmp_path / "out")


def test_a_text_of_another_model_is_noticed(run, tmp_path, monkeypatch):
    """What the export asserts can fail: NumPy and torch are given different weights."""
    module = exporting._module
    other = lambda params, config, device="cpu": module(  # noqa: E731
        map_tree(lambda name, array: array * (1.01 if name == "head" else 1), params), config, device
    )
    monkeypatch.setattr(exporting, "_module", other)
    monkeypatch.setattr(exporting, "SAME_LOSS", 1.0)
    with pytest.raises(AssertionError, match="torch's logits differ from NumPy's by 1"):
        export(run[0], tmp_path / "out")


# ---------------------------------------------------------------- the greedy text


def test_greedy_is_what_the_parallel_form_finds_likeliest():
    config = RetNetConfig(dim=16, num_layers=2, num_heads=2)
    params = init_params(config, seed=1)
    greedy = greedy_text(params, config, "abc", 20)
    tokens = np.concatenate([encode("abc"), greedy.tokens])[None]
    logits, _ = forward(params, tokens[:, :-1], config)
    top = np.sort(logits[0, 2:], axis=-1)
    np.testing.assert_array_equal(greedy.tokens, logits[0, 2:].argmax(axis=-1))
    np.testing.assert_allclose(greedy.margins, top[:, -1] - top[:, -2], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "ties", "want"),
    [
        ("x" * 200, [], 200),
        ("x" * 200, [150, 170], 150),
        ("x" * 39 + "é" + "x" * 159, [40], 39),  # not half a character
    ],
)
def test_a_greedy_text_ends_before_a_near_tie(monkeypatch, text, ties, want):
    margins = np.ones(200)
    margins[ties] = MARGIN
    monkeypatch.setattr(exporting, "greedy_text", lambda *_: exporting.Greedy(encode(text)[:200], margins))
    greedy = robust_greedy(None, None, "abc")
    assert decode(greedy.tokens) == encode(text)[:want].tobytes().decode()
    assert len(greedy.margins) == want
    assert greedy.margins.min() > MARGIN


def test_a_tie_too_early_asks_for_another_prompt(monkeypatch):
    margins = np.where(np.arange(200) == 31, 0.0, 1.0)
    monkeypatch.setattr(exporting, "greedy_text", lambda *_: exporting.Greedy(encode("x" * 200), margins))
    with pytest.raises(ValueError, match=r"at least 32 bytes before two logits .* 'abc' gives 31; take another"):
        robust_greedy(None, None, "abc")


# ---------------------------------------------------------------- the command


def test_the_command_exports_and_reports(run, tmp_path):
    arguments = ["export", str(run[0]), "--out", str(tmp_path / "out"), "--device", "cpu"]
    result = CliRunner().invoke(program.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    card = json.loads((tmp_path / "out" / "retnet.json").read_text(encoding="utf-8"))
    assert f"{card['parameters']:,} parameters in {card['bytes']:,} bytes" in result.output
    assert f"{card['bits_per_byte']['float16']:.4f} as rounded" in result.output


def test_the_card_scores_other_texts_and_names_the_run_before(run, tmp_path):
    pytest.importorskip("rensa")
    for name, line in (("like", "abba abc abc\n"), ("unlike", "zyxw vuts\n")):
        (tmp_path / name).mkdir()
        for i in range(2):
            (tmp_path / name / f"{i}.txt").write_text(f"{i}\n" + line * 40)
    sources = [local(tmp_path / "like"), local(tmp_path / "unlike", DOMAIN)]
    build(sources, tmp_path / "bytes", CorpusConfig(vocab_size=256, min_bytes=16, similarity=1.0), processes=1)
    config = dataclasses.replace(run[1], steps=1, from_weights=str(run[0]), learning_rate=1e-6)
    train(config, tmp_path / "more", console=Console(quiet=True))
    card = export(tmp_path / "more", tmp_path / "out", scored=[str(tmp_path / "bytes"), run[1].corpus])
    assert list(card["scores"]["bytes"]) == ["held_out", "domain"]
    assert card["scores"]["abc.txt"] == {"held_out": card["bits_per_byte"]["float16"]}
    assert (
        card["bits_per_byte"]["float16"] < card["scores"]["bytes"]["held_out"] + 0.5 < card["scores"]["bytes"]["domain"]
    )
    result = json.loads((run[0] / "result.json").read_text())
    assert card["before"]["command"].startswith("python -m gpu train --corpus abc.txt --dim 8 ")
    assert card["before"]["bits_per_byte"] == pytest.approx(result["bits_per_byte"]["held_out"], abs=1e-4)
    assert card["passage"]["corpus"] == "bytes"
    assert card["passage"]["text"].startswith("0\nabba abc")  # of the first text that is scored
    plain = export(*run[:1], tmp_path / "plain")
    assert "scores" not in plain
    assert plain["passage"]["corpus"] == "abc.txt"

"""The weights that ship: the file is what its card says, and NumPy, torch and the program write the card's text."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from typer.testing import CliRunner

import gpu.__main__ as program
from gpu.models.retnet import RetNet
from gpu.sampling.generate import generate
from gpu.training.config import RunConfig
from gpu.training.export import LIMIT, MARGIN, command, greedy_text
from gpu.training.run import LOGIT_TOLERANCE
from refimpl import RetNetConfig, forward, retention_chunkwise, retention_parallel, retention_recurrent
from refimpl.training.text import decode, encode
from refimpl.training.train import cross_entropy
from refimpl.tree import flatten
from refimpl.weights import PRETRAINED, load_params, load_pretrained, pretrained_card

CARD = pretrained_card()
PARAMS, CONFIG = load_pretrained()
PASSAGE = encode(CARD["passage"]["text"])[None]


def test_the_file_is_small_half_precision_and_the_one_of_the_card():
    data = PRETRAINED.read_bytes()
    assert len(data) == CARD["bytes"] <= LIMIT == 15_000_000
    assert hashlib.sha256(data).hexdigest() == CARD["sha256"]
    assert {array.dtype for array in safetensors.numpy.load(data).values()} == {np.dtype(np.float16)}


def test_loading_widens_and_changes_no_value():
    halves, config = load_params(PRETRAINED)
    assert config == CONFIG
    np.testing.assert_equal(PARAMS, halves)
    assert {array.dtype for array in flatten(PARAMS).values()} == {np.dtype(np.float32)}
    assert sum(array.size for array in flatten(PARAMS).values()) == CARD["parameters"]


def test_the_card_is_of_this_model():
    settings = RunConfig(**CARD["settings"])
    assert settings.retnet == CONFIG
    assert command(settings) == CARD["command"]
    assert not any(Path(part).is_absolute() for part in settings.corpus.split(" + "))  # names, wherever they lay
    assert abs(CARD["bits_per_byte"]["float16"] - CARD["bits_per_byte"]["float32"]) < 0.01


@pytest.mark.parametrize("retention", [retention_parallel, retention_recurrent, retention_chunkwise])
def test_every_form_gives_the_logits_and_the_loss(retention):
    tokens = PASSAGE[:, :1025]
    want, after = forward(PARAMS, tokens[:, :-1], CONFIG, retention=retention_chunkwise)
    got, state = forward(PARAMS, tokens[:, :-1], CONFIG, retention=retention)
    assert np.abs(got - want).max() < LOGIT_TOLERANCE * np.abs(want).max()
    for layer, wanted in zip(state.layers, after.layers, strict=True):
        assert np.abs(layer - wanted).max() < LOGIT_TOLERANCE * np.abs(wanted).max()
    loss = cross_entropy(got, tokens[:, 1:])[0]
    assert loss == pytest.approx(cross_entropy(want, tokens[:, 1:])[0], abs=1e-5)


def test_the_passage_costs_what_the_card_says():
    logits, _ = forward(PARAMS, PASSAGE[:, :-1], CONFIG, retention=retention_chunkwise)
    loss = cross_entropy(logits, PASSAGE[:, 1:])[0]
    assert loss == pytest.approx(CARD["passage"]["bits_per_byte"], abs=2e-4)
    assert abs(loss - CARD["scores"][CARD["passage"]["corpus"]]["held_out"]) < 0.5
    assert PASSAGE.shape[1] > 3072  # as much as the lesson reads


def test_numpy_writes_the_text_of_the_card():
    text = CARD["text"]
    greedy = greedy_text(PARAMS, CONFIG, text["prompt"], text["bytes"])
    assert decode(greedy.tokens) == text["continuation"]
    assert greedy.margins.min() > MARGIN
    assert greedy.margins.min() == pytest.approx(text["smallest_margin"], rel=0.1)


def test_torch_writes_the_text_of_the_card():
    text, model = CARD["text"], RetNet.load(PRETRAINED).float()
    prompt = torch.from_numpy(encode(text["prompt"]).astype(np.int64))[None]
    sample = generate(model, prompt, text["bytes"], temperature=0)
    assert decode(sample.tokens[0].numpy()) == text["prompt"] + text["continuation"]


def test_the_program_writes_with_it_until_there_is_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prompt, text = CARD["text"]["prompt"], CARD["text"]["continuation"][:30]
    options = ["generate", prompt, "--tokens", f"{len(text.encode())}", "--temperature", "0", "--device", "cpu"]
    result = CliRunner().invoke(program.app, options)
    assert result.exit_code == 0, result.output
    assert result.output == f"{prompt}{text}\n"
    runs = tmp_path / "runs" / "demo"
    RetNet(RetNetConfig(dim=8, num_layers=1, num_heads=2)).save(runs / "weights.safetensors")
    assert CliRunner().invoke(program.app, options).output != result.output

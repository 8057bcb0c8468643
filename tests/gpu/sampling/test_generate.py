"""Sampling: batches of prompts of any length, the draws, streaming, states kept as files, and the CUDA graph's conditions."""

import dataclasses
import functools
import math
import os
import re
import threading
from unittest.mock import MagicMock

import anew
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from typer.testing import CliRunner

import gpu.__main__ as program
import refimpl
from gpu.models.retnet import RetNet
from gpu.sampling import generate as generation
from gpu.sampling.generate import GraphedReplay, GraphedStep, Past, Step, draw_tokens, generate, prefill, stream_text
from gpu.sampling.prompt_cache import load_past, save_past
from refimpl.replay import retention_replay
from refimpl.training.text import decode, encode

CONFIG = refimpl.RetNetConfig(vocab_size=256, dim=16, num_layers=2, num_heads=2)
MODEL = RetNet(CONFIG, seed=3, dtype=torch.float64)
TEXTS = ("In the", "A", "beginning", "In the", "was")
PROMPTS = [torch.from_numpy(encode(text).astype(np.int64)) for text in TEXTS]


pytestmark = pytest.mark.usefixtures("one_thread")


def close(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


# ---------------------------------------------------------------- prompts


def test_prompts_of_different_lengths_give_what_each_gives_alone():
    together = generate(MODEL, PROMPTS, 12, seed=5)
    for row, prompt in enumerate(PROMPTS):
        alone = generate(MODEL, [prompt], 12, seed=5 + row)
        assert torch.equal(together.tokens[row], alone.tokens[0])
        close(together.logits[row], alone.logits[0])
        parallel, _ = MODEL(alone.tokens[0][None, :-1])
        close(alone.logits, parallel[:, len(prompt) - 1 :].detach())
    assert [len(tokens) for tokens in together.tokens] == [len(text) + 12 for text in TEXTS]
    assert not torch.equal(together.tokens[0], together.tokens[3])  # the same prompt, another row: another text


def test_positions_matter_side_by_side():
    """The test above can fail: with one position for all rows the logits change."""
    past = prefill(MODEL, PROMPTS[:2])
    assert past.state.position.tolist() == [6, 1]
    right = Step(MODEL, past.state)(torch.tensor([1, 1]))
    wrong = Step(MODEL, refimpl.State(6, past.state.layers))(torch.tensor([1, 1]))
    close(right[0], wrong[0])
    assert (right[1] - wrong[1]).abs().max() > 1e-6


def test_a_long_prompt_is_read_in_pieces(monkeypatch):
    want = prefill(MODEL, PROMPTS)
    monkeypatch.setattr(generation, "PIECE", 4)
    got = prefill(MODEL, PROMPTS)
    close(got, want)


def test_a_past_goes_on_and_one_row_serves_every_prompt():
    whole = prefill(MODEL, [torch.cat([PROMPTS[2], prompt]) for prompt in PROMPTS])
    one = prefill(MODEL, PROMPTS[2:3])
    for past in (one, prefill(MODEL, [PROMPTS[2]] * 5)):
        got = prefill(MODEL, PROMPTS, past)
        close(got.logits, whole.logits)
        assert torch.equal(got.state.position, whole.state.position)
    assert one.state.position.tolist() == [9]
    again = prefill(MODEL, [PROMPTS[0][:0]], one)  # nothing new to read
    close(again.logits, one.logits)
    sample = generate(MODEL, PROMPTS[0][None], 3, past=one, temperature=0)
    assert torch.equal(sample.tokens[0, :6], PROMPTS[0])
    close(sample.logits[0, 0], whole.logits[0])


def test_a_tensor_of_prompts_gives_tensors_and_temperature_zero_is_greedy():
    prompt = torch.tensor([[1, 2, 3], [4, 5, 6]])
    sample = generate(MODEL, prompt, 20, temperature=0)
    assert (sample.tokens.shape, sample.logits.shape) == ((2, 23), (2, 20, 256))
    assert torch.equal(sample.tokens[:, :3], prompt)
    assert torch.equal(sample.tokens[:, 3:], sample.logits.argmax(dim=-1))
    close(sample.logits, MODEL(sample.tokens[:, :-1])[0][:, 2:].detach())


TWO = prefill(MODEL, PROMPTS[:2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([],), ValueError, "prompt must have shape (batch, time) with time at least 1, got (0, 0)"),
        (([PROMPTS[0], PROMPTS[0][:0]],), ValueError, "with time at least 1, got (1, 0)"),
        ((PROMPTS[0],), ValueError, "with time at least 1, got (6,)"),
        ((torch.zeros((2, 0), dtype=torch.int64),), ValueError, "with time at least 1, got (2, 0)"),
        ((PROMPTS[:3], TWO), ValueError, "past must hold 1 row or 3, one for each prompt, got 2"),
        (([PROMPTS[0] + 200],), ValueError, "tokens must lie in [0, 256), got "),
        (([PROMPTS[0].double()],), TypeError, "tokens must be integers, got torch.float64"),
    ],
)
def test_bad_prompts_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        prefill(MODEL, *arguments)


def test_broken_weights_are_seen():
    model = RetNet(CONFIG)
    model.head.data[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="logits after the prompt are not finite"):
        prefill(model, PROMPTS[:1])


# ---------------------------------------------------------------- draws

LOGITS = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64))


def drawn(uniform, temperature=1.0, top_k=None, top_p=None):
    """What each uniform number draws from LOGITS."""
    uniform = torch.tensor(uniform, dtype=torch.float64)
    return generation.draw(LOGITS.expand(len(uniform), -1), uniform, temperature, top_k, top_p).tolist()


def test_draws_by_hand():
    """Likeliest first, the probabilities .4 .3 .2 .1 of tokens 1 3 2 0 reach .4 .7 .9 1."""
    uniform = [0.0, 0.39, 0.41, 0.69, 0.71, 0.89, 0.91, 1 - 2**-53]
    assert drawn(uniform) == [1, 1, 3, 3, 2, 2, 0, 0]
    assert drawn(uniform, temperature=0) == [1] * 8
    assert drawn(uniform, top_k=1) == [1] * 8
    assert drawn([0.0, 0.57, 0.58, 0.99], top_k=2) == [1, 1, 3, 3]  # .4 / .7 = 0.571
    assert drawn([0.0, 0.57, 0.58, 0.99], top_p=0.65) == [1, 1, 3, 3]  # two reach .65
    assert drawn([0.44, 0.45, 0.77, 0.78], top_p=0.71) == [1, 3, 3, 2]  # three do: .4 / .9, .7 / .9
    assert drawn(uniform, top_p=0.39) == drawn(uniform, top_p=1e-9) == [1] * 8  # one always stays
    assert drawn([0.99], top_k=3, top_p=0.75) == [3]  # of .444 .333 .222 two reach .75, where of all four three would
    assert drawn(uniform, top_k=9, top_p=1.0) == drawn(uniform)
    # at temperature 1/2 probabilities are squared: .16 .09 .04 .01 of .3
    assert drawn([0.53, 0.54, 0.83, 0.84], temperature=0.5) == [1, 3, 3, 2]


def test_draws_follow_the_probabilities():
    count = 4000
    tokens = drawn(((torch.arange(count) + 0.5) / count).tolist())
    assert np.bincount(tokens).tolist() == [400, 1600, 800, 1200]
    past = Past(prefill(MODEL, PROMPTS[:1] * 2000).state, LOGITS.expand(2000, -1))
    ((tokens, _),) = draw_tokens(MODEL, past, 1, seed=0)  # rows draw with seeds of their own, 0 ... 1999
    np.testing.assert_allclose(np.bincount(tokens) / 2000, [0.1, 0.4, 0.2, 0.3], atol=0.04)


def test_the_seed_alone_decides():
    once, again, other = (generate(MODEL, PROMPTS, 20, seed=seed, top_k=50, top_p=0.9).tokens for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(once, other, strict=True))
    torch.manual_seed(0)
    torch.rand(3)
    assert torch.equal(generate(MODEL, PROMPTS[:1], 20, seed=1, top_k=50, top_p=0.9).tokens[0], once[0])


@pytest.mark.parametrize(
    ("sampling", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"top_k": 1.5}, TypeError, "top_k must be an integer, got 1.5 (float)"),
        ({"top_p": 0.0}, ValueError, "top_p must lie in (0, 1], got 0"),
        ({"top_p": 1.1}, ValueError, "top_p must lie in (0, 1], got 1.1"),
        ({"temperature": -1.0}, ValueError, "temperature must be 0 or from 1e-6 to finite, got -1.0"),
        ({"temperature": "1"}, TypeError, "temperature must be a number, got '1' (str)"),
        ({"temperature": True}, TypeError, "temperature must be a number, got True (bool)"),
        ({"seed": 2**63}, ValueError, f"seed must be below 2**63, got {2**63}"),
        ({"temperature": math.nan}, ValueError, "temperature must be 0 or from 1e-6 to finite, got nan"),
        ({"new_tokens": 0}, ValueError, "new_tokens must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_bad_sampling_is_refused(sampling, error, message):
    with pytest.raises(error, match=re.escape(message)):
        generate(MODEL, PROMPTS, **{"new_tokens": 1} | sampling)


# ---------------------------------------------------------------- the step


@pytest.mark.parametrize(
    "wrong", [{"top_p": 2.0}, {"top_k": 0}, {"temperature": -1.0}, {"seed": -1}, {"new_tokens": -1}]
)
def test_a_mistake_comes_at_the_call(wrong):
    """And not at the first token, when a program has printed the prompt."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        draw_tokens(MODEL, prefill(MODEL, PROMPTS), **{"new_tokens": 3} | wrong)


def test_a_state_serves_one_prompt_or_as_many_as_it_has(weights, tmp_path):
    state = tmp_path / "state"
    save_past(state, prefill(RetNet.load(weights).float(), PROMPTS[:2]), RetNet.load(weights).float())
    result = CliRunner().invoke(
        program.app, ["generate", "a", "b", "c", "--state", f"{state}", "--weights", f"{weights}", "--device", "cpu"]
    )
    assert f"{result.exception}" == "state must be of one prompt or of 3, as there are here, got 2"


@pytest.mark.parametrize("metadata", [{"config": "{"}, {"config": "[]"}, {"weights": "[" * 100_000}])
def test_a_damaged_state_is_named(metadata, tmp_path):
    save_past(tmp_path / "state", prefill(MODEL, PROMPTS), MODEL)
    with safetensors.safe_open(tmp_path / "state", framework="pt") as file:
        tensors, known = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    safetensors.torch.save_file(tensors, tmp_path / "damaged", known | metadata)
    with pytest.raises(ValueError, match=r"state must be a file that save_past wrote; .* has damaged metadata"):
        load_past(tmp_path / "damaged", MODEL)
    del tensors["logits"]
    safetensors.torch.save_file(tensors, tmp_path / "lacking", known)
    with pytest.raises(ValueError, match="lacks logits"):
        load_past(tmp_path / "lacking", MODEL)
    with pytest.raises(ValueError, match="state must be a safetensors file"):
        load_past(tmp_path, MODEL)


def test_draws_come_in_blocks(monkeypatch):
    """So their number has no bound, and a row's numbers are those of one generator, whatever the block."""
    past = prefill(MODEL, PROMPTS)
    want = [tokens.tolist() for tokens, _ in draw_tokens(MODEL, past, 40, seed=5)]
    uniform = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    drawn = zip(uniform, draw_tokens(MODEL, past, 40, seed=5), strict=True)
    alone = [generation.draw(logits[:1], x[None], 1.0, None, None).item() for x, (_, logits) in drawn]
    assert alone == [row[0] for row in want]
    monkeypatch.setattr(generation, "PIECE", 7)
    assert [tokens.tolist() for tokens, _ in draw_tokens(MODEL, past, 40, seed=5)] == want
    endless = draw_tokens(MODEL, past, 10**25, seed=5)
    assert [next(endless)[0].tolist() for _ in range(20)] == want[:20]


def test_a_past_is_left_as_it_is():
    past = prefill(MODEL, PROMPTS)
    before = [layer.clone() for layer in past.state.layers]
    list(draw_tokens(MODEL, past, 4))
    assert all(torch.equal(a, b) for a, b in zip(past.state.layers, before, strict=True))
    assert past.state.position.tolist() == [len(text) for text in TEXTS]


def test_a_step_reads_no_value_on_the_host():
    """A CUDA graph demands it: on the meta device, which has no values, reading one is an error."""
    model = RetNet(CONFIG).to("meta")
    layers = tuple(torch.zeros((3, 2, 8, 16), device="meta") for _ in range(2))
    state = refimpl.State(torch.zeros(3, dtype=torch.int64, device="meta"), layers)
    step, replayed = Step(model, state), Step(model, state, retention=functools.partial(retention_replay, length=2))
    tokens = torch.zeros(3, dtype=torch.int64, device="meta")
    assert step(tokens).shape == (3, 256)
    assert step.state.position.shape == (3,)
    assert [replayed(tokens).shape for _ in range(4)] == [(3, 256)] * 4
    assert model(tokens[:, None], state=step.state)[0].shape == (3, 1, 256)  # nor does a plain call
    with pytest.raises(RuntimeError, match="meta"):  # the test can fail
        bool(tokens.max())


def test_the_graph_s_buffers_move_on(monkeypatch):
    """The code around the graph, without a GPU: a graph that computes anew stands in for one that replays."""
    past = prefill(MODEL, PROMPTS)
    monkeypatch.setattr(torch, "cuda", MagicMock())
    graphed = GraphedStep(MODEL, past.state)
    graphed.graph.replay = lambda: graphed.logits.copy_(graphed._advance())
    buffers, eager = [layer.data_ptr() for layer in graphed.buffers.layers], Step(MODEL, past.state)
    kept = [(graphed(tokens), eager(tokens)) for tokens in torch.arange(15).reshape(3, 5)]
    for got, want in kept:  # all at the end: an answer is not overwritten by a later one
        close(got, want)
    assert [layer.data_ptr() for layer in graphed.buffers.layers] == buffers
    assert graphed.buffers.position.tolist() == [len(text) + 3 for text in TEXTS]
    assert past.state.position.tolist() == [len(text) for text in TEXTS]


@pytest.mark.parametrize("replay", [1, 3, 16])
def test_states_that_are_written_every_few_tokens_give_the_same_text(replay):
    want, got = generate(MODEL, PROMPTS, 40, seed=5), generate(MODEL, PROMPTS, 40, seed=5, replay=replay)
    assert all(torch.equal(a, b) for a, b in zip(got.tokens, want.tokens, strict=True))
    close(got.logits, want.logits)


@pytest.mark.parametrize("length", [1, 3, 8])
def test_graphs_of_a_replay_share_buffers_and_write_states_every_few_tokens(length, monkeypatch):
    """Without a GPU: a graph that computes anew stands in for one that replays."""
    past = prefill(MODEL, PROMPTS)
    monkeypatch.setattr(torch, "cuda", MagicMock())
    monkeypatch.setattr(generation, "record", anew.record)
    graphed, eager = GraphedReplay(MODEL, past.state, length=length), Step(MODEL, past.state)
    first = graphed.buffers.layers[0]
    states, held = [], [x.data_ptr() for x in (first.state, first.k, first.v)]
    kept = []
    for tokens in torch.arange(60).reshape(12, 5):
        kept.append((graphed(tokens), eager(tokens)))
        states.append(first.state.clone())
    for got, want in kept:
        close(got, want)
    written = [not torch.equal(a, b) for a, b in zip(states, [past.state.layers[0], *states], strict=False)]
    assert written == [n > 0 and n % length == 0 for n in range(12)]
    assert [x.data_ptr() for x in (first.state, first.k, first.v)] == held
    assert first.k.shape[2] == length
    assert graphed.buffers.position.tolist() == [len(text) + 12 for text in TEXTS]
    assert past.state.position.tolist() == [len(text) for text in TEXTS]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")
def test_the_graph_gives_the_steps_logits():
    model = RetNet(CONFIG, seed=3, dtype=torch.float64).cuda()
    past = prefill(model, [prompt.cuda() for prompt in PROMPTS])
    with torch.no_grad():
        eager, graphed = Step(model, past.state), GraphedStep(model, past.state)
        for n in range(5):
            tokens = torch.arange(5, device="cuda") + 50 * n
            close(graphed(tokens), eager(tokens))
        eager, graphed = Step(model, past.state), GraphedReplay(model, past.state, length=3)
        for n in range(8):
            tokens = torch.arange(5, device="cuda") + 20 * n
            close(graphed(tokens), eager(tokens))
    assert past.state.position.tolist() == [len(text) for text in TEXTS]
    on_cpu = generate(MODEL, PROMPTS, 30, seed=2)
    on_gpu = generate(model, [prompt.cuda() for prompt in PROMPTS], 30, seed=2)
    for tokens, wanted in zip(on_gpu.tokens, on_cpu.tokens, strict=True):
        assert torch.equal(tokens.cpu(), wanted)


# ---------------------------------------------------------------- text as it comes


def test_pieces_are_the_text_and_come_when_a_character_is_whole(monkeypatch):
    # In the end bytes that are no character, and one that is cut.
    text = "é€𝄞a\N{GREEK SMALL LETTER OMEGA}".encode() + b"\xff\xe2\x82"
    monkeypatch.setattr(generation, "draw_tokens", lambda *_, **__: ((torch.tensor([byte, 65]), None) for byte in text))
    pieces = list(stream_text(MODEL, prefill(MODEL, PROMPTS[:2]), len(text)))
    first, second = ("".join(row) for row in zip(*pieces, strict=True))
    assert first == decode(np.frombuffer(text, np.uint8))
    assert second == "A" * len(text)
    assert [piece for piece, _ in pieces[:10]] == ["", "é", "", "", "€", "", "", "", "𝄞", "a"]
    assert len(pieces) == len(text) + 1


def test_tokens_of_several_bytes_stream_too(monkeypatch):
    monkeypatch.setattr(generation, "draw_tokens", lambda *_, **__: ((torch.tensor([n]), None) for n in (2, 0, 1)))
    pieces = stream_text(MODEL, prefill(MODEL, PROMPTS[:1]), 3, pieces=[b"\xa9", b" end", b"caf\xc3"])
    assert list(pieces) == [("caf",), ("é",), (" end",), ("",)]


def test_streamed_text_is_the_sampled_text():
    past = prefill(MODEL, PROMPTS)
    texts = ["".join(row) for row in zip(*stream_text(MODEL, past, 30, seed=4, top_p=0.8), strict=True)]
    sample = generate(MODEL, PROMPTS, 30, seed=4, top_p=0.8)
    assert texts == [decode(tokens[-30:].numpy()) for tokens in sample.tokens]


# ---------------------------------------------------------------- states as files


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_state_comes_back_from_its_file(tmp_path, dtype):
    model = RetNet(CONFIG, seed=3).to(dtype)
    past = prefill(model, PROMPTS)
    save_past(tmp_path / "new" / "state", past, model)
    got = load_past(tmp_path / "new" / "state", model)
    torch.testing.assert_close(got, past, rtol=0, atol=0)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["state"]


def test_the_file_is_of_one_size_however_long_the_prompt(tmp_path):
    sizes = set()
    for time in (1, 50, 5000):
        save_past(tmp_path / "state", prefill(MODEL, torch.ones((1, time), dtype=torch.int64)), MODEL)
        sizes.add((tmp_path / "state").stat().st_size)
    assert len(sizes) == 1


def test_a_state_of_another_model_is_refused_by_name(tmp_path):
    save_past(tmp_path / "state", prefill(MODEL, PROMPTS), MODEL)
    MODEL.save(tmp_path / "weights")
    (tmp_path / "text").write_text("text")
    other = dataclasses.replace(CONFIG, num_layers=3, num_heads=1, key_dim=16, value_dim=32)
    other, trained, seeded = (
        RetNet(config, seed=seed, dtype=torch.float64) for config, seed in ((other, 3), (CONFIG, 3), (CONFIG, 4))
    )
    trained.layers[1].ffn.w_2.data[0, 0] += 1e-12
    for name, model, message in (
        (
            "state",
            other,
            "is of another: key_dim is 8 there and 16 here, num_heads is 2 there and 1 here, num_layers is 2",
        ),
        ("state", trained, "is of other weights: 1 of 23 differ, first layers.1.ffn.w_2"),
        ("state", seeded, "is of other weights: 18 of 23 differ, first embedding"),
        ("weights", MODEL, "holds no state of a model"),
        ("text", MODEL, "state must be a safetensors file"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            load_past(tmp_path / name, model)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    MODEL.save(path)
    return path


def command(weights, *arguments, **how):
    options = ["--weights", str(weights), "--device", "cpu", "--tokens", "8", "--temperature", "0"]
    result = CliRunner().invoke(program.app, ["generate", *options, *arguments], catch_exceptions=False, **how)
    assert result.exit_code == 0
    return result.output


def test_the_command_writes_streams_saves_and_resumes(weights, tmp_path):
    text = command(weights, "In the beginning")
    assert text.startswith("In the beginning")
    assert command(weights, "In the beginning", "--stream") == text
    state = str(tmp_path / "state")
    assert command(weights, "In the", "--save-state", state, "--tokens", "0") == "In the\n"
    assert command(weights, " beginning", "--state", state) == text.removeprefix("In the")
    direct = command(weights, "In the")
    assert command(weights, "--state", state) == direct.removeprefix("In the")
    both = command(weights, " beginning", " end", "--state", state)
    assert both == text.removeprefix("In the").rstrip("\n") + "\n\n" + command(weights, " end", "--state", state)
    seeded = [command(weights, "In", "--temperature", "1", "--seed", seed) for seed in ("1", "1", "2")]
    assert seeded[0] == seeded[1] != seeded[2]


def test_the_command_refuses(weights):
    with pytest.raises(ValueError, match="stream must go with one prompt, got 2"):
        command(weights, "a", "b", "--stream")
    with pytest.raises(ValueError, match="prompt must hold at least one character, got ''"):
        command(weights)
    with pytest.raises(FileNotFoundError, match=r"state: there is no file 'no/state'; .* --save-state writes one"):
        command(weights, "a", "--state", "no/state")


def test_prompts_come_from_files_and_from_standard_input(weights, tmp_path):
    """A file is one prompt, line breaks and all, but for the one at its end."""
    (tmp_path / "one.txt").write_bytes(b"In the\nbeginning\r\n")
    (tmp_path / "two.txt").write_bytes("was é".encode("utf-16"))
    one, two = ("--prompt-file", str(tmp_path / "one.txt")), ("--prompt-file", str(tmp_path / "two.txt"))
    assert command(weights, *one) == command(weights, "In the\nbeginning")
    assert command(weights, "A", *two, *one) == command(weights, "A", "was é", "In the\nbeginning")
    assert command(weights, *one, "--stream") == command(weights, *one)
    for piped in (b"In the", b"In the\n", b"\xef\xbb\xbfIn the\r\n"):
        assert command(weights, "--prompt-file", "-", input=piped) == command(weights, "In the")
    assert command(weights, "-") != command(weights, "--prompt-file", "-", input=b"In the")  # a prompt like any other
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"In the\n",))
        writer.start()
        assert command(weights, "--prompt-file", str(tmp_path / "pipe")) == command(weights, "In the")
        writer.join()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "prompt-file: {} is empty"),
        (b" \n", "prompt-file: {} is empty"),
        (b"caf\xe9", "prompt-file: {} is not UTF-8 (byte 0xe9 at offset 3); convert it first"),
        (b"a\0", "prompt-file: {} is binary (NUL byte at offset 1), not text"),
    ],
)
def test_a_prompt_file_that_is_no_text_is_refused(data, message, weights, tmp_path):
    (tmp_path / "file").write_bytes(data)
    for name, what in ((str(tmp_path / "file"), f"the file {str(tmp_path / 'file')!r}"), ("-", "standard input")):
        with pytest.raises(ValueError, match=re.escape(message.format(what))):
            command(weights, "--prompt-file", name, input=data)
    missing = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError, match=re.escape(f"prompt-file: there is no file {str(missing)!r}")):
        command(weights, "--prompt-file", str(missing))


def test_a_prompt_that_is_no_unicode_is_refused(weights):
    """Bytes on a command line that are no UTF-8 come as halves of surrogates."""
    with pytest.raises(ValueError, match=re.escape(r"text must be Unicode, got '\udcff' at character 1")):
        command(weights, "a\udcff")

"""Drafted tokens change the number of calls and not the text: greedy tokens are the same, drawn ones have the same distribution."""

import functools
import itertools
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import gpu.__main__ as program
import refimpl.sampling
from gpu.models.retnet import RetNet
from gpu.sampling.generate import draw_tokens, generate, prefill
from gpu.sampling.speculative import ModelDraft, NgramDraft, Tally
from refimpl import RetNetConfig

CONFIG = RetNetConfig(vocab_size=5, dim=16, num_layers=2, num_heads=2)


def sharp(seed, **shape):
    """A random model that is often sure of a token."""
    model = RetNet(RetNetConfig(**vars(CONFIG) | shape), seed=seed, dtype=torch.float64)
    model.head.data *= 6
    return model


MODEL, OTHER = sharp(3), sharp(7, num_layers=1, dim=8, key_dim=4, value_dim=8, ffn_dim=16)
PROMPTS = [torch.tensor(text) for text in ([1, 2, 3, 1, 2], [4], [0, 0, 1], [3, 1, 4, 1, 0, 2])]

pytestmark = pytest.mark.usefixtures("one_thread")


def draft_of(kind, prompts=PROMPTS, count=3):
    """A draft: of n-grams, of another model, or of the model itself."""
    if kind == "ngram":
        return NgramDraft(prompts, count)
    model = {"other": OTHER, "itself": MODEL}[kind]
    return ModelDraft(model, prefill(model, prompts), count)


by_draft = pytest.mark.parametrize("kind", ["ngram", "other", "itself"])


# ---------------------------------------------------------------- the same text


@functools.cache
def greedy():
    return generate(MODEL, PROMPTS, 40, temperature=0)


@by_draft
@pytest.mark.parametrize(("count", "replay"), [(1, None), (3, 4), (5, None), (20, None), (2, 30)])
def test_greedy_text_is_the_same(kind, count, replay):
    """And its logits, whatever is accepted, and however often states are written."""
    want = greedy()
    draft = draft_of(kind, count=count)
    got = generate(MODEL, PROMPTS, 40, temperature=0, replay=replay, draft=draft)
    for tokens, wanted in zip(got.tokens, want.tokens, strict=True):
        assert torch.equal(tokens, wanted)
    torch.testing.assert_close(got.logits, want.logits, rtol=0, atol=1e-10)
    assert draft.tally.drafted == count * draft.tally.calls


def test_a_model_accepts_all_that_it_drafts_itself():
    """Its state is then at the same place, drawn or greedy: a draft that lost its place would be refused soon."""
    for temperature in (0, 1.0):
        draft = draft_of("itself", count=4)
        generate(MODEL, PROMPTS, 41, temperature=temperature, draft=draft)
        assert draft.tally == Tally(calls=32, drafted=128, accepted=128)
    assert f"{draft.tally}" == "100 % of 128 drafted tokens accepted, 5.00 tokens a call of the model"


@by_draft
def test_a_text_does_not_depend_on_those_beside_it(kind):
    together = generate(MODEL, PROMPTS, 25, seed=5, draft=draft_of(kind))
    for row, prompt in enumerate(PROMPTS):
        alone = generate(MODEL, [prompt], 25, seed=5 + row, draft=draft_of(kind, [prompt]))
        assert torch.equal(together.tokens[row], alone.tokens[0])
        torch.testing.assert_close(together.logits[row], alone.logits[0], rtol=0, atol=1e-10)
    again = generate(MODEL, PROMPTS, 25, seed=5, draft=draft_of(kind))
    assert all(torch.equal(a, b) for a, b in zip(again.tokens, together.tokens, strict=True))


def test_logits_are_those_of_the_text():
    """Of a drawn text, read again at once: positions and states are right after any number of refusals."""
    got = generate(MODEL, PROMPTS, 50, seed=1, draft=draft_of("other"))
    for row, prompt in enumerate(PROMPTS):
        want, _ = MODEL(got.tokens[row][None, :-1])
        torch.testing.assert_close(got.logits[row], want[0, len(prompt) - 1 :].detach(), rtol=0, atol=1e-10)


# ---------------------------------------------------------------- the same distribution

LENGTH, ROWS = 3, 3000


@torch.no_grad()
def exact(sampling):
    """The probability of each text of three tokens after a prompt, {text: probability}, by reading all of them."""
    texts = torch.tensor(list(itertools.product(range(5), repeat=LENGTH)))
    logits, _ = MODEL(torch.cat([PROMPTS[0].expand(len(texts), -1), texts], dim=1))
    found = torch.ones(len(texts), dtype=torch.float64)
    for n in range(LENGTH):
        each = refimpl.sampling.probabilities(logits[:, len(PROMPTS[0]) - 1 + n], **sampling)
        found *= each[torch.arange(len(texts)), texts[:, n]]
    return found.numpy()


def surprise(kind, sampling):
    """(chi-square of counted texts over its degrees of freedom, about 1 for the right distribution; share accepted)."""
    prompts, past = [PROMPTS[0]] * ROWS, prefill(MODEL, PROMPTS[:1])
    draft = draft_of(kind, prompts, count=2)
    tokens = generate(MODEL, [prompt[:0] for prompt in prompts], LENGTH, past=past, draft=draft, **sampling).tokens
    places = torch.stack(tokens) @ torch.tensor([25, 5, 1])
    wanted, counts = ROWS * exact(sampling), np.bincount(places.numpy(), minlength=125)
    assert counts[wanted == 0].sum() == 0
    usual = wanted >= 5  # a chi-square needs some of each; what is rarer counts together
    wanted, counts = ([*x[usual], x[~usual].sum()] for x in (wanted, counts))
    terms = [(count - want) ** 2 / want for count, want in zip(counts, wanted, strict=True) if want > 0]
    return sum(terms) / (len(terms) - 1), draft.tally.accepted / draft.tally.drafted


@by_draft
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "top_k": 4}, {"top_p": 0.9}], ids=str)
def test_texts_have_the_distribution_of_the_model(kind, sampling):
    found, accepted = surprise(kind, sampling)
    assert found < 2
    assert accepted > 0.99 if kind == "itself" else 0.1 < accepted < 0.9


@pytest.mark.parametrize("kind", ["ngram", "other"])
def test_a_residual_that_is_not_corrected_is_seen(kind, monkeypatch):
    """The usual mistake: a refused token is replaced by a draw from all that the model may write."""
    monkeypatch.setattr(refimpl.sampling, "lacking", lambda p, q: p)
    assert surprise(kind, {})[0] > 5


# ---------------------------------------------------------------- n-grams


def proposed(text, count=4, longest=4):
    draft = NgramDraft([torch.tensor(text[:-1])], count, longest)
    return draft.propose(torch.tensor(text[-1:]), None)[0][0].tolist()


def test_ngrams_by_hand():
    assert proposed([1, 2, 3, 4, 9, 1, 2, 3]) == [4, 9, 1, 2]
    assert proposed([1, 2, 7, 7, 3, 2, 8, 8, 1, 2]) == [7, 7, 3, 2]  # the longest match, not the latest
    assert proposed([1, 2, 7, 7, 3, 2, 8, 8, 1, 2], longest=1) == [8, 8, 1, 2]
    assert proposed([5, 1, 6, 1, 7, 1]) == [7, 1, 7, 1]  # the latest place; then it goes on as it began
    assert proposed([3, 3, 3]) == [3] * 4
    assert proposed([1, 2, 3]) == [3] * 4  # nothing to look up: something, which may be refused


def test_ngrams_learn_what_was_written():
    draft = NgramDraft([torch.tensor([1, 2, 3])], 2)
    draft.propose(torch.tensor([1]), None)
    assert draft.proposed == [[2, 3]]
    draft.accept([1], None)
    draft.propose(torch.tensor([4]), None)
    assert draft.texts == [[1, 2, 3, 1, 2, 4]]
    draft.accept([0], None)
    draft.propose(torch.tensor([2]), None)
    assert draft.proposed == [[4, 2]]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"draft": NgramDraft(PROMPTS[:2])}, "draft must be of 4 prompts, as the past is, got 2"),
        (
            {"draft": ModelDraft(MODEL, prefill(MODEL, PROMPTS[:1]))},
            "draft must be of 4 prompts, as the past is, got 1",
        ),
        (
            {"draft": NgramDraft(PROMPTS), "replay": 4},
            "replay must be at least 5, one more than the drafted tokens, got 4",
        ),
        ({"replay": 0}, "replay must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_named_at_the_call(how, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        draw_tokens(MODEL, prefill(MODEL, PROMPTS), 3, **how)


def test_a_draft_over_other_tokens_is_refused():
    other = sharp(4, vocab_size=6)
    with pytest.raises(ValueError, match="draft must be a model over 5 tokens, as the model is, got 6"):
        draw_tokens(MODEL, prefill(MODEL, PROMPTS), 3, draft=ModelDraft(other, prefill(other, PROMPTS)))
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        NgramDraft(PROMPTS, 0)


# ---------------------------------------------------------------- the command

LETTERS = RetNetConfig(vocab_size=256, dim=16, num_layers=2, num_heads=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of two models over bytes, and of one over other tokens."""
    folder = tmp_path_factory.mktemp("weights")
    for name, model in (("large", RetNet(LETTERS, seed=3)), ("small", RetNet(LETTERS, seed=4)), ("other", MODEL)):
        model.save(folder / name)
    return folder


def command(files, *arguments):
    options = ["--weights", f"{files / 'large'}", "--device", "cpu", "--tokens", "12", "--seed", "2"]
    return CliRunner().invoke(program.app, ["generate", *options, *arguments])


def test_the_command_drafts_and_says_what_it_was_worth(files):
    small = f"{files / 'small'}"
    want = command(files, "In the", "A", "--temperature", "0").stdout
    for options in (
        ["--replay", "5"],
        ["--draft", "ngram"],
        ["--draft", small, "--draft-tokens", "7", "--replay", "8"],
    ):
        done = command(files, "In the", "A", "--temperature", "0", *options)
        assert (done.exit_code, done.stdout) == (0, want)
        said = r"draft: \d+ % of [\d,]+ drafted tokens accepted, \d\.\d\d tokens a call of the model\n"
        assert re.fullmatch(said if "--draft" in options else "", done.stderr)
    once, again, other = (command(files, "In", "--draft", small, "--seed", seed).stdout for seed in ("2", "2", "3"))
    assert once == again != other
    assert command(files, "In", "--draft", small, "--stream").stdout == once
    assert command(files, "In", "--draft", "ngram", "--tokens", "0").stderr == ""


def test_the_command_drafts_after_a_state(files, tmp_path):
    state, greedy = str(tmp_path / "state"), ("--temperature", "0", "--draft", "ngram")
    command(files, "In the", "--save-state", state, "--tokens", "0")
    whole = command(files, "In the beginning", *greedy).stdout
    assert command(files, " beginning", "--state", state, *greedy).stdout == whole.removeprefix("In the")
    assert command(files, "--state", state, *greedy).stdout == command(files, "In the", *greedy).stdout.removeprefix(
        "In the"
    )
    done = command(files, "a", "--state", state, "--draft", str(files / "small"))
    assert f"{done.exception}".startswith("draft must be ngram with --state, which is of one model, got ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--draft", "nowhere"], "draft: there is no file 'nowhere'; python -m gpu train writes one"),
        (["--draft", "ngram", "--replay", "4"], "replay must be at least 5, one more than the drafted tokens, got 4"),
        (["--draft", "{}/other"], "draft must be a model over 256 tokens, as the model is, got 5"),
    ],
)
def test_the_command_refuses(options, message, files):
    """Before it prints a word."""
    done = command(files, "a", "--stream", *(option.format(files) for option in options))
    assert (f"{done.exception}", done.stdout) == (message, "")

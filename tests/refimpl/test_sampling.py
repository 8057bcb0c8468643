"""Text from a model by NumPy alone: the draws by their probabilities, the tokens by those of torch, the command."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from paths import ROOT

from gpu.models.retnet import RetNet
from gpu.sampling.generate import generate
from refimpl import RetNetConfig, forward, init_params, sampling
from refimpl.sampling import draw, draw_from, probabilities, sample, verify
from refimpl.weights import PRETRAINED, save_params

CONFIG = RetNetConfig(vocab_size=11, dim=8, num_layers=2, num_heads=2)
PARAMS = init_params(CONFIG, seed=1)
PROMPT = np.array([[1, 2, 3], [4, 5, 6]])


def drawn(**options):
    return np.stack([tokens for tokens, _ in sample(PARAMS, PROMPT, CONFIG, 6, **options)], axis=1)


def test_the_likeliest_tokens_are_those_of_torch():
    model = RetNet.holding(PARAMS, CONFIG, "cpu")
    want = generate(model, torch.from_numpy(PROMPT), 6, temperature=0).tokens[:, 3:]
    np.testing.assert_array_equal(drawn(temperature=0), want.numpy())


def test_draws_follow_the_probabilities():
    logits = np.log(np.array([[0.1, 0.2, 0.3, 0.4]]))
    grid = (np.arange(1000) + 0.5) / 1000
    share = lambda **how: np.bincount(draw(np.repeat(logits, 1000, 0), grid, **how), minlength=4) / 1000  # noqa: E731
    np.testing.assert_allclose(share(), [0.1, 0.2, 0.3, 0.4], atol=1e-3)
    np.testing.assert_allclose(share(top_k=2), [0, 0, 3 / 7, 4 / 7], atol=1e-3)
    np.testing.assert_allclose(share(top_p=0.7), [0, 0, 3 / 7, 4 / 7], atol=1e-3)
    np.testing.assert_allclose(share(top_p=0.71), [0, 2 / 9, 3 / 9, 4 / 9], atol=1e-3)
    np.testing.assert_allclose(share(top_p=1e-9), [0, 0, 0, 1])
    np.testing.assert_allclose(share(temperature=0.5), np.array([1, 4, 9, 16]) / 30, atol=1e-3)
    assert draw(logits, np.array([1 - 1e-16]), top_k=2).tolist() == [2]


@pytest.mark.parametrize(
    "how", [{}, {"top_k": 3}, {"top_p": 0.6}, {"top_k": 4, "top_p": 0.8, "temperature": 0.7}, {"temperature": 0}]
)
def test_probabilities_are_those_of_the_draws(how):
    logits = np.random.default_rng(0).standard_normal((5, 7))
    found, grid = probabilities(logits, **how), (np.arange(20_000) + 0.5) / 20_000
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(probabilities(torch.from_numpy(logits), **how).numpy().round(12), found.round(12))
    for row, each in zip(logits, found, strict=True):
        share = np.bincount(draw(np.repeat(row[None], len(grid), 0), grid, **how), minlength=7) / len(grid)
        np.testing.assert_allclose(share, each, atol=2e-4)
        share = np.bincount(draw_from(np.repeat(3 * each[None], len(grid), 0), grid), minlength=7) / len(grid)
        np.testing.assert_allclose(share, each, atol=2e-4)


def test_no_draw_is_of_a_token_without_probability():
    """Nor at the ends of [0, 1), where a product rounds up to the whole sum."""
    rows = np.array([[0.0, 0.3, 0.0, 1.1, 0.0], [0.0, 1 / 3, 1 / 3, 1 / 3, 0.0], [0.0, 1e-300, 0.0, 0.0, 0.0]])
    assert draw_from(rows, np.zeros(3)).tolist() == [1, 1, 1]
    assert draw_from(rows, np.full(3, 1 - 2.0**-53)).tolist() == [3, 3, 1]


# ---------------------------------------------------------------- drafted tokens


def verified(count, seed=0):
    """(the first two tokens and the number accepted, for count rows; p of the first; p of the second after each first)."""
    rng = np.random.default_rng(seed)
    first, draft = rng.dirichlet([0.5] * 4, 2)
    second, draft_second = rng.dirichlet([0.5] * 4, (2, 4))
    one = draw_from(np.repeat(draft[None], count, 0), rng.random(count))
    two = draw_from(draft_second[one], rng.random(count))
    q = np.stack([np.repeat(draft[None], count, 0), draft_second[one]], axis=1)
    p = np.stack([np.repeat(first[None], count, 0), second[one], np.full((count, 4), 0.25)], axis=1)
    accepted, last = verify(np.stack([one, two], axis=1), q, p, rng.random((count, 3)))
    return np.where(accepted > 0, one, last), np.where(accepted > 1, two, last), accepted, first, second


def surprise(tokens, wanted):
    """Chi-square of counted tokens over its degrees of freedom: about 1 if they are drawn with the wanted probabilities."""
    counts = np.bincount(tokens, minlength=len(wanted))
    expected = wanted * len(tokens)
    return float(np.sum((counts - expected) ** 2 / expected)) / (len(wanted) - 1)


def test_tokens_that_are_verified_follow_the_model():
    one, two, accepted, first, second = verified(100_000)
    assert 0.2 < np.mean(accepted > 0) < 0.8  # both ways are gone
    assert surprise(one, first) < 6
    for token in range(4):
        here = (accepted > 0) & (one == token)
        assert here.sum() > 50
        assert surprise(two[here], second[token]) < 6


@pytest.mark.parametrize(
    "mistake",
    [
        lambda p, q: p,  # the usual one: a draw from p in place of the refused token
        lambda p, q: np.abs(p - q),
        lambda p, q: np.clip(q - p, 0, None),
    ],
    ids=["not corrected", "absolute", "the other way round"],
)
def test_a_residual_that_is_wrong_is_seen(monkeypatch, mistake):
    monkeypatch.setattr(sampling, "lacking", mistake)
    one, _, _, first, _ = verified(100_000)
    assert surprise(one, first) > 100


def test_certain_tokens_are_verified_by_equality():
    """At temperature 0 both sides are certain: what the model takes stands, up to the first that it does not."""
    drafted = np.array([[1, 2, 3], [1, 0, 3], [0, 2, 3]])
    certain = lambda tokens: np.eye(4)[np.asarray(tokens)]  # noqa: E731
    p = np.repeat(certain([1, 2, 3, 0])[None], 3, 0)
    for uniform in (0.0, 0.5, 1 - 2.0**-53):
        count, last = verify(drafted, certain(drafted), p, np.full((3, 4), uniform))
        assert (count.tolist(), last.tolist()) == ([3, 1, 0], [0, 2, 1])


def test_the_seed_decides_and_a_state_goes_on():
    np.testing.assert_array_equal(drawn(seed=3), drawn(seed=3))
    assert (drawn(seed=3) != drawn(seed=4)).any()
    _, state = forward(PARAMS, PROMPT[:, :2], CONFIG)
    rest = [tokens for tokens, _ in sample(PARAMS, PROMPT[:, 2:], CONFIG, 6, state=state, seed=3)]
    np.testing.assert_array_equal(np.stack(rest, axis=1), drawn(seed=3))
    *_, (_, last) = sample(PARAMS, PROMPT, CONFIG, 6)
    assert last.position == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 or from 1e-6 to finite, got -1.0"),
        ({"temperature": float("nan")}, "temperature must be 0 or from 1e-6 to finite, got nan"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 1.5}, r"top_p must lie in \(0, 1\], got 1.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**63}, r"seed must be below 2\*\*63, got 9223372036854775808"),
        ({"temperature": True}, r"temperature must be a number, got True \(bool\)"),
        ({"temperature": "1"}, r"temperature must be a number, got '1' \(str\)"),
        ({"new_tokens": -1}, "new_tokens must be at least 0, got -1"),
        ({"prompt": PROMPT[0]}, r"prompt must have shape \(batch, time\), both at least 1, got \(3,\)"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"params": PARAMS, "prompt": PROMPT, "config": CONFIG, "new_tokens": 2} | changes
    with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
        list(sample(**arguments))


def test_weights_that_give_no_number_are_refused():
    broken = PARAMS | {"head": np.full_like(PARAMS["head"], np.nan)}
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        list(sample(broken, PROMPT, CONFIG, 1))


def command(*arguments, **how):
    words = [sys.executable, "-m", "refimpl", "generate", *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **how)


def test_the_command_writes_text_and_refuses_another_vocabulary(tmp_path):
    done = command("And God said", "--tokens", "20", "--temperature", "0")
    assert done.returncode == 0
    assert done.stdout.startswith("And God said")
    assert len(done.stdout) >= len("And God said") + 20
    save_params(tmp_path / "small.safetensors", PARAMS, CONFIG)
    done = command("--weights", str(tmp_path / "small.safetensors"))
    assert done.returncode == 2
    assert "weights must be of a model over 256 tokens, as bytes are, got 11" in done.stderr
    assert PRETRAINED.exists()


def test_the_command_takes_a_prompt_from_a_file_and_from_standard_input(tmp_path):
    (tmp_path / "prompt.txt").write_text("And God\nsaid\n")
    greedy = ["--tokens", "5", "--temperature", "0"]
    want = command("And God\nsaid", *greedy).stdout
    assert want.startswith("And God\nsaid")
    assert command("--prompt-file", f"{tmp_path / 'prompt.txt'}", *greedy).stdout == want
    assert command("--prompt-file", "-", *greedy, input="And God\nsaid").stdout == want
    done = command("A", "--prompt-file", "-", input="B")
    assert (done.returncode, done.stderr) == (2, "error: prompt must be left out with --prompt-file, got 'A'\n")


@pytest.mark.parametrize(
    "wrong", [{"top_p": 2.0}, {"top_k": 0}, {"temperature": -1.0}, {"seed": -1}, {"new_tokens": -1}]
)
def test_a_mistake_comes_at_the_call(wrong):
    """And not at the first token, when a program has printed the prompt."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sample(PARAMS, PROMPT, CONFIG, **{"new_tokens": 3} | wrong)
    with pytest.raises(ValueError, match="prompt must have shape"):
        sample(PARAMS, PROMPT[0], CONFIG, 3)
    broken = PARAMS | {"head": np.full_like(PARAMS["head"], np.nan)}
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        sample(broken, PROMPT, CONFIG, 3)

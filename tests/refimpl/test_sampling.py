"""Text from a model by NumPy alone: the draws by their probabilities, the tokens by those of torch, the command."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from paths import ROOT

from gpu.models.retnet import RetNet
from gpu.sampling.generate import generate
from refimpl import RetNetConfig, forward, init_params
from refimpl.sampling import draw, sample
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
        ({"new_tokens": -1}, "new_tokens must be at least 0, got -1"),
        ({"prompt": PROMPT[0]}, r"prompt must have shape \(batch, time\), both at least 1, got \(3,\)"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"params": PARAMS, "prompt": PROMPT, "config": CONFIG, "new_tokens": 2} | changes
    with pytest.raises(ValueError, match=f"^{message}$"):
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

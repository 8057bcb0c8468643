"""Training in NumPy: cross-entropy in bits per byte, AdamW, a schedule, and the loop that torch runs share.

`fit` knows neither NumPy models nor torch ones: it draws batches, asks for a step, watches the loss and evaluates.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .backward import backward, retention_parallel_backward
from .checks import check_integer
from .config import RetNetConfig
from .files import write_atomically
from .model import forward, init_params
from .retention import retention_parallel
from .text import VOCAB_SIZE, consecutive_batches, encode, load_corpus, random_batch, split_by_book
from .tree import flatten


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run; refuses impossible ones with a ValueError or TypeError.

    corpus: "kjv", a file or a folder. dim, num_layers, num_heads: the model. steps of batch_size windows of `window`
    bytes, by AdamW with `warmup` steps and a cosine to a tenth of learning_rate, decoupled weight_decay, and gradients
    clipped to the norm `clip`. The held-out loss is taken every evaluate_every steps. prompt and sample_bytes: the
    sample at the end. seed: of parameters and batches.
    """

    corpus: str = "kjv"
    dim: int = 128
    num_layers: int = 2
    num_heads: int = 4
    steps: int = 900
    batch_size: int = 16
    window: int = 64
    learning_rate: float = 5e-3
    warmup: int = 50
    weight_decay: float = 0.05
    clip: float = 1.0
    evaluate_every: int = 100
    sample_bytes: int = 400
    prompt: str = "And the LORD said unto"
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "window", "evaluate_every", "sample_bytes"):
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("warmup", "seed"):
            check_integer(name, getattr(self, name), minimum=0)
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not self.prompt:
            raise ValueError("prompt must hold at least one character, got ''")

    @property
    def model(self):
        """The `RetNetConfig` of the run's model, over bytes."""
        return RetNetConfig(vocab_size=VOCAB_SIZE, dim=self.dim, num_layers=self.num_layers, num_heads=self.num_heads)


def cross_entropy(logits, targets):
    """Mean of -log2 softmax(logits)[target], bits a token, and its gradient by the logits.

    logits (B, T, vocab), targets (B, T) integers; returns a float and (B, T, vocab) in the logits' dtype.

    >>> cross_entropy(np.zeros((1, 1, 4)), np.array([[2]]))
    (2.0, array([[[ 0.36067376,  0.36067376, -1.08202128,  0.36067376]]]))
    """
    logits = logits - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(logits)
    total = exponentials.sum(axis=-1, keepdims=True)
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1) - np.log(total)
    grad = exponentials / total
    np.put_along_axis(grad, targets[..., None], np.take_along_axis(grad, targets[..., None], axis=-1) - 1, axis=-1)
    return -float(chosen.mean(dtype=np.float64)) / math.log(2), grad * (1.0 / (targets.size * math.log(2)))


class AdamW:
    """Adam with decoupled weight decay (arXiv:1711.05101); changes the arrays of `params`, a dict by name, in place."""

    def __init__(self, params, *, betas=(0.9, 0.98), weight_decay=0.05, eps=1e-8):
        self.params, self.betas, self.weight_decay, self.eps, self.count = params, betas, weight_decay, eps, 0
        self.mean = {name: np.zeros_like(param) for name, param in params.items()}
        self.square = {name: np.zeros_like(param) for name, param in params.items()}

    def step(self, grads, learning_rate):
        """One update by gradients of the same names."""
        self.count += 1
        fast, slow = self.betas
        rate = learning_rate / (1 - fast**self.count)
        correction = (1 - slow**self.count) ** -0.5
        for name, param in self.params.items():
            grad, mean, square = grads[name], self.mean[name], self.square[name]
            mean += (1 - fast) * (grad - mean)
            square += (1 - slow) * (grad * grad - square)
            param *= 1 - learning_rate * self.weight_decay
            param -= rate * mean / (np.sqrt(square) * correction + self.eps)


def clip_by_norm(grads, most):
    """Scale gradients, a dict by name, in place to a joint norm of at most `most`; returns the norm before."""
    norm = math.sqrt(sum(float(np.vdot(grad, grad)) for grad in grads.values()))
    if norm > most:
        for grad in grads.values():
            grad *= most / (norm + 1e-6)
    return norm


def scheduled_rate(step, config):
    """Learning rate of step 1, 2, ...: linear warm-up, times a cosine from 1 to a tenth over the run."""
    cosine = 0.55 + 0.45 * math.cos(math.pi * (step - 1) / config.steps)
    return config.learning_rate * min(1.0, step / (config.warmup + 1)) * cosine


def fit(config, step, loss, out, console=None):
    """Draw batches, take steps and evaluate, with a progress bar; the loop of every training run here.

    Args:
        config: a `TrainConfig`.
        step: (inputs, targets, learning_rate) -> bits per byte of the batch before the update it makes.
        loss: (inputs, targets) -> bits per byte.
        out: folder of the run, which receives log.jsonl, a line an evaluation.
        console: the rich console of the progress bar; standard output by default.

    Returns:
        The log, a list of dicts of step, training and held_out, and the seconds it took.

    Raises:
        FloatingPointError: the loss stopped being finite.
        ValueError, OSError: from the corpus.
    """
    training, held_out = (encode(part.text) for part in split_by_book(load_corpus(config.corpus)))
    for part, tokens in (("training", training), ("held-out", held_out)):
        if len(tokens) <= config.window:
            raise ValueError(
                f"corpus must have a {part} part of more than window = {config.window} bytes, got {len(tokens)}; "
                "give a longer text"
            )
    Path(out).mkdir(parents=True, exist_ok=True)  # now, not after the first evaluation
    rng, log, started = np.random.default_rng(config.seed), [], time.perf_counter()
    columns = (
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console or Console()) as progress:
        task = progress.add_task("training", total=config.steps, note="")
        for number in range(1, config.steps + 1):
            inputs, targets = random_batch(training, config.batch_size, config.window, rng)
            value = step(inputs, targets, scheduled_rate(number, config))
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value} at step {number}; a lower learning_rate may help")
            rate = number * inputs.size / (time.perf_counter() - started)
            progress.update(task, advance=1, note=f"{value:.2f} bits/byte  {rate:,.0f} bytes/s")
            if number % config.evaluate_every == 0 or number == config.steps:
                log.append({"step": number, "training": value, "held_out": evaluate(loss, held_out, config.window)})
                write_atomically(Path(out) / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log))
    return log, time.perf_counter() - started


def evaluate(loss, tokens, window, max_windows=512):
    """Mean of `loss` over windows spread evenly through the tokens."""
    total = [(loss(*batch), batch[0].size) for batch in consecutive_batches(tokens, 64, window, max_windows)]
    return sum(value * size for value, size in total) / sum(size for _, size in total)


def train(config, out, *, retention=retention_parallel, retention_backward=retention_parallel_backward, console=None):
    """Train the NumPy model with gradients by hand; returns (params, log, seconds).

    retention, retention_backward: any pair under the contract, such as the compiled ones. Errors as `fit`.
    """
    params = init_params(config.model, config.seed)
    step, loss = trainer(params, config, retention, retention_backward)
    return params, *fit(config, step, loss, out, console)


def trainer(params, config, retention=retention_parallel, retention_backward=retention_parallel_backward):
    """The functions step and loss that `fit` wants, for NumPy parameters, which the steps change in place."""
    optimizer = AdamW(flatten(params), weight_decay=config.weight_decay)

    def loss(inputs, targets):
        logits, _ = forward(params, inputs, config.model, retention=retention)
        return cross_entropy(logits, targets)[0]

    def step(inputs, targets, learning_rate):
        record = []
        logits, _ = forward(params, inputs, config.model, retention=retention, record=record)
        value, grad = cross_entropy(logits, targets)
        grads, _ = backward(params, inputs, config.model, record, grad, retention_backward=retention_backward)
        grads = flatten(grads)
        clip_by_norm(grads, config.clip)
        optimizer.step(grads, learning_rate)
        return value

    return step, loss

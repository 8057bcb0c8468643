"""Training in NumPy: cross-entropy, AdamW, and a step of both. The loop is `refimpl.training.loop`."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..backward import backward, retention_parallel_backward
from ..checks import check_integer, check_number
from ..config import RetNetConfig
from ..model import forward, init_params
from ..retention import retention_parallel
from ..tree import flatten
from .loop import fit
from .text import VOCAB_SIZE


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run, each with its meaning; a ValueError or TypeError names an impossible one."""

    corpus: Annotated[str, "text to train on: kjv (the King James Bible), a text file or a folder"] = "kjv"
    vocab_size: Annotated[int, "number of tokens: 256 for bytes, more for byte pairs learnt from the text"] = VOCAB_SIZE
    dim: Annotated[int, "width of the model in channels"] = 128
    num_layers: Annotated[int, "number of layers"] = 2
    num_heads: Annotated[int, "heads of a layer"] = 4
    steps: Annotated[int, "optimizer steps of the run"] = 900
    batch_size: Annotated[int, "windows of text in a step"] = 16
    window: Annotated[int, "length of a window in tokens"] = 64
    learning_rate: Annotated[float, "highest learning rate of AdamW; a cosine lowers it to a tenth"] = 5e-3
    warmup: Annotated[int, "first steps, in which the learning rate rises"] = 50
    weight_decay: Annotated[float, "decoupled weight decay of AdamW"] = 0.05
    clip: Annotated[float, "largest norm of a gradient; longer ones are scaled down to it"] = 1.0
    evaluate_every: Annotated[int, "steps between two losses on held-out text"] = 100
    sample_bytes: Annotated[int, "length of the sample at the end in tokens"] = 400
    prompt: Annotated[str, "text that the sample continues"] = "And the LORD said unto"
    seed: Annotated[int, "seed of the parameters and the batches"] = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "window", "evaluate_every", "sample_bytes"):
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("warmup", "seed"):
            check_integer(name, getattr(self, name), minimum=0)
        check_integer("vocab_size", self.vocab_size, minimum=VOCAB_SIZE)
        for name in ("learning_rate", "clip"):
            if not check_number(name, getattr(self, name)) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        check_number("weight_decay", self.weight_decay, minimum=0.0)
        if not self.prompt:
            raise ValueError("prompt must hold at least one character, got ''")

    @property
    def retnet(self):
        """The `RetNetConfig` of the run's model."""
        names = ("vocab_size", "dim", "num_layers", "num_heads")
        return RetNetConfig(**{name: getattr(self, name) for name in names})


def cross_entropy(logits, targets):
    """Mean of -log2 softmax(logits)[target], in bits a token, and its gradient with respect to the logits.

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
    """Adam with decoupled weight decay (arXiv:1711.05101); updates the arrays of `params`, a dict by name, in place."""

    def __init__(self, params, *, betas=(0.9, 0.98), weight_decay=0.05, eps=1e-8):
        self.params, self.betas, self.weight_decay, self.eps, self.count = params, betas, weight_decay, eps, 0
        self.mean = {name: np.zeros_like(param) for name, param in params.items()}
        self.square = {name: np.zeros_like(param) for name, param in params.items()}

    def step(self, grads, learning_rate):
        """One update with gradients of the same names."""
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
    """Scale gradients, a dict by name, in place to a total norm of at most `most`; returns the norm before."""
    norm = math.sqrt(sum(float(np.vdot(grad, grad)) for grad in grads.values()))
    if norm > most:
        for grad in grads.values():
            grad *= most / (norm + 1e-6)
    return norm


def train(config, out, *, retention=retention_parallel, retention_backward=retention_parallel_backward, console=None):
    """Train the NumPy model with gradients by hand; returns (params, log), the log of `refimpl.training.loop.fit`.

    retention, retention_backward: any pair under the contract, such as the compiled ones. Errors as for `fit`.
    """
    params = init_params(config.retnet, config.seed)
    step, loss = trainer(params, config, retention, retention_backward)
    return params, fit(config, step, loss, out, console)


def trainer(params, config, retention=retention_parallel, retention_backward=retention_parallel_backward):
    """The functions step and loss for `fit`; steps update the NumPy parameters in place."""
    optimizer = AdamW(flatten(params), weight_decay=config.weight_decay)

    def loss(inputs, targets):
        logits, _ = forward(params, inputs, config.retnet, retention=retention)
        return cross_entropy(logits, targets)[0]

    def step(inputs, targets, learning_rate):
        record = []
        logits, _ = forward(params, inputs, config.retnet, retention=retention, record=record)
        value, grad = cross_entropy(logits, targets)
        grads, _ = backward(params, inputs, config.retnet, record, grad, retention_backward=retention_backward)
        grads = flatten(grads)
        norm = clip_by_norm(grads, config.clip)
        if math.isfinite(value) and math.isfinite(norm):
            optimizer.step(grads, learning_rate)
        return value, norm

    return step, loss

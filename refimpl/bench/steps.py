"""What whole steps cost on this CPU: a token while decoding, and a training step."""

import functools

import numpy as np

from ..backward import retention_chunkwise_backward, retention_parallel_backward
from ..model import init_params
from ..retention import retention_chunkwise, retention_parallel, retention_step
from ..training.train import TrainConfig, trainer
from .forms import HEADS, Candidate, numba_kernels, random_inputs
from .timing import time_calls

DECODE_BATCHES = 1, 8, 64
STEPS_A_CALL = 100  # decode steps, so that a call is long enough to time
TRAINING_SHAPES = (16, 64), (4, 512)  # batch size and window; the first is the default run


def decoding(rounds):
    """Rows of state steps a second: one token for each of B H states, float32, from the state before."""
    steps = {"NumPy": retention_step}
    if kernels := numba_kernels():
        steps["Numba"] = kernels.retention_step_numba
    rows = []
    for batch in DECODE_BATCHES:
        calls = {name: functools.partial(_decode, step, *random_inputs(batch, 1)) for name, step in steps.items()}
        for name, seconds in time_calls(calls, rounds).items():
            states, step = batch * HEADS, min(seconds) / STEPS_A_CALL
            rows.append({"name": name, "states": states, "seconds": step, "state_steps_per_second": states / step})
    return rows


def _decode(step, q, k, v, gamma):
    state = None
    for _ in range(STEPS_A_CALL):
        _, state = step(q, k, v, gamma, state)


def training(rounds, peers=()):
    """Rows of seconds a training step (forward, backward, clipping, AdamW) of the default model, the same in each."""
    rows = []
    for batch, window in TRAINING_SHAPES:
        config = TrainConfig(batch_size=batch, window=window)
        found = training_steps(config, peers)
        fastest = {
            name: min(each) for name, each in time_calls({each.name: each.call for each in found}, rounds).items()
        }
        torch = min((fastest[each.name] for each in found if each.library == "torch"), default=None)
        for each in found:
            seconds = fastest[each.name]
            rows.append(
                {
                    "name": each.name, "library": each.library, "form": each.form, "batch": batch, "window": window,
                    "seconds": seconds, "of_fastest_torch": torch and seconds / torch,
                }
            )  # fmt: skip
    return rows


def training_steps(config, peers=()):
    """A `Candidate` for each way to take the training step of a `TrainConfig`; its call returns loss and gradient norm."""
    tokens = np.random.default_rng(0).integers(0, config.retnet.vocab_size, (config.batch_size, config.window + 1))
    batch = tokens[:, :-1], tokens[:, 1:]
    pairs = [
        ("NumPy", "parallel", retention_parallel, retention_parallel_backward),
        ("NumPy", "chunkwise", retention_chunkwise, retention_chunkwise_backward),
    ]
    if kernels := numba_kernels():
        pairs.append(
            ("Numba", "chunkwise", kernels.retention_chunkwise_numba, kernels.retention_chunkwise_backward_numba)
        )
    found = []
    for library, form, *pair in pairs:
        step, _ = trainer(init_params(config.retnet, config.seed), config, *pair)
        call = functools.partial(step, *batch, config.learning_rate)
        found.append(Candidate(f"{library} {form}", library, form, None, call))
    return found + [each for peer in peers for each in peer.training_steps(config, *batch)]

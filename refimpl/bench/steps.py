"""What whole steps cost on this CPU: a token while decoding, a training step, a token of a very long sequence."""

import functools
import importlib
import math
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ..backward import retention_chunkwise_backward, retention_parallel_backward
from ..decay import head_decays
from ..model import forward, init_params
from ..retention import retention_chunkwise, retention_parallel, retention_step
from ..training.train import TrainConfig, trainer
from ..tree import flatten, map_tree
from .forms import HEADS, KEY_DIM, VALUE_DIM
from .timing import time_calls

DECODE_BATCHES = 1, 8, 64
STEPS_A_CALL = 100  # decode steps, so that a call is long enough to time
TRAINING_SHAPES = (16, 64), (4, 512)  # batch size and window; the first is the default run
LONG = 4096, 16384, 65536


def measure_steps(rounds=7, lengths=LONG):
    """Decoding, training and long sequences: what the results file holds under "decode", "training" and "long"."""
    return {"decode": decoding(rounds), "training": training(rounds), "long": long_sequences(rounds, lengths)}


def tables(results):
    """Those results as (title, rows), a row a dict of texts by heading, for printing."""
    decode = [
        {"": row["name"], "states": f"{row['states']}", "steps/s": f"{row['state_steps_per_second']:,.0f}"}
        for row in results["decode"]
    ]
    step = [
        {
            "": row["name"],
            "batch": f"{row['batch']} x {row['window']}",
            "time": f"{row['seconds'] * 1e3:.1f} ms",
            "of the fastest by torch": f"{row['of_fastest_torch']:.2f}" if row["of_fastest_torch"] else "no torch",
        }
        for row in results["training"]
    ]
    long = [
        {
            "": row["name"],
            "T": f"{row['time']:,}",
            "a token": f"{row['ns_per_token'] / 1e3:.2f} us",
            "memory beyond": "unknown" if row["mib_beyond_outputs"] is None else f"{row['mib_beyond_outputs']} MiB",
        }
        for row in results["long"]
    ]
    return ("decoding: states that take one token", decode), ("training step", step), ("long sequences", long)


def decoding(rounds):
    """Rows of state steps a second: one token for each of B H states, float32, from the state before."""
    rows = []
    for batch in DECODE_BATCHES:
        calls = {}
        for name, step in _compiled(NumPy=retention_step, Numba="retention_step_numba").items():
            q, k, v, gamma = _inputs(batch, 1)
            calls[name] = functools.partial(_decode, step, q, k, v, gamma)
        for name, seconds in time_calls(calls, rounds).items():
            states = batch * HEADS
            a_step = min(seconds) / STEPS_A_CALL
            rows.append({"name": name, "states": states, "seconds": a_step, "state_steps_per_second": states / a_step})
    return rows


def _decode(step, q, k, v, gamma):
    state = None
    for _ in range(STEPS_A_CALL):
        _, state = step(q, k, v, gamma, state)


def training(rounds):
    """Rows of seconds a training step (forward, backward, clipping, AdamW) of the default model, the same in each."""
    rows = []
    for batch, window in TRAINING_SHAPES:
        config = TrainConfig(batch_size=batch, window=window)
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, config.retnet.vocab_size, (batch, window + 1))
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        calls = {}
        for name, pair in _compiled(
            **{
                "NumPy parallel": (retention_parallel, retention_parallel_backward),
                "NumPy chunkwise": (retention_chunkwise, retention_chunkwise_backward),
                "Numba chunkwise": ("retention_chunkwise_numba", "retention_chunkwise_backward_numba"),
            }
        ).items():
            step, _ = trainer(init_params(config.retnet, 0), config, *pair)
            calls[name] = functools.partial(step, inputs, targets, config.learning_rate)
        if find_spec("torch"):
            for name, retention in (("torch parallel", retention_parallel), ("torch chunkwise", retention_chunkwise)):
                calls[name] = _torch_step(config, retention, inputs, targets)
        seconds = {name: min(each) for name, each in time_calls(calls, rounds).items()}
        torch = min((each for name, each in seconds.items() if name.startswith("torch")), default=None)
        rows += [
            {
                "name": name,
                "batch": batch,
                "window": window,
                "seconds": each,
                "of_fastest_torch": torch and each / torch,
            }
            for name, each in seconds.items()
        ]
    return rows


def _torch_step(config, retention, inputs, targets):
    """The same step by torch: our forward pass on its tensors, its autograd, cross-entropy, clipping and AdamW."""
    torch = importlib.import_module("torch")
    params = map_tree(lambda _, x: torch.from_numpy(x).requires_grad_(), init_params(config.retnet, 0))
    weights = list(flatten(params).values())
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    inputs, targets = torch.from_numpy(inputs), torch.from_numpy(targets)

    def step():
        optimizer.zero_grad()
        logits, _ = forward(params, inputs, config.retnet, retention=retention)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) / math.log(2)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, config.clip)
        optimizer.step()

    return step


def long_sequences(rounds, lengths):
    """Rows of nanoseconds a token and memory beyond inputs and outputs, chunkwise, B 1, float32.

    The memory is the largest resident size during a call less the size before it and less what is returned, in MiB;
    None where the system does not tell (it is read from Linux's /proc).
    """
    rows = []
    for time in lengths:
        inputs = _inputs(1, time)
        calls = {name: functools.partial(form, *inputs) for name, form in _chunkwise_forms().items()}
        for name, seconds in time_calls(calls, rounds).items():
            with get_context("spawn").Pool(1) as fresh:  # here, memory given back earlier would be taken again unseen
                memory = fresh.apply(memory_beyond, (name, time))
            rows.append(
                {"name": name, "time": time, "ns_per_token": min(seconds) / time * 1e9, "mib_beyond_outputs": memory}
            )
    return rows


def memory_beyond(name, time):
    """MiB that the form of that name takes at length `time` beyond inputs and outputs, in a fresh process; or None."""
    form, inputs = _chunkwise_forms()[name], _inputs(1, time)
    form(*_inputs(1, 128))  # loads libraries and compiled code
    before = _resident("VmRSS")
    if before is None:
        return None
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to the present size
    returned = form(*inputs)
    return round((_resident("VmHWM") - before - sum(array.nbytes for array in returned)) / 2**20, 1)


def _chunkwise_forms():
    return _compiled(NumPy=retention_chunkwise, Numba="retention_chunkwise_numba")


def _resident(field):
    """Bytes that /proc/self/status gives for `field`, or None."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)


def _inputs(batch, time):
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, batch, HEADS, time, KEY_DIM), dtype=np.float32)
    return q, k, rng.standard_normal((batch, HEADS, time, VALUE_DIM), dtype=np.float32), head_decays(HEADS)


def _compiled(**named):
    """`named` with the names of compiled functions replaced by the functions; without Numba they are left out."""
    kernels = importlib.import_module("refimpl.numba_kernels") if find_spec("numba") else None
    if kernels is None:
        named = {name: value for name, value in named.items() if "Numba" not in name}

    def found(value):
        if isinstance(value, tuple):
            return tuple(map(found, value))
        return getattr(kernels, value) if isinstance(value, str) else value

    return {name: found(value) for name, value in named.items()}

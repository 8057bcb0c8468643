"""What a training step costs: tokens a second and peak memory of RetNet and the baselines, at equal tokens a step.

A step is `gpu.training.step.Trainer.step`, as in a run: forward and backward in parts, clipping, fused AdamW. Parameters are
float32, matrix products bfloat16 by autocast; retention sums in float32 and may use TF32.
"""

import math
from contextlib import nullcontext

import numpy as np
import torch

from ..kernels.registry import FLA, has_fla, has_fused
from ..models.build import build_random
from ..training.step import Trainer
from .timing import Candidate, LeftOutError, Work

LONGEST_PARALLEL = 2048  # beyond, T^2 scores a head take most of the memory
MOST_COMPILED_CHUNKS = 32  # torch.compile unrolls the loop over chunks; more take minutes


def training_candidates(config, time, compiled, device):
    """The `Candidate`s at one length, for a `BenchmarkConfig`."""
    shapes = []  # model, label, settings
    for model in config.models:
        if model == "retnet":
            shapes += [
                (model, f"RetNet, C = {size}", {"retention": "chunkwise", "chunk_size": size})
                for size in config.chunk_sizes
            ]
            if has_fused(device):
                shapes.append((model, "RetNet, fused", {"retention": "triton"}))
            if has_fla(device):
                shapes.append((model, f"RetNet, {FLA}", {"retention": "fla"}))
            if time <= LONGEST_PARALLEL:
                shapes.append((model, "RetNet, parallel", {"retention": "parallel"}))
        else:
            shapes.append((model, {"gru": "GRU"}.get(model, model.capitalize()), {}))
    found = []
    for model, label, settings in shapes:
        row = {"section": "training", "name": label, "model": model, "compiled": compiled, "time": time}
        row |= {"retention": None, "chunk_size": None} | settings
        run = config.run(
            model,
            compile=compiled,
            recompute=config.recompute,
            batch_size=config.tokens // time,
            window=time,
            **settings,
        )
        found.append((_chunks(run), Candidate(row, lambda run=run: training_work(run, device))))
    if compiled:  # what compiles fast goes first, for the time may be over
        found.sort(key=lambda pair: pair[0])
    return [candidate for _, candidate in found]


def _chunks(run):
    return math.ceil(run.window / run.chunk_size) if (run.model, run.retention) == ("retnet", "chunkwise") else 0


def training_work(run, device, *, dtype=torch.float32, around=nullcontext):
    """Steps of the `RunConfig`'s model on random tokens.

    dtype: of parameters, and so of their gradients and AdamW's moments. around: makes the context that a step runs in.
    """
    if run.compile and _chunks(run) > MOST_COMPILED_CHUNKS:
        raise LeftOutError(f"torch.compile would unroll {_chunks(run)} chunks")
    model = build_random(run, device, dtype)
    trainer = Trainer(model, run)
    tokens = np.random.default_rng(0).integers(0, run.vocab_size, (run.batch_size, run.window + 1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    def step():
        with around():
            loss, norm = trainer.step(inputs, targets, 1e-4)
        if not math.isfinite(loss + norm):
            raise FloatingPointError(f"the loss was {loss} and the norm of the gradient {norm}")

    parameters = sum(weight.numel() for weight in model.parameters())
    facts = {
        "batch": run.batch_size,
        "tokens": targets.size,
        "parameters": parameters,
        # Of the products with parameters alone: 2 forward and 4 backward a token. What mixes tokens is not counted.
        "flops": 6 * parameters * targets.size,
        "dtypes": {"parameters": str(dtype).removeprefix("torch."), "products": "bfloat16"}
        | (
            {"retention": "bfloat16" if run.retention in ("triton", "fla") else "float32"}
            if run.model == "retnet"
            else {}
        ),
    }
    return Work(step, targets.size, facts)

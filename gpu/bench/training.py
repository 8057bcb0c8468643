"""What a training step costs: tokens a second and peak memory of RetNet and the baselines, at equal tokens a step.

A step is `gpu.training.step.Trainer.step`, as in a run: forward and backward in parts, clipping, fused AdamW. Parameters are
float32, matrix products bfloat16 by autocast; retention sums in float32 and may use TF32.
"""

import math
from contextlib import nullcontext

import numpy as np
import torch

from ..kernels.registry import RETENTIONS
from ..models.build import build_random
from ..training.step import Trainer
from .figures import training_figure
from .rows import label, new_row
from .section import Section, is_large, speed_columns, together
from .timing import Candidate, LeftOutError, Work

MOST_COMPILED_CHUNKS = 8  # torch.compile unrolls the loop over chunks; more take minutes


class Training(Section):
    """Steps at each length, of every retention and baseline, all with as many tokens."""

    name = "training"
    what = (
        "one training step (forward, backward, clipping, AdamW): median seconds over the rounds, tokens a second "
        "by it, and the most memory held, parameters and optimizer included"
    )
    identity = ("T", lambda row: f"{row['time']:,}"), ("", label)
    measured = speed_columns(lambda row: row["share_of_matrix_product"], "of product")

    figure = staticmethod(training_figure)

    def candidates(self, config, compiled, device):
        """One group a length; large models one after another."""
        for time in config.times:
            for candidates in together(training_candidates(config, time, compiled, device), alone=is_large(config)):
                yield candidates, config.run("retnet")

    def describe(self, row):
        """The length, and what was changed to fit into memory.

        >>> SECTION.describe({"time": 8192, "parameters_in": "bfloat16", "recompute": True})
        'T = 8,192, bfloat16, recomputed'
        """
        parts = [f"T = {row['time']:,}", row.get("parameters_in"), "recomputed" if row["recompute"] else None]
        return ", ".join(filter(None, parts))

    def derived(self, row, peaks):
        """The share of the rate of a matrix product."""
        peak = peaks["matrix_product"].get("flops_per_second")
        return {"share_of_matrix_product": peak and row["flops"] / row["seconds"]["median"] / peak}


SECTION = Training()


def training_candidates(config, time, compiled, device):
    """The `Candidate`s at one length, for a `BenchmarkConfig`.

    On a GPU the fastest compiled ones are measured again with forward and backward pass as a CUDA graph, for else the
    processor that launches their kernels is measured too.
    """
    found, on_gpu = [], torch.device(device).type == "cuda"
    for model in config.models:
        for settings in retentions(config, time, device) if model == "retnet" else ({},):
            fast = model != "retnet" or RETENTIONS[settings["retention"]].fused
            for graph in (False, True) if compiled and fast and on_gpu else (False,):
                run = config.run(
                    model, compile=compiled, graph=graph, recompute=config.recompute, batch_size=config.tokens // time,
                    window=time, **settings,
                )  # fmt: skip
                row = new_row(
                    "training", model=model, compiled=compiled, cuda_graph=graph, recompute=config.recompute, time=time,
                    **settings,
                )  # fmt: skip
                found.append((_chunks(run), Candidate(row, lambda run=run: training_work(run, device))))
    if compiled:  # those that compile fast come first, in case time runs out
        found.sort(key=lambda pair: pair[0])
    return [candidate for _, candidate in found]


def retentions(config, time, device):
    """Settings of a run for each of `RETENTIONS` that runs on the device and is measured at this length."""
    for name, retention in RETENTIONS.items():
        if retention.available(device) and time <= (retention.longest or time):
            for chunk_size in config.chunk_sizes if retention.chunked else (None,):
                yield {"retention": name} | ({"chunk_size": chunk_size} if chunk_size else {})


def _chunks(run):
    """How many chunks a compiler would unroll."""
    chunked = run.model == "retnet" and RETENTIONS[run.retention].chunked
    return math.ceil(run.window / run.chunk_size) if chunked else 0


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
    dtypes = {"parameters": str(dtype).removeprefix("torch."), "products": "bfloat16"}
    if run.model == "retnet":
        dtypes["retention"] = "bfloat16" if RETENTIONS[run.retention].fused else "float32"
    facts = {
        "batch": run.batch_size,
        "tokens": targets.size,
        "parameters": parameters,
        # Products with parameters only: 2 forward and 4 backward a token. Mixing of tokens is not counted.
        "flops": 6 * parameters * targets.size,
        "dtypes": dtypes,
    }
    return Work(step, targets.size, facts)

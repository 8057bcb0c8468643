"""The paper's cost tables (arXiv:2307.08621v4, section 3.3 and 3.4) at its sizes, on one GPU, with random weights.

Training at T = 8,192, a sequence a step: the Transformer without and with flash attention, and RetNet with the fused
kernels. A change that one of the three needs to fit is made for all three. AdamW in float32 holds 16 bytes a parameter,
bfloat16 throughout 8; attention that is not fused keeps scores of 2 H T^2 bytes a layer. In GB, for a GPU of 149 (139 GiB):

    size   parameters   AdamW   scores of a layer, of all   so
    1.3B   1.54e9         25        2.1,  52                as it is, and with layers computed again to compare
    2.7B   3.10e9         50        2.7,  86                layers computed again; activations are over 40 more
    6.7B   7.78e9        125        4.3, 137                layers computed again; about six scores of one layer at once
                                                            leave no room beside 125, so all in bfloat16: 62

For the backward pass of a layer under autocast, RetNet (fused) keeps 44 d bytes a token and the Transformer (flash) 49 d;
compiled, which computes again what is cheap, 36 d and 40 d. What RetNet keeps more of is v and the output, twice as wide,
and the gate; its feed-forward is narrower. It computes normed and gated outputs again: 12 d as operations of torch, 4 d by
our kernel. Layers that are computed again keep 4 d in both.

Decoding at 6.7B: contexts, batches and CUDA graphs of `gpu.bench.decoding`, RetNet with the fused step, the
Transformer with as many heads of keys and values as of queries, and with a quarter. torch.compile of the layers is
measured for training at 1.3B, and for decoding at one context, as it takes long; not for attention that is not
fused, which the compiler might fuse.
"""

import dataclasses
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..kernels.registry import RETENTIONS, has_flash
from . import decoding, training
from .config import BenchmarkConfig
from .decoding import batches, decoding_candidates, decoding_settings
from .rows import label, new_row
from .section import Section, speed_columns
from .timing import Candidate
from .training import training_work


class Setup(NamedTuple):
    """A size to train, and what makes it fit: layers computed again, and the dtype of parameters and optimizer."""

    size: str
    recompute: bool = False
    dtype: torch.dtype = torch.float32


TRAINING = (Setup("1.3B"), Setup("1.3B", True), Setup("2.7B", True), Setup("6.7B", True, torch.bfloat16))
TINY = (Setup("tiny"), Setup("tiny", True, torch.bfloat16))  # to try the command
TIME, COMPILED_CONTEXT = 8192, 8192
KINDS = {"training": training.SECTION, "decoding": decoding.SECTION}  # of its rows, by their field "section"


class Paper(Section):
    """Rows of training and decoding, each with the memory to itself."""

    name = "paper"
    what = "the paper's cost tables at its sizes, random weights: training steps of one sequence, and decoding steps"
    default = False
    identity = (
        ("size", lambda row: row["size"]),
        ("", lambda row: KINDS[row["section"]].describe(row)),
        ("", label),
    )
    measured = speed_columns(
        lambda row: row.get("share_of_matrix_product", row.get("share_of_copy_bandwidth")), "of ceiling"
    )

    def candidates(self, config, compiled, device):
        """One group a candidate; of the compiled ones those that matter most come first."""
        setups, time = (TINY, config.times[-1]) if config.size == "tiny" else (TRAINING, TIME)
        contexts = config.contexts
        if compiled:
            setups = [setup for setup in setups if setup.size == setups[0].size]
            contexts = [context for context in contexts if context == COMPILED_CONTEXT] or contexts[-1:]
        first = 1 if compiled else len(setups)  # how many setups come before decoding
        yield from self.to_train(config, setups[:first], time, compiled, device)
        for batch in batches(config):
            for context in contexts:
                found = decoding_candidates(config, context, batch, compiled, device, retentions(device) or [None])
                for each in found:
                    yield [each._replace(row=each.row | {"size": config.size})], decoding_settings(config)
        yield from self.to_train(config, setups[first:], time, compiled, device)

    def to_train(self, config, setups, time, compiled, device):
        """The groups of some `Setup`s."""
        for setup in setups:
            for candidate in training_candidates(config, setup, time, compiled, device):
                yield [candidate], config.run("retnet")

    def describe(self, row):
        """The size, and what the section of its kind says."""
        return f"{row['size']}, {KINDS[row['section']].describe(row)}"

    def derived(self, row, peaks):
        """As in the section of its kind."""
        return KINDS[row["section"]].derived(row, peaks)


SECTION = Paper()


def retentions(device):
    """Names of the retentions of the paper's tables that run on the device."""
    return [name for name, each in RETENTIONS.items() if each.paper and each.available(device)]


def training_candidates(config, setup, time, compiled, device):
    """The `Candidate`s of one `Setup`: one sequence of `time` tokens a step."""
    shape = BenchmarkConfig(size=setup.size, vocab_size=config.vocab_size, times=(time,), tokens=time)
    flash_here = has_flash(device)
    kinds = [  # model, attention, settings, context of a step
        ("transformer", "unfused", {}, unfused),
        ("transformer", "flash" if flash_here else None, {}, flash if flash_here else nullcontext),
        *(("retnet", None, {"retention": name}, nullcontext) for name in retentions(device) or ["chunkwise"]),
    ]
    found = []
    for model, attention, settings, around in kinds[1:] if compiled else kinds:
        run = shape.run(model, compile=compiled, recompute=setup.recompute, batch_size=1, window=time, **settings)
        if setup.dtype is torch.bfloat16:  # all is bfloat16 already, without autocast
            run = dataclasses.replace(run, precision="float32")
        row = new_row(
            "training", size=setup.size, model=model, attention=attention, compiled=compiled, recompute=setup.recompute,
            time=time, vocab_size=config.vocab_size, parameters_in=str(setup.dtype).removeprefix("torch."), **settings,
        )  # fmt: skip

        def build(run=run, around=around):
            work = training_work(run, device, dtype=setup.dtype, around=around)
            held = 4 * setup.dtype.itemsize * work.facts["parameters"]  # parameters, gradients and two moments
            return work._replace(facts=work.facts | {"optimizer_bytes": held})

        found.append(Candidate(row, build))
    return found


@contextmanager
def unfused():
    """Within, attention computes its scores one operation after another, in the dtype of its inputs, and keeps them."""
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # without it scores would be float32, twice as large
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def flash():
    """Within, attention is flash attention or fails."""
    return sdpa_kernel(SDPBackend.FLASH_ATTENTION)

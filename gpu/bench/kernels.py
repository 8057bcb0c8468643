"""What one retention costs: fused kernels beside flash-linear-attention, flash attention and the reference, and a step.

How each is called: `gpu.bench.kernel_calls`. The least time possible: `gpu.bench.kernel_floor`. Errors of the fused kernels
against float64: `gpu.bench.accuracy`. Their goals: `gpu.bench.targets`.
"""

import functools

import torch

from ..kernels.registry import RETENTIONS, has_fused
from . import accuracy, targets
from .compile_ahead import compile_ahead, jobs
from .figures import kernels_figure
from .kernel_calls import (
    ATTENTION,
    HEAD_DIM,
    KERNELS,
    STEPS,
    attention_heads,
    inputs,
    kernel_work,
    kernels_here,
    step_work,
)
from .kernel_floor import BOTH, FORWARD, SHAPES, STEP, Shape, least_bytes, least_flops, roofline, step_bytes
from .rows import label, new_row
from .section import Section, format_share, format_spread
from .timing import Candidate

__all__ = [
    "ATTENTION", "BOTH", "FORWARD", "KERNELS", "SECTION", "SHAPES", "STEP", "inputs", "least_bytes", "least_flops",
]  # fmt: skip

OURS, REFERENCE = (RETENTIONS[name].kernel_label for name in ("triton", "chunkwise"))
# Lengths that are measured as CUDA graphs too.
GRAPHED = {"large": (2048,), "small": (2048, 8192, 65536), "square": (4096,)}
# shape, tokens altogether, lengths of a sequence
PLAN = (
    ("large", 16384, (1024, 2048, 4096, 8192, 16384)),
    ("large", 65536, (65536,)),
    ("small", 65536, (2048, 8192, 65536)),
    ("square", 16384, (4096, 16384)),
)
STEPPED, BATCHES = "large", (1, 8, 64)  # the shape of the decode step, and its batches


class Kernels(Section):
    """Retentions alone; no rows if the fused kernels do not run on the device."""

    name = "kernels"
    as_called = True
    what = (
        "one retention, forwards and with gradients, and decode steps: median seconds over the rounds, and the floor "
        "of the operations and bytes that it cannot do without; relative RMS errors against float64"
    )
    lists = "accuracy", "targets"
    identity = (
        ("shape", lambda row: row["shape"]),
        ("", lambda row: describe(row)),
        ("", label),
        ("tokens", lambda row: f"{row['tokens']:,}"),
    )
    measured = (  # for steps, the time of one
        ("µs", lambda row: format_microseconds(row["seconds"]["median"], row)),
        ("spread", format_spread),
        ("CPU, µs", lambda row: format_microseconds((row.get("host_seconds") or {}).get("median"), row)),
        ("floor, µs", lambda row: format_microseconds(row["floor_seconds"], row)),
        ("of floor", lambda row: format_share(row["share_of_roofline"])),
    )

    figure = staticmethod(kernels_figure)

    def candidates(self, config, compiled, device):
        """One group a shape, length and direction, and one a batch of steps; none compiled."""
        if has_fused(device) and not compiled:
            for candidates in kernel_groups(config.kernel_tokens, device, config.shapes):
                yield candidates, config.run("retnet")

    def describe(self, row):
        """The shape, and what `describe` says."""
        return f"{row['shape']}, {describe(row)}"

    def derived(self, row, peaks):
        """Its floor, and for steps their rate."""
        return roofline(row, peaks)

    def prepare(self, config, device, deadline, progress):
        """Compile the Triton kernels."""
        if has_fused(device) and not deadline.passed():
            progress("kernels: compiling ahead")
            for failure in compile_ahead(jobs(config.shapes, device)):
                progress(f"kernels: not compiled ahead: {failure}")

    def finish(self, result, config, device, *, deadline, keep, progress):
        """Measure errors."""
        if not has_fused(device):
            progress("kernels: nothing is measured, because the fused ones do not run here")
            return
        progress("kernels: errors against float64")
        accuracy.measure(config.shapes, config.kernel_tokens, device, result["accuracy"], deadline=deadline, keep=keep)

    def summary(self, result):
        """The targets, with what was measured."""
        return {"targets": targets.targets(result["rows"], result["accuracy"])}

    def tables(self, result):
        """Times, errors and targets."""
        return [
            *super().tables(result),
            ("errors against float64", accuracy.table(result["accuracy"])),
            ("targets", targets.table(result["targets"] if result["rows"] else [])),
        ]


SECTION = Kernels()


def kernel_groups(most_tokens, device, shapes=tuple(SHAPES)):
    """Lists of `Candidate`s that are timed in turn, of at most so many tokens."""
    for shape, tokens, times in PLAN:
        for time in times:
            if shape in shapes and time <= min(tokens, most_tokens):
                for what in (FORWARD, BOTH):
                    yield kernel_candidates(shape, what, time, min(tokens, most_tokens), device)
    for batch in BATCHES if STEPPED in shapes else ():
        yield step_candidates(STEPPED, batch, device)


def kernel_candidates(shape, what, time, tokens, device):
    """The `Candidate`s at a name of `SHAPES` and a length."""
    batch, found = tokens // time, []
    on_gpu = torch.device(device).type == "cuda"
    for name in kernels_here(time, device):
        kernel, sizes = KERNELS[name], SHAPES[shape]
        is_attention = "attention" in kernel.identity
        if is_attention:
            sizes = Shape(attention_heads(sizes), HEAD_DIM, HEAD_DIM)
        case = what, batch, sizes.heads, time, sizes.key_dim, sizes.value_dim
        for graph in (False, True) if on_gpu and kernel.graphs and time in GRAPHED[shape] else (False,):
            row = kernel_row(
                kernel.identity, what, shape, sizes, batch, time, cuda_graph=graph,
                flops=least_flops(*case, attention=is_attention), moved_bytes=least_bytes(*case),
            )  # fmt: skip
            arguments = name, what, SHAPES[shape], time, batch * time, device
            found.append(Candidate(row, functools.partial(kernel_work, *arguments, cuda_graph=graph)))
    return found


def step_candidates(shape, batch, device):
    """The `Candidate`s for steps of a batch. A state smaller than the L2 cache may move faster than a copy."""
    sizes, found = SHAPES[shape], []
    for name, retention in RETENTIONS.items():
        if retention.step and retention.kernel_label and retention.available(device):
            for replay in (None, STEPS) if retention.replay_step else (None,):
                for graph in (True, False) if torch.device(device).type == "cuda" else (False,):
                    row = kernel_row(
                        {"retention": name, "replay": replay}, STEP, shape, sizes, batch, 1, cuda_graph=graph,
                        steps=STEPS, flops=0, moved_bytes=STEPS * step_bytes(batch, *sizes, replay),
                    )  # fmt: skip
                    work = functools.partial(step_work, name, sizes, batch, graph, device, replay=replay)
                    found.append(Candidate(row, work))
    return found


def kernel_row(identity, what, shape, sizes, batch, time, **more):
    """The row of a kernel at a name of `SHAPES`; sizes: its own heads and widths."""
    return new_row(
        "kernels", **identity, what=what, shape=shape, **sizes._asdict(), batch=batch, time=time, tokens=batch * time,
        **more,
    )  # fmt: skip


def describe(row):
    """The direction, the length or batch of a row, and "CUDA graph" if it is one.

    >>> describe(kernel_row({"retention": "triton"}, STEP, "large", SHAPES["large"], 8, 1, cuda_graph=True))
    'step, batch 8, CUDA graph'
    >>> describe(kernel_row({"retention": "triton"}, FORWARD, "large", SHAPES["large"], 8, 2048))
    'forward, T = 2,048'
    """
    text = f"step, batch {row['batch']}" if row["what"] == STEP else f"{row['what']}, T = {row['time']:,}"
    return text + (", CUDA graph" if row["cuda_graph"] else "")


def format_microseconds(seconds, row):
    """Microseconds of a call, or of one of its steps; nothing if they are not known."""
    return "" if seconds is None else f"{1e6 * seconds / row.get('steps', 1):,.1f}"

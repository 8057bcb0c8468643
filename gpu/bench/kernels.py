"""What one retention costs: fused kernels beside flash-linear-attention, flash attention and the reference, and a step.

A floor says what no kernel of this machine can pass whose bytes come from memory: the larger of the operations that must
be made over the rate of a large matrix product, and of the bytes that must move over the bandwidth of a copy, both measured
in the same run. Only bytes that stay in the L2 cache from one call to the next, as the small state of a step, move faster.

Operations, H heads, T tokens, a multiply-add counted as two: chunks of C tokens need H T ((C + 1) (K + V) + 4 K V), each
score on or below the diagonal once; the parallel form needs H T (T + 1) (K + V), and so does attention with K = V. The
least over C counts, at C = 1 unless T is short: matrix units want more rows than that, and chunks of 64 need 9 % more at
K = 256, V = 512. Each product forwards has two backwards, if nothing is computed again: three times as many altogether.
Bytes: q, k and v are read and out is written; backwards q, k, v and the gradient of out are read, three gradients are
written. States count in neither, though the fused kernels return the last one.

All is bfloat16 and as a model has it, (B, T, H, width) in memory. That costs none of the candidates a copy: our kernels
and attention read the transposed view, flash-linear-attention has these axes in this order.

A call launched from Python takes at least as long as Python takes to launch it. Where that may be longer than the kernels
themselves, a second row has the same call as a CUDA graph, gradients included. Gradients are computed in the thread that
asks for them: to wake torch's own would cost a model once, and each call here.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from refimpl import head_decays
from refimpl.bench.forms import useful_flops

from ..kernels.registry import FLA, RETENTIONS, fused_step, has_fla, has_fused
from .ceilings import floor_seconds
from .decoding import Recorded, has_flash
from .timing import MEASURED, Candidate, Work

FORWARD, BOTH, STEP = "forward", "forward + backward", "step"
OURS, REFERENCE = "fused kernels", "torch reference"
ATTENTION = {"flash attention": SDPBackend.FLASH_ATTENTION, "cuDNN attention": SDPBackend.CUDNN_ATTENTION}
HEAD_DIM = 128  # of attention, which has as many channels as retention has keys: H K
LONGEST_REFERENCE = 2048  # it is slow, and its gradients keep an array for nearly every line
STEPS = 20  # a call
GRAPHED = {"large": (2048,), "small": (2048, 8192, 65536)}  # lengths that are measured as CUDA graphs too


class Shape(NamedTuple):
    """Heads and their widths."""

    heads: int
    key_dim: int
    value_dim: int

    def __str__(self):
        return f"H {self.heads}, K {self.key_dim}, V {self.value_dim}"


SHAPES = {"large": Shape(16, 256, 512), "small": Shape(8, 64, 128)}  # large: the paper's heads at d = 4096
# shape, tokens altogether, lengths of a sequence
PLAN = (
    ("large", 16384, (2048, 4096, 8192, 16384)),
    ("large", 65536, (65536,)),
    ("small", 65536, (2048, 8192, 65536)),
)
BATCHES = (1, 8, 64)  # of the decode step, at the large shape


# ---------------------------------------------------------------- what must be done


def least_flops(what, batch, heads, time, key_dim, value_dim, *, attention=False):
    """Operations of `FORWARD` or `BOTH` that must be made.

    >>> least_flops("forward", 1, 1, 1000, 2, 3), least_flops("forward", 1, 1, 4, 2, 3)  # C = 1; all at once
    (34000, 100)
    """
    shape = heads, time, key_dim, value_dim
    least = useful_flops("parallel", *shape)
    if not attention:
        least = min(least, useful_flops("chunkwise", *shape, 1))
    return batch * least * (3 if what == BOTH else 1)


def least_bytes(what, batch, heads, time, key_dim, value_dim):
    """Bytes of `FORWARD` or `BOTH` that must move, in bfloat16.

    >>> least_bytes("forward", 1, 1, 10, 2, 3), least_bytes("forward + backward", 1, 1, 10, 2, 3)
    (200, 540)
    """
    numbers = (6 * key_dim + 5 * value_dim) if what == BOTH else 2 * (key_dim + value_dim)
    return 2 * batch * heads * time * numbers


def step_bytes(batch, heads, key_dim, value_dim):
    """Bytes of one step: the float32 state read and written; q, k, v and out in bfloat16.

    >>> step_bytes(1, 1, 2, 3)
    68
    """
    return batch * heads * (2 * 4 * key_dim * value_dim + 2 * 2 * (key_dim + value_dim))


def roofline(row, peaks):
    """What follows from the seconds of a row and the ceilings: its floor, and for steps their rate."""
    seconds = row["seconds"]["median"]
    floor, bandwidth = floor_seconds(row["flops"], row["moved_bytes"], peaks), peaks["copy"].get("bytes_per_second")
    found = {"floor_seconds": floor, "share_of_roofline": floor and floor / seconds}
    if row["what"] == STEP:
        moved = row["moved_bytes"] / seconds
        found |= {"step_seconds": seconds / STEPS, "steps_per_second": STEPS / seconds}
        found |= {"bytes_per_second": moved, "share_of_copy_bandwidth": bandwidth and moved / bandwidth}
    return found


# ---------------------------------------------------------------- retentions


def inputs(shape, time, tokens, device="cuda"):
    """q, k, v and a gradient of out as a model has them, (B, T, H, width) in memory, bfloat16, seeded; and gamma."""
    heads, key_dim, value_dim = shape
    draw = torch.Generator(device).manual_seed(0)
    rows = lambda width: torch.randn(  # noqa: E731
        (tokens // time, time, heads, width), dtype=torch.bfloat16, device=device, generator=draw
    ).transpose(1, 2)
    q, k = rows(key_dim), rows(key_dim)
    return q * key_dim**-0.5, k, rows(value_dim), rows(value_dim), head_decays(heads, xp=torch, device=device)


def retention(function, *arguments):
    """(q, k, v -> out, [q, k, v], the gradient of out) of a retention under the contract."""
    *leaves, grad, gamma = inputs(*arguments)
    return lambda q, k, v: function(q, k, v, gamma)[0], leaves, grad


def fla_retention(*arguments):
    """The same of flash-linear-attention, which has gammas of its own, 1 - 2^(-5-h), and axes (B, T, H, width)."""
    from fla.ops.retention import chunk_retention

    leaves = [x.transpose(1, 2) for x in inputs(*arguments)[:4]]
    return lambda q, k, v: chunk_retention(q, k, v, scale=1.0)[0], leaves[:3], leaves[3]


def fla_without_copies(*arguments):
    """`fla_retention` for a CUDA graph: its decays are made once, where `chunk_retention` copies them from the host."""
    from fla.ops.simple_gla import chunk_simple_gla

    _, leaves, grad = fla_retention(*arguments)
    heads = torch.arange(grad.shape[2], dtype=torch.float32, device=grad.device)
    decays = torch.log1p(-torch.exp2(-5 - heads))
    return lambda q, k, v: chunk_simple_gla(q, k, v, g_gamma=decays, scale=1.0)[0], leaves, grad


def attention(backend, shape, time, tokens, device):
    """The same of causal attention over as many channels, H K, in heads of `HEAD_DIM`."""
    sizes = 4, tokens // time, time, attention_heads(shape), HEAD_DIM
    *leaves, grad = torch.randn(sizes, dtype=torch.bfloat16, device=device).transpose(2, 3)

    def call(q, k, v):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return call, leaves, grad


def attention_heads(shape):
    """Heads of attention over H K channels.

    >>> attention_heads(SHAPES["large"]), attention_heads(SHAPES["small"])
    (32, 4)
    """
    return shape.heads * shape.key_dim // HEAD_DIM


# Each takes a shape, T, tokens and a device; returns a function of q, k and v, these, and the gradient of its result.
KERNELS = {
    OURS: lambda *arguments: retention(RETENTIONS["triton"](None), *arguments),
    FLA: fla_retention,
    **{name: functools.partial(attention, backend) for name, backend in ATTENTION.items()},
    REFERENCE: lambda *arguments: retention(RETENTIONS["chunkwise"](256), *arguments),
}


def kernels_here(time, device):
    """Names of `KERNELS` that run on a device and are worth their time at a length."""
    found = [OURS] if has_fused(device) else []
    found += [FLA] if has_fla(device) else []
    found += ATTENTION if has_flash(device) else []
    return found + ([REFERENCE] if time <= LONGEST_REFERENCE else [])


def work_of(call, tokens, cuda_graph, device):
    """The `Work` of a call of so many tokens, launched from Python or as a CUDA graph, which may not copy from the host."""
    if cuda_graph:
        recorded = Recorded(call, device)
        return Work(lambda: recorded.graph.replay(), tokens, {})  # it holds the call, whose inputs the graph reads
    return Work(call, tokens, {})


def kernel_work(name, what, *arguments, cuda_graph=False):
    """The `Work` of a name of `KERNELS`, `FORWARD` or `BOTH`; its call returns the output, or the three gradients."""
    make = fla_without_copies if cuda_graph and name == FLA else KERNELS[name]
    function, leaves, grad = make(*arguments)
    leaves = [x.detach().requires_grad_(what == BOTH) for x in leaves]

    def call():
        out = function(*leaves)
        if what == FORWARD:
            return (out,)
        with torch.autograd.set_multithreading_enabled(False):
            return torch.autograd.grad(out, leaves, grad)

    return work_of(call, grad.shape[0] * arguments[1], cuda_graph, arguments[-1])


def kernel_candidates(name, what, time, tokens, device):
    """The `Candidate`s at a name of `SHAPES` and a length."""
    batch, found = tokens // time, []
    on_gpu = torch.device(device).type == "cuda"
    for kernel in kernels_here(time, device):
        is_attention, shape = kernel in ATTENTION, SHAPES[name]
        sizes = (attention_heads(shape), HEAD_DIM, HEAD_DIM) if is_attention else shape
        for graph in (False, True) if on_gpu and kernel != REFERENCE and time in GRAPHED[name] else (False,):
            row = row_of(kernel, what, name, sizes, batch, time, cuda_graph=graph) | {
                "flops": least_flops(what, batch, sizes[0], time, *sizes[1:], attention=is_attention),
                "moved_bytes": least_bytes(what, batch, sizes[0], time, *sizes[1:]),
            }
            arguments = kernel, what, shape, time, batch * time, device
            found.append(Candidate(row, functools.partial(kernel_work, *arguments, cuda_graph=graph)))
    return found


def row_of(kernel, what, name, sizes, batch, time, *, cuda_graph=False):
    """The fields that say what a row is of."""
    heads, key_dim, value_dim = sizes
    row = {"section": "kernels", "name": kernel, "compiled": False, "what": what, "shape": name, "heads": heads}
    row |= {"key_dim": key_dim, "value_dim": value_dim, "batch": batch, "time": time, "tokens": batch * time}
    return row | {"cuda_graph": cuda_graph}


# ---------------------------------------------------------------- the decode step


@torch.no_grad()
def step_work(kernel, shape, batch, cuda_graph, device):
    """`STEPS` decode steps of a batch, one after another, launched one by one or as a CUDA graph."""
    heads, key_dim, value_dim = shape
    draw = functools.partial(torch.randn, device=device, dtype=torch.bfloat16)
    q, k, v = (draw(batch, heads, 1, width) for width in (key_dim, key_dim, value_dim))
    gamma, state = head_decays(heads, xp=torch, device=device), draw(batch, heads, key_dim, value_dim).float()
    if kernel == OURS:

        @torch.no_grad()
        def steps():
            for _ in range(STEPS):
                fused_step(q, k, v, gamma, state)

    else:
        from fla.ops.retention import fused_recurrent_retention

        rows = [x.transpose(1, 2).contiguous() for x in (q, k, v)]

        @torch.no_grad()
        def steps():
            after = state
            for _ in range(STEPS):
                _, after = fused_recurrent_retention(*rows, scale=1.0, initial_state=after, output_final_state=True)

    return work_of(steps, STEPS * batch, cuda_graph, device)


def step_candidates(name, batch, device):
    """The `Candidate`s for steps of a batch. A state of less than the L2 cache may move faster than any copy."""
    shape, found = SHAPES[name], []
    for kernel in kernels_here(1, device):
        if kernel in (OURS, FLA):
            for graph in (True, False) if torch.device(device).type == "cuda" else (False,):
                row = row_of(kernel, STEP, name, shape, batch, 1, cuda_graph=graph)
                row |= {"steps": STEPS, "flops": 0, "moved_bytes": STEPS * step_bytes(batch, *shape)}
                found.append(Candidate(row, functools.partial(step_work, kernel, shape, batch, graph, device)))
    return found


# ---------------------------------------------------------------- all of them, and in words


def candidates(most_tokens, device):
    """Lists of `Candidate`s that take turns, of at most so many tokens; none where the fused kernels do not run."""
    if not has_fused(device):
        return
    for name, tokens, times in PLAN:
        for time in times:
            if time <= min(tokens, most_tokens):
                for what in (FORWARD, BOTH):
                    yield kernel_candidates(name, what, time, min(tokens, most_tokens), device)
    for batch in BATCHES:
        yield step_candidates("large", batch, device)


def in_words(row):
    """What a row is of.

    >>> in_words(row_of(OURS, STEP, "large", SHAPES["large"], 8, 1, cuda_graph=True))
    'step, batch 8, CUDA graph'
    >>> in_words(row_of(OURS, FORWARD, "large", SHAPES["large"], 8, 2048))
    'forward, T = 2,048'
    """
    words = f"step, batch {row['batch']}" if row["what"] == STEP else f"{row['what']}, T = {row['time']:,}"
    return words + (", CUDA graph" if row["cuda_graph"] else "")


def table(rows):
    """Rows as (headings, texts); of steps, the time is that of one."""
    headings = ("shape", "", "", "tokens", "µs", "spread", "floor, µs", "of floor")
    texts = []
    for row in rows:
        line = [row["shape"], in_words(row), row["name"], f"{row['tokens']:,}"]
        if row["status"] != MEASURED:
            texts.append([*line, f"{row['status']}: {row['remark']}", *[""] * (len(headings) - len(line) - 1)])
            continue
        seconds, calls = row["seconds"], row.get("steps", 1)
        spread = max(abs(seconds[which] / seconds["median"] - 1) for which in ("min", "max"))
        floor, share = row["floor_seconds"], row["share_of_roofline"]
        line += [f"{1e6 * seconds['median'] / calls:,.1f}", f"± {spread:.0%}"]
        line += ["", ""] if share is None else [f"{1e6 * floor / calls:,.1f}", f"{share:.0%}"]
        texts.append(line)
    return headings, texts

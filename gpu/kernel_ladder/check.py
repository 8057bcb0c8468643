"""python -m gpu.kernel_ladder.check: the tuned kernels on a GPU, first whether they are right, then how fast they are.

Right: relative RMS errors of outputs, states and gradients against float64, for the fastest and the slowest head each on
its own, T from 1 to 65,536, in memory poisoned with NaN, twice, for the same bits. Fast: forwards, and forwards and
backwards, beside flash-linear-attention and flash attention, taking turns; and one decode step in a CUDA graph.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer

from gpu import triton_retention as ours
from gpu.kernel_ladder.timing import milliseconds
from gpu.kernel_ladder.tune import SHAPES, inputs
from refimpl import head_decays, retention_chunkwise, retention_step
from refimpl.checks import values_trusted

HALF, FULL = ("bfloat16", "float16"), ("float32",)
# (K, V, times, dtypes); the last are long, and their reference takes the most memory.
CASES = [
    (64, 128, (1, 63, 64, 65, 300, 4096), HALF + FULL),
    (256, 512, (1, 1000), HALF + FULL),
    (48, 80, (300,), HALF + FULL),
    (16, 32, (300,), HALF + FULL),
    (64, 128, (65536,), ("bfloat16", "float32")),
    (256, 512, (4096, 65536), ("bfloat16",)),
]
TIMED = [("large", 16384, (2048, 4096, 16384)), ("large", 65536, (65536,)), ("small", 65536, (2048, 16384, 65536))]


def errors(key_dim, value_dim, time, dtype):
    """({what: worst error of the two heads}, whether a second call gave the same bits)."""
    draw = torch.Generator("cuda").manual_seed(time)
    rows = lambda width: torch.randn((1, time, 2, width), device="cuda", generator=draw).to(dtype).transpose(1, 2)  # noqa: E731
    state, grad_state = torch.randn((2, 1, 2, key_dim, value_dim), device="cuda", generator=draw)
    given = [rows(key_dim), rows(key_dim), rows(value_dim), state]
    gamma = torch.tensor([1 - 2.0**-5, 1 - 2.0**-20], dtype=torch.float64, device="cuda")
    grads = rows(value_dim), grad_state

    def run(retention, dtype=None):
        leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in given]
        results = retention(*leaves[:3], gamma, leaves[3])
        found = torch.autograd.grad(results, leaves, [g.to(r.dtype) for g, r in zip(grads, results, strict=True)])
        return [x.detach() for x in (*results, *found)]

    torch.use_deterministic_algorithms(True, warn_only=True)  # which fills new memory with NaN
    first, second = run(ours.retention_chunkwise_triton), run(ours.retention_chunkwise_triton)
    torch.use_deterministic_algorithms(False)
    want = run(lambda *xs: retention_chunkwise(*xs, chunk_size=256), torch.float64)
    worst = {}
    for name, x, y in zip(("out", "state", "dq", "dk", "dv", "dstate"), first, want, strict=True):
        worst[name] = max(((x[:, h].double() - y[:, h]).norm() / y[:, h].norm()).item() for h in (0, 1))
    return worst, all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def allowed(name, dtype):
    """The bound of an error; NaN passes none."""
    return 1e-5 if dtype == "float32" else 5e-3 if name == "out" else 1e-2


def calls(name, function, leaves, grad):
    """Forwards without a graph, and forwards and backwards, as calls to be timed."""

    def forward():
        with torch.no_grad():
            function(*leaves)

    def both():
        torch.autograd.grad(function(*leaves), leaves, grad)

    forward()  # an error here leaves the others to be timed
    return {f"{name} forward": forward, f"{name} forward + backward": both}


def times(shape, tokens, time, rounds):
    """{name: median and spread in ms}, ours first."""
    q, k, v, grad, gamma = inputs(shape, time, tokens)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    found = calls("ours", lambda q, k, v: ours.retention_chunkwise_triton(q, k, v, gamma)[0], leaves, grad)
    try:
        from fla.ops.retention import chunk_retention

        rows = [x.detach().transpose(1, 2).contiguous().requires_grad_() for x in (q, k, v)]
        found |= calls("fla", lambda *xs: chunk_retention(*xs)[0], rows, grad.transpose(1, 2).contiguous())
    except Exception as error:
        print(f"without flash-linear-attention: {type(error).__name__}: {error}"[:150])
    if shape == "large" and time < 65536:
        heads = SHAPES[shape][0] * SHAPES[shape][2] // 128
        rows = torch.randn((4, tokens // time, heads, time, 128), dtype=q.dtype, device="cuda")
        leaves = [x.clone().requires_grad_() for x in rows[:3]]
        found |= calls("attention", lambda *xs: F.scaled_dot_product_attention(*xs, is_causal=True), leaves, rows[3])
    return milliseconds(found, rounds)


def step(batch, steps=20):
    """One decode step of the large shape in a CUDA graph: error, microseconds, bytes a second."""
    key_dim, value_dim, heads, _ = SHAPES["large"]
    q, k = torch.randn((2, batch, heads, 1, key_dim), dtype=torch.bfloat16, device="cuda")
    v = torch.randn((batch, heads, 1, value_dim), dtype=torch.bfloat16, device="cuda")
    gamma, state = (
        head_decays(heads, xp=torch, device="cuda"),
        torch.randn((batch, heads, key_dim, value_dim), device="cuda"),
    )
    want = retention_step(q.double(), k.double(), v.double(), gamma, state.double())
    got = ours.retention_step_triton(q, k, v, gamma, state)
    error = max(((x.double() - y).norm() / y.norm()).item() for x, y in zip(got, want, strict=True))
    ours.retention_step_triton(q, k, v, gamma, state, out_state=state)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(steps):
            ours.retention_step_triton(q, k, v, gamma, state, out_state=state)
    ms = milliseconds({"": graph.replay})[""]["median"] / steps
    return {"batch": batch, "error": error, "us": 1e3 * ms, "bytes_per_s": 2 * state.nbytes / ms * 1e3}


def main(
    out: Annotated[Path | None, typer.Option(help="write the results here, as JSON")] = None,
    rounds: Annotated[int, typer.Option(help="how often each is timed")] = 10,
):
    """Check, then time. Exits with 1 if an error is larger than allowed or bits differ."""
    if not torch.cuda.is_available():
        raise typer.BadParameter("these checks need a CUDA GPU, and there is none here")
    result = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "errors": [],
        "times": [],
        "steps": [],
    }
    bad = 0
    for key_dim, value_dim, lengths, dtypes in CASES:
        for dtype in dtypes:
            for time in lengths:
                worst, same = errors(key_dim, value_dim, time, getattr(torch, dtype))
                right = same and all(error <= allowed(name, dtype) for name, error in worst.items())
                bad += not right
                row = {"key_dim": key_dim, "value_dim": value_dim, "time": time, "dtype": dtype, "same_bits": same}
                result["errors"].append(row | worst)
                numbers = "  ".join(f"{name} {error:.1e}" for name, error in worst.items())
                print(
                    f"{'ok ' if right else 'BAD'} {dtype:8s} K {key_dim} V {value_dim} T {time:5d}  {numbers}",
                    flush=True,
                )
    with values_trusted():
        for shape, tokens, lengths in TIMED:
            for time in lengths:
                row = times(shape, tokens, time, rounds)
                result["times"].append({"shape": shape, "tokens": tokens, "time": time, "ms": row})
                numbers = "  ".join(f"{name} {each['median']:.3f}" for name, each in row.items())
                print(f"{shape} {tokens} tokens, T {time}, ms: {numbers}", flush=True)
        source = torch.randn(2**29, device="cuda")
        target = torch.empty_like(source)
        copy = 2e3 * source.nbytes / milliseconds({"": lambda: target.copy_(source)})[""]["median"]
        result["copy_bytes_per_s"] = copy
        for batch in (1, 64):
            row = step(batch)
            result["steps"].append(row)
            share = row["bytes_per_s"] / copy
            print(
                f"step, batch {batch}: {row['us']:.1f} us, {share:.0%} of a copy, error {row['error']:.1e}", flush=True
            )
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")
    if bad:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

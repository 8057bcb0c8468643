"""python -m gpu.kernel_ladder: check every version against float64, time them in turn, and place them on the roofline.

The floor is what no version can pass on this machine: the larger of the time to move every input and output once, at
the rate of a copy measured in the same run, and the time of the products that chunks of 64 tokens need, at the rate of a
matrix product measured in the same run.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer

from gpu.kernel_ladder.timing import milliseconds
from gpu.kernel_ladder.tune import SHAPES, inputs
from refimpl import retention_recurrent
from refimpl.checks import values_trusted

VERSIONS = ("v0_torch", "v1_naive", "v2_chunks", "v3_fused", "v4_tuned")
ALLOWED = 5e-3  # relative RMS of bfloat16 outputs


def ceilings():
    """(bytes a second of a copy, FLOP a second of a bfloat16 product of random matrices) of this GPU, now."""
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    a, b = torch.randn(2, 8192, 8192, dtype=torch.bfloat16, device="cuda")
    times = milliseconds({"copy": lambda: target.copy_(source), "product": lambda: a @ b}, rounds=10)
    return 2 * source.nbytes / times["copy"]["median"] * 1e3, 2 * 8192**3 / times["product"]["median"] * 1e3


def floor(key_dim, value_dim, tokens_and_heads, copy, product):
    """The least ms of a forward pass in bfloat16, whose scores within chunks of 64 tokens are half masked."""
    moved = tokens_and_heads * 2 * (2 * key_dim + 2 * value_dim)
    made = tokens_and_heads * (4 * key_dim * value_dim + 64 * (key_dim + value_dim))
    return 1e3 * max(moved / copy, made / product)


def errors(retention, shape):
    """Relative RMS error of out, for the fastest and the slowest head, against float64; memory poisoned with NaN."""
    q, k, v, _, _ = inputs(shape, 512, 512)
    q, k, v = q[:, :2], k[:, :2], v[:, :2]
    gamma = torch.tensor([1 - 2.0**-5, 1 - 2.0**-20], dtype=torch.float64, device="cuda")
    want, _ = retention_recurrent(q.double(), k.double(), v.double(), gamma)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    got, _ = retention(q, k, v, gamma)
    torch.use_deterministic_algorithms(False)
    return [((got[:, h].double() - want[:, h]).norm() / want[:, h].norm()).item() for h in (0, 1)]


def peers(shape, q, k, v):
    """Calls of others' kernels for the same number of channels, as far as they can be imported."""
    calls = {}
    try:
        from fla.ops.retention import chunk_retention

        rows = [x.transpose(1, 2).contiguous() for x in (q, k, v)]
        chunk_retention(*rows)
        calls["flash-linear-attention chunk_retention"] = lambda: chunk_retention(*rows)
    except Exception as error:
        print(f"without flash-linear-attention: {type(error).__name__}: {error}"[:150])
    batch, _, time, _ = q.shape
    width = SHAPES[shape][2] * SHAPES[shape][0]
    qkv = torch.randn((3, batch, width // 128, time, 128), dtype=q.dtype, device=q.device)
    calls["flash attention"] = lambda: F.scaled_dot_product_attention(*qkv, is_causal=True)
    return calls


def main(
    out: Annotated[Path | None, typer.Option(help="write the results here, as JSON")] = None,
    shape: Annotated[str, typer.Option(help=f"one of {', '.join(SHAPES)}")] = "large",
    time: Annotated[int, typer.Option(help="tokens a sequence")] = 4096,
    tokens: Annotated[int, typer.Option(help="tokens altogether")] = 16384,
    rounds: Annotated[int, typer.Option(help="how often each is timed")] = 10,
):
    """Climb the ladder, forwards, in bfloat16."""
    if not torch.cuda.is_available():
        raise typer.BadParameter("the ladder is timed on a CUDA GPU, and there is none here")
    key_dim, value_dim, heads, _ = SHAPES[shape]
    q, k, v, _, gamma = inputs(shape, time, tokens)
    rows, calls = {}, {}
    with torch.no_grad(), values_trusted():
        for name in VERSIONS:
            try:
                version = import_module(f"gpu.kernel_ladder.{name}")
                row = {"predicted_ms": version.PREDICTED_MS, "prediction": version.PREDICTION}
                row["error"] = errors(version.retention, shape)
                if not max(row["error"]) <= ALLOWED:
                    raise ArithmeticError(f"relative RMS errors {row['error']}, allowed {ALLOWED}")
                version.retention(q, k, v, gamma)
                calls[name] = lambda version=version: version.retention(q, k, v, gamma)
            except Exception as error:  # a rung that breaks leaves the others standing
                row["failed"] = f"{type(error).__name__}: {error}"[:300]
            rows[name] = row
        calls |= peers(shape, q, k, v)
        times = milliseconds(calls, rounds)
    copy, product = ceilings()
    least = floor(key_dim, value_dim, tokens * heads, copy, product)
    for name in calls:
        rows.setdefault(name, {}).update(times[name], share_of_roofline=least / times[name]["median"])
    result = {
        "device": torch.cuda.get_device_name(), "torch": torch.__version__, "heads": heads, "key_dim": key_dim,
        "value_dim": value_dim, "time": time, "tokens": tokens, "copy_bytes_per_s": copy, "product_flop_per_s": product,
        "floor_ms": least, "versions": rows,
    }  # fmt: skip
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{'':40s}{'predicted':>10s}{'ms':>9s}{'spread':>8s}{'roofline':>10s}{'error':>9s}")
    for name, row in rows.items():
        if "failed" in row:
            print(f"{name:40s}{row['predicted_ms']:10.2f}  failed: {row['failed'][:60]}")
            continue
        predicted = f"{row['predicted_ms']:10.2f}" if "predicted_ms" in row else " " * 10
        error = f"{max(row['error']):9.1e}" if "error" in row else ""
        share = f"{row['share_of_roofline']:10.0%}" if "attention" not in name or "linear" in name else " " * 10
        print(f"{name:40s}{predicted}{row['median']:9.3f}{row['spread']:8.3f}{share}{error}")
    print(f"floor {least:.3f} ms: copy {copy / 1e12:.2f} TB/s, bfloat16 product {product / 1e12:.0f} TFLOP/s")


if __name__ == "__main__":
    typer.run(main)

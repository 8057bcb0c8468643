"""python -m gpu.kernel_ladder: check every version against float64, time them side by side, and compare with the roofline.

The floor is the least time that any version can take on this machine: that of the least bytes and operations, as
`gpu.bench.kernel_floor` counts them, at the rates of a copy and of a matrix product measured in the same run.
"""

import functools
import json
import shlex
import sys
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Annotated

import torch
import triton
import typer

from gpu.bench.accuracy import GAMMAS, poisoned, worst_head
from gpu.bench.ceilings import ceilings, floor_seconds
from gpu.bench.graph import Recorded
from gpu.bench.kernel_calls import ATTENTION, KERNELS, inputs
from gpu.bench.kernel_floor import FORWARD, SHAPES, least_bytes, least_flops
from gpu.bench.timing import milliseconds
from gpu.kernels.registry import FLA
from refimpl import retention_recurrent
from refimpl.files import write_atomically
from refimpl.libraries import values_trusted

VERSIONS = ("v0_torch", "v1_naive", "v2_chunks", "v3_fused", "v4_tuned", "v5_on_chip")
PREDICTED = "large", 4096, 16384  # the shape, T and tokens that the predictions are for
TRIED = {  # options of v3
    "v3_fused": {}, "64 columns in v3_fused": {"BV": 64}, "64 columns and four warps in v3_fused": {"BV": 64, "warps": 4},
    "reading ahead in v3_fused": {"stages": 2},
}  # fmt: skip
LEAST_MS = 0.05  # of an operator or a kernel that is listed
ALLOWED = 5e-3  # relative RMS of bfloat16 outputs


def error(retention, shape):
    """Relative RMS error of out against float64, the larger of the fastest and the slowest head; new memory holds NaN."""
    q, k, v, _ = (x[:, :2] for x in inputs(SHAPES[shape], 512, 512)[:4])
    gamma = torch.tensor(GAMMAS, dtype=torch.float64, device="cuda")
    with poisoned():
        out, _ = retention(q, k, v, gamma)
    return worst_head(out, retention_recurrent(q.double(), k.double(), v.double(), gamma)[0])


def peers(shape, time, tokens):
    """Calls of other libraries' kernels with the same number of channels, of those that run here."""
    calls = {}
    for name in (FLA, *ATTENTION):
        try:
            function, leaves, _ = KERNELS[name].make(SHAPES[shape], time, tokens, "cuda")
            function(*leaves)
            calls[name] = lambda function=function, leaves=leaves: function(*leaves)
        except Exception as error:
            print(f"without {name}: {type(error).__name__}: {error}"[:150])
    return calls


def variants(q, k, v, gamma):
    """(calls, reports): calls that tell why a version takes its time, by name, and what the compiler says of some.

    v0 without the CPU between its operators; v3 with half the columns, with half the warps too, so that two programs fit a
    multiprocessor, and reading ahead. Of v3's: registers of a thread, and the bytes of each that go to memory.
    """
    v0, v3 = (import_module(f"gpu.kernel_ladder.{name}") for name in ("v0_torch", "v3_fused"))

    def trusted():  # looking at values would make the GPU wait, which a graph must not
        with values_trusted():
            return v0.retention(q, k, v, gamma)

    recorded = Recorded(trusted, q.device)
    calls, reports = {"graph of v0_torch": lambda: recorded.graph.replay()}, {}
    for name, options in TRIED.items():
        *_, kernel = v3.launched(q, k, v, gamma, **options)
        reports[name] = {"registers": kernel.n_regs, "spilled_bytes": 4 * kernel.n_spills}
        if options:
            calls[name] = functools.partial(v3.retention, q, k, v, gamma, **options)
    return calls, reports


def spent(call, calls=5):
    """({operator of torch: ms}, {kernel: ms}) of a call on the GPU, by torch's profiler, the longest first."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    times = {event.key: event.self_device_time_total / 1e3 / calls for event in profile.key_averages()}
    longest = [(name, ms) for name, ms in sorted(times.items(), key=lambda x: -x[1]) if ms >= LEAST_MS]
    operators = {name: ms for name, ms in longest if name.startswith("aten::")}
    return operators, {name: ms for name, ms in longest if name not in operators}


def main(
    out: Annotated[Path | None, typer.Option(help="write the results here, as JSON")] = None,
    shape: Annotated[str, typer.Option(help=f"one of {', '.join(SHAPES)}")] = PREDICTED[0],
    time: Annotated[int, typer.Option(help="tokens a sequence")] = PREDICTED[1],
    tokens: Annotated[int, typer.Option(help="tokens altogether")] = PREDICTED[2],
    rounds: Annotated[int, typer.Option(help="how often each is timed")] = 10,
):
    """Climb the ladder, forwards, in bfloat16."""
    if shape not in SHAPES:
        raise typer.BadParameter(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
    if tokens % time:
        raise typer.BadParameter(f"tokens must be a multiple of time = {time:,}, got {tokens:,}")
    if not torch.cuda.is_available():
        raise typer.BadParameter("the ladder is timed on a CUDA GPU, and there is none here")
    heads, key_dim, value_dim = SHAPES[shape]
    q, k, v, _, gamma = inputs(SHAPES[shape], time, tokens)
    rows, calls, predicted = {}, {}, (shape, time, tokens) == PREDICTED
    with torch.no_grad():
        for name in VERSIONS:
            row = rows[name] = {}
            try:
                version = import_module(f"gpu.kernel_ladder.{name}")
                if predicted:
                    row |= {"predicted_ms": version.PREDICTED_MS, "prediction": version.PREDICTION}
                row["error"] = error(version.retention, shape)
                if not row["error"] <= ALLOWED:
                    raise ArithmeticError(f"relative RMS error {row['error']}, allowed {ALLOWED}")
                version.retention(q, k, v, gamma)
                calls[name] = lambda version=version: version.retention(q, k, v, gamma)
            except Exception as failure:  # one that fails does not affect the others
                row["failed"] = f"{type(failure).__name__}: {failure}"[:300]
        tried, reports = variants(q, k, v, gamma)
        calls |= peers(shape, time, tokens) | tried
        times = milliseconds(calls, rounds)
        operators, kernels = spent(calls["v0_torch"])
    peaks = ceilings(rounds, "cuda")
    if failed := {name: row["remark"] for name, row in peaks.items() if row["remark"]}:
        raise RuntimeError(f"the ceilings were not measured: {failed}")
    copy, product = peaks["copy"]["bytes_per_second"], peaks["matrix_product"]["flops_per_second"]
    case = FORWARD, tokens // time, heads, time, key_dim, value_dim
    least = 1e3 * floor_seconds(least_flops(*case), least_bytes(*case), peaks)
    for name in calls:
        rows.setdefault(name, {}).update(
            reports.get(name, {}), **times[name], share_of_roofline=least / times[name]["median"]
        )
    result = {
        "command": shlex.join(["python", "-m", "gpu.kernel_ladder", *sys.argv[1:]]), "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__, "triton": triton.__version__, "heads": heads, "key_dim": key_dim,
        "value_dim": value_dim, "time": time, "tokens": tokens, "copy_bytes_per_s": copy, "product_flop_per_s": product,
        "floor_ms": least, "versions": rows, "operators_of_v0_ms": operators,
        "kernels_of_v0_ms": kernels,
    }  # fmt: skip
    if out:
        write_atomically(out, json.dumps(result, indent=1) + "\n")
    print(f"{'':40s}{'predicted':>10s}{'ms':>9s}{'spread':>8s}{'roofline':>10s}{'error':>9s}")
    for name, row in rows.items():
        guess = f"{row['predicted_ms']:10.2f}" if "predicted_ms" in row else " " * 10
        if "failed" in row:
            print(f"{name:40s}{guess}  failed: {row['failed'][:60]}")
            continue
        off = f"{row['error']:9.1e}" if "error" in row else ""
        share = f"{row['share_of_roofline']:10.0%}" if name not in ATTENTION else " " * 10
        held = f"  {row['registers']} registers, {row['spilled_bytes']} bytes spilled" if "registers" in row else ""
        print(f"{name:40s}{guess}{row['median']:9.3f}{row['spread']:8.3f}{share}{off}{held}")
    print("v0_torch, ms by operator:", *(f"{name} {ms:.2f}" for name, ms in operators.items()))
    print(f"floor {least:.3f} ms: copy {copy / 1e12:.2f} TB/s, bfloat16 product {product / 1e12:.0f} TFLOP/s")


if __name__ == "__main__":
    typer.run(main)

"""What retention costs on this CPU: every form we have, and the peers at hand, in one process, taking turns.

Speed is floating-point operations a second, and its share of a large float32 matrix product's, measured in the same
rounds. Only useful operations count (scores on and below the diagonal), whatever a form computes besides.
"""

import functools
import importlib
import json
import platform
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .. import retention_chunkwise, retention_parallel, retention_recurrent
from ..backward import retention_chunkwise_backward
from ..checks import check_integer
from ..decay import head_decays
from ..files import write_atomically
from .timing import time_calls

HEADS, KEY_DIM, VALUE_DIM = 8, 64, 128
LONGEST_PARALLEL, LONGEST_RECURRENT = 2048, 2048  # beyond, T^2 scores or T Python steps take too long to repeat
MATRIX = 2048  # of the product that sets the peak


def useful_flops(form, heads, time, key_dim, value_dim, chunk_size=None):
    """Floating-point operations of a forward pass of one sequence, a multiply-add counted as two.

    "parallel": H T (T + 1) (K + V), each score on or below the diagonal written and used once. "recurrent": 5 H T K V:
    decay, write, read. "chunkwise": H T ((C + 1) (K + V) + 4 K V). "backward": 2.5 chunkwise, which has three products
    with scores where the forward pass has two, and two recurrences where that has one.

    >>> useful_flops("recurrent", 8, 1000, 64, 128)
    327680000
    """
    cells, widths = key_dim * value_dim, key_dim + value_dim
    if form == "parallel":
        return heads * time * (time + 1) * widths
    if form == "recurrent":
        return 5 * heads * time * cells
    flops = heads * time * ((chunk_size + 1) * widths + 4 * cells)
    return flops if form == "chunkwise" else 5 * flops // 2


def candidates(time):
    """Everything that can be measured at length T here: {name: (form, chunk size, call)}.

    Peers (torch, torchscale) are loaded by name where they are installed: nothing else in refimpl knows them.
    """
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 1, HEADS, time, KEY_DIM), dtype=np.float32)
    v, grad = rng.standard_normal((2, 1, HEADS, time, VALUE_DIM), dtype=np.float32)
    inputs = q, k, v, head_decays(HEADS)
    found = {}

    def add(name, form, function, *arguments, chunk_size=None):
        options = {} if chunk_size is None else {"chunk_size": chunk_size}
        found[name] = form, chunk_size, functools.partial(function, *arguments, **options)

    if time <= LONGEST_PARALLEL:
        add("NumPy parallel", "parallel", retention_parallel, *inputs)
    if time <= LONGEST_RECURRENT:
        add("NumPy recurrent", "recurrent", retention_recurrent, *inputs)
    for size in (64, 128, 256):
        add(f"NumPy chunkwise C={size}", "chunkwise", retention_chunkwise, *inputs, chunk_size=size)
    add("NumPy backward C=128", "backward", retention_chunkwise_backward, *inputs, grad, chunk_size=128)
    if find_spec("numba"):
        kernels = importlib.import_module("refimpl.numba_kernels")
        add("Numba recurrent", "recurrent", kernels.retention_recurrent_numba, *inputs)
        for size in (64, 128):
            add(f"Numba chunkwise C={size}", "chunkwise", kernels.retention_chunkwise_numba, *inputs, chunk_size=size)
        add("Numba backward C=64", "backward", kernels.retention_chunkwise_backward_numba, *inputs, grad, chunk_size=64)
    if find_spec("torch"):
        torch = importlib.import_module("torch")
        tensors = [torch.from_numpy(x) for x in inputs]
        if time <= LONGEST_PARALLEL:
            add("torch, ours parallel", "parallel", retention_parallel, *tensors)
            attention = torch.nn.functional.scaled_dot_product_attention
            found["torch SDPA"] = "parallel", None, functools.partial(attention, *tensors[:3], is_causal=True)
        for size in (64, 128, 256):
            add(f"torch, ours chunkwise C={size}", "chunkwise", retention_chunkwise, *tensors, chunk_size=size)
        if find_spec("torchscale"):
            found |= torchscale_candidates(torch, tensors, time)
    return found


def torchscale_candidates(torch, tensors, time):
    """The authors' parallel and chunkwise forms on the same rotated q, k and v, with masks made beforehand."""
    layer = importlib.import_module("torchscale.component.multiscale_retention").MultiScaleRetention
    shape = type("Args", (), {"multiway": False, "layernorm_eps": 1e-6})
    layer = layer(shape, HEADS * KEY_DIM, HEADS * VALUE_DIM, HEADS)
    q, k, v, gamma = tensors
    v = v.transpose(1, 2).reshape(1, time, HEADS * VALUE_DIM)
    found = {}

    def mask(length):
        lag = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        powers = torch.where(lag >= 0, gamma[:, None, None] ** lag.clamp(min=0), 0.0)
        return powers.float()

    if time <= LONGEST_PARALLEL:
        full = mask(time)
        full = full / full.sum(dim=-1, keepdim=True).sqrt()
        found["torchscale parallel"] = "parallel", None, functools.partial(layer.parallel_forward, q, k, v, full)
    for size in (64, 128, 256):
        if time % size == 0:  # it refuses other lengths
            block = mask(size)
            scale, last = block.sum(dim=-1, keepdim=True).sqrt(), block[:, -1].sum(dim=-1)[:, None, None]
            steps = torch.arange(1, size + 1)
            tables = (
                block / scale,
                (gamma**size).float()[:, None, None],
                (gamma[:, None] ** steps).float()[:, :, None] / (scale / last),
                (block[:, -1] / block[:, -1].sum(dim=-1, keepdim=True))[:, :, None],
            )
            call = functools.partial(layer.chunk_recurrent_forward, q, k, v, tables)
            found[f"torchscale chunkwise C={size}"] = "chunkwise", size, call
    return found


def measure(times=(512, 2048, 8192), rounds=7, progress=lambda calls: calls):
    """Time every candidate at every length, in turn; returns what the results file holds.

    rounds: as in `time_calls`. The fastest turn counts, of the peak as of the candidates, for other programs only ever
    slow one down. progress: wraps the list of lengths, for a progress bar.
    """
    for each in times:
        check_integer("times", each, minimum=1)
    check_integer("rounds", rounds, minimum=1)
    rows = []
    a, b = np.random.default_rng(1).standard_normal((2, MATRIX, MATRIX), dtype=np.float32)
    for length in progress(times):
        calls = {"peak": ("peak", None, functools.partial(np.matmul, a, b))} | candidates(length)
        seconds = time_calls({name: call for name, (_, _, call) in calls.items()}, rounds)
        peak = 2 * MATRIX**3 / min(seconds["peak"])
        for name, (form, size, _) in calls.items():
            if name == "peak":
                continue
            fastest = min(seconds[name])
            rate = useful_flops(form, HEADS, length, KEY_DIM, VALUE_DIM, size) / fastest
            rows.append(
                {
                    "name": name, "form": form, "time": length, "chunk_size": size, "seconds": fastest,
                    "median_seconds": float(np.median(seconds[name])), "gflops": rate / 1e9,
                    "share_of_peak": rate / peak, "peak_gflops": peak / 1e9,
                }
            )  # fmt: skip
    return {
        "command": "python -m refimpl bench",
        "what": "forward unless named backward; float32; fastest of the rounds",
        "shape": {"batch": 1, "heads": HEADS, "key_dim": KEY_DIM, "value_dim": VALUE_DIM},
        "rounds": rounds,
        "machine": {"processor": platform.machine(), "system": platform.system(), "cores": _cores()},
        "versions": {name: _version(name) for name in ("python", "numpy", "numba", "torch", "torchscale")},
        "rows": rows,
    }


def write(results, out):
    """Write results.json and results.png to the folder `out`, atomically."""
    write_atomically(Path(out) / "results.json", json.dumps(results, indent=1) + "\n")
    write_atomically(Path(out) / "results.png", figure(results))


def figure(results):
    """Share of the matrix-product peak of every candidate, a panel a length, as PNG bytes."""
    import io

    from matplotlib.figure import Figure

    times = sorted({row["time"] for row in results["rows"]})
    names = list(dict.fromkeys(row["name"] for row in results["rows"]))
    canvas = Figure(figsize=(3.2 + 3.0 * len(times), 1.2 + 0.3 * len(names)), layout="constrained")
    panels = canvas.subplots(1, len(times), sharey=True, squeeze=False)[0]
    colours = {"NumPy": "0.55", "Numba": "#0072b2", "torch,": "#e69f00", "torch": "#009e73", "torchscale": "#cc79a7"}
    for panel, length in zip(panels, times, strict=True):
        rows = {row["name"]: row for row in results["rows"] if row["time"] == length}
        for i, name in enumerate(names):
            if name in rows:
                share = rows[name]["share_of_peak"]
                panel.barh(i, share, color=colours[name.split()[0]])
                words = f" {share:.0%}  {rows[name]['seconds'] * 1e3:.3g} ms"
                panel.text(share, i, words, va="center", fontsize=8, clip_on=True)  # a share may lie beyond the panel
        panel.set(title=f"T = {length}", xlabel="share of the sgemm peak", xlim=(0, 1.35), yticks=range(len(names)))
        panel.set_yticklabels(names)
        panel.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    panels[0].invert_yaxis()
    shape = results["shape"]
    canvas.suptitle(
        f"H {shape['heads']}  K {shape['key_dim']}  V {shape['value_dim']}, float32, {results['machine']['cores']} cores",
        fontsize=10,
    )
    png = io.BytesIO()
    canvas.savefig(png, format="png", dpi=120)
    return png.getvalue()


def _cores():
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _version(name):
    if name == "python":
        return platform.python_version()
    if find_spec(name) is None:
        return None
    return importlib.import_module("importlib.metadata").version(name)

"""How far the fused kernels are from float64: relative RMS errors of outputs, states and gradients.

The error is the larger of that of the fastest head and that of the slowest, because in their mean the slow head would hide
the fast one. Unwritten memory reads as NaN, and each case is computed twice to compare the bits.
"""

import math

import torch

from refimpl import retention_chunkwise

from ..kernels.registry import RETENTIONS
from ..numerics import deterministic_algorithms
from .kernel_floor import SHAPES
from .section import table as section_table
from .timing import LEFT_OUT, MEASURED, start_of_peak, what_happened

RESULTS = ("out", "state", "dq", "dk", "dv", "dstate")
OUTPUTS = RESULTS[:2]
TIMES = (1, 63, 64, 65, 1000, 65536)
DTYPES = ("bfloat16", "float32")
GAMMAS = 1 - 2.0**-5, 1 - 2.0**-20


def measure(shapes, most_tokens, device, rows, *, deadline, keep):
    """Fill `rows` with a row, a dict, for each of these names of `SHAPES`, dtype and T; `keep` is called whenever one changed."""
    cases = [(name, dtype, time) for name in shapes for dtype in DTYPES for time in TIMES if time <= most_tokens]
    for name, dtype, time in cases:
        key_dim, value_dim = SHAPES[name][1:]
        row = {"shape": name, "key_dim": key_dim, "value_dim": value_dim, "dtype": dtype, "time": time}
        rows.append(row | {"status": LEFT_OUT, "remark": "not reached"})
    keep()
    for row in rows:
        if deadline.passed():
            break
        start_of_peak(device)  # frees the memory of the last case
        try:
            row.update(errors(row["key_dim"], row["value_dim"], row["time"], getattr(torch, row["dtype"]), device))
            row.update(status=MEASURED, remark="")
        except Exception as error:
            row.update(what_happened(error))
        keep()


def errors(key_dim, value_dim, time, dtype, device):
    """The worse head's error of each of `RESULTS`, by name; same_bits: True if a second call gave the same bits."""
    draw = torch.Generator(device).manual_seed(time)
    normal = lambda *shape: torch.randn(shape, device=device, generator=draw)  # noqa: E731
    rows = lambda width: normal(1, time, len(GAMMAS), width).to(dtype).transpose(1, 2)  # noqa: E731
    given = rows(key_dim), rows(key_dim), rows(value_dim), normal(1, len(GAMMAS), key_dim, value_dim)
    grads = rows(value_dim), normal(1, len(GAMMAS), key_dim, value_dim)
    gamma = torch.tensor(GAMMAS, dtype=torch.float64, device=device)

    def run(retention, convert=lambda x: x):
        leaves = [convert(x.detach()).requires_grad_() for x in given]
        results = retention(*leaves[:3], gamma, leaves[3])
        return [x.detach() for x in (*results, *torch.autograd.grad(results, leaves, [convert(g) for g in grads]))]

    with poisoned():
        first, second = (run(RETENTIONS["triton"](None)) for _ in range(2))
    want = run(lambda *xs: retention_chunkwise(*xs, chunk_size=256), torch.Tensor.double)
    worst = {name: worst_head(x, y) for name, x, y in zip(RESULTS, first, want, strict=True)}
    if any(map(math.isnan, worst.values())):
        raise ArithmeticError(f"errors must be numbers, got {worst}")
    return worst | {"same_bits": all(torch.equal(x, y) for x, y in zip(first, second, strict=True))}


def worst_head(got, want):
    """The largest relative RMS error of a head, ||got - want|| / ||want|| in float64; NaN if any holds one."""
    off, size = (x.square().sum((0, 2, 3)) for x in (got.double() - want, want))
    return (off / size).sqrt().max().item()


def poisoned():
    """Within, torch fills new memory with NaN, which it does only with deterministic algorithms."""
    return deterministic_algorithms(fill=True, warn_only=True)


def table(rows):
    """Rows as (headings, texts)."""
    identity = (
        ("K, V", lambda row: f"{row['key_dim']}, {row['value_dim']}"),
        ("dtype", lambda row: row["dtype"]),
        ("T", lambda row: f"{row['time']:,}"),
    )
    errors = [(name, lambda row, name=name: f"{row[name]:.1e}") for name in RESULTS]
    again = "again", lambda row: "same bits" if row["same_bits"] else "other bits"
    return section_table(identity, (*errors, again), rows)

"""The floor of a retention alone: the least time for the operations and bytes that every implementation needs.

It is the larger of two times: the necessary operations over the rate of a large matrix product, and the necessary bytes
over the bandwidth of a copy, both measured in the same run. Only bytes that stay in the L2 cache from one call to the next,
such as the small state of a step, move faster.

Operations, H heads, T tokens, a multiply-add counted as two: chunks of C tokens need H T ((C + 1) (K + V) + 4 K V), each
score on or below the diagonal once; the parallel form needs H T (T + 1) (K + V), and so does attention with K = V. The
least over C counts, which is at C = 1 unless T is short. Matrix units want more rows than that: chunks of 64 need 9 % more
at K = 256, V = 512. Each product forwards has two backwards, if nothing is computed again: three times as many in total.
Bytes: q, k and v are read and out is written; backwards q, k, v and the gradient of out are read, three gradients are
written. States count in neither, though the fused kernels return the last one.
"""

from typing import NamedTuple

from refimpl.bench.forms import useful_flops
from refimpl.replay import replay_traffic

from .ceilings import floor_seconds

FORWARD, BOTH, STEP = "forward", "forward + backward", "step"


class Shape(NamedTuple):
    """Heads and their widths."""

    heads: int
    key_dim: int
    value_dim: int

    def __str__(self):
        return f"H {self.heads}, K {self.key_dim}, V {self.value_dim}"


SHAPES = {  # large: the paper's heads at d = 4096; square: the heads of most other linear attention
    "large": Shape(16, 256, 512), "small": Shape(8, 64, 128), "square": Shape(64, 128, 128),
}  # fmt: skip


def least_flops(what, batch, heads, time, key_dim, value_dim, *, attention=False):
    """The least operations of `FORWARD` or `BOTH`.

    >>> least_flops("forward", 1, 1, 1000, 2, 3), least_flops("forward", 1, 1, 4, 2, 3)  # C = 1; all at once
    (34000, 100)
    """
    shape = heads, time, key_dim, value_dim
    least = useful_flops("parallel", *shape)
    if not attention:
        least = min(least, useful_flops("chunkwise", *shape, 1))
    return batch * least * (3 if what == BOTH else 1)


def least_bytes(what, batch, heads, time, key_dim, value_dim):
    """The least bytes that `FORWARD` or `BOTH` moves, in bfloat16.

    >>> least_bytes("forward", 1, 1, 10, 2, 3), least_bytes("forward + backward", 1, 1, 10, 2, 3)
    (200, 540)
    """
    numbers = (6 * key_dim + 5 * value_dim) if what == BOTH else 2 * (key_dim + value_dim)
    return 2 * batch * heads * time * numbers


def step_bytes(batch, heads, key_dim, value_dim, replay=None):
    """Bytes of one step: the float32 state read and written; q, k, v and out in bfloat16. On average, for replay of L tokens.

    >>> step_bytes(1, 1, 2, 3), step_bytes(1, 1, 2, 3, replay=10)
    (68, 111.4)
    """
    moved = batch * heads * sum(replay_traffic(key_dim, value_dim, replay, itemsize=2))
    return moved if replay else int(moved)


def roofline(row, peaks):
    """Fields that follow from the seconds of a row and the ceilings: its floor, and for steps their rate."""
    seconds = row["seconds"]["median"]
    floor, bandwidth = floor_seconds(row["flops"], row["moved_bytes"], peaks), peaks["copy"].get("bytes_per_second")
    found = {"floor_seconds": floor, "share_of_roofline": floor and floor / seconds}
    if row["what"] == STEP:
        moved = row["moved_bytes"] / seconds
        found |= {"step_seconds": seconds / row["steps"], "steps_per_second": row["steps"] / seconds}
        found |= {"bytes_per_second": moved, "share_of_copy_bandwidth": bandwidth and moved / bandwidth}
    return found

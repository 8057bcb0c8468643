"""The decode step as a Triton kernel: the state is read once and written once, and little else moves."""

import functools

import torch
import triton
import triton.language as tl

from . import triton_common as common
from .replay import again, again_or_recorded, launch
from .triton_checks import kind_of

TILES = {"BK": 256, "BV": 32, "num_warps": 4}


@triton.jit(do_not_specialize=["heads"])
def _step_kernel(q, k, v, gamma, state, out, new_state, heads, K, V, BK: tl.constexpr, BV: tl.constexpr):
    """BV columns of one head: S = gamma S + k^T v, o = q S. Each number of S is read once and written once."""
    tiles, pid = tl.cdiv(V, BV), tl.program_id(0)
    bh, columns = tl.cast(pid // tiles, tl.int64), pid % tiles * BV + tl.arange(0, BV)
    within = columns < V
    values = tl.load(v + bh * V + columns, mask=within, other=0.0).to(tl.float32)
    less_one = (tl.load(gamma + bh % heads).to(tl.float64) - 1.0).to(tl.float32)
    acc = tl.zeros((BV,), tl.float32)
    for first in range(0, K, BK):
        rows = first + tl.arange(0, BK)
        keys = tl.load(k + bh * K + rows, mask=rows < K, other=0.0).to(tl.float32)
        queries = tl.load(q + bh * K + rows, mask=rows < K, other=0.0).to(tl.float32)
        at = bh * K * V + rows[:, None] * V + columns[None, :]
        inside = (rows < K)[:, None] & within[None, :]
        after = keys[:, None] * values[None, :]
        if state is not None:
            before = tl.load(state + at, mask=inside, other=0.0)
            after += before + before * less_one
        tl.store(new_state + at, after, mask=inside)
        acc += tl.sum(queries[:, None] * after, 0)
    tl.store(out + bh * V + columns, acc.to(out.dtype.element_ty), mask=within)


def launch_step(q, k, v, gamma, state, out_state, kind):
    """(out (B, H, 1, V), the state after one token), written to out_state if there is one; arguments are checked.

    kind: of the other arguments, as `triton_checks.kind_of` returns it.
    """
    if 0 in (q.numel(), v.numel()):  # nothing to launch
        after = common.state_like(q, v) if out_state is None else out_state
        return torch.zeros_like(v), after.zero_() if state is None else after.copy_(state)
    where = "new" if out_state is None else "in place" if out_state is state else "given"
    given = q, k, v, gamma, state
    if where == "given":
        given, kind = (*given, out_state), kind and (*kind, *kind_of(out_state))
    if results := again(kind and (_step, where, *kind), given):
        return results
    with torch.cuda.device_of(q):  # Triton launches on the current device
        copied = tuple(x if x is None else x.contiguous() for x in given)
        kind = kind and kind_of(*copied)
        return again_or_recorded(functools.partial(_step, where == "in place"), kind and (_step, where, *kind), copied)


def _step(in_place, q, k, v, gamma, state, out_state=None):
    (batch, heads, _, key_dim), value_dim = q.shape, v.shape[3]
    bk, bv = min(TILES["BK"], common.power_of_two(key_dim)), min(TILES["BV"], common.power_of_two(value_dim))
    after = state if in_place else common.state_like(q, v) if out_state is None else out_state
    out = torch.empty_like(v)
    launch(
        _step_kernel, (common.blocks(value_dim, bv) * batch * heads,),
        q, k, v, gamma, state, out, after, heads, key_dim, value_dim, **TILES | {"BK": bk, "BV": bv},
    )  # fmt: skip
    return out, after

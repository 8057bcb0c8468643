"""The decode step as a Triton kernel: the state is read once and written once, and little else moves."""

import torch
import triton
import triton.language as tl

from . import triton_common as common

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


def launch_step(q, k, v, gamma, state, out_state):
    """out (B, H, 1, V) of one token, and out_state filled; arguments are those of `retention_step_triton`, checked."""
    (batch, heads, _, key_dim), value_dim = q.shape, v.shape[3]
    q, k, v, gamma = (x.contiguous() for x in (q, k, v, gamma))
    state = None if state is None else state.contiguous()
    bk, bv = min(TILES["BK"], common.power_of_two(key_dim)), min(TILES["BV"], common.power_of_two(value_dim))
    out = torch.empty_like(v)
    if 0 in (out.numel(), out_state.numel()):  # nothing to launch
        return out.zero_()
    with torch.cuda.device_of(q):  # Triton launches on the current device
        _step_kernel[(common.blocks(value_dim, bv) * batch * heads,)](
            q, k, v, gamma, state, out, out_state, heads, key_dim, value_dim, **TILES | {"BK": bk, "BV": bv}
        )
    return out

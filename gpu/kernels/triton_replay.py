"""The decode step from a state that is written every L tokens, as a Triton kernel: `refimpl.replay` on fixed buffers.

With r kept tokens since the state S, of decay gamma,

    o = gamma q (gamma^r S + sum over kept m of gamma^(r-1-m) k_m^T v_m) + (q . k) v

in which the bracket is the state before the token: made and written where all L are kept, and else taken apart, so that S is
read once and nothing of its size is written.
"""

import torch
import triton
import triton.language as tl

from refimpl.checks import check_arrays, check_integer, check_one_token, check_shape

from . import triton_common as common
from .triton_checks import check_fused
from .triton_common import dot, log2_decay, power_less_one

TILES = {"BK": 256, "BV": 32, "num_warps": 4}


@triton.jit(do_not_specialize=["heads", "slots"])
def _replay_kernel(
    q, k, v, gamma, state, keys, values, out, heads, slots, length, K, V,
    WRITE: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """BV columns of one head. The token goes to place `slots` of keys and values, unless it is WRITE: others still read there."""
    tiles, pid = tl.cdiv(V, BV), tl.program_id(0)
    bh, columns = tl.cast(pid // tiles, tl.int64), pid % tiles * BV + tl.arange(0, BV)
    within, m = columns < V, tl.arange(0, BR)
    log2_gamma = log2_decay(gamma, bh % heads)
    less_one = power_less_one(log2_gamma, slots)
    weight = tl.exp2(tl.maximum(slots - 1 - m, 0) * log2_gamma).to(tl.float32)
    place = bh * length + m
    old = tl.load(
        values + place[:, None] * V + columns[None, :], mask=(m < slots)[:, None] & within[None, :], other=0.0
    )
    weighed = old.to(tl.float32) * weight[:, None]
    writing = tl.where(pid % tiles == 0, K, 0)  # rows of the new key, which one program writes for all columns
    acc, scores, own = tl.zeros((BV,), tl.float32), tl.zeros((BR,), tl.float32), 0.0
    for first in range(0, K, BK):
        rows = first + tl.arange(0, BK)
        key = tl.load(k + bh * K + rows, mask=rows < K, other=0.0)
        queries = tl.load(q + bh * K + rows, mask=rows < K, other=0.0).to(tl.float32)
        own += tl.sum(queries * key.to(tl.float32), 0)
        seen = tl.load(
            keys + place[:, None] * K + rows[None, :], mask=(m < slots)[:, None] & (rows < K)[None, :], other=0.0
        ).to(tl.float32)
        at = bh * K * V + rows[:, None] * V + columns[None, :]
        inside = (rows < K)[:, None] & within[None, :]
        before = tl.load(state + at, mask=inside, other=0.0)
        before += before * less_one
        if WRITE:
            before = dot(tl.trans(seen), weighed, before, "ieee")
            tl.store(state + at, before, mask=inside)
        else:
            scores += tl.sum(queries[None, :] * seen, 1)
            tl.store(keys + (bh * length + slots) * K + rows, key, mask=rows < writing)
        acc += tl.sum(queries[:, None] * before, 0)
    new = tl.load(v + bh * V + columns, mask=within, other=0.0)
    if not WRITE:
        acc += tl.sum(scores[:, None] * weighed, 0)
        tl.store(values + (bh * length + slots) * V + columns, new, mask=within)
    decay = tl.load(gamma + bh % heads).to(tl.float32)
    tl.store(out + bh * V + columns, (acc * decay + own * new.to(tl.float32)).to(out.dtype.element_ty), mask=within)


@torch.no_grad()
def replay_step_triton(q, k, v, gamma, buffers, slots):
    """`refimpl.replay.retention_replay` for one token of torch tensors on a GPU (Eq. 6), on buffers that it writes to.

    q, k, v, gamma: as for `retention_step_triton`; no gradient is kept. buffers: a `ReplayState`, contiguous: the state
    (B, H, K, V), and keys (B, H, L, K) and values (B, H, L, V), of which the first `slots`, from 0 to L, are kept tokens. The
    token becomes the next of them; if L are kept, they are written into the state first, and it becomes the first.

    Returns out (B, H, 1, V). TypeError, ValueError: an argument is not as above.
    """
    check_fused(q, k, v, gamma, buffers.state)
    check_one_token(q)
    names = {"buffers.k": buffers.k, "buffers.v": buffers.v}
    check_arrays(q=q, **names)
    length = buffers.k.shape[2] if buffers.k.ndim == 4 else 0
    check_integer("slots", slots, minimum=0)
    if slots > length:
        raise ValueError(f"slots must be at most {length}, for which buffers.k has room, got {slots}")
    for (name, buffer), token in zip(names.items(), (k, v), strict=True):
        check_shape(
            name, buffer, (*q.shape[:2], length, token.shape[3]), "batch, heads, length, and the width of a token"
        )
        if buffer.dtype != q.dtype:
            raise TypeError(f"{name} must have dtype {q.dtype} like q, got {buffer.dtype}")
    for name, buffer in {"buffers.state": buffers.state, **names}.items():
        if not buffer.is_contiguous():
            raise ValueError(f"{name} must be contiguous, got strides {buffer.stride()}")
    if buffers.kept is not None:
        raise ValueError("buffers.kept must be None: here all sequences keep as many tokens, got a tensor")
    out = torch.zeros_like(v, memory_format=torch.contiguous_format)
    if 0 not in (q.numel(), v.numel()):
        _launch(*(x.contiguous() for x in (q, k, v, gamma)), buffers, slots, out)
    if slots == length:
        buffers.k[:, :, :1], buffers.v[:, :, :1] = k, v
    return out


def _launch(q, k, v, gamma, buffers, slots, out):
    (batch, heads, length, key_dim), value_dim = buffers.k.shape, v.shape[3]
    bk, bv = min(TILES["BK"], common.power_of_two(key_dim)), min(TILES["BV"], common.power_of_two(value_dim))
    tiles = TILES | {"BK": bk, "BV": bv, "BR": max(16, triton.next_power_of_2(length))}
    with torch.cuda.device_of(q):  # Triton launches on the current device
        _replay_kernel[(common.blocks(value_dim, bv) * batch * heads,)](
            q, k, v, gamma, buffers.state, buffers.k, buffers.v, out, heads, slots, length, key_dim, value_dim,
            WRITE=slots == length, **tiles,
        )  # fmt: skip

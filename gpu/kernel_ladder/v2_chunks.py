"""Version 2: two passes over chunks of 64 tokens (Eq. 7). One walks and stores the states, one computes all outputs.

Everything is as plain as it can be: whole chunks only, tiles of 64 x 64, one program for each tile of the result.

Found: half of what was predicted, because of a slip: the states are 1.07 GB, and writing and reading them makes 2.1 GB,
which takes 0.5 ms and not 1. The prediction should have been 1.5 ms, of which products and memory traffic share a part.
"""

import torch
import triton
import triton.language as tl

import gpu.kernels.triton_common as common
from gpu.kernels.triton_common import dot, load, log2_decay, power_less_one, store

C = 64  # tokens a chunk
TILE = 64
PREDICTED_MS = 2.0
PREDICTION = """A state a chunk of 64 tokens is 2.1 GB in bfloat16, written once and read once: 1 ms at 4.3 TB/s. Scores are
computed again by each of the 8 tiles of V, so the products are 0.26 TFLOP, in tiles too small to be read at full speed:
another 1 ms, of which little is hidden behind the memory traffic. 2 ms."""


@triton.jit
def _states(
    k, v, gamma, start, states, end, chunks, heads, C: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr
):
    row, column, bh, token = tl.program_id(0) * TILE, tl.program_id(1) * TILE, tl.program_id(2), tl.arange(0, C)
    b, h = bh // heads, bh % heads
    log2_gamma = log2_decay(gamma, h)
    zeta, less_one = tl.exp2((C - 1 - token) * log2_gamma.to(tl.float32)), power_less_one(log2_gamma, C)
    state = load(start, b, h, row, column)
    for chunk in range(chunks):
        store(states, state, bh, chunk, row, column)
        keys, values = load(k, b, h, chunk * C, row), load(v, b, h, chunk * C, column)
        keys = (keys * zeta[:, None]).to(values.dtype)
        state = dot(tl.trans(keys), values, state + state * less_one, PRECISION)
    store(end, state, b, h, row, column)


@triton.jit
def _outputs(q, k, v, gamma, states, out, heads, K, C: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr):
    column, chunk, bh, token = tl.program_id(0) * TILE, tl.program_id(1), tl.program_id(2), tl.arange(0, C)
    b, h = bh // heads, bh % heads
    log2_gamma = log2_decay(gamma, h).to(tl.float32)
    scores, acc = tl.zeros((C, C), tl.float32), tl.zeros((C, TILE), tl.float32)
    for row in range(0, K, TILE):
        queries = load(q, b, h, chunk * C, row)
        scores = dot(queries, tl.trans(load(k, b, h, chunk * C, row)), scores, PRECISION)
        acc = dot(queries, load(states, bh, chunk, row, column), acc, PRECISION)
    lag = token[:, None] - token[None, :]
    scores = tl.where(lag >= 0, scores * tl.exp2(tl.maximum(lag, 0) * log2_gamma), 0.0)
    acc *= tl.exp2((token + 1) * log2_gamma)[:, None]
    values = load(v, b, h, chunk * C, column)
    store(out, dot(scores.to(values.dtype), values, acc, PRECISION), b, h, chunk * C, column)


def retention(q, k, v, gamma, state=None):
    """(out, state) of the contract for whole chunks; arguments are not checked."""
    (batch, heads, time, key_dim), value_dim = q.shape, v.shape[3]
    if time % C:
        raise ValueError(f"time must be a multiple of {C}, got {time}")
    start = torch.zeros_like(common.state_like(q, v)) if state is None else state
    q, k, v, start = map(common.readable, (q, k, v, start))
    out, end = common.token_major(v, value_dim), common.state_like(q, v)
    chunks, across = time // C, common.blocks(value_dim, TILE)
    states = q.new_empty((batch * heads, chunks, key_dim, value_dim))
    arrays = q, k, v, start, states, end, out
    q_, k_, v_, start_, states_, end_, out_ = (common.descriptor(x, TILE, TILE) for x in arrays)
    sizes = {"C": C, "TILE": TILE, "PRECISION": common.precision_of(q)}
    _states[(common.blocks(key_dim, TILE), across, batch * heads)](
        k_, v_, gamma, start_, states_, end_, chunks, heads, **sizes
    )
    _outputs[(across, chunks, batch * heads)](q_, k_, v_, gamma, states_, out_, heads, key_dim, **sizes)
    return out, end

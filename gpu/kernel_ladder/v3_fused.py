"""Version 3: one pass. A program walks the chunks with its columns of the state in registers, and writes outputs alone.

No state but the last goes to memory; in return each program computes the scores of its head again.

Found: half as long again as predicted, 1.07 ms. We think that it waits, for tiles, for scores, for its rounded state: one
program fills a multiprocessor, whose product units are idle meanwhile. With 64 columns and four warps two programs share
one, and it takes 0.67 ms, though scores are computed twice as often. Spills alone do not decide: 128 columns spill 208 bytes
a thread, these 112; 64 columns with eight warps spill none, but are alone on a multiprocessor and take 1.50 ms. Reading
ahead spills 616 bytes and takes 1.10. For heads whose state is a sixteenth of this one, 64 x 128, the same plan is the best
there is: see `_walk_kernel` in gpu/kernels/triton_retention.py.
"""

import triton
import triton.language as tl

import gpu.kernels.triton_common as common
from gpu.kernels.triton_common import dot, load, log2_decay, power_less_one, store

PREDICTED_MS = 0.7
PREDICTION = """0.19 TFLOP with 128 columns a program (scores four times), 0.24 ms at the peak, and 0.8 GB of inputs and
outputs. But the four products of a chunk wait for one another, and the state goes through shared memory in between: about
3 us a chunk of 64 tokens. At T = 4,096 there are 256 programs for 132 multiprocessors that hold one each, so two rounds of
64 chunks: 0.4 to 0.7 ms. At T = 16,384 there are 64 programs of 256 chunks, and half the GPU idles."""


@triton.jit(do_not_specialize=["T", "heads"])
def _kernel(
    q, k, v, gamma, start, out, end, T, heads, V,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, WEIGH_VALUES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tiles, token = tl.cdiv(V, BV), tl.arange(0, C)
    column, bh = tl.program_id(0) % tiles * BV, tl.program_id(0) // tiles
    b, h = bh // heads, bh % heads
    log2_gamma = log2_decay(gamma, h)
    last = T - (tl.cdiv(T, C) - 1) * C
    decay, last_decay = power_less_one(log2_gamma, C), power_less_one(log2_gamma, last)
    log2_gamma = log2_gamma.to(tl.float32)
    lag = token[:, None] - token[None, :]
    mask = tl.where(lag >= 0, tl.exp2(tl.maximum(lag, 0) * log2_gamma), 0.0)
    xi = tl.exp2((token + 1) * log2_gamma)
    state = tl.zeros((BK, BV), tl.float32)
    if start is not None:
        state = load(start, 0, bh, 0, column)
    for begin in range(0, T, C):
        queries, keys, values = load(q, b, h, begin, 0), load(k, b, h, begin, 0), load(v, b, h, begin, column)
        scores = dot(queries, tl.trans(keys), None, PRECISION) * mask
        acc = dot(queries, state.to(queries.dtype), None, PRECISION) * xi[:, None]
        acc = dot(scores.to(values.dtype), values, acc, PRECISION)
        store(out, acc, b, h, begin, column)
        ragged = begin + C > T
        zeta = tl.exp2(tl.maximum(tl.where(ragged, last, C) - 1 - token, 0) * log2_gamma)
        if WEIGH_VALUES:
            values = (values * zeta[:, None]).to(keys.dtype)
        else:
            keys = (keys * zeta[:, None]).to(values.dtype)
        state += state * tl.where(ragged, last_decay, decay)
        state = dot(tl.trans(keys), values, state, PRECISION)
    store(end, state, 0, bh, 0, column)


def retention(q, k, v, gamma, state=None, *, C=64, BV=128, weigh_values=True, warps=8, stages=1):
    """(out, state) of the contract; arguments are not checked. BV columns of the state a program, 64 or 128.

    With 32, Triton 3.6 reads beyond its shared memory when K is 256, says NVIDIA's compute-sanitizer.
    """
    return launched(q, k, v, gamma, state, C, BV, weigh_values, warps, stages)[:2]


def launched(q, k, v, gamma, state=None, C=64, BV=128, weigh_values=True, warps=8, stages=1):
    """(out, state) of `retention`, and the compiled kernel, which knows its registers."""
    q, k, v = map(common.readable, (q, k, v))
    (batch, heads, time, key_dim), value_dim = q.shape, v.shape[3]
    out, end = common.token_major(v, value_dim), common.state_like(q, v).flatten(0, 1)[None]
    BK, BV = common.power_of_two(key_dim), min(BV, common.power_of_two(value_dim))
    state = None if state is None else state.reshape(end.shape)
    kernel = _kernel[(common.blocks(value_dim, BV) * batch * heads,)](
        *(common.descriptor(x, C, width) for x, width in ((q, BK), (k, BK), (v, BV))), gamma,
        common.descriptor(state, BK, BV), common.descriptor(out, C, BV), common.descriptor(end, BK, BV), time, heads, value_dim,
        C=C, BK=BK, BV=BV, WEIGH_VALUES=weigh_values, PRECISION=common.precision_of(q), num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out, end.view(batch, heads, key_dim, value_dim), kernel

"""The chunkwise form of wide heads with the state on the chip (Eq. 7, arXiv:2307.08621v4), for Hopper GPUs, in Gluon.

The state of a wide head, K x V = 256 x 512 numbers, fits no multiprocessor. Columns of V need one another in nothing but the
scores, so a program holds 128 columns, and four programs a head compute the same scores. What moves is then what must: queries,
keys, values and outputs, and no states. Gluon is Triton's language for what Triton decides by itself, which here must not: who
computes what.

A program has three groups of four warps. One reads chunks of C = 64 tokens ahead and makes the weighed scores, P = K Q^T * D^T.
Two hold 64 columns of the state each, turned, S^T, so that it is the left factor of a product and need not leave the
registers. For each chunk they compute

    O^T = S^T Q^T * xi + V^T P,    S^T = gamma^C S^T + (V * zeta)^T K

with S in four parts along K: no more than a quarter of S is rounded to halves at once, for registers are short. While one
group converts its state, the other multiplies. Where heads are too few for all multiprocessors, time is cut into segments as in
`gpu.kernels.triton_states`.

Rounded as in `gpu.kernels.triton_retention`, but the decayed values in place of the decayed keys.
"""

import warnings

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from . import triton_common as common
from .replay import keep_no_recording, launch
from .triton_states import before_segments, cut, fitting, totals_of

CHUNK, KEYS, VALUES = 64, 256, 64  # tokens of a chunk, the widest keys, and the columns of the state that a group holds
PARTS = gl.constexpr(4)  # of the state of a group, along K
STAGES = gl.constexpr(2)  # chunks in shared memory: the one that is computed and the one that is read
# Triton 3.6 has the old names.
read_tile = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
write_tile = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global
REGISTERS = 168  # of a thread at the start: 384 threads have all of a multiprocessor's
HELD = 216  # of a thread that holds the state; those that weigh get what is left
_failed = set()  # devices on which it did not compile


@gluon.jit
def _hold(given, CHUNK: gl.constexpr, BK: gl.constexpr, BV: gl.constexpr, GROUP: gl.constexpr):
    """Columns of the state and of the outputs, from chunk to chunk: a group that holds the state."""
    queries, keys, values, scores, staged, parked, since, until, full, free, weighed, there = given[:12]
    before, out, end, decay, last_decay, bh, heads, column, segment, segments, first, stop, chunks = given[12:]
    PART: gl.constexpr = BK // PARTS
    STATE: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, PART, 16])
    OUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, CHUNK, 16])
    LEFT: gl.constexpr = gl.DotOperandLayout(0, OUT, 2)
    dtype: gl.constexpr = queries.dtype
    own, b, h = column + GROUP * BV, bh // heads, bh % heads
    i0, i1 = gl.where(segments == 1, b, bh), gl.where(segments == 1, h, segment)
    staged, parked, there = staged.index(GROUP), parked.index(GROUP), there.index(GROUP)
    state = ()
    for i in gl.static_range(PARTS):
        if before is None:
            state += (gl.zeros([BV, PART], gl.float32, layout=STATE),)
        else:
            mbarrier.expect(there, before.block_type.nbytes)
            read_tile(before, [i0, i1, i * PART, own], there, parked.reshape(before.block_shape))
            mbarrier.wait(there, i & 1)
            state += (parked.permute((1, 0)).load(STATE),)
    for chunk in range(first, stop):
        stage, phase = (chunk - first) % STAGES, (chunk - first) // STAGES & 1
        q, k = queries.index(stage).permute((1, 0)), keys.index(stage)
        v = values.index(stage).slice(GROUP * BV, BV, 1).permute((1, 0))
        ends = chunk == chunks - 1
        factor = gl.where(ends, last_decay, decay)
        mbarrier.wait(full.index(stage), phase)
        acc = gl.zeros([BV, CHUNK], gl.float32, layout=OUT)
        decayed = ()
        for i in gl.static_range(PARTS):
            halves = gl.convert_layout(state[i].to(dtype), LEFT)
            decayed += (state[i] + state[i] * factor,)
            acc = warpgroup_mma(halves, q.slice(i * PART, PART, 0), acc, use_acc=i > 0, is_async=True)
            if i + 1 < PARTS:  # or the next part would take registers beside this one
                acc = warpgroup_mma_wait(0, [acc])
        mbarrier.wait(weighed.index(stage), phase)
        acc = warpgroup_mma_wait(0, [acc])
        acc = acc * since.load(gl.SliceLayout(0, OUT))[None, :]
        acc = warpgroup_mma(v, scores.index(stage), acc, is_async=True)
        weight = until.index(ends.to(gl.int32)).load(gl.SliceLayout(0, LEFT))[None, :]
        left = gl.convert_layout((v.load(LEFT).to(gl.float32) * weight).to(dtype), gl.DotOperandLayout(0, STATE, 2))
        state = ()
        for i in gl.static_range(PARTS):
            state += (warpgroup_mma(left, k.slice(i * PART, PART, 1), decayed[i], is_async=True),)
        acc = warpgroup_mma_wait(PARTS, [acc])
        tma.store_wait(0)
        staged.permute((1, 0)).store(acc.to(dtype))
        fence_async_shared()
        write_tile(out, [b, h, chunk * CHUNK, own], staged.reshape(out.block_shape))
        state = warpgroup_mma_wait(0, state)
        mbarrier.arrive(free.index(stage), count=1)
    tma.store_wait(0)
    if segment == segments - 1:
        for i in gl.static_range(PARTS):
            parked.permute((1, 0)).store(state[i])
            fence_async_shared()
            write_tile(end, [b, h, i * PART, own], parked.reshape(end.block_shape))
            tma.store_wait(0)


@gluon.jit
def _read(x, y, z, queries, keys, values, full, free, b, h, column, first, stop, chunk):
    """Begin to read a chunk, if there is one, where both groups have done with what was read before."""
    stage, there = (chunk - first) % STAGES, chunk < stop
    mbarrier.wait(free.index(stage), (chunk - first) // STAGES & 1 ^ 1, pred=there)
    bar, row = full.index(stage), chunk * x.block_shape[2]
    mbarrier.expect(bar, x.block_type.nbytes + y.block_type.nbytes + z.block_type.nbytes, pred=there)
    read_tile(y, [b, h, row, 0], bar, keys.index(stage).reshape(y.block_shape), pred=there)
    read_tile(x, [b, h, row, 0], bar, queries.index(stage).reshape(x.block_shape), pred=there)
    read_tile(z, [b, h, row, column], bar, values.index(stage).reshape(z.block_shape), pred=there)


@gluon.jit
def _weigh(given, CHUNK: gl.constexpr):
    """Read chunks and make P = K Q^T * D^T of each, for the groups that hold the state."""
    x, y, z, queries, keys, values, scores, powers, full, free, weighed, bh, heads, column, first, stop = given
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, CHUNK, 16])
    b, h = bh // heads, bh % heads
    n = gl.arange(0, CHUNK, layout=gl.SliceLayout(1, LAYOUT))[:, None]
    m = gl.arange(0, CHUNK, layout=gl.SliceLayout(0, LAYOUT))[None, :]
    _read(x, y, z, queries, keys, values, full, free, b, h, column, first, stop, first)
    _read(x, y, z, queries, keys, values, full, free, b, h, column, first, stop, first + 1)
    for chunk in range(first, stop):
        stage, phase = (chunk - first) % STAGES, (chunk - first) // STAGES & 1
        mbarrier.wait(full.index(stage), phase)
        acc = gl.zeros([CHUNK, CHUNK], gl.float32, layout=LAYOUT)
        acc = warpgroup_mma(keys.index(stage), queries.index(stage).permute((1, 0)), acc, use_acc=False, is_async=True)
        acc = warpgroup_mma_wait(0, [acc])
        # Read at each chunk, or the compiler would keep the weights in registers, which the other groups need.
        lag = powers.load(gl.SliceLayout(0, LAYOUT))[None, :] - powers.load(gl.SliceLayout(1, LAYOUT))[:, None]
        acc = gl.where(m >= n, acc * gl.exp2(gl.minimum(lag, 0.0)), 0.0)
        scores.index(stage).store(acc.to(scores.dtype))
        fence_async_shared()
        mbarrier.arrive(weighed.index(stage), count=1)
        if chunk > first:
            _read(x, y, z, queries, keys, values, full, free, b, h, column, first, stop, chunk + 1)


@gluon.jit(do_not_specialize=["T", "heads", "segments", "chunks_a_segment"])
def _wide_kernel(
    x, y, z, gamma, before, out, end, T, heads, V, segments, chunks_a_segment,
    CHUNK: gl.constexpr, BK: gl.constexpr, BV: gl.constexpr, HOLD: gl.constexpr, WEIGH: gl.constexpr,
):  # fmt: skip
    """out (B, H, T, V) and end (B, H, K, V) float32, for x, y (B, H, T, K up to BK), z (B, H, T, V), 2 BV columns a program.

    before: the state before each segment, (B H, segments, K, V) float32, or (B, H, K, V) for one; None for
    zeros. HOLD, WEIGH: registers of a thread that holds the state, and of one that weighs.
    """
    dtype: gl.constexpr = x.dtype
    WIDE: gl.constexpr = gl.NVMMASharedLayout(128, 16, 2)
    FLAT: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    ROW: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    tiles, pid = gl.cdiv(V, 2 * BV), gl.program_id(0)
    column, segment, bh = pid % tiles * 2 * BV, pid // tiles % segments, pid // tiles // segments
    chunks = gl.cdiv(T, CHUNK)
    first = segment * chunks_a_segment
    stop = gl.minimum(first + chunks_a_segment, chunks)
    last = T - (chunks - 1) * CHUNK
    log2_gamma = gl.log2(gl.load(gamma + bh % heads).to(gl.float64))
    decay = (gl.exp2(log2_gamma * CHUNK) - 1.0).to(gl.float32)
    last_decay = (gl.exp2(log2_gamma * last) - 1.0).to(gl.float32)

    queries = gl.allocate_shared_memory(dtype, [STAGES, CHUNK, BK], WIDE)
    keys = gl.allocate_shared_memory(dtype, [STAGES, CHUNK, BK], WIDE)
    values = gl.allocate_shared_memory(dtype, [STAGES, CHUNK, 2 * BV], WIDE)
    scores = gl.allocate_shared_memory(dtype, [STAGES, CHUNK, CHUNK], WIDE)
    staged = gl.allocate_shared_memory(dtype, [2, CHUNK, BV], WIDE)
    parked = gl.allocate_shared_memory(gl.float32, [2, BK // PARTS, BV], gl.NVMMASharedLayout(128, 32, 2))
    place, rate = gl.arange(0, CHUNK, layout=ROW), log2_gamma.to(gl.float32)
    powers = gl.allocate_shared_memory(gl.float32, [CHUNK], FLAT, place * rate)
    since = gl.allocate_shared_memory(gl.float32, [CHUNK], FLAT, gl.exp2((place + 1) * rate))
    until = gl.allocate_shared_memory(gl.float32, [2, CHUNK], FLAT)
    until.index(0).store(gl.exp2((CHUNK - 1 - place) * rate))
    until.index(1).store(gl.exp2(gl.maximum(last - 1 - place, 0) * rate))
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    weighed = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    there = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2):
        mbarrier.init(there.index(i), count=1)
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(free.index(i), count=2)
        mbarrier.init(weighed.index(i), count=1)
    fence_async_shared()
    given = (
        queries, keys, values, scores, staged, parked, since, until, full, free, weighed, there, before, out, end,
        decay, last_decay, bh, heads, column, segment, segments, first, stop, chunks,
    )  # fmt: skip
    weigh = (x, y, z, queries, keys, values, scores, powers, full, free, weighed, bh, heads, column, first, stop)
    gl.warp_specialize(
        [(_hold, (given, CHUNK, BK, BV, 0)), (_hold, (given, CHUNK, BK, BV, 1)), (_weigh, (weigh, CHUNK))],
        [4, 4], [HOLD, WEIGH],
    )  # fmt: skip


def on_chip(q, v):
    """True if the kernel is for such heads, and for their GPU: keys of 129 to 256 channels, halves, Hopper."""
    return (
        q.is_cuda
        and KEYS // 2 < q.shape[3] <= KEYS
        and q.dtype != torch.float32
        and torch.cuda.get_device_capability(q.device) == (9, 0)
        and q.device not in _failed
    )


def walk_on_chip(q, k, v, gamma, state, tiles):
    """(out, state) of a retention, or None where the kernel does not compile; tiles: as `forward_of` takes them."""
    (batch, heads, time, _), value_dim = q.shape, v.shape[3]
    programs = common.blocks(value_dim, 2 * VALUES) * batch * heads
    parts = cut(programs, common.blocks(time, CHUNK), common.multiprocessors(q.device))
    totals = totals_of(k, v, gamma, CHUNK, parts, fitting(tiles["states"], k, v, tiles["programs"]))
    before = state if totals is None else before_segments(state, totals, gamma, k, v, CHUNK, parts)
    out, end = common.token_major(v, value_dim), common.state_like(q, v)
    try:
        launch(
            _wide_kernel, (programs * parts[0],),
            *(_descriptor(x, CHUNK, KEYS) for x in (q, k)), _descriptor(v, CHUNK, 2 * VALUES), gamma,
            _descriptor(before, KEYS // PARTS.value, VALUES), _descriptor(out, CHUNK, VALUES),
            _descriptor(end, KEYS // PARTS.value, VALUES), time, heads, value_dim, *parts,
            CHUNK=CHUNK, BK=KEYS, BV=VALUES, HOLD=HELD, WEIGH=3 * REGISTERS - 2 * HELD,
            num_warps=4, maxnreg=REGISTERS,
        )  # fmt: skip
    except Exception as error:  # what compilers raise has no type in common, and there is another way to compute it
        warnings.warn(f"the kernel that holds wide states on the chip does not compile here: {error}", stacklevel=2)
        _failed.add(q.device)
        keep_no_recording()  # what went before was for nothing
        return None
    return out, end


def _descriptor(x, height, width):
    plain = common.descriptor(x, height, width)
    if plain is None:
        return None
    layout = gl.NVMMASharedLayout(128, 8 * x.itemsize, 4)
    return TensorDescriptor(x, list(plain.shape), list(plain.strides), plain.block_shape, layout)

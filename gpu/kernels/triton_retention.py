"""Retention on a GPU, in Triton: the chunkwise form with its gradients, and the decode step, under the contract.

Forwards (Eq. 7, arXiv:2307.08621v4), two kernels. `_states_kernel` (in `gpu.kernels.triton_states`) walks the chunks of C tokens
with a state S of K x V numbers in registers, S = gamma^C S + K^T (V * zeta), and leaves in memory what S was before each
chunk. Then every chunk is on its own, and `_outputs_kernel` computes all of them at once,

    O = (Q K^T * D) V + xi (Q S),    D_nm = gamma^(n-m), xi_n = gamma^(tokens since S)

Backwards, the same two kernels. Let G be dL/dO. Walking from the last chunk to the first, the gradient of the state is
R = gamma^C R + (xi Q)^T G: the first kernel, back in time, with Q and G for K and V. Then, S before a chunk and R
behind it,

    dQ = (G V^T * D)   K + xi   (G S^T)    reads as the outputs of queries G, keys V, values K from the state S^T
    dK = (V G^T * D^T) Q + zeta (V R^T)    back in time: queries V, keys G, values Q
    dV = (K Q^T * D^T) G + zeta (K R)      back in time: queries K, keys Q, values G

so the gradient of a retention is three retentions, and `_outputs_kernel` serves all four. Where the table of tiles says so,
`_gradients_kernel` computes all three for one chunk after another, and so reads each array once from memory. No states of
chunks are kept from the forward pass: they are computed again.

Heads whose state fits the registers of a program need no states in memory; of wider ones on Hopper GPUs, forwards, several
programs hold a part each (`gpu.kernels.gluon_walk`). `_walk_kernel` walks as the first kernel does
and writes outputs on the way, one pass for each of the four; the state of the keys and values of a row above is the one
that the row needs. dK and dV need the same R: `_walk_back_kernel` writes both in one pass, where the table of tiles says so,
and moves three quarters of their bytes. The table says too which heads are narrow enough. Where they are too few to fill a
GPU, segments of time are walked at once; what each adds to the state is computed before, and forwards it is kept for the
backward pass.

What bounds the time is memory. Queries, keys, values and outputs of a chunk are C (2 K + 2 V) numbers, and a state is K V,
written and read: at K = 256, V = 512 and C = 128 a third more than those. Longer chunks would move less and multiply
more. RetNet's fastest head weighs the far end of a chunk by (31/32)^128 = 0.02, so no tile within one is too small to count;
of segments, what a float32 weighs as zero is not read: for that head what lies 3,300 tokens back, and a segment or two.

What is rounded: products are of the inputs' dtype and summed in float32. Decays within a chunk are float32, from a float32
log2 of gamma. S is carried in float32 as S + (gamma^C - 1) S, with gamma^C - 1 taken in float64, for gamma^C near
1 would be rounded to the same side at each chunk. Halves round three times on the way to O: the decayed keys, the states
and the decayed scores. No sum depends on the order in which programs run, so the same call gives the same bits.

B batch, H heads, T time, K key_dim, V value_dim. The kernels here call queries, keys and values of whichever of the four is
computed x, y and z.
"""

import functools

import torch
import triton
import triton.language as tl
from torch.autograd import forward_ad
from torch.nn.functional import pad

from refimpl.checks import check_arrays, check_integer, check_one_token, check_state
from refimpl.lengths import with_lengths

from . import triton_common as common
from .gluon_walk import on_chip, walk_on_chip
from .replay import again, again_or_recorded, launch
from .triton_checks import check_fused, kind_of, traced
from .triton_common import dot, load, log2_decay, log2_decay_32, step_decays, store
from .triton_states import cut, state_before, states_of, total_of, totals_of
from .triton_step import launch_step
from .triton_tiles import tiles_of, with_tiles_that_fit

STATE = 2048  # numbers of the state that a warp of one pass holds: more do not fit its registers


# ---------------------------------------------------------------- kernels


@triton.jit
def _weighed(scores, m, n, log2_gamma, REVERSE: tl.constexpr):
    """scores * D, of the rows and keys at places m and n of a chunk."""
    lag = m[:, None] - n[None, :]
    lag = -lag if REVERSE else lag
    # Not beyond 0: above the diagonal the power would overflow, and inf * 0 is NaN.
    return tl.where(lag >= 0, scores * tl.exp2(tl.minimum(lag * log2_gamma, 0.0)), 0.0)


@triton.jit
def _span_of(row, T, SPAN: tl.constexpr, REVERSE: tl.constexpr, FROM_ZERO: tl.constexpr):
    """The span of a row, where its state is stored. FROM_ZERO: the first span to be walked has no state behind it."""
    span = row // SPAN
    if FROM_ZERO:  # a state of zeros is not stored: beyond the array the copy engine finds them, and moves nothing
        spans = tl.cdiv(T, SPAN)
        span = tl.where(span == (spans - 1 if REVERSE else 0), spans, span)
    return span


@triton.jit
def _from_state(
    x, y, states, b, h, heads, row, own, span, column, K,
    BM: tl.constexpr, CHUNK: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    TRANSPOSED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(X S, X Y^T) of a tile of rows and all keys of the chunk `own`, in steps of BK, so that x is read once; y None: X S alone.

    TRANSPOSED: the states are stored (V, K).
    """
    tl.assume(K > 0)
    acc, scores = tl.zeros((BM, BV), tl.float32), tl.zeros((BM, CHUNK), tl.float32)
    for k in range(0, K, BK):
        if TRANSPOSED:
            state = tl.trans(load(states, b * heads + h, span, column, k))
        else:
            state = load(states, b * heads + h, span, k, column)
        queries = load(x, b, h, row, k)
        acc = dot(queries, state, acc, PRECISION)
        if y is not None:
            scores = dot(queries, tl.trans(load(y, b, h, own, k)), scores, PRECISION)
    return acc, scores


@triton.jit
def _finish(
    acc, weighed, x, y, z, out, log2_gamma, b, h, row, own, column, T, K,
    BM: tl.constexpr, CHUNK: tl.constexpr, SPAN: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write a tile of out: acc, X S, decayed, and the values of the row's own chunk, weighed, and of those between it and S."""
    begin = row // SPAN * SPAN
    m, n = row - begin + tl.arange(0, BM), tl.arange(0, CHUNK)
    age = tl.maximum(tl.minimum(SPAN, T - begin) - 1 - m, 0) if REVERSE else m + 1
    acc *= tl.exp2(age * log2_gamma)[:, None]
    values = load(z, b, h, own, column)
    acc = dot(weighed.to(values.dtype), values, acc, PRECISION)
    if SPAN > CHUNK:
        first, stop = (own + CHUNK, tl.minimum(begin + SPAN, T)) if REVERSE else (begin, own)
        for other in range(first, stop, CHUNK):
            scores = tl.zeros((BM, CHUNK), tl.float32)
            for k in range(0, K, BK):
                scores = dot(load(x, b, h, row, k), tl.trans(load(y, b, h, other, k)), scores, PRECISION)
            values = load(z, b, h, other, column)
            scores = _weighed(scores, m, other - begin + n, log2_gamma, REVERSE)
            acc = dot(scores.to(values.dtype), values, acc, PRECISION)
    left, right = tl.split(tl.permute(tl.reshape(acc, (BM, 2, BV // 2)), (0, 2, 1)))
    # By halves, for what waits to be written takes room from what is read ahead.
    store(out, left, b, h, row, column)
    store(out, right, b, h, row, column + BV // 2)


@triton.jit(do_not_specialize=["T", "heads", "total"])
def _outputs_kernel(
    x, y, z, gamma, states, out, T, heads, K, V, total,
    CHUNK: tl.constexpr, SPAN: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    REVERSE: tl.constexpr, TRANSPOSED: tl.constexpr, FROM_ZERO: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (B, H, T, V) in tiles of BM x BV, for x, y (B, H, T, K), z (B, H, T, V), states (B H, spans, K, V).

    Programs live on from tile to tile, and where there is one chunk a span the loops are one to the compiler, which reads
    the next tile while it ends the last. TRANSPOSED: the states are stored (V, K). FROM_ZERO: as in `_span_of`.
    """
    tiles, blocks = tl.cdiv(V, BV), tl.cdiv(T, BM)
    for tile in tl.range(tl.program_id(0), total, tl.num_programs(0), flatten=SPAN == CHUNK):
        column, h, rest = tile % tiles * BV, tile // tiles % heads, tile // tiles // heads  # heads lie side by side
        row, b = rest % blocks * BM, rest // blocks
        own, span = row // CHUNK * CHUNK, _span_of(row, T, SPAN, REVERSE, FROM_ZERO)
        acc, scores = _from_state(
            x, y, states, b, h, heads, row, own, span, column, K, BM, CHUNK, BK, BV, TRANSPOSED, PRECISION
        )
        log2_gamma = log2_decay_32(gamma, h)
        weighed = _weighed(scores, row - own + tl.arange(0, BM), tl.arange(0, CHUNK), log2_gamma, REVERSE)
        _finish(
            acc, weighed, x, y, z, out, log2_gamma, b, h, row, own, column, T, K,
            BM, CHUNK, SPAN, BK, BV, REVERSE, PRECISION,
        )  # fmt: skip


@triton.jit(do_not_specialize=["T", "heads", "total"])
def _gradients_kernel(
    q_rows, k_rows, v_rows, grad_rows, q, k, grad, gamma, before, turned, behind, dq, dk, dv, T, heads, K, V, total,
    CHUNK: tl.constexpr, SPAN: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    KEY_TILES: tl.constexpr, VALUE_TILES: tl.constexpr,
    FROM_ZERO: tl.constexpr, TO_ZERO: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All columns of dq, dk and dv for the rows of a chunk, one after another, as `_outputs_kernel` computes each.

    A program has just read what it reads again, so that it comes from the L2 cache and not from memory. G V^T is computed
    once for dq and dk, and K Q^T once for all columns of dv. The rows are those of the arrays in tiles CHUNK x BK, q, k and
    grad in tiles CHUNK x BV; before: the states S, behind: R, turned: R too, in transposed tiles. KEY_TILES and VALUE_TILES:
    how many times BV columns K and V take. FROM_ZERO, TO_ZERO: as FROM_ZERO in `_span_of`, of S and of R.

    At the large shape and a span of 128, all three launches move 4,026 MB, and this one 2,416. What programs ask of the L2
    cache falls from 4.2 to 3.8 GB and products from 378 to 326 GFLOP. Predicted: 0.85 ms in place of 1.08, now bound by the
    L2 cache and by waiting between the loops, which are not one to the compiler.
    """
    chunks = tl.cdiv(T, CHUNK)
    for tile in range(tl.program_id(0), total, tl.num_programs(0)):
        h, rest = tile % heads, tile // heads
        row, b = rest % chunks * CHUNK, rest // chunks
        forwards, backwards = _span_of(row, T, SPAN, False, FROM_ZERO), _span_of(row, T, SPAN, True, TO_ZERO)
        log2_gamma, token = log2_decay_32(gamma, h), tl.arange(0, CHUNK)
        # Zeros that the compiler cannot see: else it keeps the lags from product to product, for which registers are short.
        no_rows, no_sequences = tl.minimum(row, 0), tl.minimum(b, 0)

        acc, scores = _from_state(
            grad_rows, v_rows, before, b, h, heads, row, row, forwards, 0, V, CHUNK, CHUNK, BK, BV, True, PRECISION
        )
        weighed = _weighed(scores, no_rows + token, token, log2_gamma, False).to(k.dtype)
        for i in tl.static_range(KEY_TILES):
            if i > 0:
                acc, _ = _from_state(
                    grad_rows, None, before, b, h, heads, row, row, forwards, i * BV, V,
                    CHUNK, CHUNK, BK, BV, True, PRECISION,
                )  # fmt: skip
            _finish(
                acc, weighed, grad_rows, v_rows, k, dq, log2_gamma, b, h, row, row, i * BV, T, V,
                CHUNK, CHUNK, SPAN, BK, BV, False, PRECISION,
            )  # fmt: skip
        for i in tl.static_range(KEY_TILES):
            acc, _ = _from_state(
                v_rows, None, turned, b, h, heads, row, row, backwards, i * BV, V,
                CHUNK, CHUNK, BK, BV, True, PRECISION,
            )  # fmt: skip
            _finish(
                acc, tl.trans(weighed), v_rows, grad_rows, q, dk, log2_gamma, b, h, row, row, i * BV, T, V,
                CHUNK, CHUNK, SPAN, BK, BV, True, PRECISION,
            )  # fmt: skip
        acc, scores = _from_state(
            k_rows, q_rows, behind, b, h, heads, row, row, backwards, 0, K, CHUNK, CHUNK, BK, BV, False, PRECISION
        )
        weighed = _weighed(scores, no_sequences + token, token, log2_gamma, True).to(grad.dtype)
        for i in tl.static_range(VALUE_TILES):
            if i > 0:
                acc, _ = _from_state(
                    k_rows, None, behind, b, h, heads, row, row, backwards, i * BV, K,
                    CHUNK, CHUNK, BK, BV, False, PRECISION,
                )  # fmt: skip
            _finish(
                acc, weighed, k_rows, q_rows, grad, dv, log2_gamma, b, h, row, row, i * BV, T, K,
                CHUNK, CHUNK, SPAN, BK, BV, True, PRECISION,
            )  # fmt: skip


@triton.jit(do_not_specialize=["T", "heads", "segments", "chunks_a_segment"])
def _walk_kernel(
    x, y, z, gamma, start, totals, out, end, T, heads, V, segments, chunks_a_segment,
    CHUNK: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    REVERSE: tl.constexpr, TURNED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Both at once, for heads whose state fits a program: BV columns of it and of out, through one segment.

    x, y (B, H, T, K up to BK), z, out (B, H, T, V), start and totals as in `state_before`; optional end (B, H, K, V) float32.
    """
    tiles, pid = tl.cdiv(V, BV), tl.program_id(0)
    column, segment, bh = pid % tiles * BV, pid // tiles % segments, pid // tiles // segments
    b, h = bh // heads, bh % heads
    log2_gamma = log2_decay(gamma, h)
    chunks, last, decay, last_decay = step_decays(log2_gamma, T, CHUNK)
    tokens_a_segment = chunks_a_segment * CHUNK
    state = state_before(
        start, totals, log2_gamma, segment, segments, tokens_a_segment, T, b, h, heads, 0, column,
        BK, BV, REVERSE, TURNED,
    )  # fmt: skip
    log2_gamma = log2_gamma.to(tl.float32)
    token = tl.arange(0, CHUNK)
    first = segment * chunks_a_segment
    stop = tl.minimum(first + chunks_a_segment, chunks)
    for n in range(first, stop):
        chunk = first + stop - 1 - n if REVERSE else n
        count = tl.where(chunk == chunks - 1, last, CHUNK)
        begin = chunk * CHUNK
        queries, keys, values = load(x, b, h, begin, 0), load(y, b, h, begin, 0), load(z, b, h, begin, column)
        since, until = token + 1, tl.maximum(count - 1 - token, 0)  # tokens since the chunk began, until it ends
        acc = dot(queries, state.to(queries.dtype), None, PRECISION)
        acc *= tl.exp2((until if REVERSE else since) * log2_gamma)[:, None]
        scores = dot(queries, tl.trans(keys), None, PRECISION)
        acc = dot(_weighed(scores, token, token, log2_gamma, REVERSE).to(values.dtype), values, acc, PRECISION)
        store(out, acc, b, h, begin, column)
        weight = tl.exp2((since if REVERSE else until) * log2_gamma)
        state += state * tl.where(chunk == chunks - 1, last_decay, decay)
        state = dot((tl.trans(keys) * weight[None, :]).to(values.dtype), values, state, PRECISION)
    if end is not None:  # noqa: SIM102 (which Triton asks while it compiles)
        if segment == (0 if REVERSE else segments - 1):
            store(end, state, b, h, 0, column)


@triton.jit(do_not_specialize=["T", "heads", "segments", "chunks_a_segment"])
def _walk_back_kernel(
    q, k, v, grad, gamma, start, totals, dk, dv, end, T, heads, segments, chunks_a_segment,
    CHUNK: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dK and dV of one segment at once, for heads whose R fits a program: each array is read once, and R is walked once.

    q, k, dk (B, H, T, K up to BK), v, grad, dv (B, H, T, V up to BV), start and totals as in `state_before`; optional end
    (B, H, K, V) float32.
    """
    segment, bh = tl.program_id(0) % segments, tl.program_id(0) // segments
    b, h = bh // heads, bh % heads
    log2_gamma = log2_decay(gamma, h)
    chunks, last, decay, last_decay = step_decays(log2_gamma, T, CHUNK)
    state = state_before(
        start, totals, log2_gamma, segment, segments, chunks_a_segment * CHUNK, T, b, h, heads, 0, 0,
        BK, BV, REVERSE=True, TURNED=False,
    )  # fmt: skip
    log2_gamma = log2_gamma.to(tl.float32)
    token = tl.arange(0, CHUNK)
    first = segment * chunks_a_segment
    stop = tl.minimum(first + chunks_a_segment, chunks)
    for n in range(first, stop):
        chunk = first + stop - 1 - n
        begin = chunk * CHUNK
        queries, keys = load(q, b, h, begin, 0), load(k, b, h, begin, 0)
        values, grads = load(v, b, h, begin, 0), load(grad, b, h, begin, 0)
        until = tl.maximum(tl.where(chunk == chunks - 1, last, CHUNK) - 1 - token, 0)  # tokens until the chunk ends
        behind, held = tl.exp2(until * log2_gamma)[:, None], state.to(queries.dtype)
        acc = dot(values, tl.trans(held), None, PRECISION) * behind
        scores = dot(values, tl.trans(grads), None, PRECISION)
        acc = dot(_weighed(scores, token, token, log2_gamma, True).to(queries.dtype), queries, acc, PRECISION)
        store(dk, acc, b, h, begin, 0)
        acc = dot(keys, held, None, PRECISION) * behind
        scores = dot(keys, tl.trans(queries), None, PRECISION)
        acc = dot(_weighed(scores, token, token, log2_gamma, True).to(grads.dtype), grads, acc, PRECISION)
        store(dv, acc, b, h, begin, 0)
        weight = tl.exp2((token + 1) * log2_gamma)
        state += state * tl.where(chunk == chunks - 1, last_decay, decay)
        state = dot((tl.trans(queries) * weight[None, :]).to(grads.dtype), grads, state, PRECISION)
    if end is not None:  # noqa: SIM102 (which Triton asks while it compiles)
        if segment == 0:
            store(end, state, b, h, 0, 0)


# ---------------------------------------------------------------- launches


def outputs_of(x, y, z, gamma, states, chunk, span, tiles, *, reverse=False, transposed=False, from_zero=False):
    """(X Y^T * D) Z + decayed X S, (B, H, T, V), from the states that `states_of` left a span of tokens apart.

    chunk: tokens of a tile of keys, of which a span holds one or several. from_zero: `states_of` had no start.
    """
    (batch, heads, time, key_dim), value_dim = x.shape, z.shape[3]
    out = common.token_major(x, value_dim)
    bm, bk = min(tiles["BM"], chunk), min(tiles["BK"], common.power_of_two(key_dim))
    bv = min(tiles["BV"], common.power_of_two(value_dim))
    total = common.blocks(value_dim, bv) * common.blocks(time, bm) * batch * heads
    launch(
        _outputs_kernel, (min(total, tiles["residents"] * common.multiprocessors(x.device)),),
        common.descriptor(x, bm, bk), common.descriptor(y, chunk, bk), common.descriptor(z, chunk, bv), gamma,
        common.descriptor(states, *((bv, bk) if transposed else (bk, bv))), common.descriptor(out, bm, bv // 2),
        time, heads, key_dim, value_dim, total,
        CHUNK=chunk, SPAN=span, BM=bm, BK=bk, BV=bv, REVERSE=reverse, TRANSPOSED=transposed, FROM_ZERO=from_zero,
        PRECISION=common.precision_of(x),
        num_warps=tiles["warps"], num_stages=tiles["stages"],
    )  # fmt: skip
    return out


def gradients_of(q, k, v, gamma, before, behind, grad, chunk, span, tiles, *, from_zero=False, to_zero=False):
    """(dq, dk, dv) in one launch, from the states before and behind that `states_of` left a span of tokens apart.

    from_zero, to_zero: as from_zero in `outputs_of`, of the states before and behind.
    """
    (batch, heads, time, key_dim), value_dim = q.shape, v.shape[3]
    grads = [common.token_major(x, x.shape[3]) for x in (q, k, v)]
    bk, bv = tiles["BK"], min(tiles["BV"], common.power_of_two(max(key_dim, value_dim)))
    total = common.blocks(time, chunk) * batch * heads
    launch(
        _gradients_kernel, (min(total, tiles["residents"] * common.multiprocessors(q.device)),),
        *(common.descriptor(x, chunk, bk) for x in (q, k, v, grad)),
        *(common.descriptor(x, chunk, bv) for x in (q, k, grad)), gamma,
        common.descriptor(before, bv, bk), common.descriptor(behind, bv, bk), common.descriptor(behind, bk, bv),
        *(common.descriptor(x, chunk, bv // 2) for x in grads),
        time, heads, key_dim, value_dim, total,
        CHUNK=chunk, SPAN=span, BK=bk, BV=bv,
        KEY_TILES=common.blocks(key_dim, bv), VALUE_TILES=common.blocks(value_dim, bv),
        FROM_ZERO=from_zero, TO_ZERO=to_zero, PRECISION=common.precision_of(q),
        num_warps=tiles["warps"], num_stages=tiles["stages"],
    )  # fmt: skip
    return tuple(grads)


def walk_of(x, y, z, gamma, start, totals, chunk, parts, tiles, *, reverse=False, turned=False, want_end=True):
    """(X Y^T * D) Z + decayed X S and, if wanted, the last state, in one pass; totals: of `totals_of`, parts the same.

    turned: start and totals are those of S^T.
    """
    (batch, heads, time, key_dim), value_dim = x.shape, z.shape[3]
    bk = common.power_of_two(key_dim)
    bv = min(tiles["BV"], common.power_of_two(value_dim), max(64, STATE * tiles["warps"] // bk))
    out, end = common.token_major(x, value_dim), common.state_like(x, z) if want_end else None
    stored = (bv, bk) if turned else (bk, bv)
    launch(
        _walk_kernel, (common.blocks(value_dim, bv) * batch * heads * parts[0],),
        common.descriptor(x, chunk, bk), common.descriptor(y, chunk, bk), common.descriptor(z, chunk, bv), gamma,
        common.descriptor(start, *stored), common.descriptor(totals, *stored),
        common.descriptor(out, chunk, bv), common.descriptor(end, bk, bv), time, heads, value_dim, *parts,
        CHUNK=chunk, BK=bk, BV=bv, REVERSE=reverse, TURNED=turned, PRECISION=common.precision_of(x),
        num_warps=tiles["warps"], num_stages=tiles["stages"],
    )  # fmt: skip
    return out, end


def walk_back_of(q, k, v, grad, gamma, start, totals, chunk, parts, tiles, *, want_end=True):
    """(dk, dv, dstate) in one pass back in time; start: the gradient of the last state, totals: of `totals_of`, backwards."""
    (batch, heads, time, key_dim), value_dim = q.shape, v.shape[3]
    bk, bv = common.power_of_two(key_dim), common.power_of_two(value_dim)
    dk, dv = common.token_major(k, key_dim), common.token_major(v, value_dim)
    end = common.state_like(q, v) if want_end else None
    launch(
        _walk_back_kernel, (batch * heads * parts[0],),
        *(common.descriptor(x, chunk, width) for x, width in ((q, bk), (k, bk), (v, bv), (grad, bv))), gamma,
        common.descriptor(start, bk, bv), common.descriptor(totals, bk, bv),
        common.descriptor(dk, chunk, bk), common.descriptor(dv, chunk, bv), common.descriptor(end, bk, bv),
        time, heads, *parts,
        CHUNK=chunk, BK=bk, BV=bv, PRECISION=common.precision_of(q), num_warps=tiles["warps"], num_stages=tiles["stages"],
    )  # fmt: skip
    return dk, dv, end


def one_pass_of(q, tiles):
    """How a direction computes in one pass: the parts that `cut` returns, and for each role the tiles for so many walks."""
    sequences = q.shape[0] * q.shape[1]
    parts = cut(sequences, common.blocks(q.shape[2], tiles["chunk"]), tiles["programs"])
    # A role's first tiles are for as many walks as wanted, its last for fewer.
    fit = 0 if sequences * parts[0] >= tiles["programs"] else -1
    return parts, {role: tiles[role][fit] for role in tiles if isinstance(tiles[role], list)}


def forward_of(q, k, v, gamma, state, tiles):
    """(out, state, totals) with the tiles of a configuration's "forward"; totals: what `backward_of` may be given."""
    chunk, choices, programs = tiles["chunk"], tiles["states"], tiles["programs"]
    if tiles["one_pass"]:
        parts, tiles = one_pass_of(q, tiles)
        totals = totals_of(k, v, gamma, chunk, parts, tiles["states"])
        return *walk_of(q, k, v, gamma, state, totals, chunk, parts, tiles["outputs"]), totals
    if tiles.get("on_chip") and (results := walk_on_chip(q, k, v, gamma, state, tiles)):
        return *results, None
    span = tiles.get("span", chunk)
    states, end = states_of(k, v, gamma, state, span, choices, programs)
    return outputs_of(q, k, v, gamma, states, chunk, span, tiles["outputs"], from_zero=state is None), end, None


def backward_of(q, k, v, gamma, state, totals, grad, grad_state, tiles):
    """(dq, dk, dv, dstate) with the tiles of a configuration's "backward"; dstate is None without a state.

    Tiles of "gradients", which it may have, are for one launch: of two passes in place of those of dq, dk and dv, of one pass
    in place of those of dk and dv.
    """
    chunk, choices, programs, given = tiles["chunk"], tiles["states"], tiles["programs"], state is not None
    if tiles["one_pass"]:
        parts, tiles = one_pass_of(q, tiles)
        walk = functools.partial(walk_of, gamma=gamma, chunk=chunk, parts=parts)
        if totals is None:  # else of the same parts: the table has one chunk and number of programs for both directions
            totals = totals_of(k, v, gamma, chunk, parts, tiles["states"])
        dq, _ = walk(grad, v, k, start=state, totals=totals, tiles=tiles["dq"], turned=True, want_end=False)
        totals = totals_of(q, grad, gamma, chunk, parts, tiles["states"], reverse=True)
        if both := tiles.get("gradients"):
            return dq, *walk_back_of(q, k, v, grad, gamma, grad_state, totals, chunk, parts, both, want_end=given)
        walk = functools.partial(walk, start=grad_state, totals=totals, reverse=True)
        dk, _ = walk(v, grad, q, tiles=tiles["dk"], turned=True, want_end=False)
        dv, dstate = walk(k, q, grad, tiles=tiles["dv"], want_end=given)
        return dq, dk, dv, dstate
    span, fused = tiles.get("span", chunk), tiles.get("gradients")
    from_zero, to_zero = state is None, grad_state is None
    before, _ = states_of(k, v, gamma, state, span, choices, programs, want_end=False)
    if not fused:
        dq = outputs_of(grad, v, k, gamma, before, chunk, span, tiles["dq"], transposed=True, from_zero=from_zero)
        before = None  # to make room
    behind, dstate = states_of(q, grad, gamma, grad_state, span, choices, programs, reverse=True, want_end=given)
    if fused:
        ends = {"from_zero": from_zero, "to_zero": to_zero}
        return *gradients_of(q, k, v, gamma, before, behind, grad, chunk, span, fused, **ends), dstate
    back = {"states": behind, "chunk": chunk, "span": span, "reverse": True, "from_zero": to_zero}
    dk = outputs_of(v, grad, q, gamma, tiles=tiles["dk"], transposed=True, **back)
    dv = outputs_of(k, q, grad, gamma, tiles=tiles["dv"], **back)
    return dq, dk, dv, dstate


# ---------------------------------------------------------------- what torch sees


def _tiles(q, v, direction, chunk):
    tiles = tiles_of(q, v, chunk)[direction]
    if chunk and not tiles["one_pass"]:
        return tiles | {"chunk": chunk, "span": chunk}
    return tiles | {"on_chip": True} if not tiles["one_pass"] and direction == "forward" and on_chip(q, v) else tiles


def _now(function, direction, chunk, *given):
    """function(*given, tiles) on the device of q, the first given, replayed where such a call was recorded."""
    q, _, v, *_ = given
    kind = kind_of(*given)
    if results := again(kind and (function, chunk, *kind), given):
        return results
    with torch.cuda.device_of(q):  # Triton launches on the current device
        common.bind(q.device)
        copied = tuple(map(common.readable, given))
        kind = kind and kind_of(*copied)
        call = lambda *arrays: function(*arrays, _tiles(q, v, direction, chunk))  # noqa: E731
        return again_or_recorded(call, kind and (function, chunk, *kind), copied)


@with_tiles_that_fit
def _forward_now(q, k, v, gamma, state, chunk):
    return _now(forward_of, "forward", chunk, q, k, v, gamma, state)


@with_tiles_that_fit
def _backward_now(q, k, v, gamma, state, totals, grad, grad_state, chunk):
    return _now(backward_of, "backward", chunk, q, k, v, gamma, state, totals, grad, grad_state)


def _total(x, gamma, y, tiles, *, reverse):
    return (total_of(x, y, gamma, tiles["chunk"], tiles["states"], tiles["programs"], reverse=reverse),)


TOTALS = {reverse: functools.partial(_total, reverse=reverse) for reverse in (False, True)}


@with_tiles_that_fit
def _total_now(x, gamma, y, reverse, chunk):
    return _now(TOTALS[reverse], "backward" if reverse else "forward", chunk, x, gamma, y)


# The same as operators, so that compilers do not trace into them. An operator cannot return None.


@torch.library.custom_op("retnet::chunkwise", mutates_args=())
def _forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gamma: torch.Tensor, state: torch.Tensor | None, chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return _forward_now(q, k, v, gamma, state, chunk)[:2]


@_forward.register_fake
def _(q, k, v, gamma, state, chunk):
    return common.token_major(v, v.shape[3]), common.state_like(q, v)


@torch.library.custom_op("retnet::chunkwise_backward", mutates_args=())
def _backward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gamma: torch.Tensor, state: torch.Tensor | None,
    grad: torch.Tensor, grad_state: torch.Tensor | None, chunk: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    *grads, dstate = _backward_now(q, k, v, gamma, state, None, grad, grad_state, chunk)
    return *grads, q.new_empty(0) if dstate is None else dstate


@_backward.register_fake
def _(q, k, v, gamma, state, grad, grad_state, chunk):
    dstate = q.new_empty(0) if state is None else common.state_like(q, v)
    return *(common.token_major(x, x.shape[3]) for x in (q, k, v)), dstate


def _as_heads(operator, gamma=3):
    """Teach an operator torch.vmap: the new axis becomes more heads, which may have decays of their own."""

    def folded(x, dim, axis, size):
        if not isinstance(x, torch.Tensor):
            return x
        return (torch.stack([x] * size, axis) if dim is None else x.movedim(dim, axis)).flatten(axis, axis + 1)

    def call(info, in_dims, *args):
        size = info.batch_size
        results = operator(*(folded(x, in_dims[i], 0 if i == gamma else 1, size) for i, x in enumerate(args)))
        axes = tuple(None if x.ndim == 1 else 1 for x in results)  # the gradient of no state is an empty array
        return tuple(
            x if axis is None else x.unflatten(1, (size, -1)) for x, axis in zip(results, axes, strict=True)
        ), axes

    operator.register_vmap(call)


_as_heads(_forward)
_as_heads(_backward)


class _Gradients(torch.autograd.Function):
    """`_backward` for torch.func, to which a result without a graph is a constant: second derivatives would read as zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments):
        return _backward(*arguments)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Nothing is kept."""

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError("the fused kernels have no second derivatives; retention_chunkwise has them")


class _Chunkwise(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, v, gamma, state, chunk):
        """out, the state, and what the backward pass may be given: operators return neither None nor totals."""
        if traced(q, k, v, gamma, state):
            return *_forward(q, k, v, gamma, state, chunk), None
        return _forward_now(q, k, v, gamma, state, chunk)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *arguments, ctx.chunk = inputs
        ctx.set_materialize_grads(False)  # an unused state then has no gradient, instead of zeros that would be read
        ctx.save_for_backward(*arguments, output[2])
        if output[2] is not None:
            ctx.mark_non_differentiable(output[2])

    @staticmethod
    def backward(ctx, grad, grad_state, _):
        *arguments, totals = ctx.saved_tensors
        if grad is None:
            grad = torch.zeros_like(arguments[2])
        if torch._C._are_functorch_transforms_active():
            grads = _Gradients.apply(*arguments, grad, grad_state, ctx.chunk)
        elif traced(*arguments, grad, grad_state):
            grads = _backward(*arguments, grad, grad_state, ctx.chunk)
        else:
            grads = _backward_once(ctx, *arguments, totals, grad, grad_state)
        dq, dk, dv, dstate = grads
        return dq, dk, dv, None, None if arguments[4] is None else dstate, None


@torch.autograd.function.once_differentiable
def _backward_once(ctx, *arrays):
    return _backward_now(*arrays, ctx.chunk)


def _call(q, k, v, gamma, state, chunk, kind):
    """(out, state), through autograd only where it is needed: it takes longer than a launch."""
    if kind is None or _differentiated(q, k, v, state):
        return _Chunkwise.apply(q, k, v, gamma, state, chunk)[:2]
    results = again((forward_of, chunk, *kind), (q, k, v, gamma, state))
    return (results or _forward_now(q, k, v, gamma, state, chunk))[:2]


def _differentiated(*arrays):
    """True if gradients by one of the arrays may be asked for, or if torch computes derivatives in forward mode."""
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in arrays if x is not None)
    return wanted or forward_ad._current_level >= 0


def _fills(x, y):
    """How many channels of zeros x and y lack: the copy engine needs rows of whole 16 bytes, and zeros change nothing."""
    return tuple(-each.shape[3] % 16 for each in (x, y))


@with_lengths
def retention_chunkwise_triton(q, k, v, gamma, state=None, *, chunk_size=None):
    """`refimpl.retention_chunkwise` for torch tensors on a GPU (Eq. 7), differentiable by all but gamma.

    Shapes and errors: the contract in `refimpl.retention`, for bfloat16, float16 and float32, with a float32 state.
    chunk_size: how many tokens apart states are stored, rounded up to 64 or 128; narrow heads of halves store none. It
    changes the result only by rounding. None: the size that was measured to be fastest.

    Any strides; those of (B, T, H, K) transposed cost no copy where 16 divides K and V, and out has them. In float16,
    outputs, scores q k^T, states and their gradients must stay below 65,504. Sequences of different lengths, as
    `refimpl.lengths` has them, are moved to a common end and back by torch.
    """
    kind = check_fused(q, k, v, gamma, state)
    chunk = (
        0 if chunk_size is None else min(128, common.power_of_two(check_integer("chunk_size", chunk_size, minimum=1)))
    )
    if 0 in (*q.shape, v.shape[3]):  # nothing to launch
        zeros = torch.zeros((*q.shape[:2], q.shape[3], v.shape[3]), dtype=torch.float32, device=q.device)
        return 0.0 * v, zeros if state is None else 1.0 * state
    key_fill, value_fill = _fills(q, v)
    if key_fill or value_fill:
        q, k, v = pad(q, (0, key_fill)), pad(k, (0, key_fill)), pad(v, (0, value_fill))
        state = None if state is None else pad(state, (0, value_fill, 0, key_fill))
        kind = kind and kind_of(q, k, v, gamma, state)
    out, state = _call(q, k, v, gamma, state, chunk, kind)
    if key_fill or value_fill:
        out = out[..., : v.shape[3] - value_fill]
        state = state[..., : q.shape[3] - key_fill, : v.shape[3] - value_fill].contiguous()
    return out, state


def state_written_triton(x, y, gamma, *, reverse=False):
    """What tokens add to the state, K^T (V * zeta) of keys x and values y (Eq. 7), without outputs and without gradients.

    reverse: (xi Q)^T G of queries x and gradients of outputs y, what they add to the gradient of the state before them.

    Args:
        x (B, H, T, K), y (B, H, T, V): bfloat16, float16 or float32, on a GPU, of any strides.
        gamma: (H,) float32 or float64 in (0, 1], not looked at.

    Returns:
        (B, H, K, V) float32.
    """
    if 0 in (*x.shape, y.shape[3]):
        return common.state_like(x, y).zero_()
    key_fill, value_fill = _fills(x, y)
    x, y = (pad(each, (0, fill)) if fill else each for each, fill in ((x, key_fill), (y, value_fill)))  # pad copies
    total, *_ = _total_now(x, gamma, y, reverse, 0)
    return total[..., : x.shape[3] - key_fill, : y.shape[3] - value_fill]


def retention_step_triton(q, k, v, gamma, state=None, *, out_state=None):
    """`refimpl.retention_step` for torch tensors on a GPU (Eq. 6): one token, the state read once and written once.

    Arguments, results and errors as for `retention_chunkwise_triton`; T must be 1. out_state: a contiguous float32
    (B, H, K, V) that receives the new state and is returned; it may be `state` itself, as in a CUDA graph. Without it, a
    call that needs gradients goes to the chunkwise form; torch raises for derivatives in forward mode.
    """
    kind = check_fused(q, k, v, gamma, state)
    check_one_token(q)
    if out_state is None:
        # The chunkwise form is an operator, which compilers and torch.func can take.
        if kind is None or _differentiated(q, k, v, state):
            return retention_chunkwise_triton(q, k, v, gamma, state)
        return launch_step(q, k, v, gamma, state, None, kind)
    check_arrays(q=q, out_state=out_state)
    if _differentiated(q, k, v, state, out_state):
        raise ValueError("out_state must be None where gradients are asked for, got a tensor")
    check_state("out_state", out_state, (*q.shape[:2], q.shape[3], v.shape[3]), q.dtype)
    if not out_state.is_contiguous():
        raise ValueError(f"out_state must be contiguous, got strides {out_state.stride()}")
    torch.autograd.graph.increment_version(out_state)  # so that autograd notices if a graph had saved the old state
    return launch_step(q, k, v, gamma, state, out_state, kind)

"""The states of a retention: what the past weighs at the start of every chunk, or of every segment of time.

S = gamma^C S + K^T (V * zeta) from chunk to chunk, forwards or backwards in time (`gpu.kernels.triton_retention` derives it). The
chunks of a head follow one another, so one program walks through them with its tile of S in registers. Where heads and
tiles of the state are too few to fill a GPU, time is cut into segments: first what each adds to the state, then all
segments at once, each from the sum of those before it. Of fast heads that is what a float32 does not weigh as zero: what is
further back is not read. x and y are keys and values, or, backwards, queries and gradients.
"""

import torch
import triton
import triton.language as tl

from . import triton_common as common
from .replay import launch
from .triton_common import dot, load, log2_decay, power_less_one, step_decays, store

FAR = tl.constexpr(150.0)  # halvings: 2^-150 is zero in float32


@triton.jit
def _within_reach(log2_gamma, tokens):
    """How many stretches of so many tokens to walk: what came before them a float32 weighs as zero.

    One more is for the fraction, and one for a last stretch that is ragged.
    """
    return (1.0 / tl.maximum(-log2_gamma * tokens, 1e-6) * FAR).to(tl.int32) + 2


@triton.jit
def state_before(
    start, totals, log2_gamma, segment, segments, tokens_a_segment, T, b, h, heads, row, column,
    BK: tl.constexpr, BV: tl.constexpr, REVERSE: tl.constexpr, TURNED: tl.constexpr,
):  # fmt: skip
    """A tile of the state from which a segment is walked, float32.

    Optional: start (B, H, K, V), zero without; totals (B H, segments, K, V), what each adds, None where there is one.
    TURNED: both are of the state's transpose.
    """
    acc = tl.zeros((BK, BV), tl.float32)
    walked = segments - 1 - segment if REVERSE else segment
    first = tl.maximum(walked - _within_reach(log2_gamma, tokens_a_segment), 0)
    if start is not None:  # noqa: SIM102 (which Triton asks while it compiles)
        if first == 0:
            acc = tl.trans(load(start, b, h, column, row)) if TURNED else load(start, b, h, row, column)
    if totals is not None:
        bh = b * heads + h
        for n in range(first, walked):
            earlier = segments - 1 - n if REVERSE else n
            length = tl.minimum(tokens_a_segment, T - earlier * tokens_a_segment)
            total = (
                tl.trans(load(totals, bh, earlier, column, row)) if TURNED else load(totals, bh, earlier, row, column)
            )
            acc += acc * power_less_one(log2_gamma, length) + total
    return acc


@triton.jit(do_not_specialize=["T", "heads", "segments", "chunks_a_segment"])
def _states_kernel(
    x, y, gamma, start, totals, states, end, T, heads, K, V, segments, chunks_a_segment,
    CHUNK: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    REVERSE: tl.constexpr, LAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One BK x BV tile of the state of one head, through one segment of the chunks, in steps of BT tokens.

    x (B, H, T, K), y (B, H, T, V), start and totals as in `state_before`, states (B H, chunks, K, V); optional end (B, H, K,
    V) float32. Without states, end is (B H, segments, K, V), what each adds. LAST: whether the last segment walked is.
    """
    across, pid = tl.cdiv(V, BV), tl.program_id(0)
    tiles = tl.cdiv(K, BK) * across
    walked = segments if LAST else segments - 1
    tile, segment, bh = pid % tiles, pid // tiles % walked, pid // tiles // walked
    if REVERSE and not LAST:
        segment += 1
    row, column = tile // across * BK, tile % across * BV
    b, h = bh // heads, bh % heads

    log2_gamma = log2_decay(gamma, h)
    steps, _, decay, last_decay = step_decays(log2_gamma, T, BT)
    tokens_a_segment = chunks_a_segment * CHUNK
    acc = state_before(
        start, totals, log2_gamma, segment, segments, tokens_a_segment, T, b, h, heads, row, column,
        BK, BV, REVERSE, TURNED=False,
    )  # fmt: skip
    log2_gamma = log2_gamma.to(tl.float32)
    STEPS: tl.constexpr = CHUNK // BT  # a chunk
    first = segment * chunks_a_segment * STEPS
    stop = tl.minimum(first + chunks_a_segment * STEPS, steps)
    begun = tl.maximum(first, stop - _within_reach(log2_gamma, BT)) if states is None else first
    token = tl.arange(0, BT)
    weight = tl.exp2((token + 1 if REVERSE else BT - 1 - token) * log2_gamma)
    if states is not None and (start is not None or totals is not None):
        store(states, acc, bh, (stop - 1 if REVERSE else first) // STEPS, row, column)
    for n in range(begun, stop):
        step = first + stop - 1 - n if REVERSE else n
        # Forwards, a ragged last step reads BT tokens up to the last, as weight wants; those it has read count zero.
        begin = step * BT if REVERSE else tl.minimum(step * BT, T - BT)
        keys, values = tl.trans(load(x, b, h, begin, row)), load(y, b, h, begin, column)
        keys = (keys * tl.where(begin + token < step * BT, 0.0, weight)[None, :]).to(values.dtype)
        acc += acc * tl.where(step == steps - 1, last_decay, decay)
        acc = dot(keys, values, acc, PRECISION)
        if states is not None:  # after the product and not before the next, or two of acc would be held
            following = step - 1 if REVERSE else step + 1
            if (following // STEPS != step // STEPS) & (n + 1 < stop):
                store(states, acc, bh, following // STEPS, row, column)
    if states is None:
        store(end, acc, bh, segment, row, column)
    elif end is not None:  # noqa: SIM102 (which Triton asks while it compiles)
        if segment == (0 if REVERSE else segments - 1):
            store(end, acc, b, h, row, column)


@triton.jit(do_not_specialize=["T", "heads", "segments", "tokens_a_segment"])
def _sum_kernel(
    start, totals, gamma, sums, T, heads, K, V, segments, tokens_a_segment,
    BK: tl.constexpr, BV: tl.constexpr, REVERSE: tl.constexpr, EACH: tl.constexpr,
):  # fmt: skip
    """A tile of the state of one head behind all segments, sums (B, H, K, V), or EACH: before each, (B H, segments, K, V).

    start, totals: as in `state_before`.
    """
    across, pid = tl.cdiv(V, BV), tl.program_id(0)
    tiles, stops = tl.cdiv(K, BK) * across, segments if EACH else 1
    tile, stop, bh = pid % tiles, pid // tiles % stops, pid // tiles // stops
    row, column = tile // across * BK, tile % across * BV
    b, h = bh // heads, bh % heads
    if not EACH:
        stop = -1 if REVERSE else segments  # the segment that would follow the last walked
    acc = state_before(
        start, totals, log2_decay(gamma, h), stop, segments, tokens_a_segment, T, b, h, heads, row, column,
        BK, BV, REVERSE, TURNED=False,
    )  # fmt: skip
    if EACH:
        store(sums, acc, bh, stop, row, column)
    else:
        store(sums, acc, b, h, row, column)


def cut(programs, chunks, wanted):
    """(segments, chunks of each): time is cut where there are too few programs, for about as many as wanted."""
    segments = max(1, min(wanted // programs, chunks // 2))
    chunks_a_segment = common.blocks(chunks, segments)
    return common.blocks(chunks, chunks_a_segment), chunks_a_segment


def totals_of(x, y, gamma, chunk, parts, tiles, *, reverse=False):
    """What each segment but the last walked adds to the state, (B H, segments, K, V) float32; None for one segment.

    parts: as `cut` returns them.
    """
    if parts[0] == 1:
        return None
    totals = x.new_empty((x.shape[0] * x.shape[1], parts[0], x.shape[3], y.shape[3]), dtype=torch.float32)
    _walk_states(x, y, gamma, None, None, None, totals, chunk, parts, tiles, reverse)
    return totals


def total_of(x, y, gamma, chunk, choices, programs, *, reverse=False):
    """What all tokens add to the state, K^T (V * zeta), or back in time (xi Q)^T G: (B, H, K, V) float32.

    x and y are read once, and of fast heads only what a float32 does not weigh as zero. choices, programs: as in `fitting`.
    """
    (batch, heads, time, key_dim), value_dim = x.shape, y.shape[3]
    tiles, chunks = fitting(choices, x, y, programs), common.blocks(time, chunk)
    parts = cut(_tiles_of_state(tiles, x, y), chunks, programs)
    totals = x.new_empty((batch * heads, parts[0], key_dim, value_dim), dtype=torch.float32)
    _walk_states(x, y, gamma, None, None, None, totals, chunk, parts, tiles, reverse, last=True)
    end = common.state_like(x, y)
    _sum(None, totals, gamma, end, x, y, chunk, parts, reverse=reverse, each=False)
    return end


def before_segments(start, totals, gamma, x, y, chunk, parts):
    """The state before each segment, (B H, segments, K, V) float32, from the start and what each adds: of `totals_of`."""
    sums = torch.empty_like(totals)
    _sum(start, totals, gamma, sums, x, y, chunk, parts, reverse=False, each=True)
    return sums


def _sum(start, totals, gamma, sums, x, y, chunk, parts, *, reverse, each):
    (batch, heads, time, key_dim), value_dim, block = x.shape, y.shape[3], 64
    tiles = common.blocks(key_dim, block) * common.blocks(value_dim, block)
    launch(
        _sum_kernel, (tiles * batch * heads * (parts[0] if each else 1),),
        *(common.descriptor(x, block, block) for x in (start, totals)), gamma, common.descriptor(sums, block, block),
        time, heads, key_dim, value_dim, parts[0], parts[1] * chunk,
        BK=block, BV=block, REVERSE=reverse, EACH=each, num_warps=4, num_stages=2,
    )  # fmt: skip


def fitting(choices, x, y, programs):
    """The first of these tiles of a state, widest first, that makes at least `programs` programs; the last if none does."""
    return next((tiles for tiles in choices if _tiles_of_state(tiles, x, y) >= programs), choices[-1])


def states_of(x, y, gamma, start, chunk, choices, programs, *, reverse=False, want_end=True):
    """The state before each chunk, (B H, chunks, K, V) in x's dtype, and the last state, float32, if wanted.

    Without a start and with one segment, the state before the first chunk walked, zero, is not written.
    choices, programs: as in `fitting`.
    """
    (batch, heads, time, key_dim), value_dim = x.shape, y.shape[3]
    tiles, chunks = fitting(choices, x, y, programs), common.blocks(time, chunk)
    parts = cut(_tiles_of_state(tiles, x, y), chunks, programs)
    totals = totals_of(x, y, gamma, chunk, parts, tiles, reverse=reverse)
    states = x.new_empty((batch * heads, chunks, key_dim, value_dim))
    end = common.state_like(x, y) if want_end else None
    _walk_states(x, y, gamma, start, totals, states, end, chunk, parts, tiles, reverse)
    return states, end


def _tiles_of_state(tiles, x, y):
    bk, bv = (min(tiles[name], common.power_of_two(z.shape[3])) for name, z in (("BK", x), ("BV", y)))
    return common.blocks(x.shape[3], bk) * common.blocks(y.shape[3], bv) * x.shape[0] * x.shape[1]


def _walk_states(x, y, gamma, start, totals, states, end, chunk, parts, tiles, reverse, *, last=False):
    last = last or states is not None
    (_, heads, time, key_dim), value_dim = x.shape, y.shape[3]
    bk, bv = min(tiles["BK"], common.power_of_two(key_dim)), min(tiles["BV"], common.power_of_two(value_dim))
    bt, walked = min(tiles["BT"], chunk), parts[0] - (not last)
    launch(
        _states_kernel, (_tiles_of_state(tiles, x, y) * walked,),
        common.descriptor(x, bt, bk), common.descriptor(y, bt, bv), gamma,
        *(common.descriptor(each, bk, bv) for each in (start, totals, states, end)), time, heads, key_dim, value_dim, *parts,
        CHUNK=chunk, BT=bt, BK=bk, BV=bv, REVERSE=reverse, LAST=last, PRECISION=common.precision_of(x),
        num_warps=tiles["warps"], num_stages=tiles["stages"],
    )  # fmt: skip

"""The states of a retention: what the past weighs at the start of every chunk, or of every segment of time.

S = gamma^C S + K^T (V * zeta) from chunk to chunk, forwards or backwards in time (`gpu.triton_retention` derives it). The
chunks of a head follow one another, so one program walks through them with its tile of S in registers. Where heads and
tiles of the state are too few to fill a GPU, time is cut into segments: what each adds to the state, a scan over these,
then all segments at once.
"""

import torch
import triton
import triton.language as tl

from . import triton_common as common
from .triton_common import dot, load, power_less_one, step_decays, store


@triton.jit(do_not_specialize=["T", "heads", "segments", "chunks_a_segment"])
def _states_kernel(
    x, y, log2_gammas, start, states, end, T, heads, K, V, segments, chunks_a_segment,
    CHUNK: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One BK x BV tile of the state of one head, through one segment of the chunks, in steps of BT tokens.

    x (B, H, T, K), y (B, H, T, V). Optional: start and end (segments, B H, K, V) float32, states (B H, chunks, K, V).
    """
    across, pid = tl.cdiv(V, BV), tl.program_id(0)
    tiles = tl.cdiv(K, BK) * across
    tile, segment, bh = pid % tiles, pid // tiles % segments, pid // tiles // segments
    row, column = tile // across * BK, tile % across * BV
    b, h = bh // heads, bh % heads

    log2_gamma = tl.load(log2_gammas + h)
    steps, _, decay, last_decay = step_decays(log2_gamma, T, BT)
    log2_gamma = log2_gamma.to(tl.float32)

    acc = tl.zeros((BK, BV), tl.float32)
    if start is not None:
        acc = load(start, segment, bh, row, column)
    STEPS: tl.constexpr = CHUNK // BT  # a chunk
    first = segment * chunks_a_segment * STEPS
    stop = tl.minimum(first + chunks_a_segment * STEPS, steps)
    token = tl.arange(0, BT)
    weight = tl.exp2((token + 1 if REVERSE else BT - 1 - token) * log2_gamma)
    if states is not None:
        store(states, acc, bh, (stop - 1 if REVERSE else first) // STEPS, row, column)
    for n in range(first, stop):
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
    if end is not None:
        store(end, acc, segment, bh, row, column)


@triton.jit(do_not_specialize=["T", "heads", "segments", "tokens_a_segment"])
def _scan_kernel(
    totals,
    log2_gammas,
    start,
    end,
    T,
    heads,
    size,
    segments,
    tokens_a_segment,
    REVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Put the state before each segment in the place of what the segment adds: totals (segments, B H, K V)."""
    bh, all_bh = tl.program_id(1), tl.num_programs(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    log2_gamma = tl.load(log2_gammas + bh % heads)
    acc = tl.zeros((BLOCK,), tl.float32)
    if start is not None:
        acc = tl.load(start + tl.cast(bh, tl.int64) * size + at, mask=inside)
    for n in range(segments):
        segment = segments - 1 - n if REVERSE else n
        place = totals + (tl.cast(segment, tl.int64) * all_bh + bh) * size + at
        total = tl.load(place, mask=inside)
        tl.store(place, acc, mask=inside)
        length = tl.minimum(tokens_a_segment, T - segment * tokens_a_segment)
        acc += acc * power_less_one(log2_gamma, length) + total
    tl.store(end + tl.cast(bh, tl.int64) * size + at, acc, mask=inside)


def cut(programs, chunks, wanted):
    """(segments, chunks of each): time is cut where there are too few programs, for about as many as wanted."""
    segments = max(1, min(wanted // programs, chunks // 2))
    chunks_a_segment = common.blocks(chunks, segments)
    return common.blocks(chunks, chunks_a_segment), chunks_a_segment


def states_of(x, y, log2_gamma, start, chunk, tiles, *, reverse=False, segments=None):
    """What the state was before each chunk, (B H, chunks, K, V) in x's dtype, and the last state, float32."""
    (batch, heads, time, key_dim), value_dim = x.shape, y.shape[3]
    chunks = common.blocks(time, chunk)
    states = x.new_empty((batch * heads, chunks, key_dim, value_dim))
    parts = (
        cut(_tiles_of_state(tiles, x, y), chunks, tiles["programs"]) if segments is None else cut(1, chunks, segments)
    )
    if parts[0] == 1:
        end = x.new_empty((1, batch * heads, key_dim, value_dim), dtype=torch.float32)
        _walk_states(x, y, log2_gamma, start, states, end, chunk, parts, tiles, reverse)
    else:
        starts, end = starts_of(x, y, log2_gamma, start, chunk, parts, tiles, reverse)
        _walk_states(x, y, log2_gamma, starts, states, None, chunk, parts, tiles, reverse)
    return states, end.view(batch, heads, key_dim, value_dim)


def starts_of(x, y, log2_gamma, start, chunk, parts, tiles, reverse):
    """What the state was before each segment, (segments, B H, K, V), and the last state, (1, B H, K, V), float32."""
    (batch, heads, time, key_dim), value_dim, (segments, a_segment) = x.shape, y.shape[3], parts
    starts = x.new_empty((segments, batch * heads, key_dim, value_dim), dtype=torch.float32)
    _walk_states(x, y, log2_gamma, None, None, starts, chunk, parts, tiles, reverse)
    end, size = torch.empty_like(starts[:1]), key_dim * value_dim
    _scan_kernel[(common.blocks(size, 1024), batch * heads)](
        starts, log2_gamma, start, end, time, heads, size, segments, a_segment * chunk, REVERSE=reverse, BLOCK=1024
    )
    return starts, end


def _tiles_of_state(tiles, x, y):
    bk, bv = (min(tiles[name], common.power_of_two(z.shape[3])) for name, z in (("BK", x), ("BV", y)))
    return common.blocks(x.shape[3], bk) * common.blocks(y.shape[3], bv) * x.shape[0] * x.shape[1]


def _walk_states(x, y, log2_gamma, start, states, end, chunk, parts, tiles, reverse):
    (_, heads, time, key_dim), value_dim = x.shape, y.shape[3]
    bk, bv = min(tiles["BK"], common.power_of_two(key_dim)), min(tiles["BV"], common.power_of_two(value_dim))
    bt = min(tiles["BT"], chunk)
    start = None if start is None else start.view(-1, x.shape[0] * heads, key_dim, value_dim)
    _states_kernel[(_tiles_of_state(tiles, x, y) * parts[0],)](
        common.descriptor(x, bt, bk), common.descriptor(y, bt, bv), log2_gamma,
        *(common.descriptor(each, bk, bv) for each in (start, states, end)),
        time, heads, key_dim, value_dim, *parts,
        CHUNK=chunk, BT=bt, BK=bk, BV=bv, REVERSE=reverse, PRECISION=common.precision_of(x),
        num_warps=tiles["warps"], num_stages=tiles["stages"],
    )  # fmt: skip

"""The decode step of a whole RetNet in five Triton kernels a layer: what a token moves are weights and states, each once.

A small batch multiplies vectors, so a product is a pass over its weights. Programs share it out by columns and by rows. Those
of some rows write partial sums, which the next kernel adds up in their order as it reads them: no atomics, so the same bits
each time. A norm divides by one number a token, which passes through the product after it, so it is left to the next kernel,
and squares are summed along with the product. On Hopper a kernel starts while the one before ends, and has its first weights
on the way by then.

A wide model's one sequence has products of hundreds of programs, and each would add up the same partial sums. There `prepare`
makes an input once, and `multiply` reads weights alone: all of a program's are on the way at once, as in a copy.

Letters: B sequences, d width, H heads, K and V widths of a head of keys and values, S splits of a product's rows.
"""

import triton
import triton.language as tl

from .triton_common import INTERPRETED, dot


@triton.jit
def _after_the_last_kernel(OVERLAP: tl.constexpr):
    """Wait for what the kernel before this wrote, then let the next one start. Before this, read only what no kernel near writes."""
    if OVERLAP and not INTERPRETED:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _sum_of_parts(parts, at, inside, stride, S: tl.constexpr):
    """Sum of the S partial sums of each number, which lie `stride` apart."""
    total = tl.load(parts + at, mask=inside, other=0.0).to(tl.float32)
    for s in tl.static_range(1, S):
        total += tl.load(parts + s * stride + at, mask=inside, other=0.0)
    return total


@triton.jit
def _inverse_root(squares, b, inside, batch, D: tl.constexpr, EPS: tl.constexpr, S: tl.constexpr):
    """1 / sqrt(mean square + eps) of the inputs of a product, from the sums of squares (S, B) that it left."""
    return 1.0 / tl.sqrt_rn(_sum_of_parts(squares, b, inside, batch, S) / D + EPS)


@triton.jit
def swish(x):
    """x sigmoid(x)."""
    return x / (1.0 + tl.exp(-x))


@triton.jit
def gelu(x):
    """x (1 + erf(x / sqrt 2)) / 2."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def start(
    tokens, position, embedding, frequencies, x, cos, sin,
    D: tl.constexpr, K: tl.constexpr, SCALE: tl.constexpr, ROTATE: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """x (B, d) of the tokens (B,), and cos and sin (B, K/2) of their angles at position (B,), which then counts one more."""
    _after_the_last_kernel(OVERLAP)
    b, i = tl.program_id(0), tl.arange(0, BK)
    token, place = tl.load(tokens + b), tl.load(position + b)
    for first in range(0, D, BD):
        k = first + tl.arange(0, BD)
        row = tl.load(embedding + token * D + k, mask=k < D, other=0.0)
        tl.store(x + b * D + k, SCALE * row.to(tl.float32), mask=k < D)
    if ROTATE:
        angle = place.to(tl.float64) * tl.load(frequencies + i, mask=i < K // 2, other=0.0)
        tl.store(cos + b * (K // 2) + i, tl.cos(angle).to(tl.float32), mask=i < K // 2)
        tl.store(sin + b * (K // 2) + i, tl.sin(angle).to(tl.float32), mask=i < K // 2)
    tl.store(position + b, place + 1)


@triton.jit
def _heads_norm(
    stats, b, head, inside, H: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, NORM: tl.constexpr, EPS: tl.constexpr
):
    """Mean, 0 unless NORM is "mean", and 1 / sqrt(mean square about it + eps) of a head's V numbers, in tiles of BV; for each b."""
    TILES: tl.constexpr = (V + BV - 1) // BV
    at = stats + (b * H + head) * (TILES * 2)
    mean, apart = b * 0.0, b * 0.0
    if NORM == "mean":
        for t in tl.static_range(TILES):
            mean += tl.load(at + 2 * t, mask=inside, other=0.0) * (min(BV, V - t * BV) / V)
    for t in tl.static_range(TILES):
        apart += tl.load(at + 2 * t + 1, mask=inside, other=0.0)
        if NORM == "mean":
            off = tl.load(at + 2 * t, mask=inside, other=0.0) - mean
            apart += min(BV, V - t * BV) * off * off
    return mean, 1.0 / tl.sqrt_rn(apart / V + EPS)


@triton.jit
def _made(
    x, parts, gate, stats, scale, b, k, head, real, inside, batch,
    INPUT: tl.constexpr, WIDTH: tl.constexpr, H: tl.constexpr, NORM: tl.constexpr, BV: tl.constexpr, EPS: tl.constexpr,
    ACTIVATION: tl.constexpr, GATED: tl.constexpr, S_IN: tl.constexpr,
):  # fmt: skip
    """Numbers k, of a head, of a product's input: see `product`. A stream's are not yet times the weight of its norm."""
    at = b * (H * WIDTH) + k
    if INPUT == "stream":
        value = tl.load(x + at, mask=inside, other=0.0)
        if S_IN > 0:
            value += _sum_of_parts(parts, at, inside, batch * (H * WIDTH), S_IN)
    elif INPUT == "retained":
        value = tl.load(x + at, mask=inside, other=0.0)
        if NORM is not None:
            mean, scale = _heads_norm(stats, b, head, real, H, WIDTH, BV, NORM, EPS)
            value = tl.where(inside, value - mean, 0.0) * scale
        if gate is not None:
            value *= tl.load(gate + at, mask=inside, other=0.0)
    else:
        F: tl.constexpr = 2 * WIDTH if GATED else WIDTH
        at = b * F + k
        value = _sum_of_parts(parts, at, inside, batch * F, S_IN) * scale
        if ACTIVATION is not None:
            value = swish(value) if ACTIVATION == "swish" else gelu(value)
        if GATED:
            value *= _sum_of_parts(parts, at + WIDTH, inside, batch * F, S_IN) * scale
    return value


@triton.jit
def _columns(
    tile, w0, w1, w2, w3, N0: tl.constexpr, N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, BN: tl.constexpr
):
    """Of a tile of the columns of up to four weights: its weight, the columns of that, where they start in all, the tile's."""
    T0: tl.constexpr = (N0 + BN - 1) // BN
    T1: tl.constexpr = T0 + (N1 + BN - 1) // BN
    T2: tl.constexpr = T1 + (N2 + BN - 1) // BN
    w, first, to, columns_of = w0, 0, 0, N0
    if N1 > 0 and tile >= T0:
        w, first, to, columns_of = w1, T0, N0, N1
    if N2 > 0 and tile >= T1:
        w, first, to, columns_of = w2, T1, N0 + N1, N2
    if N3 > 0 and tile >= T2:
        w, first, to, columns_of = w3, T2, N0 + N1 + N2, N3
    return w, columns_of, to, (tile - first) * BN + tl.arange(0, BN)


@triton.jit
def product(
    x, parts, squares, weight, x_after, gate, stats, w0, w1, w2, w3, out, batch,
    INPUT: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, H: tl.constexpr, NORM: tl.constexpr, BV: tl.constexpr,
    EPS: tl.constexpr, ACTIVATION: tl.constexpr, GATED: tl.constexpr, S_IN: tl.constexpr,
    N0: tl.constexpr, N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, S: tl.constexpr, FINISH: tl.constexpr,
    ROWS: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """out (S, B, N): an input (B, H WIDTH), made as it is read, times one of up to four weights (H WIDTH, N0 | N1 | N2 | N3).

    INPUT "stream": x plus parts (S_IN, B, d), written to x_after, times the weight of a norm; its squares (S, B) are summed too.
    "retained": x, normed by head from stats, times gate. "hidden": the activation of parts (S_IN, B, f), times its second f.
    FINISH, with S = 1: out holds finished numbers, divided by the root mean square. ROWS: 1, or the least power of two above B.
    """
    PER: tl.constexpr = (WIDTH + BK - 1) // BK
    BLOCKS: tl.constexpr = (H * PER + S - 1) // S
    N: tl.constexpr = N0 + N1 + N2 + N3
    tile, split = tl.program_id(0), tl.program_id(1)
    w, columns_of, to, n = _columns(tile, w0, w1, w2, w3, N0, N1, N2, N3, BN)
    block, last = split * BLOCKS, min((split + 1) * BLOCKS, H * PER)
    ahead = _weights(w, columns_of, n, block, last, WIDTH, BK)
    _after_the_last_kernel(OVERLAP)

    i = tl.arange(0, BK)
    if ROWS == 1:
        b, acc, square = split * 0, tl.zeros((BK, BN), tl.float32), tl.zeros((BK,), tl.float32)
    else:
        b, i = tl.arange(0, ROWS)[:, None], i[None, :]
        acc, square = tl.zeros((ROWS, BN), tl.float32), tl.zeros((ROWS, BK), tl.float32)
    real, scale = b < batch, 1.0
    if INPUT == "hidden":
        scale = _inverse_root(squares, b, real, batch, D, EPS, S_IN)
    for j in range(block, last):
        tile_of_weights = ahead
        if BLOCKS > 1:
            ahead = _weights(w, columns_of, n, j + 1, last, WIDTH, BK)
        row = j % PER * BK + i
        k, inside = j // PER * WIDTH + row, row < WIDTH
        if ROWS > 1:
            inside &= real
        value = _made(
            x, parts, gate, stats, scale, b, k, j // PER, real, inside, batch,
            INPUT, WIDTH, H, NORM, BV, EPS, ACTIVATION, GATED, S_IN,
        )  # fmt: skip
        if INPUT == "stream":
            if x_after is not None:  # one program of a split writes what all of it have made
                tl.store(x_after + b * WIDTH + k, value, mask=inside & (row < tl.where(tile == 0, WIDTH, 0)))
            square += value * value
            value *= tl.load(weight + k, mask=inside, other=0.0).to(tl.float32)
        if ROWS == 1:
            acc += value[:, None] * tile_of_weights.to(tl.float32)
        else:
            acc = dot(value.to(tile_of_weights.dtype), tile_of_weights, acc, PRECISION)
    if ROWS == 1:
        acc, total, place = tl.sum(acc, 0), tl.sum(square, 0), split * N + to + n
        wanted = n < columns_of
    else:
        total, place = tl.sum(square, 1)[:, None], (split * batch + b) * N + (to + n)[None, :]
        wanted = real & (n < columns_of)[None, :]
    if FINISH:
        acc *= 1.0 / tl.sqrt_rn(total / D + EPS)
    elif INPUT == "stream":
        tl.store(squares + split * batch + b, total, mask=b < tl.where(tile == 0, batch, 0))
    tl.store(out + place, acc.to(out.dtype.element_ty), mask=wanted)


@triton.jit
def prepare(
    x, parts, squares, weight, x_after, gate, stats, out, sums,
    INPUT: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, H: tl.constexpr, NORM: tl.constexpr, BV: tl.constexpr,
    EPS: tl.constexpr, ACTIVATION: tl.constexpr, GATED: tl.constexpr, S_IN: tl.constexpr, SUMS: tl.constexpr,
    BK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """out (H WIDTH,): the input that `product` makes as it reads, of one sequence; a stream's sums of squares, one a program.

    squares: SUMS sums, of the input of the product that left the parts. ACTIVATION None: finished numbers, as of logits.
    """
    if OVERLAP and not INTERPRETED:  # the product after this may ask for its weights while the one before this ends
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    PER: tl.constexpr = (WIDTH + BK - 1) // BK
    j = tl.program_id(0)
    b, row, scale = j * 0, j % PER * BK + tl.arange(0, BK), 1.0
    k, inside = j // PER * WIDTH + row, row < WIDTH
    if INPUT == "hidden":
        scale = _inverse_root(squares, b, True, 1, D, EPS, SUMS)
    value = _made(
        x, parts, gate, stats, scale, b, k, j // PER, True, inside, 1,
        INPUT, WIDTH, H, NORM, BV, EPS, ACTIVATION, GATED, S_IN,
    )  # fmt: skip
    if INPUT == "stream":
        if x_after is not None:
            tl.store(x_after + k, value, mask=inside)
        tl.store(sums + j, tl.sum(value * value, 0))
        value *= tl.load(weight + k, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + k, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def multiply(
    x, w0, w1, w2, w3, out,
    WIDTH: tl.constexpr, N0: tl.constexpr, N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr,
    TILES: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """out (S, N): a prepared x (WIDTH,) times one of up to four weights (WIDTH, N0 | N1 | N2 | N3), TILES BK rows a program."""
    BLOCKS: tl.constexpr = (WIDTH + BK - 1) // BK
    N: tl.constexpr = N0 + N1 + N2 + N3
    tile, split = tl.program_id(0), tl.program_id(1)
    w, columns_of, to, n = _columns(tile, w0, w1, w2, w3, N0, N1, N2, N3, BN)
    ahead = ()
    for t in tl.static_range(TILES):
        ahead = ahead + (_weights(w, columns_of, n, split * TILES + t, BLOCKS, WIDTH, BK),)  # noqa: RUF005 (Triton)
    _after_the_last_kernel(OVERLAP)
    acc = tl.zeros((BK, BN), tl.float32)
    for t in tl.static_range(TILES):
        k = (split * TILES + t) * BK + tl.arange(0, BK)
        acc += tl.load(x + k, mask=k < WIDTH, other=0.0)[:, None] * ahead[t].to(tl.float32)
    tl.store(out + split * N + to + n, tl.sum(acc, 0), mask=n < columns_of)


@triton.jit
def _weights(w, columns_of, n, j, last, WIDTH: tl.constexpr, BK: tl.constexpr):
    """Tile (BK, BN) of block j of a matrix's rows; zeros from block `last` on."""
    PER: tl.constexpr = (WIDTH + BK - 1) // BK
    i = j % PER * BK + tl.arange(0, BK)
    rows = tl.cast(j // PER * WIDTH + i, tl.int64)
    inside = (i < tl.where(j < last, WIDTH, 0))[:, None] & (n < columns_of)[None, :]
    return tl.load(w + rows[:, None] * columns_of + n[None, :], mask=inside, other=0.0)


@triton.jit
def _turned(parts, at, rows, cos, sin, inside, stride, K: tl.constexpr, S: tl.constexpr, ROTATE: tl.constexpr):
    """Rows of a query or key at `at`, each with the other of its pair turned by the angle of the position."""
    value = _sum_of_parts(parts, at + rows, inside, stride, S)
    if ROTATE:
        other = _sum_of_parts(parts, at + (rows ^ 1), inside, stride, S)
        c = tl.load(cos + rows // 2, mask=inside, other=0.0)
        s = tl.load(sin + rows // 2, mask=inside, other=0.0)
        value = value * c + tl.where(rows % 2 == 0, -other, other) * s
    return value


@triton.jit
def retain(
    parts, squares, cos, sin, gamma, weight, state, out, gate, stats, batch,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, D: tl.constexpr, EPS: tl.constexpr, SCALE: tl.constexpr,
    S: tl.constexpr, SUMS: tl.constexpr, ROTATE: tl.constexpr, GATED: tl.constexpr, NORM: tl.constexpr, FINISH: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, POLICY: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """BV columns of a head: q, k, v from parts (S, B, N), the state (B, H, K, V) in place, and out (B, H V) before its norm.

    squares (SUMS, B): of the inputs of the product that left the parts; None if these are finished. gate (B, H V): the activated
    gate times the norm's weight (V,), where there is one of them. stats (B, H, tiles, 2): the mean of the columns, 0 for a norm
    that keeps the mean, and the sum of squares about it. POLICY: of the cache, for states. FINISH, with all V columns in a tile:
    out is normed and gated.
    """
    TILES: tl.constexpr = (V + BV - 1) // BV
    N: tl.constexpr = 2 * H * K + (2 if GATED else 1) * H * V
    pid = tl.program_id(0)
    bh, tile = tl.cast(pid // TILES, tl.int64), pid % TILES
    b, h = bh // H, bh % H
    columns = tile * BV + tl.arange(0, BV)
    within, stride = columns < V, batch * N
    less_one = (tl.load(gamma + h).to(tl.float64) - 1.0).to(tl.float32)
    rows = tl.arange(0, BK)
    at = state + bh * K * V + columns[None, :]
    ahead = tl.load(
        at + rows[:, None] * V, mask=(rows < K)[:, None] & within[None, :], other=0.0, eviction_policy=POLICY
    )
    _after_the_last_kernel(OVERLAP)
    scale = 1.0 if squares is None else _inverse_root(squares, b, True, batch, D, EPS, SUMS)
    values = _sum_of_parts(parts, b * N + 2 * H * K + h * V + columns, within, stride, S) * scale
    acc = tl.zeros((BK, BV), tl.float32)
    for first in range(0, K, BK):
        rows = first + tl.arange(0, BK)
        before = ahead
        if K > BK:
            then = rows + BK
            ahead = tl.load(
                at + then[:, None] * V, mask=(then < K)[:, None] & within[None, :], other=0.0, eviction_policy=POLICY
            )
        turn = b * (K // 2)
        query = _turned(parts, b * N + h * K, rows, cos + turn, sin + turn, rows < K, stride, K, S, ROTATE)
        key = _turned(parts, b * N + H * K + h * K, rows, cos + turn, sin + turn, rows < K, stride, K, S, ROTATE)
        after = (key * (scale * SCALE))[:, None] * values[None, :]
        after += before + before * less_one
        tl.store(at + rows[:, None] * V, after, mask=(rows < K)[:, None] & within[None, :], eviction_policy=POLICY)
        acc += (query * scale)[:, None] * after
    result, place = tl.sum(acc, 0), b * (H * V) + h * V + columns
    open_by = tl.full((BV,), 1.0, tl.float32)
    if GATED:
        open_by = swish(_sum_of_parts(parts, b * N + 2 * H * K + H * V + h * V + columns, within, stride, S) * scale)
    if weight is not None:
        open_by *= tl.load(weight + columns, mask=within, other=0.0).to(tl.float32)
    if NORM is not None:
        mean = tl.sum(result, 0) / min(BV, V - tile * BV) if NORM == "mean" else 0.0
        off = tl.where(within, result - mean, 0.0)
        apart = tl.sum(off * off, 0)
        if FINISH:
            result = off / tl.sqrt_rn(apart / V + EPS)
        else:
            tl.store(stats + pid * 2, mean)
            tl.store(stats + pid * 2 + 1, apart)
    if FINISH:
        result *= open_by
    elif gate is not None:
        tl.store(gate + place, open_by, mask=within)
    tl.store(out + place, result.to(out.dtype.element_ty), mask=within)

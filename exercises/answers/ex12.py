"""Exercise 12: a tile, a chunk and a row of tiles as programs of a kernel, and the distance between states (Eq. 5 and 7)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import small_numbers
from .recurring import keeps_arguments, swaps

FLOAT32 = {"tolerance": 1e-5}  # a kernel adds up in float32


# What the notebook gives.


def load(memory, offsets, mask, other=0.0):
    """The numbers at these offsets of a flat array, `other` where the mask is False; offsets and mask broadcast."""
    offsets, mask = np.broadcast_arrays(offsets, mask)
    if np.any(mask & ((offsets < 0) | (offsets >= memory.size))):
        raise IndexError("an offset outside of memory is not masked")
    return np.where(mask, memory[np.where(mask, offsets, 0)], np.asarray(other, memory.dtype))


# Solutions.


def load_tile(memory, program, time, width, rows, columns):
    """The tile of an array (H, T, width) that a program with this number loads -> tile (rows, columns)."""
    across, down = -(-width // columns), -(-time // rows)
    rest, column = program // across, program % across * columns + np.arange(columns)
    n = rest % down * rows + np.arange(rows)[:, None]
    return load(memory, (rest // down * time + n) * width + column, (n < time) & (column < width))


def chunk_program(q, k, v, gamma, state, time, key_dim, value_dim, head, begin, chunk, tile, columns):
    """One chunk of one head, some columns of V (Eq. 7) -> o (chunk, columns), S (K, columns)."""
    c, j = min(chunk, time - begin), np.arange(chunk)[:, None]
    n, row, column = head * time + begin + j, np.arange(key_dim), tile * columns + np.arange(columns)
    wide = np.float64
    queries, keys = (load(x, n * key_dim + row, j < c).astype(wide) for x in (q, k))
    values = load(v, n * value_dim + column, (j < c) & (column < value_dim)).astype(wide)
    before = load(state, (head * key_dim + row[:, None]) * value_dim + column, column < value_dim).astype(wide)
    decay, lag = float(gamma[head]), j - j.T
    scores = np.where(lag >= 0, decay ** np.maximum(lag, 0), 0.0) * (queries @ keys.T)
    out = scores @ values + decay ** (j + 1) * (queries @ before)
    return out, decay**c * before + (decay ** np.maximum(c - 1 - j, 0) * keys).T @ values


def row_program(q, k, v, gamma, time, key_dim, value_dim, head, row, tile, least):
    """One row of tiles of the parallel form (Eq. 5), without those that are never seen or too faint -> o (tile, V)."""
    decay, j = float(gamma[head]), np.arange(tile)[:, None]
    n, out = row * tile + j, np.zeros((tile, value_dim))
    queries = load(q, (head * time + n) * key_dim + np.arange(key_dim), n < time)
    for other in range(row + 1):
        m = other * tile + j
        if decay ** max((row - other - 1) * tile + 1, 0) < least and other < row:
            continue
        keys = load(k, (head * time + m) * key_dim + np.arange(key_dim), m < time)
        values = load(v, (head * time + m) * value_dim + np.arange(value_dim), m < time)
        lag = n - m.T
        out = out + (np.where(lag >= 0, decay ** np.maximum(lag, 0), 0.0) * (queries @ keys.T)) @ values
    return out


def state_distance(every, tile, tokens, heads, key_dim, value_dim, columns, bandwidth, peak):
    """Bytes and operations with a state every so many tokens, every (N,) -> moved (N,), flops (N,), best (1,)."""
    numbers = 3 * (key_dim + value_dim) + 2 * key_dim * value_dim / every
    seen = (every / tile + 1) / 2  # tiles of scores for each row of tiles, on the average
    programs = -(-value_dim // columns)
    flops = 2 * seen * tile * (programs * key_dim + value_dim) + 4 * key_dim * value_dim
    moved, flops = 2.0 * tokens * heads * numbers, tokens * heads * flops
    return moved, flops, every[[np.argmin(np.maximum(moved / bandwidth, flops / peak))]]


# Wrong answers, each one change away from the solution.


def _soft(memory, offsets, mask):
    """Like `load`, but what lies outside of memory is 0, as a kernel may happen to find it."""
    offsets, mask = np.broadcast_arrays(offsets, mask)
    return load(memory, offsets, mask & (offsets >= 0) & (offsets < memory.size))


def _tile_with(
    *,
    places=lambda program, across, down: (program // across // down, program // across % down, program % across),
    offsets=lambda head, n, column, time, width, columns: (head * time + n) * width + column,
    mask=lambda n, column, time, width: (n < time) & (column < width),
    starts=lambda place, size: place * size,
    padded=lambda tile, mask: tile,
):
    """The tile with another step. places: head, row and column of the tile."""

    def tile_of(memory, program, time, width, rows, columns):
        head, row, across = places(program, -(-width // columns), -(-time // rows))
        n = starts(row, rows) + np.arange(rows)[:, None]
        column = starts(across, columns) + np.arange(columns)
        inside = np.broadcast_to(mask(n, column, time, width), (rows, columns))
        return padded(_soft(memory, offsets(head, n, column, time, width, columns), inside), inside)

    return tile_of


def _tile_counted(down=lambda time, rows: -(-time // rows), across=lambda width, columns: -(-width // columns)):
    """The tile with other numbers of tiles, by the notebook's own `load`, which refuses what lies outside of memory."""

    def tile_of(memory, program, time, width, rows, columns):
        rest, place = divmod(program, across(width, columns))
        head, row = divmod(rest, down(time, rows))
        n, column = row * rows + np.arange(rows)[:, None], place * columns + np.arange(columns)
        return load(memory, (head * time + n) * width + column, (n < time) & (column < width))

    return tile_of


def _chunk_with(
    *,
    length=lambda chunk, left: min(chunk, left),
    of_zeta=lambda c, chunk: c,
    of_fade=lambda c, chunk: c,
    table=lambda decay, lag: np.where(lag >= 0, decay ** np.maximum(lag, 0), 0.0),
    xi=lambda decay, j: decay ** (j + 1),
    zeta=lambda decay, c, j: decay ** np.maximum(c - 1 - j, 0),
    fade=lambda decay, c: decay**c,
    read=lambda before, after: before,
    inside=lambda j, c: j < c,
    gamma_of=lambda gamma, head: float(gamma[head]),
    head_of=lambda head: head,
    state_head=lambda head: head,
    state_tile=lambda tile: tile,
    value_tile=lambda tile: tile,
    start=lambda begin: begin,
    across=lambda column, value_dim: column < value_dim,
    stride=lambda key_dim, value_dim: value_dim,
    state_stride=lambda key_dim, value_dim: value_dim,
    dtype=lambda x: np.float64,
):
    """The chunk with another step; see the names of `chunk_program`."""

    def program(q, k, v, gamma, state, time, key_dim, value_dim, head, begin, chunk, tile, columns):
        c, j = length(chunk, time - begin), np.arange(chunk)[:, None]
        n, row = head_of(head) * time + start(begin) + j, np.arange(key_dim)
        column, of_state = (at(tile) * columns + np.arange(columns) for at in (value_tile, state_tile))
        keep, wide = inside(j, c), dtype(v)
        queries, keys = (_soft(x, n * key_dim + row, keep).astype(wide) for x in (q, k))
        values = _soft(v, n * stride(key_dim, value_dim) + column, keep & across(column, value_dim)).astype(wide)
        place = state_head(head) * key_dim * value_dim + row[:, None] * state_stride(key_dim, value_dim) + of_state
        before, decay = _soft(state, place, across(of_state, value_dim)).astype(wide), gamma_of(gamma, head)
        with np.errstate(all="ignore"):
            left = zeta(decay, of_zeta(c, chunk), j)
            after = fade(decay, of_fade(c, chunk)) * before + (left.astype(wide) * keys).T @ values
            scores = (table(decay, j - j.T) * (queries @ keys.T)).astype(wide)
            out = (scores @ values + xi(decay, j).astype(wide) * (queries @ read(before, after))).astype(wide)
        return out, after.astype(wide)

    return program


def _power_times_mask(decay, lag):
    return np.power(decay, lag.astype(float)) * (lag >= 0)


def _row_with(
    *,
    tiles=lambda row, time, tile: range(row + 1),
    far=lambda decay, row, other, tile, least: decay ** max((row - other - 1) * tile + 1, 0) < least and other < row,
    table=lambda decay, lag, n, m: np.where(lag >= 0, decay ** np.maximum(lag, 0), 0.0),
    rows=lambda n, time: n < time,
    head_of=lambda head: head,
    starts=lambda row, tile: row * tile,
    single=False,
):
    """The row of tiles with another step. tiles: the tiles of keys that are walked. far: which of them are skipped."""

    def program(q, k, v, gamma, time, key_dim, value_dim, head, row, tile, least):
        decay, j, at = float(gamma[head]), np.arange(tile)[:, None], head_of(head)
        n, out = starts(row, tile) + j, np.zeros((tile, value_dim))
        queries = _soft(q, (at * time + n) * key_dim + np.arange(key_dim), rows(n, time))
        for other in tiles(row, time, tile):
            if far(decay, row, other, tile, least):
                continue
            m = other * tile + j
            keys = _soft(k, (at * time + m) * key_dim + np.arange(key_dim), rows(m, time))
            values = _soft(v, (at * time + m) * value_dim + np.arange(value_dim), rows(m, time))
            with np.errstate(all="ignore"):
                weights = table(decay, n - m.T, n, m)
                weights = np.where(weights < least, 0.0, weights) if single else weights
                out = out + (weights * (queries @ keys.T)) @ values
        return out

    return program


def _distance_with(
    *,
    inputs=lambda key_dim, value_dim: 3 * (key_dim + value_dim),
    kept=lambda key_dim, value_dim, every, tile: 2 * key_dim * value_dim / every,
    size=2.0,
    seen=lambda every, tile: (every / tile + 1) / 2,
    wide=lambda every, tile: tile,
    programs=lambda value_dim, columns: -(-value_dim // columns),
    of_scores=lambda programs, key_dim, value_dim: programs * key_dim + value_dim,
    of_states=lambda key_dim, value_dim: 4 * key_dim * value_dim,
    scale=lambda tokens, heads: tokens * heads,
    fold=np.maximum,
    pick=np.argmin,
    times=lambda moved, flops, bandwidth, peak: (moved / bandwidth, flops / peak),
):
    """The costs with another term. wide: the side of what is counted by `seen`. fold: of both times."""

    def distance(every, tile, tokens, heads, key_dim, value_dim, columns, bandwidth, peak):
        moved = size * scale(tokens, heads) * (inputs(key_dim, value_dim) + kept(key_dim, value_dim, every, tile))
        of_tiles = (
            2 * seen(every, tile) * wide(every, tile) * of_scores(programs(value_dim, columns), key_dim, value_dim)
        )
        flops = scale(tokens, heads) * (of_tiles + of_states(key_dim, value_dim)) + 0.0 * every
        return moved + 0.0 * every, flops, every[[pick(fold(*times(moved, flops, bandwidth, peak)))]]

    return distance


def _best(change):
    """The right costs with another best distance: change(every, moved / bandwidth, flops / peak), as an array if it is a float."""

    def distance(*arguments):
        moved, flops, _ = state_distance(*arguments)
        best = change(arguments[0], moved / arguments[7], flops / arguments[8])
        return moved, flops, np.array([best]) if isinstance(best, float) else best

    return distance


def _flops_first(*arguments):
    moved, flops, best = state_distance(*arguments)
    return flops, moved, best


# Checks.


def _memory(heads, time, width):
    """The numbers 1, 2, 3 ... as a flat array: a number tells its place."""
    return np.arange(1.0, heads * time * width + 1)


def _tile(heads, time, width, program, rows, columns):
    return {
        "memory": _memory(heads, time, width), "program": program, "time": time, "width": width, "rows": rows,
        "columns": columns,
    }  # fmt: skip


def _flat(heads, time, key_dim, value_dim, gamma, dtype=np.float64):
    random = np.random.default_rng([12, heads, time, key_dim, value_dim])
    sizes = {"q": key_dim, "k": key_dim, "v": value_dim}
    arrays = {name: small_numbers(random, heads * time * width, dtype=dtype) for name, width in sizes.items()}
    return arrays | {"gamma": np.array(gamma)}


def _chunk(heads, time, key_dim, value_dim, *gamma, head=0, begin=0, chunk, tile=0, columns, dtype=np.float64):
    arrays = _flat(heads, time, key_dim, value_dim, gamma, dtype)
    state = small_numbers(np.random.default_rng([12, heads]), heads * key_dim * value_dim, dtype=dtype)
    sizes = {"time": time, "key_dim": key_dim, "value_dim": value_dim, "head": head, "begin": begin}
    return arrays | {"state": state} | sizes | {"chunk": chunk, "tile": tile, "columns": columns}


def _row(heads, time, key_dim, value_dim, *gamma, head=0, row, tile, least=0.0, never=(), poison=True):
    """Arguments in which keys and values after the row's tile, and of the tiles `never`, are NaN."""
    arrays = _flat(heads, time, key_dim, value_dim, gamma)
    unread = [range(min((row + 1) * tile, time), time), *(range(m * tile, (m + 1) * tile) for m in never)]
    for name, width in (("k", key_dim), ("v", value_dim)) if poison else ():
        tokens = arrays[name].reshape(heads, time, width)
        for each in unread:
            tokens[head, each.start : each.stop] = np.nan
    sizes = {"time": time, "key_dim": key_dim, "value_dim": value_dim, "head": head, "row": row, "tile": tile}
    return arrays | sizes | {"least": least}


BY_HAND = {
    "q": np.ones(2), "k": np.ones(2), "v": np.array([1.0, 2.0]), "gamma": np.array([0.5]), "state": np.array([4.0]),
    "time": 2, "key_dim": 1, "value_dim": 1, "head": 0, "begin": 0, "chunk": 2, "tile": 0, "columns": 1,
}  # fmt: skip


def _distance(
    *every, tile=128, tokens=16384, heads=16, key_dim=256, value_dim=512, columns=256, bandwidth=4e12, peak=5e14
):
    return {
        "every": np.array(every, dtype=float), "tile": tile, "tokens": tokens, "heads": heads, "key_dim": key_dim,
        "value_dim": value_dim, "columns": columns, "bandwidth": bandwidth, "peak": peak,
    }  # fmt: skip


TILE = problem(
    load_tile,
    ("tile",),
    visible={
        "one head of 4 x 4 in tiles of 2 x 2, program 1": (
            _tile(1, 4, 4, 1, 2, 2),
            "by hand: program 1 is the second tile of the first row of tiles, the numbers 3, 4, 7 and 8",
        ),
        "one head of 4 x 6, program 4": (
            _tile(1, 4, 6, 4, 2, 2),
            "three tiles stand side by side, so program 4 is the second tile of the second row of tiles",
        ),
        "a ragged corner of the first of two heads": (
            _tile(2, 5, 7, 3, 4, 4),
            "5 x 7 needs 2 x 2 tiles of 4 x 4; the last holds one row and three columns, and zeros elsewhere",
        ),
        "the second of three heads": (
            _tile(3, 5, 6, 7, 2, 4),
            "a head has 3 x 2 tiles, so programs 6 to 11 are those of head 1, which begins at offset time * width",
        ),
        **keeps_arguments(_tile(2, 3, 3, 2, 2, 2)),
    },
    hidden={
        "a tile larger than the array": (_tile(2, 3, 5, 1, 8, 8), "try a tile larger than time x width"),
        "narrow tiles of many heads": (_tile(5, 7, 3, 41, 3, 1), "try tiles of 3 x 1 and the fourth of five heads"),
        "the last tile of the last head": (_tile(4, 9, 10, 35, 4, 4), "try the last program of four heads of 9 x 10"),
    },
    wrong_answers={
        "no mask for rows": (
            _tile_with(mask=lambda n, column, time, width: column < width),
            "rows are not masked: below the last row of a head lies the next head, so keep n < time alone",
        ),
        "no mask for columns": (
            _tile_with(mask=lambda n, column, time, width: n < time),
            "columns are not masked: behind the last column lies the next row, so keep column < width alone",
        ),
        "no mask but the end of memory": (
            _tile_with(mask=lambda n, column, time, width: np.full((1, 1), True)),
            "you mask what lies outside of memory alone: rows of the next head and columns of the next row are inside it",
        ),
        "down before across": (
            _tile_with(places=lambda p, across, down: (p // (across * down), p % down, p // down % across)),
            "you count tiles downwards first: the next program is the next tile to the right, program % across",
        ),
        "heads first": (
            _tile_with(places=lambda p, across, down: (p % 2, p // 2 // across % down, p // 2 % across)),
            "you count heads first: all tiles of a head come before those of the next head",
        ),
        "tiles rounded down": (
            _tile_counted(lambda time, rows: time // rows, lambda width, columns: width // columns),
            "you count whole tiles alone: the ragged one counts too, round up, -(-size // tile)",
        ),
        "rows of tiles rounded down": (
            _tile_counted(down=lambda time, rows: time // rows),
            "you count whole rows of tiles alone: the ragged one at the lower edge of a head counts too, round up",
        ),
        "columns of tiles rounded down": (
            _tile_counted(across=lambda width, columns: width // columns),
            "you count whole columns of tiles alone: the ragged one at the right edge counts too, round up",
        ),
        "heads without time": (
            _tile_with(offsets=lambda head, n, column, time, width, columns: (head + n) * width + column),
            "a head begins after time * width numbers: you put it after width",
        ),
        "no head": (
            _tile_with(offsets=lambda head, n, column, time, width, columns: n * width + column),
            "your offsets leave out the head: head h begins at h * time * width",
        ),
        "rows of the tile's width": (
            _tile_with(offsets=lambda head, n, column, time, width, columns: (head * time + n) * columns + column),
            "your rows are `columns` numbers apart: in memory a row has `width` numbers, whatever the tile takes of it",
        ),
        "numbers of tiles for offsets": (
            _tile_with(starts=lambda place, size: place),
            "your tiles are one number apart: tile 1 begins at row `rows`, column `columns`",
        ),
        "no number for padding": (
            _tile_with(padded=lambda tile, mask: np.where(mask, tile, np.nan)),
            "where nothing is loaded stands NaN: there must be zeros, so that products with the tile stay right",
        ),
        "transposed": (
            lambda *arguments: load_tile(*arguments).T,
            "your tile is transposed: rows are tokens, so row offsets stand in a column, np.arange(rows)[:, None]",
        ),
    },
)

CHUNK = problem(
    chunk_program,
    ("o", "S"),
    visible={
        "two tokens of one number": (
            BY_HAND,
            "by hand: o is 1 + 4/2 = 3 and 2 + 1/2 + 4/4 = 7/2, and S is 2 + 1/2 + 4/4 = 7/2",
            FLOAT32,
        ),
        "the second head, the second tile of columns": (
            _chunk(2, 4, 3, 6, 0.5, 0.75, head=1, chunk=4, tile=1, columns=2),
            "head and tile move the offsets of q, k, v and of the state, and gamma has an entry for each head",
            FLOAT32,
        ),
        "a chunk in the middle of the text": (
            _chunk(2, 9, 2, 3, 0.9, 0.75, head=1, begin=3, chunk=3, columns=4),
            "the chunk begins at token begin; V = 3 is not a multiple of 4, so the last column is not there",
            FLOAT32,
        ),
        "a last chunk of two tokens instead of four": (
            _chunk(2, 6, 3, 2, 0.75, 0.5, begin=4, chunk=4, columns=2),
            "c = 2 tokens are left: rows beyond are zeros, and S fades by gamma^c",
            FLOAT32,
        ),
        "a decay that is fast": (
            _chunk(1, 20, 2, 2, 1e-3, chunk=128, columns=2),
            "a negative power of 0.001 overflows, above the diagonal of D and in rows that do not exist: clamp the exponent at 0",
            FLOAT32,
        ),
        "16-bit arrays": (
            _chunk(1, 40, 8, 4, 0.96875, chunk=64, columns=4, dtype=np.float16),
            "the tiles are float16: widen them with .astype(np.float32) before you multiply and add up",
            FLOAT32,
        ),
        **keeps_arguments(_chunk(1, 4, 2, 2, 0.5, chunk=4, columns=2)),
    },
    hidden={
        "a memory that never fades": (
            _chunk(1, 6, 3, 4, 1.0, chunk=8, columns=4),
            "gamma = 1 is allowed: nothing may divide by 1 - gamma or take its logarithm's inverse",
            FLOAT32,
        ),
        "one column of many": (
            _chunk(3, 20, 4, 7, 0.9, 0.8, 0.7, head=2, begin=8, chunk=8, tile=6, columns=1),
            "try tiles of one column",
            FLOAT32,
        ),
        "a last chunk of a single token": (
            _chunk(1, 9, 2, 3, 0.6, begin=8, chunk=8, columns=2, tile=1),
            "try a chunk of eight, one token before the end of the text",
            FLOAT32,
        ),
    },
    wrong_answers={
        "zeta of a full chunk": (
            _chunk_with(of_zeta=lambda c, chunk: chunk),
            "S takes gamma^(C-j) for each token: in a short chunk the exponent is c - j, with the c tokens that are there",
        ),
        "the fade of a full chunk": (
            _chunk_with(of_fade=lambda c, chunk: chunk),
            "the old state fades by gamma^C: only c tokens have passed, so by gamma^c",
        ),
        "zeta and fade of a full chunk": (
            _chunk_with(of_zeta=lambda c, chunk: chunk, of_fade=lambda c, chunk: chunk),
            "S takes the tile's length: its exponents count the c tokens that are there, c - j and c",
        ),
        "no fade": (
            _chunk_with(fade=lambda decay, c: 1.0),
            "the old state does not fade in S: c tokens have passed, so it is multiplied by gamma^c",
        ),
        "no zeta": (
            _chunk_with(zeta=lambda decay, c, j: np.ones(j.shape)),
            "what the tokens write does not fade in S: token j has faded by gamma^(c-j) when the chunk ends",
        ),
        "zeta one step too far": (
            _chunk_with(zeta=lambda decay, c, j: decay ** np.maximum(c - j, 0)),
            "zeta is one step too far: the last token has just been written, its factor is gamma^0 = 1",
        ),
        "xi for zeta": (
            _chunk_with(zeta=lambda decay, c, j: decay ** (j + 1)),
            "S takes xi in place of zeta: the first token of a chunk has faded most when the chunk ends",
        ),
        "no xi": (
            _chunk_with(xi=lambda decay, j: np.ones(j.shape)),
            "the old state does not fade in o: token j of the chunk reads gamma^j of it",
        ),
        "xi one step too near": (
            _chunk_with(xi=lambda decay, j: decay**j),
            "xi is one step too near: the first token reads gamma S, so with j = 0, 1 ... it is gamma^(j+1)",
        ),
        "reads the state after": (
            _chunk_with(read=lambda before, after: after),
            "o reads the new state: the queries of a chunk read the state before it, its own tokens are in the scores",
        ),
        "no state in o": (
            _chunk_with(read=lambda before, after: 0 * before),
            "o leaves out the state: what came before the chunk is in it",
        ),
        "a mask without decay": (
            _chunk_with(table=lambda decay, lag: (lag >= 0) * 1.0),
            "your scores do not fade: multiply them by D, gamma^(n-m) on and below the diagonal",
        ),
        "a mask that sees the future": (
            _chunk_with(table=lambda decay, lag: decay ** np.abs(lag)),
            "a token reads later ones in your chunk: D is zero above the diagonal",
        ),
        "a mask without the diagonal": (
            _chunk_with(table=lambda decay, lag: np.where(lag > 0, decay ** np.maximum(lag, 0), 0.0)),
            "a token does not read itself in your chunk: the diagonal of D is gamma^0 = 1",
        ),
        "the power before the mask": (
            _chunk_with(table=_power_times_mask),
            "D has NaN: above the diagonal the power overflows, and inf * 0 is NaN; clamp the exponent first",
        ),
        "no mask for rows": (
            _chunk_with(inside=lambda j, c: j < np.inf),
            "rows are not masked: after the last token of a head lies the next head, keep j < c",
        ),
        "no mask for columns": (
            _chunk_with(across=lambda column, value_dim: column < np.inf),
            "columns are not masked: behind the last column lies the next row, keep column < value_dim",
        ),
        "the decay of head 0": (
            _chunk_with(gamma_of=lambda gamma, head: float(gamma[0])),
            "you take the decay of head 0: each head has its own, gamma[head]",
        ),
        "q, k, v of head 0": (
            _chunk_with(head_of=lambda head: 0),
            "you load q, k and v of head 0: head h begins at row h * time",
        ),
        "the state of head 0": (
            _chunk_with(state_head=lambda head: 0),
            "you load the state of head 0: that of head h begins at row h * key_dim",
        ),
        "the state's first columns": (
            _chunk_with(state_tile=lambda tile: 0),
            "you load the first columns of the state: the program has columns tile * columns and following of it too",
        ),
        "the first columns of v": (
            _chunk_with(value_tile=lambda tile: 0),
            "you load the first columns of v: the program has columns tile * columns and following",
        ),
        "the first chunk": (
            _chunk_with(start=lambda begin: 0),
            "you load the first tokens of the text: the chunk begins at token begin",
        ),
        "values as wide as keys": (
            _chunk_with(stride=lambda key_dim, value_dim: key_dim),
            "your rows of v are key_dim numbers apart: a row of v has value_dim numbers",
        ),
        "a state as wide as keys": (
            _chunk_with(state_stride=lambda key_dim, value_dim: key_dim),
            "your rows of the state are key_dim numbers apart: the state is (K, V), so a row has value_dim numbers",
        ),
        "sums in the format of v": (
            _chunk_with(dtype=lambda x: x.dtype),
            "you add up in float16: widen the tiles with .astype(np.float32) first, sums need more digits than inputs",
        ),
        **swaps(chunk_program, "o", "S"),
    },
)

ROW = problem(
    row_program,
    ("o",),
    visible={
        "the first row of tiles": (
            _row(1, 6, 2, 3, 0.5, row=0, tile=2),
            "row 0 sees its own tile alone; later keys and values are NaN here, as memory may be that nobody wrote",
            FLOAT32,
        ),
        "the third row of tiles of the second head": (
            _row(2, 8, 3, 2, 0.5, 0.75, head=1, row=2, tile=2),
            "three tiles of keys: lags run from 0 to 5, so a tile's decays depend on how far it is from the row",
            FLOAT32,
        ),
        "a ragged last row": (
            _row(2, 7, 2, 2, 0.9, 0.8, row=2, tile=3),
            "token 7 is the only one in the row: rows beyond are zeros",
            FLOAT32,
        ),
        "a faint tile is skipped": (
            _row(1, 16, 2, 2, 0.5, row=3, tile=4, least=0.02, never=(0,)),
            "the nearest lags of tiles 0, 1, 2 are 9, 5, 1: 1/2^9 is less than 0.02, and tile 0 holds NaN; 1/2^5 is not",
            FLOAT32,
        ),
        "two faint tiles that hold numbers": (
            _row(1, 16, 2, 2, 0.5, row=3, tile=4, least=0.2, poison=False),
            "1/2^9 and 1/2^5 are less than 0.2: tiles 0 and 1 are left out whatever stands in them",
            FLOAT32,
        ),
        "tiles of five tokens": (
            _row(1, 15, 2, 2, 0.75, row=2, tile=5, least=0.3, never=(0,)),
            "the nearest lags are 6 and 1: 0.75^6 is less than 0.3 and 0.75 is not, so tile 1 counts with all its tokens",
            FLOAT32,
        ),
        **keeps_arguments(_row(1, 4, 2, 2, 0.5, row=1, tile=2)),
    },
    hidden={
        "nothing fades": (_row(1, 9, 2, 2, 1.0, row=2, tile=3, least=0.5), "gamma = 1: no tile before the row is faint", FLOAT32),
        "tiles of one token": (
            _row(2, 6, 2, 3, 0.5, 0.6, head=1, row=4, tile=1, least=0.2, never=(0,)),
            "with tiles of one token the nearest lag of a tile is row - other",
            FLOAT32,
        ),
        "a tile longer than the text": (_row(2, 5, 2, 3, 0.9, 0.8, head=1, row=0, tile=8), "try one tile for all tokens", FLOAT32),
    },
    wrong_answers={
        "all tiles": (
            _row_with(tiles=lambda row, time, tile: range(-(-time // tile))),
            "you load tiles above the diagonal: 0 * NaN is NaN, so end with the row's own tile and do not multiply by zero",
        ),
        "without its own tile": (
            _row_with(tiles=lambda row, time, tile: range(row)),
            "you leave out the row's own tile: on the diagonal, tokens read themselves and earlier ones of the tile",
        ),
        "its own tile alone": (
            _row_with(tiles=lambda row, time, tile: [row]),
            "your o is the part of the row's own tile alone: add up the parts of all tiles on its left",
        ),
        "nothing is skipped": (
            _row_with(far=lambda *_: False),
            "you load tiles that are too faint: skip a tile if gamma to its nearest lag is less than least",
        ),
        "skips by the farthest lag": (
            _row_with(far=lambda decay, row, other, tile, least: decay ** ((row - other + 1) * tile - 1) < least and other < row),
            "you skip by the farthest lag of a tile: its nearest pair may still count, skip if that one is too faint",
        ),
        "skips its own tile too": (
            _row_with(far=lambda decay, row, other, tile, least: decay ** ((row - other + 1) * tile - 1) < least),
            "you skip the row's own tile too, by the farthest lag: on the diagonal a tile's nearest lag is 0, it always counts",
        ),
        "skips by the distance of tiles": (
            _row_with(far=lambda decay, row, other, tile, least: decay ** ((row - other) * tile) < least),
            "you skip by the lag (row - other) tile: the nearest pair of two tiles is tile - 1 tokens closer",
        ),
        "skips by the number of tiles": (
            _row_with(far=lambda decay, row, other, tile, least: decay ** (row - other) < least),
            "you skip by how many tiles lie between: gamma is the decay of a token, so count the lag in tokens",
        ),
        "single weights dropped": (
            _row_with(single=True),
            "you drop single faint weights: a tile is loaded whole or not at all, its far side too",
        ),
        "lags within the tile": (
            _row_with(table=lambda decay, lag, n, m: np.where(
                lag >= 0, decay ** np.abs(n % max(len(n), 1) - m.T % max(len(n), 1)), 0.0)),
            "your decays know the places within a tile alone: the lag is n - m with the places in the text",
        ),
        "no decay": (
            _row_with(table=lambda decay, lag, n, m: (lag >= 0) * 1.0),
            "your weights do not fade: multiply the scores by gamma^(n-m)",
        ),
        "no mask on the diagonal": (
            _row_with(table=lambda decay, lag, n, m: decay ** np.abs(lag)),
            "on the diagonal a token reads later ones of its tile: D is zero where m is after n",
        ),
        "a token does not read itself": (
            _row_with(table=lambda decay, lag, n, m: np.where(lag > 0, decay ** np.maximum(lag, 0), 0.0)),
            "a token does not read itself: the diagonal of D is gamma^0 = 1",
        ),
        "rows without a mask": (
            _row_with(rows=lambda n, time: n < np.inf),
            "rows are not masked: after the last token of a head lies the next head, keep n < time",
        ),
        "head 0": (
            _row_with(head_of=lambda head: 0),
            "you load q, k and v of head 0: head h begins at row h * time",
        ),
        "one token a row": (
            _row_with(starts=lambda row, tile: row),
            "your row of tiles begins at token `row`: it begins at row * tile",
        ),
    },
)  # fmt: skip

DISTANCE = problem(
    state_distance,
    ("moved", "flops", "best"),
    visible={
        "a state after each tile": (
            _distance(128.0),
            "3 (K + V) + 2 K V / 128 numbers of 2 bytes; one tile of scores a row of tiles, computed by two programs",
        ),
        "a state every one, two, four and eight tiles": (
            _distance(128.0, 256.0, 512.0, 1024.0),
            "with m tiles between two states, m (m + 1) / 2 tiles of scores lie on or below the diagonal",
        ),
        "fast memory": (
            _distance(64.0, 128.0, 256.0, 512.0, tile=64, columns=100, bandwidth=4e13),
            "512 columns in parts of 100 are 6 programs; with fast memory the operations decide",
        ),
        "slow memory": (
            _distance(2048.0, 256.0, 512.0, 1024.0, tile=64, key_dim=64, value_dim=128, columns=128, bandwidth=2e11),
            "with slow memory the bytes decide, and best is an entry of every, not its place",
        ),
        **keeps_arguments(_distance(128.0, 256.0), hint="build new arrays; *= and sort() write into the caller's"),
    },
    hidden={
        "a head of other widths": (
            _distance(
                32.0, 64.0, 96.0, 128.0, 160.0, tile=32, tokens=4096, heads=6, key_dim=96, value_dim=160, columns=64
            ),
            "try K = 96, V = 160 and parts of 64 columns",
        ),
        "in any order": (
            _distance(4096.0, 128.0, 1024.0, 256.0, 512.0, 2048.0, bandwidth=2e12),
            "every may be in any order",
        ),
    },
    wrong_answers={
        "k and v read once": (
            _distance_with(inputs=lambda key_dim, value_dim: 2 * (key_dim + value_dim)),
            "moved counts k and v once: the kernel that walks the states reads them too",
        ),
        "the state moved once": (
            _distance_with(kept=lambda key_dim, value_dim, every, tile: key_dim * value_dim / every),
            "moved has each state once: one kernel writes it and the other reads it",
        ),
        "a state every tile": (
            _distance_with(kept=lambda key_dim, value_dim, every, tile: 2 * key_dim * value_dim / tile),
            "moved has a state every `tile` tokens: there is one every `every` tokens",
        ),
        "no states": (
            _distance_with(kept=lambda key_dim, value_dim, every, tile: 0.0),
            "moved leaves out the states: K V numbers every `every` tokens, written and read",
        ),
        "numbers for bytes": (
            _distance_with(size=1.0),
            "moved counts numbers: each has 2 bytes",
        ),
        "four bytes": (
            _distance_with(size=4.0),
            "moved takes 4 bytes a number: these have 2",
        ),
        "one head": (
            _distance_with(scale=lambda tokens, heads: tokens),
            "you count one head: all H heads do the same",
        ),
        "one token": (
            _distance_with(scale=lambda tokens, heads: heads),
            "you count one token: multiply by tokens",
        ),
        "the whole square": (
            _distance_with(seen=lambda every, tile: every / tile),
            "flops counts all m x m tiles of scores: those above the diagonal are skipped",
        ),
        "half a square": (
            _distance_with(seen=lambda every, tile: every / tile / 2),
            "flops takes half of the m x m tiles: those on the diagonal are computed whole, m (m + 1) / 2 in all",
        ),
        "tiles on the diagonal alone": (
            _distance_with(seen=lambda every, tile: 1.0),
            "flops counts the tiles on the diagonal alone: those below it are computed too",
        ),
        "single scores": (
            _distance_with(seen=lambda every, tile: (every + 1) / 2, wide=lambda every, tile: 1),
            "flops counts single scores on and below the diagonal: a tile on the diagonal is computed whole",
        ),
        "scores once": (
            _distance_with(programs=lambda value_dim, columns: 1),
            "flops computes the scores once: each program of a head, one for each part of V, computes them again",
        ),
        "parts rounded down": (
            _distance_with(programs=lambda value_dim, columns: value_dim // columns),
            "you round the parts of V down: the last one may be narrow and is a program too",
        ),
        "values again": (
            _distance_with(of_scores=lambda programs, key_dim, value_dim: programs * (key_dim + value_dim)),
            "flops repeats the product with the values: each program has other columns of V, all together V",
        ),
        "scores without values": (
            _distance_with(of_scores=lambda programs, key_dim, value_dim: programs * key_dim),
            "flops leaves out scores times values: 2 operations for each score and column of V",
        ),
        "the states never read": (
            _distance_with(of_states=lambda key_dim, value_dim: 2 * key_dim * value_dim),
            "flops has the states once: each token is written into one and reads one, 2 K V operations each",
        ),
        "multiply-adds": (
            _distance_with(
                of_scores=lambda programs, key_dim, value_dim: (programs * key_dim + value_dim) / 2,
                of_states=lambda key_dim, value_dim: 2 * key_dim * value_dim,
            ),
            "flops counts a multiply and an add as one: they are two operations",
        ),
        "both times added": (
            _best(lambda every, bytes_time, flops_time: every[np.argmin(bytes_time + flops_time)]),
            "best is that of the sum of both times: bytes and products run at once, so take the larger one",
        ),
        "bytes alone": (
            _best(lambda every, bytes_time, flops_time: every[np.argmin(bytes_time)]),
            "best looks at the bytes alone: the larger of both times decides",
        ),
        "operations alone": (
            _best(lambda every, bytes_time, flops_time: every[np.argmin(flops_time)]),
            "best looks at the operations alone: the larger of both times decides",
        ),
        "the place": (
            _best(lambda every, bytes_time, flops_time: float(np.argmin(np.maximum(bytes_time, flops_time)))),
            "best is the place in every: return the distance that stands there",
        ),
        "what argmin returns": (
            _best(lambda every, bytes_time, flops_time: np.argmin(np.maximum(bytes_time, flops_time))),
            "np.argmin returns a place: best is the entry of every at that place, in an array of shape (1,)",
        ),
        "an array of what argmin returns": (
            _best(lambda every, bytes_time, flops_time: np.array([np.argmin(np.maximum(bytes_time, flops_time))])),
            "best holds what np.argmin returns, a place: it must hold the entry of every that stands at this place",
        ),
        "the most time": (
            _best(lambda every, bytes_time, flops_time: every[np.argmax(np.maximum(bytes_time, flops_time))]),
            "best takes the most time of all: return the distance with the least",
        ),
        "the least time": (
            _best(lambda every, bytes_time, flops_time: np.maximum(bytes_time, flops_time).min()),
            "best is the least time: return the distance that has it",
        ),
        "flops first": (
            _flops_first,
            "you returned (flops, moved, best): the order is (moved, flops, best)",
        ),
    },
)

EXERCISE = Exercise("ex12", "One chunk as a kernel", (TILE, CHUNK, ROW, DISTANCE))

"""Exercise 3: rotation, the scores that depend only on n - m, the ladders of angles (Eq. 4, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import small_numbers
from .recurring import float32_arrays, keeps_arguments, mapped, swaps

# Solutions.


def rotate(x, theta, offset):
    """Turn channel pair (2i, 2i + 1) of token n by (offset + n) theta_i: x (T, K), theta (K/2,) -> out (T, K)."""
    angle = (offset + np.arange(len(x)))[:, None] * theta.astype(np.float64)
    even, odd = x[:, 0::2], x[:, 1::2]
    out = np.empty(x.shape)
    out[:, 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    out[:, 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return out


def score_at_lag(q, k, theta, lag):
    """q . k for a query that stands `lag` tokens after the key: q, k (K,), theta (K/2,), lag (L,) -> score (L,)."""
    angle = lag[:, None] * theta
    aligned = q[0::2] * k[0::2] + q[1::2] * k[1::2]
    crossed = q[0::2] * k[1::2] - q[1::2] * k[0::2]
    return np.cos(angle) @ aligned + np.sin(angle) @ crossed


def ladders(key_dim):
    """Angles of the released code and of rotary embeddings: key_dim K -> released (K/2,), rotary (K/2,)."""
    pairs = key_dim // 2
    return 10000.0 ** -np.linspace(0, 1, pairs), 10000.0 ** -(np.arange(pairs) / pairs)


def repair(w, heads):
    """Columns of each head from pairs (i, i + K/2) to pairs (2i, 2i + 1): w (d, H K), H heads -> repaired (d, H K)."""
    width = w.shape[1] // heads
    order = np.arange(width).reshape(2, width // 2).T.ravel()  # 0, K/2, 1, K/2 + 1 ...
    return w.reshape(len(w), heads, width)[:, :, order].reshape(w.shape)


# Wrong answers, each one change away from the solution.


def _angles(x, theta, offset):
    return (offset + np.arange(len(x)))[:, None] * theta.astype(np.float64)


def _join(even, odd):
    return np.stack((even, odd), axis=-1).reshape(len(even), 2 * even.shape[1])


def _turn(even, odd, angle):
    return even * np.cos(angle) - odd * np.sin(angle), even * np.sin(angle) + odd * np.cos(angle)


def _rotate_by(angles=_angles, turn=_turn, join=_join):
    """`rotate` with one of its parts replaced."""
    return lambda x, theta, offset: join(*turn(x[:, 0::2], x[:, 1::2], angles(x, theta, offset)))


def _pairs_halves(x, theta, offset):
    half = x.shape[1] // 2
    return np.concatenate(_turn(x[:, :half], x[:, half:], _angles(x, theta, offset)), axis=1)


def _tiles_the_angles(x, theta, offset):
    angle = np.tile(_angles(x, theta, offset), 2)
    crossed = _join(-x[:, 1::2], x[:, 0::2])
    return x * np.cos(angle) + crossed * np.sin(angle)


def _takes_the_partner_from_the_other_half(x, theta, offset):
    half, angle = x.shape[1] // 2, np.repeat(_angles(x, theta, offset), 2, axis=1)
    return x * np.cos(angle) + np.concatenate((-x[:, half:], x[:, :half]), axis=1) * np.sin(angle)


def _uses_the_new_even(even, odd, angle):
    even = even * np.cos(angle) - odd * np.sin(angle)
    return even, even * np.sin(angle) + odd * np.cos(angle)


def _sets_the_angle(even, odd, angle):
    length = np.hypot(even, odd)
    return length * np.cos(angle), length * np.sin(angle)


def _rounds_the_angles(x, theta, offset):
    position = (offset + np.arange(len(x))).astype(x.dtype)
    return position[:, None] * theta.astype(x.dtype)


def _rotates_in_place(x, theta, offset):
    x[...] = rotate(x, theta, offset)
    return x


ROTATE_MISTAKES = {
    "pairs the halves": (_pairs_halves, "you paired channel i with i + K/2: a pair is channels 2i and 2i + 1"),
    "takes the partner from the other half": (
        _takes_the_partner_from_the_other_half,
        "your angles are right, but the partner of channel i is its neighbour in the pair, not channel i + K/2",
    ),
    "turns backwards": (
        _rotate_by(angles=lambda *arguments: -_angles(*arguments)),
        "you turned the other way: (1, 0) goes to (cos, sin), not to (cos, -sin)",
    ),
    "starts one position late": (
        _rotate_by(angles=lambda x, theta, offset: _angles(x, theta, offset + 1)),
        "you turned the first row by one step too much: row 0 is at position offset",
    ),
    "ignores the offset": (
        _rotate_by(angles=lambda x, theta, _: _angles(x, theta, 0)),
        "you ignored offset: row n is at position offset + n",
    ),
    "adds the offset to the angle": (
        _rotate_by(angles=lambda x, theta, offset: offset + _angles(x, theta, 0)),
        "you added offset to the angle: it is a position, so the angle is (offset + n) theta",
    ),
    "counts in degrees": (
        _rotate_by(angles=lambda *arguments: np.deg2rad(_angles(*arguments))),
        "you turned theta into radians: it is in radians already",
    ),
    "adds in both channels": (
        _rotate_by(
            turn=lambda even, odd, angle: (
                even * np.cos(angle) + odd * np.sin(angle),
                even * np.sin(angle) + odd * np.cos(angle),
            )
        ),
        "you have + in both channels: the new even channel is x_0 cos - x_1 sin",
    ),
    "turns every token alike": (
        _rotate_by(angles=lambda x, theta, _: np.broadcast_to(theta, (len(x), len(theta)))),
        "you turned every token by theta: the angle is the position times theta",
    ),
    "keeps only the cosines": (
        _rotate_by(turn=lambda even, odd, angle: (even * np.cos(angle), odd * np.cos(angle))),
        "you only multiplied by cosines: a turn also carries part of each channel over to the other, with the sine",
    ),
    "sets the angle": (
        _rotate_by(turn=_sets_the_angle),
        "you put each pair at the angle (offset + n) theta: it turns on by that angle from where it points already",
    ),
    "uses the new even channel for the odd one": (
        _rotate_by(turn=_uses_the_new_even),
        "you computed the odd channel from the even one after its turn: both need the old values",
    ),
    "puts the even channels first": (
        _rotate_by(join=lambda even, odd: np.concatenate((even, odd), axis=1)),
        "your channels come back in another order, even ones first: channel 2i + 1 belongs beside channel 2i",
    ),
    "gives the angles to the wrong pairs": (
        _tiles_the_angles,
        "you repeated the row of angles (tile): both channels of a pair take one angle, theta_0 twice, then theta_1 twice",
    ),
    "computes in float32": (
        _rotate_by(angles=lambda x, theta, offset: _rounds_the_angles(x.astype(np.float32), theta, offset)),
        "you made theta or the positions float32: leave theta as it is and the positions integers, float64 is needed",
    ),
    "rounds the angles to float32": (
        _rotate_by(angles=_rounds_the_angles),
        "you computed position * theta in float32, which is off by a visible angle far from 0: compute it in float64",
    ),
    "returns complex pairs": (
        lambda x, theta, offset: (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * _angles(x, theta, offset)),
        "you returned K/2 complex numbers a row: write real parts to even channels, imaginary parts to odd ones, (T, K)",
    ),
    "writes in place": (_rotates_in_place, "you turned the caller's x in place: fill a new array"),
}


def _as_complex(x):
    return x[0::2] + 1j * x[1::2]


def _score_by(read):
    """A score made of the complex pairs of q and k, and of the phases (L, K/2)."""
    return lambda q, k, theta, lag: read(_as_complex(q), _as_complex(k), np.exp(1j * lag[:, None] * theta))


def _score_with(turn):
    """A score that turns the query by lag, with another `rotate`."""
    return lambda q, k, theta, lag: np.array([turn(q[None], theta, one)[0] @ k for one in lag])


# Mistakes of problem 1 that spoil problem 2 too; the others give the numbers of a mistake in the table below.
_OF_BOTH = (
    "starts one position late",
    "adds the offset to the angle",
    "counts in degrees",
    "adds in both channels",
    "uses the new even channel for the odd one",
    "puts the even channels first",
    "gives the angles to the wrong pairs",
    "takes the partner from the other half",
)


def _scores_halves(q, k, theta, lag):
    half = len(q) // 2
    q, k = q[:half] + 1j * q[half:], k[:half] + 1j * k[half:]
    return (np.exp(1j * lag[:, None] * theta) @ (q * k.conj())).real


SCORE_MISTAKES = {
    **mapped(_score_with, {name: ROTATE_MISTAKES[name] for name in _OF_BOTH}),
    "turns the wrong way": (
        _score_by(lambda q, k, phase: (phase.conj() @ (q * k.conj())).real),
        "your query turns backwards: it is the later one, turned further than the key; look at the lag's sign, or at rotate",
    ),
    "turns both": (
        _score_by(lambda q, k, phase: ((phase * q * (phase * k).conj()).sum(axis=1)).real),
        "your score does not depend on lag: if q and k turn by the same angle nothing changes; turn only q",
    ),
    "keeps only the cosines": (
        _score_by(lambda q, k, phase: phase.real @ (q * k.conj()).real),
        "you left out the sines: the turned even channel of q holds part of the odd one, and the other way round",
    ),
    "multiplies the dot product by the cosines": (
        lambda q, k, theta, lag: (q @ k) * np.cos(lag[:, None] * theta).sum(axis=1),
        "you multiplied the whole dot product by cosines: each pair turns by its own angle, before the sum",
    ),
    "does not conjugate k": (
        _score_by(lambda q, k, phase: (phase @ (q * k)).real),
        "you multiplied q by k: the dot product of two pairs is the real part of q times the conjugate of k",
    ),
    "returns the complex sum": (
        _score_by(lambda q, k, phase: phase @ (q * k.conj())),
        "you returned the complex sum: the dot product is its real part",
    ),
    "takes the modulus": (
        _score_by(lambda q, k, phase: np.abs(phase @ (q * k.conj()))),
        "you took the modulus of the complex sum: the dot product is its real part, and may be negative",
    ),
    "takes the lengths for the pairs": (
        _score_by(lambda q, k, phase: phase.real @ (np.abs(q) * np.abs(k))),
        "you took |q| |k| cos(lag theta): at lag 0 q and k already have an angle between them, which adds to lag theta",
    ),
    "takes the place in lag for the lag": (
        lambda q, k, theta, lag: score_at_lag(q, k, theta, np.arange(len(lag))),
        "you took the lags to be 0, 1, 2 and so on: they are the entries of lag, in any order, negative ones too",
    ),
    "counts on from the first lag": (
        lambda q, k, theta, lag: score_at_lag(q, k, theta, lag[0] + np.arange(len(lag))),
        "you counted on from lag[0]: lag may leave numbers out, and may be empty; take each entry as it is",
    ),
    "takes the distance for the lag": (
        lambda q, k, theta, lag: score_at_lag(q, k, theta, np.abs(lag)),
        "you used |lag|: before and after are not the same, a negative lag turns q back",
    ),
    "pairs the halves": (_scores_halves, "you paired channel i with i + K/2: a pair is channels 2i and 2i + 1"),
}


def _ladders_by(released=None, rotary=None):
    """`ladders` with one ladder, or both, made from the number of pairs in another way."""

    def function(key_dim):
        usual = ladders(key_dim)
        return tuple(
            one if make is None else make(key_dim // 2) for one, make in zip(usual, (released, rotary), strict=True)
        )

    return function


LADDER_MISTAKES = {
    "leaves out the last step of the released ladder": (
        _ladders_by(released=lambda pairs: ladders(2 * pairs)[1]),
        "your released ladder is the rotary one: its exponents run from 0 to 1 with both ends, so its last is 1/10000",
    ),
    "divides by K/2 - 1": (
        _ladders_by(released=lambda pairs: 10000.0 ** -(np.arange(pairs) / np.float64(pairs - 1))),
        "you divided by K/2 - 1, which is 0 for a single pair: np.linspace(0, 1, K // 2) has no such case",
    ),
    "takes the released ladder for both": (
        _ladders_by(rotary=lambda pairs: ladders(2 * pairs)[0]),
        "your rotary ladder is the released one: its exponents 2i/K stop short of 1",
    ),
    "divides i by K": (
        _ladders_by(rotary=lambda pairs: 10000.0 ** -(np.arange(pairs) / (2 * pairs))),
        "your rotary exponents are i/K, half of 2i/K: they must come close to 1",
    ),
    "doubles i twice": (
        _ladders_by(rotary=lambda pairs: 10000.0 ** -(2 * np.arange(pairs) / pairs)),
        "your rotary exponents are 4i/K: np.arange(0, K, 2) holds 2i already",
    ),
    "makes an angle for each channel": (
        lambda key_dim: (10000.0 ** -np.linspace(0, 1, key_dim), 10000.0 ** (-2 * np.arange(key_dim) / key_dim)),
        "you made K angles: the two channels of a pair share one, so there are K/2",
    ),
    "climbs": (
        lambda key_dim: tuple(1 / one for one in ladders(key_dim)),
        "your angles grow from 1 to 10000: the exponent is negative, so that each pair turns slower than the one before",
    ),
    "goes down in equal steps": (
        _ladders_by(released=lambda pairs: np.linspace(1.0, 1e-4, pairs)),
        "your released angles have equal differences: equal steps belong to the exponent, the angles have equal ratios",
    ),
    **swaps(ladders, "released", "rotary"),
}


def _reorders(order):
    """`repair` with another order of the columns of a head, made of their number."""

    def function(w, heads):
        width = w.shape[1] // heads
        return w.reshape(len(w), heads, width)[:, :, order(width)].reshape(w.shape)

    return function


def _halves(width):
    return np.arange(width).reshape(2, width // 2)


def _takes_heads_for_the_last_axis(w, heads):
    table = w.reshape(len(w), -1, heads)
    return table[:, _halves(table.shape[1]).T.ravel()].reshape(w.shape)


def _repairs_the_first_head(w, heads):
    width = w.shape[1] // heads
    return np.concatenate([repair(w[:, :width], 1), w[:, width:]], axis=1)


def _repairs_in_place(w, heads):
    w[...] = repair(w, heads)
    return w


REPAIR_MISTAKES = {
    "takes all heads for one": (
        lambda w, heads: repair(w, 1),
        "you paired column i with column i + H K / 2 across the heads: each head has K columns and pairs of its own",
    ),
    "takes the heads for the last axis": (
        _takes_heads_for_the_last_axis,
        "your heads alternate from column to column: the K columns of a head stand side by side",
    ),
    "repairs the first head only": (
        _repairs_the_first_head,
        "you reordered the columns of the first head only: each head has its own K columns, to be reordered alike",
    ),
    "goes the other way": (
        _reorders(lambda width: np.argsort(_halves(width).T.ravel())),
        "you went the other way, from neighbours to halves: new column 1 is old column K/2, not the other way round",
    ),
    "swaps the two of a pair": (
        _reorders(lambda width: _halves(width)[::-1].T.ravel()),
        "you swapped the two channels of each pair, so it turns backwards: the one from the first half comes first",
    ),
    "swaps the halves": (
        _reorders(lambda width: _halves(width)[::-1].ravel()),
        "you swapped the two halves of each head: columns i and i + K/2 must become neighbours",
    ),
    "changes nothing": (lambda w, heads: w.copy(), "you left the columns where they were: there is the bug"),
    "writes in place": (_repairs_in_place, "you reordered the caller's w in place: return a new array"),
}


# Checks.


def _rows(time, theta, offset, *, dtype=np.float64):
    random = np.random.default_rng([time, len(theta)])
    x = small_numbers(random, time, 2 * len(theta), dtype=dtype)
    return {"x": x, "theta": np.array(theta), "offset": offset}


def _two(theta, lag, *, dtype=np.float64):
    random = np.random.default_rng(len(theta))
    q, k = (small_numbers(random, 2 * len(theta), dtype=dtype) for _ in range(2))
    return {"q": q, "k": k, "theta": np.array(theta, dtype=dtype), "lag": np.array(lag, dtype=dtype)}


ROTATE = problem(
    rotate,
    ("out",),
    visible={
        "a quarter turn a token": (
            {"x": np.array([[1.0, 2.0]] * 4), "theta": np.array([np.pi / 2]), "offset": 0},
            "by hand: (1, 2) at position 0, then (-2, 1), (-1, -2), (2, -1)",
        ),
        "two pairs, each with its own angle": (
            _rows(3, [0.5, 0.1], 0),
            "at position 2 channels 0 and 1 have turned by 2 * 0.5, channels 2 and 3 by 2 * 0.1",
        ),
        "going on at position 5": (
            _rows(3, [0.5, 0.1], 5),
            "the first row is at position 5, the last at position 7",
        ),
        "float32 arrays a million tokens on": (
            _rows(2, [0.7, 0.03], 1_000_000, dtype=np.float32),
            "near 700,000 float32 numbers are 1/16 apart: compute position * theta in float64",
            {"tolerance": 1e-4},
        ),
        "no token at all (T = 0)": (_rows(0, [0.5, 0.1], 3), "with T = 0 out has shape (0, K)"),
        **keeps_arguments(_rows(3, [1.0, 0.1, 0.01], 2), "fill a new array; x[:, 0::2] = ... writes into the caller's"),
    },
    hidden={
        "a position before 0": (
            _rows(4, [0.5, 0.1, 0.02], -2),
            "offset may be negative: rows at positions -2, -1, 0, 1",
        ),
        "an angle of 0": (_rows(3, [0.0, 0.3], 4), "with theta = 0 a pair stays as it is"),
        "many pairs and tokens": (_rows(40, [0.9**i for i in range(8)], 7), "try K = 16 and T = 40"),
        "float32 arrays near 0": (
            _rows(5, [0.5, 0.1], 0, dtype=np.float32),
            "try x made with dtype=np.float32: the answer must be right to float32 precision",
            {"tolerance": 1e-5},
        ),
    },
    wrong_answers=ROTATE_MISTAKES,
)

SCORE = problem(
    score_at_lag,
    ("score",),
    visible={
        "a quarter turn a token": (
            {
                "q": np.array([1.0, 2.0]),
                "k": np.array([0.0, 1.0]),
                "theta": np.array([np.pi / 2]),
                "lag": np.arange(4.0),
            },
            "by hand: q turns to (1, 2), (-2, 1), (-1, -2), (2, -1); its dot product with (0, 1) is 2, 1, -2, -1",
        ),
        "two pairs, lags 0 to 4": (
            _two([0.5, 0.1], range(5)),
            "rotate q at position 7 and k at position 7 - lag with your rotate: the dot product is the score",
        ),
        "a key after the query": (_two([0.8, 0.2], [-3, -1, 2]), "lag is n - m and may be negative"),
        "no lag at all (L = 0)": (_two([0.5, 0.1], []), "with L = 0 score has shape (0,)"),
        **keeps_arguments(_two([1.0, 0.1, 0.01], [1, 10]), "make new arrays"),
    },
    hidden={
        "side by side": (_two([1.0, 0.3, 0.1], [0]), "at lag 0 nothing has turned: the plain dot product"),
        "a million tokens apart": (
            _two([1.0, 0.01, 0.0001], [999_999, 1_000_000]),
            "any lag costs the same: no loop over positions is needed",
            {"tolerance": 1e-8},
        ),
        "many pairs": (_two([0.8**i for i in range(16)], range(-5, 20)), "try K = 32"),
        **float32_arrays(_two([0.5, 0.1], range(10), dtype=np.float32)),
    },
    wrong_answers=SCORE_MISTAKES,
)

LADDERS = problem(
    ladders,
    ("released", "rotary"),
    visible={
        "four pairs (K = 8)": (
            {"key_dim": 8},
            "by hand: the exponents are 0, 1/3, 2/3, 1 and 0, 1/4, 1/2, 3/4, so rotary is (1, 1/10, 1/100, 1/1000)",
        ),
        "three pairs (K = 6)": ({"key_dim": 6}, "released has the exponents 0, 1/2 and 1, rotary 0, 1/3 and 2/3"),
        "sixteen pairs (K = 32)": ({"key_dim": 32}, "both begin with 1 and fall by the same factor from pair to pair"),
        "one pair only (K = 2)": ({"key_dim": 2}, "both are 1, and nothing may divide by K/2 - 1"),
    },
    hidden={
        "the width of the paper's heads": ({"key_dim": 256}, "try K = 256: 128 angles each"),
        "an odd number of pairs": ({"key_dim": 10}, "try K = 10: five angles each"),
    },
    wrong_answers=LADDER_MISTAKES,
)


def _columns(rows, heads, width, *, dtype=np.float64):
    return {
        "w": small_numbers(np.random.default_rng([rows, heads, width]), rows, heads * width, dtype=dtype),
        "heads": heads,
    }


REPAIR = problem(
    repair,
    ("repaired",),
    visible={
        "one head of three pairs (K = 6)": (
            {"w": np.arange(6.0)[None], "heads": 1},
            "by hand: the pairs of the training are (0, 3), (1, 4), (2, 5), so the columns become 0, 3, 1, 4, 2, 5",
        ),
        "two heads of two pairs (K = 4)": (
            {"w": np.array([[0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]]), "heads": 2},
            "by hand: 0, 2, 1, 3 and 10, 12, 11, 13: no column leaves its head",
        ),
        "five rows, three heads of three pairs": (
            _columns(5, 3, 6),
            "all rows are reordered alike; x @ repaired then has the old channels in the new order",
        ),
        **keeps_arguments(_columns(2, 2, 6), "w[:, order] makes a new array, w[...] = writes into the caller's"),
    },
    hidden={
        "heads of a single pair": (_columns(3, 4, 2), "try K = 2: there is one pair, and both pairings are the same"),
        "a wide head": (_columns(1, 2, 64), "try K = 64"),
        "as many heads as columns in each": (
            _columns(4, 4, 4),
            "try H = K, where two axes mixed up still have the right shape",
        ),
        **float32_arrays(_columns(3, 2, 8, dtype=np.float32)),
    },
    wrong_answers=REPAIR_MISTAKES,
)

EXERCISE = Exercise("ex03", "Rotation", (ROTATE, SCORE, LADDERS, REPAIR))

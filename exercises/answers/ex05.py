"""Exercise 5: the decay mask, some of its rows, and how long a head remembers (Eq. 5 and 8, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .recurring import keeps_arguments

# Solutions.


def decay_mask(gamma, time):
    """D_nm = gamma^(n-m) for n >= m, else 0, one mask per head: gamma (H,) and T -> mask (H, T, T)."""
    lag = np.subtract.outer(np.arange(time), np.arange(time))
    visible = lag >= 0
    power = gamma[:, None, None] ** np.where(visible, lag, 0)  # masked before the power: gamma^-m would overflow
    return np.where(visible, power, 0.0)


def mask_rows(gamma, start, stop):
    """Rows start to stop - 1 of the mask of one head, with the columns they can see: mask (stop - start, stop)."""
    lag = np.subtract.outer(np.arange(start, stop), np.arange(stop))
    return np.where(lag < 0, 0.0, gamma ** np.maximum(lag, 0))


def lifetime(forgotten, eps):
    """The j at which gamma^j = eps, as a real number, for gamma = 1 - forgotten (H,) -> tokens (H,)."""
    return np.log(eps) / np.log1p(-forgotten)


# Wrong answers, each one change away from the solution.


def _lag(time):
    return np.subtract.outer(np.arange(time), np.arange(time))


def _mask_by(make):
    """A mask a head, made of its gamma and the table of n - m."""
    return lambda gamma, time: np.array([make(one, _lag(time)) for one in gamma])


def _past(gamma, lag):
    """The right mask of one head, for others to change."""
    return np.tril(gamma ** np.abs(lag))


MASK_MISTAKES = {
    "leaves out the diagonal": (
        _mask_by(lambda gamma, lag: np.tril(_past(gamma, lag), -1)),
        "your mask is strict: a token sees itself, D_nn = gamma^0 = 1",
    ),
    "sees the future": (
        _mask_by(lambda gamma, lag: gamma ** np.abs(lag)),
        "your mask fades towards the future as towards the past: above the diagonal, where m > n, D is 0",
    ),
    "clips the lag and does not mask": (
        _mask_by(lambda gamma, lag: gamma ** np.maximum(lag, 0)),
        "you set negative lags to 0 and stopped there: gamma^0 is 1, and above the diagonal D is 0; mask afterwards too",
    ),
    "transposes the mask": (
        _mask_by(lambda gamma, lag: _past(gamma, lag).T),
        "you transposed D: rows are queries n, columns keys m, so what is kept lies below the diagonal",
    ),
    "counts one step too many": (
        _mask_by(lambda gamma, lag: gamma * _past(gamma, lag)),
        "your power is one too high: on the diagonal nothing has faded yet, gamma^0 = 1",
    ),
    "fades with the position": (
        _mask_by(lambda gamma, lag: np.tril(gamma ** np.broadcast_to(np.arange(len(lag))[:, None], lag.shape))),
        "your weight depends only on n: it is gamma to the number of tokens between, n - m",
    ),
    "multiplies by the lag": (
        _mask_by(lambda gamma, lag: np.tril(gamma * lag + np.eye(len(lag)))),
        "you multiplied gamma by n - m: the decay is a power, gamma ** (n - m)",
    ),
    "uses the first head for all": (
        lambda gamma, time: decay_mask(np.broadcast_to(gamma[:1], gamma.shape), time),
        "you used the first gamma for all heads: mask[h] is made of gamma[h]",
    ),
    "puts the heads last": (
        lambda gamma, time: np.moveaxis(decay_mask(gamma, time), 0, -1),
        "your heads are on the last axis: mask has shape (H, T, T); give gamma two axes behind, gamma[:, None, None]",
    ),
    "changes gamma": (
        lambda gamma, time: (decay_mask(gamma, time), gamma.fill(1.0))[0],
        "you changed the caller's gamma: leave it as it is",
    ),
}


def _rows_by(make):
    """Rows of the mask, made of gamma and their table of n - m."""
    return lambda gamma, start, stop: make(gamma, np.subtract.outer(np.arange(start, stop), np.arange(stop)))


def _counts_rows_from_0(gamma, start, stop):
    return decay_mask(np.array([gamma]), stop)[0, : stop - start]


def _leaves_out_what_came_before(gamma, start, stop):
    return decay_mask(np.array([gamma]), stop - start)[0]


ROW_MISTAKES = {
    "numbers the rows from 0": (
        _counts_rows_from_0,
        "you numbered the rows from 0: the first row of the block is that of token n = start",
    ),
    "leaves out what came before": (
        _leaves_out_what_came_before,
        "your columns begin at start: the tokens of the block also see those before it, the columns are m = 0 ... stop - 1",
    ),
    "includes stop": (
        lambda gamma, start, stop: mask_rows(gamma, start, stop + 1),
        "you included token stop: like a slice, the rows end at stop - 1, and the columns too",
    ),
    "cuts the block along its own diagonal": (
        _rows_by(lambda gamma, lag: np.tril(gamma ** np.abs(lag))),
        "you masked the block as if it were a whole mask (np.tril): its first row is token start, which sees start + 1 columns",
    ),
    "does not mask": (
        _rows_by(lambda gamma, lag: gamma ** lag.astype(float)),
        "you did not mask: inside the block, too, a column m > n is the future and must be 0",
    ),
    "clips the lag and does not mask": (
        _rows_by(lambda gamma, lag: gamma ** np.maximum(lag, 0)),
        "you set negative lags to 0 and stopped there: gamma^0 is 1, and where m > n the mask is 0",
    ),
    "leaves out the diagonal": (
        _rows_by(lambda gamma, lag: np.where(lag > 0, gamma ** np.abs(lag), 0.0)),
        "your rows are strict: a token sees itself, with weight gamma^0 = 1",
    ),
    "counts one step too many": (
        _rows_by(lambda gamma, lag: np.where(lag >= 0, gamma ** (np.abs(lag) + 1), 0.0)),
        "your power is one too high: the newest token of a row has not faded yet, gamma^0 = 1",
    ),
    "returns columns": (
        lambda gamma, start, stop: mask_rows(gamma, start, stop).T,
        "you returned the block transposed: queries n go down the rows, keys m along the columns",
    ),
}

LIFETIME_MISTAKES = {
    "rounds 1 - forgotten": (
        lambda forgotten, eps: np.log(eps) / np.log(1 - forgotten),
        "you formed 1 - forgotten, which loses most digits of a small number: np.log1p(x) is log(1 + x) without that loss",
    ),
    "takes forgotten for -log gamma": (
        lambda forgotten, eps: -np.log(eps) / forgotten,
        "you used log(1 - x) = -x: close for slow heads, wrong for fast ones",
    ),
    "takes the window for the lifetime": (
        lambda forgotten, eps: 1 / forgotten,
        "1 / (1 - gamma) is the effective window, whatever eps is: return the j at which gamma^j has fallen to eps",
    ),
    "takes forgotten for gamma": (
        lambda forgotten, eps: np.log(eps) / np.log(forgotten),
        "you took the power of what is forgotten: what is left of a token at each step is gamma = 1 - forgotten",
    ),
    "divides the wrong way round": (
        lambda forgotten, eps: np.log1p(-forgotten) / np.log(eps),
        "your quotient is upside down: from j log(gamma) = log(eps) follows j = log(eps) / log(gamma)",
    ),
    "mixes bases": (
        lambda forgotten, eps: np.log2(eps) / np.log1p(-forgotten),
        "you mixed logarithms of two bases (log1p is natural): take one base in both places",
    ),
    "rounds up to whole tokens": (
        lambda forgotten, eps: np.ceil(np.log(eps) / np.log1p(-forgotten)),
        "you rounded to whole tokens: return j unrounded, the caller may round it",
    ),
}


# Checks.


def _heads(*gamma, time, dtype=np.float64):
    return {"gamma": np.array(gamma, dtype=dtype), "time": time}


def _block(gamma, start, stop):
    return {"gamma": gamma, "start": start, "stop": stop}


def _life(*forgotten, eps, dtype=np.float64):
    return {"forgotten": np.array(forgotten, dtype=dtype), "eps": eps}


MASK = problem(
    decay_mask,
    ("mask",),
    visible={
        "one head, three tokens, gamma = 1/2": (_heads(0.5, time=3), "by hand: (1, 0, 0), (1/2, 1, 0), (1/4, 1/2, 1)"),
        "two heads, four tokens": (_heads(0.5, 0.9, time=4), "mask[h] is made only of gamma[h]"),
        "90 tokens at gamma = 1/10000": (
            _heads(1e-4, time=90),
            "0.0001 ** -89 is inf, and inf * 0 is NaN: take one power of n - m, after setting n - m to 0 where n < m",
        ),
        **keeps_arguments(_heads(0.9, 0.5, 0.75, time=5), "build new arrays"),
    },
    hidden={
        "no token at all (T = 0)": (_heads(0.5, 0.9, time=0), "with T = 0 mask has shape (H, 0, 0)"),
        "a sequence of a single token": (_heads(0.5, 0.9, 0.99, time=1), "with T = 1 each head has the one weight 1"),
        "a head that never fades": (
            _heads(1.0, 0.5, time=5),
            "gamma = 1 is allowed: every past token keeps its weight",
        ),
        "as many heads as tokens": (
            _heads(0.5, 0.6, 0.7, 0.8, time=4),
            "try H = T, where heads on the wrong axis still give the right shape",
        ),
        "float32 gammas": (
            _heads(0.125, 0.5, time=50, dtype=np.float32),
            "try gamma made with dtype=np.float32: at 1/8 a negative power overflows from the 43rd token on",
            {"tolerance": 1e-6},
        ),
    },
    wrong_answers=MASK_MISTAKES,
)

ROWS = problem(
    mask_rows,
    ("rows",),
    visible={
        "tokens 2 and 3 at gamma = 1/2": (_block(0.5, 2, 4), "by hand: (1/4, 1/2, 1, 0) and (1/8, 1/4, 1/2, 1)"),
        "from the first token on": (_block(0.75, 0, 3), "with start = 0 the rows are the whole mask"),
        "the last two of 3,000 tokens at gamma = 1/2": (
            _block(0.5, 2998, 3000),
            "0.5 ** 2998 is 0 and 0.5 ** -2998 is inf: take one power, of n - m, not a product of two",
        ),
    },
    hidden={
        "no rows": (_block(0.5, 3, 3), "try start = stop = 3: the shape is (0, 3)"),
        "an empty sequence": (_block(0.5, 0, 0), "try start = stop = 0: the shape is (0, 0)"),
        "a block of four": (_block(0.9, 6, 10), "try start = 6, stop = 10"),
        "a single row": (_block(0.75, 6, 7), "try start = 6, stop = 7: one row of seven weights, none of them 0"),
        "a slow head, far along": (
            _block(0.999, 1500, 1502),
            "try start = 1500: make only the rows that are asked for",
        ),
    },
    wrong_answers=ROW_MISTAKES,
)

LIFETIME = problem(
    lifetime,
    ("tokens",),
    visible={
        "half is forgotten at each token, an eighth is left": (
            _life(0.5, eps=0.125),
            "by hand: 1/2, 1/4, 1/8 are left after 1, 2 and 3 tokens",
        ),
        "the first four heads of Eq. 8, one in ten million": (
            _life(1 / 32, 1 / 64, 1 / 128, 1 / 256, eps=1e-7),
            "gamma^j = eps, so j log(gamma) = log(eps)",
        ),
        "a head that forgets 1e-12 of its state": (
            _life(1e-12, eps=0.1),
            "1 - 1e-12 keeps only four digits of 1e-12: np.log1p takes the forgotten share itself",
        ),
        **keeps_arguments(_life(0.1, 0.25, 0.75, eps=0.01), "build a new array"),
    },
    hidden={
        "no heads": (_life(eps=0.5), "with H = 0 tokens has shape (0,)"),
        "a head that forgets almost everything": (
            _life(0.999, eps=1e-7),
            "forgotten may be near 1: no approximation for small numbers",
        ),
        "a head of a very wide model": (
            _life(3e-16, eps=1e-3),
            "forgotten may be smaller than the gap between 1 and the next float64",
        ),
        "float32 heads": (
            _life(3e-6, 1e-5, eps=0.25, dtype=np.float32),
            "try forgotten made with dtype=np.float32: the answer must be right to float32 precision",
            {"tolerance": 1e-5},
        ),
    },
    wrong_answers=LIFETIME_MISTAKES,
)

EXERCISE = Exercise("ex05", "The decay mask", (MASK, ROWS, LIFETIME))

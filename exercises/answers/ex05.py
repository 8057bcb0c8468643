"""Exercise 5: decay masks and how long a head remembers (Eq. 5, 6 and 8, arXiv:2307.08621v4)."""

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


def token_mask(gamma):
    """D_nm = gamma_(m+1) ... gamma_n for n >= m, else 0, a decay for each token: gamma (T,) -> mask (T, T)."""
    mask = np.eye(len(gamma))
    for n in range(1, len(gamma)):
        mask[n, :n] = gamma[n] * mask[n - 1, :n]  # row by row, as the state fades
    return mask


# Wrong answers, each one change away from the solution.

# The `with` of the stubs: NumPy raises an error where it would return NaN. Where it would overflow, the runner always does.
_strict = np.errstate(all="raise", under="ignore")


def _lag(time):
    return np.subtract.outer(np.arange(time), np.arange(time))


def _mask_by(make):
    """A mask a head, made of its gamma and the table of n - m."""
    return lambda gamma, time: np.array([make(one, _lag(time)) for one in gamma])


def _past(gamma, lag):
    """The right mask of one head, for others to change."""
    return np.tril(gamma ** np.abs(lag))


MASK_MISTAKES = {
    "takes the power before it masks": (
        _mask_by(lambda gamma, lag: np.tril(gamma ** lag.astype(float))),
        "your power overflows, because an exponent is negative: set n - m to 0 where it is negative, then take one power",
    ),
    "takes the exponential before it masks": (
        _mask_by(lambda gamma, lag: np.tril(np.exp(lag * np.log(gamma)))),
        "your np.exp overflows, because n - m is negative above the diagonal: set it to 0 there first, then mask the result",
    ),
    "minus infinity for the future": (
        _mask_by(lambda gamma, lag: np.where(lag >= 0, _past(gamma, lag), -np.inf)),
        "you filled the future with -inf, as before a softmax: D is multiplied, so the future gets 0",
    ),
    "divides two powers": (
        _strict(
            _mask_by(lambda gamma, lag: np.tril(gamma ** np.arange(len(lag))[:, None] / gamma ** np.arange(len(lag))))
        ),
        "you divided gamma^n by gamma^m, which falls to 0 in a long text: take one power, of n - m",
    ),
    "an infinite lag for the future": (
        _mask_by(lambda gamma, lag: gamma ** np.where(lag >= 0, lag, np.inf)),
        "you set n - m to inf above the diagonal: 1 ** inf is 1, so a head with gamma = 1 sees the future; put zeros there",
    ),
    "an infinite lag in np.exp": (
        _strict(_mask_by(lambda gamma, lag: np.exp(np.where(lag >= 0, lag, np.inf) * np.log(gamma)))),
        "you set n - m to inf above the diagonal, and inf times log(1) is NaN in a head with gamma = 1: put zeros there",
    ),
    "a large negative number for the future": (
        _mask_by(lambda gamma, lag: np.where(lag >= 0, _past(gamma, lag), -1e9)),
        "you filled the future with a large negative number, as before a softmax: D is multiplied, so the future gets 0",
    ),
    "does not mask": (
        _mask_by(lambda gamma, lag: gamma ** lag.astype(float)),
        "you did not mask: above the diagonal, where m > n, D is 0",
    ),
    "gives gamma no axes": (
        lambda gamma, time: np.where(_lag(time) >= 0, gamma ** np.maximum(_lag(time), 0), 0.0),
        "your gamma, of shape (H,), meets the columns: with gamma[:, None, None] the power has shape (H, T, T)",
    ),
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
    "a power with a negative exponent": (
        lambda gamma, start, stop: np.tril(
            gamma ** np.arange(start, stop)[:, None] * gamma ** -np.arange(0.0, stop), start
        ),
        "your power overflows, because an exponent is negative: set n - m to 0 where it is negative, then take one power",
    ),
    "takes the power before it masks": (
        _rows_by(lambda gamma, lag: np.where(lag >= 0, gamma ** lag.astype(float), 0.0)),
        "your power overflows where m > n: set n - m to 0 there, then take the power, then mask",
    ),
    "divides two powers": (
        _strict(
            lambda gamma, start, stop: np.tril(
                gamma ** np.arange(start, stop)[:, None] / gamma ** np.arange(stop), start
            )
        ),
        "you divided gamma^n by gamma^m, which falls to 0 in a long text: take one power, of n - m",
    ),
    "minus infinity for the future": (
        _rows_by(lambda gamma, lag: np.where(lag >= 0, gamma ** np.abs(lag), -np.inf)),
        "you filled the future with -inf, as before a softmax: D is multiplied, so the future gets 0",
    ),
    "numbers the rows from 1": (
        lambda gamma, start, stop: mask_rows(gamma, start + 1, stop + 1)[:, :stop],
        "your rows are those of tokens start + 1 to stop: like the columns, they are counted from 0",
    ),
    "a large negative number for the future": (
        _rows_by(lambda gamma, lag: np.where(lag >= 0, gamma ** np.abs(lag), -1e9)),
        "you filled the future with a large negative number, as before a softmax: D is multiplied, so the future gets 0",
    ),
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
    "keeps the axis of the heads": (
        lambda gamma, start, stop: decay_mask(np.array([gamma]), stop)[start:stop],
        "you cut the axis of the heads: decay_mask gives (H, T, T), so the rows are [0, start:stop]",
    ),
    "takes gamma for an array": (
        lambda gamma, start, stop: decay_mask(gamma, stop)[0, start:stop],
        "gamma is a float here and has no [...]: leave the index out, or make it np.array([gamma]) for decay_mask",
    ),
    "returns columns": (
        lambda gamma, start, stop: mask_rows(gamma, start, stop).T,
        "you returned the block transposed: queries n go down the rows, keys m along the columns",
    ),
}

LIFETIME_MISTAKES = {
    "a negative lifetime": (
        lambda forgotten, eps: -np.log(eps) / np.log1p(-forgotten),
        "your j is negative: log(eps) and log(gamma) are both negative, so their quotient is positive",
    ),
    "forgotten with the wrong sign": (
        lambda forgotten, eps: np.log(eps) / np.log1p(forgotten),
        "you took the logarithm of 1 + forgotten: gamma is 1 - forgotten, so give np.log1p the argument -forgotten",
    ),
    "the half-life": (
        lambda forgotten, eps: np.log(0.5) / np.log1p(-forgotten),
        "you returned the half-life, whatever eps is: return the j at which gamma^j has fallen to eps",
    ),
    "mixes in base 10": (
        lambda forgotten, eps: np.log10(eps) / np.log1p(-forgotten),
        "you mixed base 10 with the natural logarithm (log1p is natural): take one base in both places",
    ),
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
    "mixes in base 2": (
        lambda forgotten, eps: np.log2(eps) / np.log1p(-forgotten),
        "you mixed base 2 with the natural logarithm (log1p is natural): take one base in both places",
    ),
    "rounds up to whole tokens": (
        lambda forgotten, eps: np.ceil(np.log(eps) / np.log1p(-forgotten)),
        "you rounded to whole tokens: return j unrounded, the caller may round it",
    ),
}


def _table(gamma, weight, sees=np.greater_equal):
    """The mask of weight(n, m), where sees(n, m)."""
    tokens = range(len(gamma))
    return np.array([[weight(n, m) if sees(n, m) else 0.0 for m in tokens] for n in tokens]).reshape(2 * gamma.shape)


def _products(first, last):
    """The mask whose entry (n, m) is the product of gamma[m + first] ... gamma[n + last - 1]."""
    return lambda gamma: _table(gamma, lambda n, m: np.prod(gamma[m + first : n + last]))


def _exponentials(gamma):
    logs = np.cumsum(np.log(gamma))
    return np.tril(np.exp(np.subtract.outer(logs, logs)))


def _quotients(gamma):
    products = np.cumprod(gamma)
    return np.tril(np.divide.outer(products, products))


TOKEN_MISTAKES = {
    "the decays of the tokens before": (
        _products(0, 0),
        "you multiplied gamma_m to gamma_(n-1): token m is written after its own gamma, and token n fades it by gamma_n",
    ),
    "fades the new token too": (
        _products(0, 1),
        "your product starts with gamma_m: S_m = gamma_m S_(m-1) + k^T v adds token m in full, so start with gamma_(m+1)",
    ),
    "one decay too few": (
        lambda gamma: _table(gamma, lambda n, m: np.prod(gamma[m + 1 : n])),
        "your product leaves out gamma_n: token n fades the state before it reads it",
    ),
    "a power of the reader's decay": (
        lambda gamma: _table(gamma, lambda n, m: gamma[n] ** (n - m)),
        "you took a power of gamma_n: each token between has its own gamma, so multiply them",
    ),
    "a power of the writer's decay": (
        lambda gamma: _table(gamma, lambda n, m: gamma[m] ** (n - m)),
        "you took a power of gamma_m: each token between has its own gamma, so multiply them",
    ),
    "only the newest decay": (
        lambda gamma: _table(gamma, lambda n, m: gamma[n] if n > m else 1.0),
        "you faded each past token by gamma_n alone: the tokens between have faded it too, so multiply all their gammas",
    ),
    "overwrites the diagonal": (
        lambda gamma: _table(gamma, lambda n, m: 0.0 if m else np.prod(gamma[1 : n + 1])),
        "you overwrote the diagonal: row n is gamma_n times row n - 1, and then D_nn = 1 for token n itself",
    ),
    "leaves out the diagonal": (
        lambda gamma: token_mask(gamma) - np.eye(len(gamma)),
        "your mask is strict: a token sees itself, and an empty product is 1",
    ),
    "transposes the mask": (
        lambda gamma: token_mask(gamma).T,
        "you transposed D: rows are queries n, columns keys m, so what is kept lies below the diagonal",
    ),
    "does not mask": (
        lambda gamma: token_mask(gamma) + np.triu(np.ones(2 * gamma.shape), 1),
        "you did not mask: above the diagonal, where m > n, D is 0, though an empty product is 1",
    ),
    "a mask for each gamma": (
        lambda gamma: decay_mask(gamma, len(gamma)),
        "you made a mask for each gamma, as if it were that of a head: all T decays belong to one mask, (T, T)",
    ),
    "divides products": (
        _strict(_quotients),
        "you divided the product up to n by that up to m, which falls to 0 in a long text: multiply what lies between",
    ),
    "takes the exponential before it masks": (
        _exponentials,
        "your np.exp overflows above the diagonal: set the differences to 0 there first, then mask the result",
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
        "one head, three tokens, gamma = 1/2": (
            _heads(0.5, time=3),
            "by hand: (1, 0, 0), (1/2, 1, 0), (1/4, 1/2, 1); the future has the weight 0 (-inf is for a softmax)",
        ),
        "two heads, four tokens": (_heads(0.5, 0.9, time=4), "mask[h] is made only of gamma[h]"),
        "a head that never fades, gamma = 1": (
            _heads(1.0, 0.5, time=5),
            "at gamma = 1 every past token keeps the weight 1, and the future has the weight 0",
        ),
        "no token at all (T = 0)": (_heads(0.5, 0.9, time=0), "with T = 0 mask has shape (H, 0, 0)"),
        "60 tokens at gamma = 1e-6": (
            _heads(1e-6, time=60),
            "1e-6 ** -59 overflows: take one power of n - m, after setting n - m to 0 where n < m",
        ),
        "float32 gammas": (
            _heads(0.125, 0.5, time=6, dtype=np.float32),
            "gamma may be made with dtype=np.float32: the answer must be right to float32 precision",
            {"tolerance": 1e-6},
        ),
        **keeps_arguments(_heads(0.9, 0.5, 0.75, time=5), "build new arrays"),
    },
    hidden={
        "a fast and a slow head, 160 tokens": (
            _heads(1e-3, 0.999, time=160),
            "try gamma = 0.001 with 160 tokens: no exponent may be negative, or the power overflows",
        ),
        "a sequence of a single token": (_heads(0.5, 0.9, 0.99, time=1), "with T = 1 each head has the one weight 1"),
        "as many heads as tokens": (
            _heads(0.5, 0.6, 0.7, 0.8, time=4),
            "try H = T, where heads on the wrong axis still give the right shape",
        ),
        "float32 gammas, more tokens": (
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
        "the last two of 1,200 tokens at gamma = 1/2": (
            _block(0.5, 1198, 1200),
            "0.5 ** 1198 is 0 and 0.5 ** -1198 overflows: take one power, of n - m, not a product of two",
        ),
        "30 rows of a fast head, gamma = 1e-12": (
            _block(1e-12, 3, 33),
            "1e-12 ** -29 overflows: set n - m to 0 where n < m, then take the power",
        ),
        "no rows (start = stop)": (_block(0.5, 3, 3), "with start = stop = 3 the shape is (0, 3)"),
    },
    hidden={
        "an empty sequence": (_block(0.5, 0, 0), "try start = stop = 0: the shape is (0, 0)"),
        "a block of four": (_block(0.9, 6, 10), "try start = 6, stop = 10"),
        "a pair of rows": (_block(0.75, 6, 8), "try start = 6, stop = 8: only the first row has a token in its future"),
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
            _life(1e-12, eps=0.4),
            "1 - 1e-12 keeps only four digits of 1e-12: np.log1p takes the forgotten share itself",
            {"tolerance": 1e-13},
        ),
        "a head that forgets 99 % at each token": (
            _life(0.99, eps=1e-6),
            "by hand: 1/100 is left of 1/100 of 1/100 after three tokens",
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
            _life(3e-12, eps=1e-3),
            "try forgotten = 3e-12: never form 1 - forgotten",
            {"tolerance": 1e-13},
        ),
        "float32 heads": (
            _life(3e-4, 1e-3, eps=0.25, dtype=np.float32),
            "try forgotten made with dtype=np.float32: the answer must be right to float32 precision",
            {"tolerance": 1e-5},
        ),
    },
    wrong_answers=LIFETIME_MISTAKES,
)

TOKENS = problem(
    token_mask,
    ("mask",),
    visible={
        "decays 1/2, 1/4, 1/2": (
            {"gamma": np.array([0.5, 0.25, 0.5])},
            "unroll S_n = gamma_n S_(n-1) + k^T v by hand: the rows are (1, 0, 0), (1/4, 1, 0), (1/8, 1/2, 1)",
        ),
        "five different decays": (
            {"gamma": np.array([0.9, 0.5, 0.8, 1.0, 0.3])},
            "which tokens have faded token m by the time token n reads it? not m itself, but n",
        ),
        "24 tokens with small decays": (
            {"gamma": np.tile([1e-20, 0.5, 1e-30], 8)},
            "the product of all gammas is 0 in float64, and 0 / 0 is NaN: multiply only the gammas between m and n",
        ),
        "no token at all (T = 0)": ({"gamma": np.zeros(0)}, "with T = 0 mask has shape (0, 0)"),
        **keeps_arguments({"gamma": np.array([0.9, 0.5, 0.75, 0.25])}, "build a new array"),
    },
    hidden={
        "a single token": ({"gamma": np.array([0.5])}, "try T = 1: the one weight is 1, whatever gamma is"),
        "equal decays": ({"gamma": np.full(6, 0.75)}, "try equal gammas: the mask is that of problem 1"),
        "tokens that do not fade": ({"gamma": np.array([1.0, 1.0, 0.5, 1.0])}, "gamma = 1 is allowed"),
        "a long text": (
            {"gamma": np.tile([0.9, 1e-3, 0.7, 1.0], 40)},
            "try 160 tokens: no power, quotient or exponential may overflow",
        ),
    },
    wrong_answers=TOKEN_MISTAKES,
)

EXERCISE = Exercise("ex05", "The decay mask", (MASK, ROWS, LIFETIME, TOKENS))

"""Exercise 7: how long a head remembers, and which head answers for which lag (Eq. 8, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import small_numbers
from .recurring import float32_arrays, keeps_arguments, swaps

# Solutions.


def head_gammas(num_heads):
    """The decays of H heads, by the released code and by the paper -> (released (H,), paper (H,))."""
    released = 2.0 ** (-5 - np.arange(num_heads))
    paper = np.exp(np.linspace(np.log(1 / 32), np.log(1 / 512), num_heads))
    return 1 - released, 1 - paper


def forgotten_shares(half_life):
    """The share 1 - gamma that a token loses at each step, from its half-life (N,) -> (N,)."""
    return -np.expm1(-np.log(2) / half_life)


def recall_shares(gamma, lag, time):
    """gamma (H,), lag (N,) -> share (N, H) of the token at each lag in what is read, best gamma (N,)."""
    of_token = gamma ** (2 * lag[:, None])
    of_all = np.sum(gamma ** (2 * np.arange(time)[:, None]), axis=0)
    share = of_token / of_all
    return share, gamma[np.argmax(share, axis=1)]


def recall_snr(gamma, lag, strength, keys, values):
    """gamma, lag (N,), strength (T,), keys (R, T, K), values (R, T, V) -> signal to noise, predicted (N,), measured (N,)."""
    time, key_dim = keys.shape[1:]
    left = strength * gamma ** np.arange(time - 1.0, -1, -1)  # the factor of each write in the last state, (T,)
    asked = time - 1 - lag.astype(int)
    signal, noise_power = left[asked], np.sum(left**2) - left[asked] ** 2
    state = np.swapaxes(keys, 1, 2) @ (values * left[:, None])
    noise = keys[:, asked] @ state - signal[:, None] * values[:, asked]
    return signal * np.sqrt(key_dim / noise_power), signal / np.sqrt(np.mean(noise**2, axis=(0, 2)))


# Wrong answers, each one change away from the solution.


def _gammas_with(*, released=lambda num_heads: head_gammas(num_heads)[0], paper=None):
    """Both schedules with a change in one; paper is a function of num_heads that gives the shares forgotten."""

    def gammas(num_heads):
        return released(num_heads), 1 - paper(num_heads) if paper else head_gammas(num_heads)[1]

    return gammas


def _released_of_ten(num_heads):
    return 1 - 10.0 ** (-5 - np.arange(num_heads))


def _changed(change):
    """Both schedules, each changed in the same way."""
    return lambda num_heads: tuple(change(gamma) for gamma in head_gammas(num_heads))


def _recall_with(*, token=lambda gamma, lag: gamma ** (2 * lag), everything=None, share=None, best=None):
    """Shares with another power of the token or of all tokens, another ratio of them, or another choice of gamma."""

    def recall(gamma, lag, time):
        of_token = token(gamma, lag[:, None])
        lags = np.arange(time)[:, None]
        of_all = everything(gamma, time) if everything else np.sum(token(gamma, lags), axis=0)
        shares = share(of_token, of_all) if share else of_token / of_all
        return shares, best(gamma, lag, shares) if best else gamma[np.argmax(shares, axis=1)]

    return recall


def _sum_of_powers(gamma, lags):
    return np.sum(gamma ** (2 * lags[:, None]), axis=0)


def _left(gamma, strength):
    """The factor of each write in the last state, oldest first."""
    return strength * gamma ** np.arange(len(strength) - 1.0, -1, -1)


def _root_mean_square(noise):
    return np.sqrt(np.mean(noise**2, axis=(0, 2)))


def _snr_with(
    *,
    assumed=_left,
    power=lambda left: left**2,
    predict=lambda signal, noise, key_dim: np.sqrt(key_dim * signal / noise),
    written=_left,
    found=_left,
    asked=lambda lag, time: time - 1 - lag,
    expected=lambda faded, signal: signal,
    size=lambda faded, signal: signal,
    noise_size=_root_mean_square,
):
    """Both ratios with a change in one step of the prediction or of the measurement.

    assumed, written, found: the factors (T,) of the writes in the prediction, in the state and in the signal.
    expected, size: what is taken off the reads, and divided by the noise: functions of gamma^L and the signal.
    """

    def snr(gamma, lag, strength, keys, values):
        time, key_dim = keys.shape[1:]
        tokens = asked(lag, time).astype(int)
        powers = power(assumed(gamma, strength))
        predicted = predict(powers[tokens], np.sum(powers) - powers[tokens], key_dim)

        state = np.swapaxes(keys, 1, 2) @ (values * written(gamma, strength)[:, None])
        signals = gamma**lag, found(gamma, strength)[tokens]
        noise = keys[:, tokens] @ state - expected(*signals)[:, None] * values[:, tokens]
        return predicted, size(*signals) / noise_size(noise)

    return snr


def _both(left):
    """Both ratios with other factors of the writes, a function of gamma and strength."""
    return _snr_with(assumed=left, written=left, found=left)


def _newest_most(gamma, strength):
    """The factors of writes that fade from the wrong end."""
    return strength * gamma ** np.arange(len(strength))


def _all_alike(gamma, strength):
    """The factors of writes whose strengths are left out."""
    return _left(gamma, np.ones(len(strength)))


def _predicts_by(change):
    """Both ratios with a prediction from the shares of problem 3: a function of them and of the strength asked for."""

    def snr(gamma, lag, strength, keys, values):
        share = recall_shares(np.array([gamma]), lag, len(strength))[0][:, 0]
        changed = change(share, strength[len(strength) - 1 - lag.astype(int)])
        return np.sqrt(keys.shape[2] * changed / (1 - changed)), recall_snr(gamma, lag, strength, keys, values)[1]

    return snr


def _signal_of_full_strength(gamma, lag, strength, keys, values):
    powers, own = _left(gamma, strength) ** 2, gamma ** (2 * lag)
    measured = _snr_with(size=lambda faded, signal: faded, expected=lambda faded, signal: faded)
    predicted = np.sqrt(keys.shape[2] * own / (np.sum(powers) - own))
    return predicted, measured(gamma, lag, strength, keys, values)[1]


def _power_left(gamma, strength):
    return _left(gamma, strength) ** 2


def _noise_of(power, own=None):
    """Both ratios with another power of each write in the noise alone; own: that of the one asked for, taken off the sum."""

    def snr(gamma, lag, strength, keys, values):
        right, asked = recall_snr(gamma, lag, strength, keys, values), len(strength) - 1 - lag.astype(int)
        noise = np.sum(power(gamma, strength)) - (own or power)(gamma, strength)[asked]
        return np.sqrt(keys.shape[2] * _power_left(gamma, strength)[asked] / noise), right[1]

    return snr


def _noise_newest_first(gamma, lag, strength, keys, values):
    own = _left(gamma, strength)[len(strength) - 1 - lag.astype(int)] ** 2
    noise = np.sum(_newest_most(gamma, strength) ** 2) - own
    return np.sqrt(keys.shape[2] * own / noise), recall_snr(gamma, lag, strength, keys, values)[1]


def _signal_along_the_values(gamma, lag, strength, keys, values):
    left, asked = _left(gamma, strength), len(strength) - 1 - lag.astype(int)
    read = keys[:, asked] @ (np.swapaxes(keys, 1, 2) @ (values * left[:, None]))
    noise = read - left[asked] * values[:, asked]
    return recall_snr(gamma, lag, strength, keys, values)[0], left[asked] / _root_mean_square(noise)


def _measures_in(state_of):
    """Both ratios with another state, a function of keys, values and the factors left."""

    def snr(gamma, lag, strength, keys, values):
        left, asked = _left(gamma, strength), len(strength) - 1 - lag.astype(int)
        read = keys[:, asked] @ state_of(keys, values, left)
        noise = read - left[asked][:, None] * values[:, asked]
        return recall_snr(gamma, lag, strength, keys, values)[0], left[asked] / _root_mean_square(noise)

    return snr


def _mean_of_ratios(gamma, lag, strength, keys, values):
    ratios = [recall_snr(gamma, lag, strength, *text) for text in zip(keys[:, None], values[:, None], strict=True)]
    return ratios[0][0], np.mean([measured for _, measured in ratios], axis=0)


# Checks.


def _texts(texts, time, key_dim, value_dim, *, gamma, lag):
    """Random strengths, random keys of length 1 and random signs, for `recall_snr`."""
    random = np.random.default_rng([texts, time, key_dim, value_dim])
    keys = random.standard_normal((texts, time, key_dim))
    keys /= np.linalg.norm(keys, axis=2, keepdims=True)
    return {
        "gamma": gamma,
        "lag": np.array(lag),
        "strength": np.abs(small_numbers(random, time)),
        "keys": keys,
        "values": random.choice([-1.0, 1.0], (texts, time, value_dim)),
    }


MILLION = 1_009_670.0  # its gamma lies close to a float64, so that all ways to round it give the same number
SCHEDULE = 1 - 2.0 ** np.arange(-5, -9, -1)  # 31/32, 63/64, 127/128, 255/256


GAMMAS = problem(
    head_gammas,
    ("released", "paper"),
    visible={
        "two heads": (
            {"num_heads": 2},
            "by hand: 31/32 and 63/64 in the released code, 31/32 and 511/512 in the paper",
        ),
        "three heads": (
            {"num_heads": 3},
            "the paper's middle head forgets 1/128, the geometric mean of 1/32 and 1/512",
        ),
        "a single head": ({"num_heads": 1}, "both schedules begin with 31/32"),
        "eight heads": (
            {"num_heads": 8},
            "released: each head forgets half of what the one before it forgets; paper: from 1/32 to 1/512 in 7 steps",
        ),
    },
    hidden={
        "six heads": ({"num_heads": 6}, "try six heads: the paper's are closer together than the released ones"),
        "five heads": ({"num_heads": 5}, "try five heads: there the two schedules are the same"),
        "32 heads": (
            {"num_heads": 32},
            "try 32 heads and look at the last: it forgets 2^-36 per token, which float32 cannot tell from 0",
            {"tolerance": 1e-14},
        ),
    },
    wrong_answers={
        "starts at h = 1": (
            _gammas_with(released=lambda num_heads: head_gammas(num_heads + 1)[0][1:]),
            "your released schedule starts at h = 1: heads count from 0, and head 0 has 1 - 2^-5 = 31/32",
        ),
        "a negative power of the integer 2": (
            _gammas_with(released=lambda num_heads: 1 - 2 ** (-5 - np.arange(num_heads))),
            "NumPy refuses negative powers of integers: write 2.0 ** (-5 - h)",
        ),
        "the exponent grows": (
            _gammas_with(released=lambda num_heads: 1 - 2.0 ** (-5 + np.arange(num_heads))),
            "your released heads forget more and more: the exponent is -5 - h, it falls with h",
        ),
        "even steps of log gamma": (
            _gammas_with(paper=lambda num_heads: -np.expm1(np.linspace(*np.log1p([-1 / 32, -1 / 512]), num_heads))),
            "you took even steps of log(gamma): the paper takes even steps of log(1 - gamma), from log(1/32) to log(1/512)",
        ),
        "the paper's schedule for both": (
            lambda num_heads: (head_gammas(num_heads)[1],) * 2,
            "you gave the paper's schedule twice: the released one halves what is forgotten from head to head, from 1/32 on",
        ),
        "the paper's heads from slow to fast": (
            _gammas_with(paper=lambda num_heads: np.geomspace(1 / 512, 1 / 32, num_heads)),
            "your paper's schedule runs from slow to fast: it starts at 1 - gamma = 1/32 and ends at 1/512",
        ),
        "the paper's shares forgotten": (
            _gammas_with(paper=lambda num_heads: 1 - np.geomspace(1 / 32, 1 / 512, num_heads)),
            "your paper's schedule holds 1 - gamma, what is forgotten: subtract it from 1",
        ),
        "the released shares forgotten": (
            _gammas_with(released=lambda num_heads: 2.0 ** (-5 - np.arange(num_heads))),
            "your released schedule holds 1 - gamma, what is forgotten: subtract it from 1",
        ),
        "returns what is forgotten": (
            _changed(lambda gamma: 1 - gamma),
            "you returned the shares that are forgotten: gamma is what is kept, 1 minus that",
        ),
        "slowest first": (
            _changed(lambda gamma: gamma[::-1].copy()),
            "your heads run from slow to fast: head 0 forgets fastest",
        ),
        "even steps of gamma": (
            _gammas_with(paper=lambda num_heads: np.linspace(1 / 32, 1 / 512, num_heads)),
            "you took even steps between 1/32 and 1/512: the paper takes even steps between their logarithms",
        ),
        "leaves out the end": (
            _gammas_with(
                paper=lambda num_heads: np.exp(np.linspace(np.log(1 / 32), np.log(1 / 512), num_heads, endpoint=False))
            ),
            "your paper's schedule stops short: linspace includes both ends, so the last head forgets 1/512",
        ),
        "logarithms of two bases": (
            _gammas_with(paper=lambda num_heads: np.exp(np.linspace(-5, -9, num_heads))),
            "you mixed two bases: log2 goes with 2**x, the natural log with exp",
        ),
        "powers of ten": (
            _gammas_with(paper=lambda num_heads: np.logspace(np.log(1 / 32), np.log(1 / 512), num_heads)),
            "np.logspace takes exponents of 10: give it np.log10, or take np.exp of np.linspace",
        ),
        "powers of two as those of ten": (
            _gammas_with(paper=lambda num_heads: np.logspace(-5, -9, num_heads)),
            "np.logspace takes exponents of 10: for powers of 2 add base=2",
        ),
        "released powers of two as those of ten": (
            _gammas_with(released=_released_of_ten),
            "your released schedule takes powers of 10, as np.logspace does by itself: for powers of 2 add base=2",
        ),
        "both as powers of ten": (
            _gammas_with(released=_released_of_ten, paper=lambda num_heads: np.logspace(-5, -9, num_heads)),
            "both your schedules take powers of 10, as np.logspace does by itself: for powers of 2 add base=2",
        ),
        "powers of ten that are forgotten": (
            _gammas_with(paper=lambda num_heads: 1 - np.logspace(-5, -9, num_heads)),
            "your paper's schedule holds powers of 10 that are forgotten: np.logspace needs base=2, and gamma is 1 minus that",
        ),
        "natural logarithms as exponents of 2": (
            _gammas_with(paper=lambda num_heads: 2 ** np.linspace(np.log(1 / 32), np.log(1 / 512), num_heads)),
            "you raised 2 to natural logarithms: np.log2 goes with 2**x and base=2, np.log with np.exp and base=np.e",
        ),
        "shares as exponents": (
            _gammas_with(paper=lambda num_heads: np.logspace(1 / 32, 1 / 512, num_heads)),
            "np.logspace takes exponents, not numbers: np.geomspace takes 1/32 and 1/512 themselves",
        ),
        "the paper's end at the fourth head": (
            _gammas_with(paper=lambda num_heads: 2 ** np.linspace(-5, -8, num_heads)),
            "your paper's schedule ends at 1/256, where four released heads end: the paper's last head forgets 1/512 = 2^-9",
        ),
        "divides by H - 1": (
            _gammas_with(paper=lambda num_heads: 2.0 ** (-5 - 4 * np.arange(num_heads) / (num_heads - 1))),
            "you divided by H - 1, which is 0 for a single head: np.linspace has no such case",
        ),
        "one schedule for both": (
            lambda num_heads: (head_gammas(num_heads)[0],) * 2,
            "you gave the released schedule twice: the paper's runs from 31/32 to 511/512 however many heads there are",
        ),
        "rounds to float32": (
            _changed(lambda gamma: gamma.astype(np.float32)),
            "your gamma is rounded to float32: near 1 it has no digits to spare, compute and return float64",
        ),
        **swaps(head_gammas, "released", "paper"),
    },
)

SHARES = problem(
    forgotten_shares,
    ("share",),
    visible={
        "half lives of 1, 2 and 4 tokens": (
            {"half_life": np.array([1.0, 2.0, 4.0])},
            "by hand: after 1 token half is left, so 1/2 is forgotten; for 2 tokens gamma^2 = 1/2",
            {"tolerance": 1e-13},
        ),
        "a half-life of about a million tokens": (
            {"half_life": np.array([MILLION])},
            "the error must be below 1e-13, but 1 - gamma has ten digits: find e^x - 1 without forming e^x",
            {"tolerance": 1e-13},
        ),
        "half lives of 10, 100 and 1000 tokens": (
            {"half_life": np.array([10.0, 100.0, 1000.0])},
            "solve gamma^half_life = 1/2 for gamma, then take 1 - gamma",
        ),
        **keeps_arguments(
            {"half_life": np.array([3.0, 30.0])}, "build a new array; /= and [...] = write into the caller's"
        ),
    },
    hidden={
        "half lives in any order": (
            {"half_life": np.array([64.0, 0.5, 7.25])},
            "try half lives that are not sorted and not whole",
        ),
        "a head that forgets at once": (
            {"half_life": np.array([1e-3])},
            "try a half-life of 0.001: a share is at most 1, and nothing may overflow",
        ),
        "float32": (
            {"half_life": np.array([1e3, 2e3, 4e3], dtype=np.float32)},
            "try float32: at 1000 tokens 1 - gamma has four of seven digits left, if gamma was rounded first",
            {"tolerance": 1e-5},
        ),
        "a very long half-life": (
            {"half_life": np.array([1e9])},
            "try 1e9: 1 - gamma loses nine digits, because gamma was rounded first; find e^x - 1 in one step",
            {"tolerance": 1e-13},
        ),
    },
    wrong_answers={
        "rounds gamma": (
            lambda half_life: 1 - 0.5 ** (1 / half_life),
            "you formed gamma, which is rounded, so 1 - gamma has lost digits: use np.expm1(x), which is e^x - 1 without that loss",
        ),
        "returns the window": (
            lambda half_life: -1 / np.expm1(-np.log(2) / half_life),
            "you returned the window, 1 / (1 - gamma): return the share 1 - gamma itself",
        ),
        "a negative share": (
            lambda half_life: np.expm1(-np.log(2) / half_life),
            "you returned gamma - 1, which is negative: the share that is forgotten is 1 - gamma",
        ),
        "grows": (
            lambda half_life: np.expm1(np.log(2) / half_life),
            "your gamma is above 1, so tokens grow: log(gamma) = -log(2) / half_life is negative, and the share is 1 - gamma",
        ),
        "returns gamma": (
            lambda half_life: 0.5 ** (1 / half_life),
            "you returned gamma, what is kept: the share that is forgotten is 1 - gamma",
        ),
        "the effective window": (
            lambda half_life: 1 / half_life,
            "you took half_life for the window 1 / (1 - gamma): after that many tokens about 1/e is left, not 1/2",
        ),
        "mixes in base 10": (
            lambda half_life: -np.expm1(np.log10(0.5) / half_life),
            "you mixed base 10 with base e: np.expm1 and np.exp go with the natural logarithm, np.log",
        ),
        "falls to 1/e": (
            lambda half_life: -np.expm1(-1 / half_life),
            "your weight falls to 1/e: after a half-life it is 1/2",
        ),
        "a half-life twice as long": (
            lambda half_life: -np.expm1(-np.log(2) / (2 * half_life)),
            "your half-life is twice as long: the weight itself is 1/2, gamma^half_life; no square of it is asked for here",
        ),
        "half of it shared out": (
            lambda half_life: 0.5 / half_life,
            "you spread the loss of 1/2 evenly: each token takes a share of what is left, so gamma^half_life = 1/2",
        ),
        "the first order": (
            lambda half_life: np.log(2) / half_life,
            "log(2) / half_life is -log(gamma), near 1 - gamma for long half lives only: find gamma itself",
        ),
        "returns the logarithm": (
            lambda half_life: -np.log(2) / half_life,
            "you returned log(gamma): the share that is forgotten is 1 - gamma",
        ),
        "the power upside down": (
            lambda half_life: -np.expm1(-np.log(2) * half_life),
            "you took the half_life-th power of 1/2: from gamma^half_life = 1/2 follows gamma by a root",
        ),
    },
)

RECALL = problem(
    recall_shares,
    ("share", "best"),
    visible={
        "gamma = 1/2 and 1, two tokens": (
            {"gamma": np.array([0.5, 1.0]), "lag": np.array([0.0, 1.0]), "time": 2},
            "by hand: powers 1 and 1/4 for gamma = 1/2, so shares 4/5 and 1/5; for gamma = 1 both are 1/2",
        ),
        "three heads, four lags": (
            {"gamma": np.array([0.5, 0.75, 0.875]), "lag": np.array([0.0, 1.0, 2.0, 6.0]), "time": 8},
            "share has a row for each lag and a column for each head; best has an entry for each lag",
        ),
        "the released schedule, 512 tokens": (
            {"gamma": SCHEDULE, "lag": np.array([5.0, 40.0, 300.0]), "time": 512},
            "each lag has a different best head: the fast one for the near past, the slow one for the far past",
        ),
        **keeps_arguments(
            {"gamma": np.array([0.5, 0.75]), "lag": np.array([1.0, 3.0, 2.0]), "time": 5},
            "build new arrays; *=, **= and [...] = write into the caller's",
        ),
    },
    hidden={
        "a head that never fades": (
            {"gamma": np.array([0.5, 1.0]), "lag": np.array([0.0, 3.0]), "time": 4},
            "try gamma = 1: every token has the share 1/T, and nothing may divide by 1 - gamma",
        ),
        "heads that hardly fade": (
            {"gamma": np.array([1 - 1e-6, 1 - 1e-12]), "lag": np.array([2.0, 90.0]), "time": 100},
            "try gamma = 1 - 1e-12: 1 - gamma^2 has lost its digits there, a sum of powers has not",
        ),
        "heads in any order": (
            {"gamma": np.array([0.9, 0.5, 0.99, 0.8]), "lag": np.array([20.0, 0.0, 2.0]), "time": 64},
            "try heads and lags that are not sorted",
        ),
        "a lag that the fast head has forgotten": (
            {"gamma": np.array([0.5, 31 / 32, 511 / 512]), "lag": np.array([2000.0, 3.0]), "time": 2500},
            "try a lag of 2000: gamma^4000 is 0 in float64 for a fast head, and 0 is the right share for it",
        ),
        **float32_arrays(
            {"gamma": SCHEDULE[:2].astype(np.float32), "lag": np.array([3.0, 70.0], dtype=np.float32), "time": 200}
        ),
    },
    wrong_answers={
        "weights for powers": (
            _recall_with(token=lambda gamma, lag: gamma**lag),
            "you added weights: independent tokens add in power, the square of the weight, gamma^(2 lag)",
        ),
        "a weight in a sum of powers": (
            _recall_with(share=lambda token, everything: np.sqrt(token) / everything),
            "your sum adds powers, but what you divide by it is the weight gamma^lag: its power is gamma^(2 lag)",
        ),
        "an endless past": (
            _recall_with(everything=lambda gamma, time: 1 / np.maximum(1 - gamma**2, 1e-300)),
            "you summed over an endless past, 1 / (1 - gamma^2): only T tokens were read, at lags 0 to T - 1",
        ),
        "divides by 1 - gamma^2": (
            _recall_with(everything=lambda gamma, time: (1 - gamma ** (2 * time)) / (1 - gamma**2)),
            "you divided by 1 - gamma^2, which is 0 for a head that never fades: add the T powers",
        ),
        "the number of the best head": (
            _recall_with(best=lambda gamma, lag, share: np.argmax(share, axis=1).astype(float)),
            "best holds the numbers of the heads, as floats: use them as an index into gamma",
        ),
        "one token too many": (
            _recall_with(everything=lambda gamma, time: _sum_of_powers(gamma, np.arange(time + 1))),
            "you summed over T + 1 tokens: the lags run from 0 to T - 1",
        ),
        "one token too few": (
            _recall_with(everything=lambda gamma, time: _sum_of_powers(gamma, np.arange(time - 1))),
            "you summed over T - 1 tokens: the lags run from 0 to T - 1, T of them",
        ),
        "lags from 1 to T": (
            _recall_with(everything=lambda gamma, time: _sum_of_powers(gamma, np.arange(1, time + 1))),
            "your sum runs over the lags 1 to T: the newest token has lag 0, the oldest T - 1",
        ),
        "among the heads": (
            _recall_with(share=lambda token, everything: token / np.sum(token, axis=1, keepdims=True)),
            "you divided by the sum over heads: each head is read by itself, divide by the sum over its T tokens",
        ),
        "among the lags asked for": (
            _recall_with(share=lambda token, everything: token / np.sum(token, axis=0)),
            "you divided by the sum over the lags asked for: divide by that over all T tokens",
        ),
        "the root of the share": (
            lambda *arguments: (np.sqrt(recall_shares(*arguments)[0]), recall_shares(*arguments)[1]),
            "you took the root of the share: a share of the power stays a square",
        ),
        "the largest share itself": (
            _recall_with(best=lambda gamma, lag, share: np.max(share, axis=1)),
            "best holds the largest shares: return the gammas of the heads that have them",
        ),
        "leaves out the newest": (
            _recall_with(everything=lambda gamma, time: _sum_of_powers(gamma, np.arange(1, time))),
            "your sum starts at lag 1: the newest token has lag 0 and counts too",
        ),
        "signal to noise": (
            _recall_with(share=lambda token, everything: token / (everything - token)),
            "you divided by the other tokens only: a share is a part of the total, which includes the token itself",
        ),
        "noise to signal": (
            _recall_with(share=lambda token, everything: everything / np.maximum(token, 1e-300)),
            "your share is upside down: divide the power of the one token by that of all",
        ),
        "one lag too far": (
            _recall_with(
                token=lambda gamma, lag: gamma ** (2 * (lag + 1)),
                everything=lambda gamma, time: _sum_of_powers(gamma, np.arange(time)),
            ),
            "your lag is off by one: the newest token has lag 0 and has not faded, its weight is gamma^0 = 1",
        ),
        "the largest weight": (
            _recall_with(best=lambda gamma, lag, share: gamma[np.argmax(gamma ** lag[:, None], axis=1)]),
            "best is the gamma with the largest weight: a slow head keeps the noise too, take the largest share",
        ),
        "the gamma nearest to the ideal": (
            _recall_with(
                best=lambda gamma, lag, share: gamma[
                    np.argmin(np.abs(gamma - np.sqrt(lag / (lag + 1))[:, None]), axis=1)
                ]
            ),
            "best is the gamma nearest to sqrt(L / (L + 1)), the ideal of an endless past: take the one with the largest share",
        ),
        "the smallest share": (
            _recall_with(best=lambda gamma, lag, share: gamma[np.argmin(share, axis=1)]),
            "best is the gamma with the smallest share: it should have the largest",
        ),
        "the best lag of each head": (
            lambda gamma, lag, time: (
                recall_shares(gamma, lag, time)[0],
                lag[recall_shares(gamma, lag, time)[0].argmax(0)],
            ),
            "best holds the best lag of each head: return the best gamma for each lag, shape (N,)",
        ),
        "argmax along the lags": (
            lambda gamma, lag, time: (
                recall_shares(gamma, lag, time)[0],
                gamma[recall_shares(gamma, lag, time)[0].argmax(0)],
            ),
            "your argmax runs over the lags: for each lag, a row of share, look for the best of the heads, axis 1",
        ),
        "the number of the head": (
            _recall_with(best=lambda gamma, lag, share: np.argmax(share, axis=1)),
            "best holds the numbers of the heads: return their gammas",
        ),
        "transposes share": (
            lambda *arguments: (recall_shares(*arguments)[0].T, recall_shares(*arguments)[1]),
            "you transposed share: a row for each lag, a column for each head, shape (N, H)",
        ),
        **swaps(recall_shares, "share", "best"),
    },
)


SNR = problem(
    recall_snr,
    ("predicted", "measured"),
    visible={
        "one text of three tokens, gamma = 1/2": (
            {
                "gamma": 0.5,
                "lag": np.array([0.0, 2.0]),
                "strength": np.array([4.0, 2.0, 3.0]),
                "keys": np.array([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]]),
                "values": np.array([[[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]]),
            },
            "by hand: the writes, oldest first, are left with 1, 1 and 3; the noise is 1.4 and 0.2 at lag 0, -1.8 and 1.8 at lag 2",
        ),
        "three texts, four lags": (
            _texts(3, 6, 4, 2, gamma=0.75, lag=[0.0, 1.0, 3.0, 5.0]),
            "predicted takes K from the keys; measured takes one mean over texts and entries",
        ),
        "a head that never fades, gamma = 1": (
            _texts(2, 5, 3, 4, gamma=1.0, lag=[2.0, 0.0]),
            "at gamma = 1 only the strengths differ: nothing may divide by 1 - gamma",
        ),
        **keeps_arguments(_texts(2, 4, 2, 3, gamma=0.5, lag=[1.0, 2.0])),
    },
    hidden={
        "a single text": (_texts(1, 7, 3, 3, gamma=0.9, lag=[4.0, 6.0]), "try R = 1"),
        "wide keys and values": (_texts(2, 5, 8, 6, gamma=0.875, lag=[3.0]), "try K = 8, V = 6 and a single lag"),
        "tokens that write nothing": (
            _texts(12, 9, 4, 2, gamma=0.8, lag=[0.0, 8.0, 3.0])
            | {"strength": np.array([1.0, 0.0, 0.5, 0.0, 2.0, 0.0, 0.25, 0.0, 1.5])},
            "try strengths of 0: such a token adds neither signal nor noise, and nothing may divide by its strength",
        ),
        "a long text that fades fast": (
            _texts(1, 200, 2, 3, gamma=1e-2, lag=[1.0, 3.0]),
            "try T = 200 and gamma = 0.01: no power of gamma may have a negative exponent",
        ),
    },
    wrong_answers={
        "ignores the strength": (
            _both(_all_alike),
            "you left the strength out: the write of a token is in the last state with its strength times gamma^lag",
        ),
        "predicts without the strength": (
            _snr_with(assumed=_all_alike),
            "predicted takes the shares of problem 3, where all tokens write alike: here the weights are strength times gamma^lag",
        ),
        "measures without the strength": (
            _snr_with(written=_all_alike, found=_all_alike),
            "measured leaves the strength out: the state adds strength times gamma^lag times k^T v",
        ),
        "the strength not squared": (
            _snr_with(
                assumed=lambda gamma, strength: np.sqrt(strength) * _left(gamma, np.ones(len(strength))),
            ),
            "predicted does not square the strength: random writes add in power, the square of strength times gamma^lag",
        ),
        "the strength not squared in the noise": (
            _noise_of(lambda gamma, strength: strength * _left(gamma, np.ones(len(strength))) ** 2),
            "predicted does not square the strength in its noise: noise adds in power, the square of strength times gamma^lag",
        ),
        "the strength not squared in the sum": (
            _noise_of(lambda gamma, strength: strength * _left(gamma, np.ones(len(strength))) ** 2, own=_power_left),
            "predicted sums strength times gamma^(2 lag): noise adds in power, so the strength is squared there too",
        ),
        "the strength as if newest first": (
            _both(lambda gamma, strength: _left(gamma, strength[::-1])),
            "you read strength from the wrong end: like keys it begins with the oldest token, so lag 0 is its last entry",
        ),
        "predicts with the strength newest first": (
            _snr_with(assumed=lambda gamma, strength: _left(gamma, strength[::-1])),
            "predicted reads strength from the wrong end: it begins with the oldest token, so lag 0 is its last entry",
        ),
        "the noise of a text read backwards": (
            _noise_newest_first,
            "predicted pairs strengths with the wrong powers in its sum: strength begins with the oldest token, at lag T - 1",
        ),
        "the strength of the one asked for alone": (
            lambda gamma, lag, strength, keys, values: (
                strength[len(strength) - 1 - lag.astype(int)]
                * recall_snr(gamma, lag, np.ones(len(strength)), keys, values)[0],
                recall_snr(gamma, lag, strength, keys, values)[1],
            ),
            "predicted weighs the signal with its strength, but not the noise: each other token has a strength too",
        ),
        "a share times the strength": (
            _predicts_by(lambda share, strength: share * strength),
            "predicted takes the share of problem 3 times a strength: the sum below has strengths too, so add it up anew",
        ),
        "a share times the square of the strength": (
            _predicts_by(lambda share, strength: share * strength**2),
            "predicted takes the share of problem 3 times a strength squared: the sum below has strengths too, add it up anew",
        ),
        "a float for the gammas": (
            lambda gamma, lag, strength, keys, values: recall_shares(gamma, lag, len(strength)),
            "gamma is a float here and has no [...]: recall_shares needs np.array([gamma])",
        ),
        "gamma^L for the signal": (
            _signal_of_full_strength,
            "you take gamma^L for the signal, in predicted and measured: it was written with a strength, which multiplies it",
        ),
        "a state without the strength": (
            _snr_with(written=_all_alike),
            "measured reads a state of writes that are all alike: each k^T v is added with its strength",
        ),
        "the strength twice": (
            _snr_with(written=lambda gamma, strength: strength * _left(gamma, strength)),
            "measured has each strength twice in the state: multiply the keys or the values by it, not both",
        ),
        "a signal of full strength": (
            _snr_with(size=lambda faded, signal: faded, expected=lambda faded, signal: faded),
            "measured takes gamma^L for the signal: it was written with a strength, so it is strength times gamma^L",
        ),
        "divides a signal of full strength": (
            _snr_with(size=lambda faded, signal: faded),
            "measured divides gamma^L by the noise: the signal is strength times gamma^L, as in what you took off",
        ),
        "takes off a signal of full strength": (
            _snr_with(expected=lambda faded, signal: faded),
            "measured takes gamma^L v off the read: it was written with a strength, so take off strength times gamma^L v",
        ),
        "an endless past": (
            lambda gamma, lag, strength, keys, values: (
                np.sqrt(keys.shape[2] / (1 / np.maximum(gamma ** (2 * lag) * (1 - gamma**2), 1e-300) - 1)),
                recall_snr(gamma, lag, strength, keys, values)[1],
            ),
            "predicted is the lesson's, for an endless past of tokens that write alike: add the powers of these T tokens",
        ),
        "weights for powers": (
            _snr_with(power=lambda left: left),
            "predicted adds weights: noise adds up in power, the square of strength times gamma^lag",
        ),
        "an index of floats": (
            lambda gamma, lag, strength, keys, values: keys[:, len(strength) - 1 - lag],
            "lag holds floats and an index must be whole: use lag.astype(int) where you index",
        ),
        "all axes of the keys reversed": (
            lambda gamma, lag, strength, keys, values: keys.T @ (values * _left(gamma, strength)[:, None]),
            "keys.T reverses all three axes: for each text swap the last two, keys.mT or np.swapaxes(keys, 1, 2)",
        ),
        "all axes of the keys reversed before the weights": (
            _measures_in(lambda keys, values, left: keys.T * left @ values),
            "keys.T is (K, T, R) and meets the wrong axes: for each text swap the last two, keys.mT or np.swapaxes(keys, 1, 2)",
        ),
        "the keys of all texts at once": (
            _measures_in(lambda keys, values, left: np.einsum("rtk,rtv->kv", keys, values * left[:, None])),
            "your state is the sum over all texts, as k.T @ v gives with k (R, K), v (R, V): each text has a state of its own",
        ),
        "the state of the first text": (
            _measures_in(lambda keys, values, left: keys[0].T @ (values[0] * left[:, None])),
            "you read the state of the first text with the keys of all: each text has a state of its own, (R, K, V)",
        ),
        "values times keys": (
            _measures_in(lambda keys, values, left: np.swapaxes(values * left[:, None], 1, 2) @ keys),
            "your state is transposed, (R, V, K): the keys come first, K^T V, or the entries of a value are mixed up",
        ),
        "keys times values of all tokens": (
            _measures_in(lambda keys, values, left: keys @ np.swapaxes(values * left[:, None], 1, 2)),
            "you multiplied K V^T, which pairs tokens with tokens: the state is K^T V, (R, K, V), so swap the axes of the keys",
        ),
        "the strength along the values": (
            lambda gamma, lag, strength, keys, values: values * _left(gamma, strength),
            "your weights (T,) meet the last axis of values (R, T, V): give them an axis, [:, None]",
        ),
        "the signal along the values": (
            _signal_along_the_values,
            "your signal (N,) meets the last axis of values[:, index], (R, N, V): give it an axis, [:, None]",
        ),
        "a ratio for each text": (
            _snr_with(noise_size=lambda noise: np.sqrt(np.mean(noise**2, axis=2))),
            "measured has a row for each text: take one mean over texts and entries, axes 0 and 2",
        ),
        "a mean over the lags too": (
            _snr_with(noise_size=lambda noise: np.sqrt(np.mean(noise**2))),
            "measured averages the noise over the lags too: each lag has its own, take the mean over axes 0 and 2",
        ),
        "one row too late": (
            _snr_with(asked=lambda lag, time: time - lag),
            "you took row T - L for lag L: rows count from 0, so the newest token, lag 0, is row T - 1",
        ),
        "the oldest for the newest": (
            _snr_with(asked=lambda lag, time: (time - lag) % time),
            "your lag is off by one, and wraps round to the oldest token at lag 0: lag L is row T - 1 - L, which is -1 - L",
        ),
        "a mean over lags and entries": (
            _snr_with(noise_size=lambda noise: np.sqrt(np.mean(noise**2, axis=(1, 2)))),
            "measured takes its mean over lags and entries: noise is (R, N, V), texts and entries are the axes 0 and 2",
        ),
        "squares of both": (
            lambda *arguments: tuple(ratio**2 for ratio in recall_snr(*arguments)),
            "both your ratios are squared: take the root of each",
        ),
        "a mean of the texts' noise": (
            _snr_with(noise_size=lambda noise: np.mean(np.sqrt(np.mean(noise**2, axis=2)), axis=0)),
            "measured takes a root for each text: take one mean square over texts and entries, then the root",
        ),
        "forgets K": (
            _snr_with(predict=lambda signal, noise, key_dim: np.sqrt(signal / noise)),
            "predicted leaves out K: two random keys overlap by 1/K in the mean square, so the noise is that much smaller",
        ),
        "the width of the values for K": (
            lambda gamma, lag, strength, keys, values: (
                recall_snr(gamma, lag, strength, keys, values)[0] * np.sqrt(values.shape[2] / keys.shape[2]),
                recall_snr(gamma, lag, strength, keys, values)[1],
            ),
            "predicted takes the width of the values: K is that of the keys, whose overlap makes the noise",
        ),
        "K outside the root": (
            _snr_with(predict=lambda signal, noise, key_dim: key_dim * np.sqrt(signal / noise)),
            "predicted has K outside the root: K multiplies the square of the ratio",
        ),
        "noise to signal": (
            _snr_with(predict=lambda signal, noise, key_dim: np.sqrt(noise / np.maximum(key_dim * signal, 1e-300))),
            "predicted is upside down: signal over noise",
        ),
        "divides by K": (
            _snr_with(predict=lambda signal, noise, key_dim: np.sqrt(signal / noise / key_dim)),
            "predicted divides by K: wider keys overlap less, so the noise falls and the ratio rises",
        ),
        "the square": (
            _snr_with(predict=lambda signal, noise, key_dim: key_dim * signal / noise),
            "predicted is the square of the ratio: take the root",
        ),
        "the total as noise": (
            _snr_with(predict=lambda signal, noise, key_dim: np.sqrt(key_dim * signal / (signal + noise))),
            "predicted divides by the power of all tokens: the noise is that of the others alone",
        ),
        "oldest first": (
            _snr_with(asked=lambda lag, time: lag),
            "you ask for tokens counted from the oldest: lag 0 is the newest token, index T - 1",
        ),
        "nothing fades": (
            _both(lambda gamma, strength: strength),
            "nothing fades in your state: the token at lag j has the weight gamma^j times its strength in it",
        ),
        "fades the newest most": (
            _both(_newest_most),
            "you fade the newest token most: the last of the T tokens has the weight gamma^0 = 1",
        ),
        "fades the newest most in the state": (
            _snr_with(written=_newest_most),
            "measured fades the newest token most: the last of the T tokens has the weight gamma^0 = 1",
        ),
        "the newest token fades too": (
            _snr_with(written=lambda gamma, strength: gamma * _left(gamma, strength)),
            "measured fades every token once too often: the newest of the T tokens has the weight gamma^0 = 1",
        ),
        "a mean of ratios": (
            _mean_of_ratios,
            "measured averages the ratios of the texts: average the squared noise over texts and entries, then divide once",
        ),
        "the sum of the squares": (
            _snr_with(noise_size=lambda noise: np.sqrt(np.sum(noise**2, axis=(0, 2)))),
            "measured sums the squared noise: take its mean over texts and entries",
        ),
        "the signal as noise": (
            _snr_with(expected=lambda faded, signal: 0.0 * signal),
            "measured divides by the whole read: take the signal off first; what is left is the noise",
        ),
        "the value as signal": (
            _snr_with(expected=lambda faded, signal: np.ones_like(signal)),
            "measured takes v itself off the read: the signal is v times its strength and gamma^L",
        ),
        "a signal of 1": (
            _snr_with(size=lambda faded, signal: np.ones_like(signal)),
            "measured takes a signal of 1: it is the strength times gamma^L",
        ),
        "the spread of the noise": (
            _snr_with(noise_size=lambda noise: np.std(noise, axis=(0, 2))),
            "measured takes the standard deviation, which takes the mean off: take the root of the mean square",
        ),
        "absolute values": (
            _snr_with(noise_size=lambda noise: np.mean(np.abs(noise), axis=(0, 2))),
            "measured averages absolute values: square the noise, take the mean, then the root",
        ),
        "the noise squared": (
            _snr_with(noise_size=lambda noise: np.mean(noise**2, axis=(0, 2))),
            "measured forgets the root: divide by the root of the mean square of the noise",
        ),
        **swaps(recall_snr, "predicted", "measured"),
    },
)

EXERCISE = Exercise("ex07", "Many time scales", (GAMMAS, SHARES, RECALL, SNR))

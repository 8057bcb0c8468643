"""Exercise 4: the parallel form of one head, from any state (Eq. 5 and 7, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import one_head
from .recurring import float32_arrays, keeps_arguments, mapped, swaps, writes_in_place

# Solutions.


def decayed_scores(q, k, gamma):
    """Q K^T * D with D_nm = gamma^(n-m) for n >= m, else 0: q, k (T, K) -> scores (T, T)."""
    lag = np.subtract.outer(np.arange(len(q)), np.arange(len(k)))
    return (q @ k.T) * np.where(lag >= 0, gamma ** np.maximum(lag, 0), 0.0)


def parallel_retention(q, k, v, gamma, state):
    """(Q K^T * D) V and the state after the last token: q, k (T, K), v (T, V), state (K, V) or None."""
    left = gamma ** np.arange(len(q) - 1.0, -1.0, -1.0)[:, None]  # of token m, after the last one
    out, end = decayed_scores(q, k, gamma) @ v, k.T @ (v * left)
    if state is None:
        return out, end
    faded = gamma ** np.arange(1.0, len(q) + 1.0)[:, None]
    return out + (q @ state) * faded, end + gamma ** len(q) * state


# Wrong answers, each one change away from the solution.


def _lag(q):
    return np.subtract.outer(np.arange(len(q)), np.arange(len(q)))


def _mask(q, gamma):
    return np.tril(gamma ** np.abs(_lag(q)))


def _times(mask):
    """`decayed_scores` with another mask, made of q and gamma."""
    return lambda q, k, gamma: (q @ k.T) * mask(q, gamma)


def _takes_a_softmax(q, k, gamma):
    weights = np.where(_lag(q) >= 0, np.exp(decayed_scores(q, k, gamma)), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _normalises(q, gamma):
    mask = _mask(q, gamma)
    return mask / mask.sum(axis=1, keepdims=True)


SCORE_MISTAKES = {
    "leaves out the diagonal": (
        _times(lambda q, gamma: np.tril(_mask(q, gamma), -1)),
        "your mask is strict: a token sees itself, D_nn = 1",
    ),
    "sees the future": (
        _times(lambda q, gamma: gamma ** np.abs(_lag(q))),
        "your tokens see the future: above the diagonal, where m > n, D is 0",
    ),
    "transposes the mask": (
        _times(lambda q, gamma: _mask(q, gamma).T),
        "you transposed D: rows are queries n, columns keys m, so what is kept lies below the diagonal",
    ),
    "forgets the decay": (
        _times(lambda q, gamma: np.tril(np.ones((len(q), len(q))))),
        "you forgot the decay: the mask holds gamma^(n-m), not 1",
    ),
    "counts one step too many": (
        _times(lambda q, gamma: gamma * _mask(q, gamma)),
        "your power is one too high: a token has not faded at its own position, gamma^0 = 1 on the diagonal",
    ),
    "grows with age": (
        _times(lambda q, gamma: np.tril(gamma ** -np.abs(_lag(q)).astype(float))),
        "your exponent has the wrong sign: older tokens count less, gamma^(n-m) with n - m >= 0",
    ),
    "swaps q and k": (
        lambda q, k, gamma: (k @ q.T) * _mask(q, gamma),
        "you swapped q and k: row n belongs to query n, so it is Q K^T, not K Q^T",
    ),
    "multiplies the matrices": (
        lambda q, k, gamma: (q @ k.T) @ _mask(q, gamma),
        "you took the matrix product with D (@): each score is multiplied by its own entry of D (*)",
    ),
    "scales the scores": (
        lambda q, k, gamma: decayed_scores(q, k, gamma) / np.sqrt(q.shape[1]),
        "you divided by sqrt(K): Eq. 5 has no scaling; where it is wanted, k is scaled beforehand",
    ),
    "takes a softmax": (
        _takes_a_softmax,
        "you took a softmax: retention has none, its scores may be negative and a row need not add up to 1",
    ),
    "normalises the mask": (
        _times(_normalises),
        "you divided each row of D by its sum: Eq. 5 does not, and a recurrence would not give the same",
    ),
}


def _parallel_with(
    scores=decayed_scores,
    faded=lambda gamma, time: gamma ** np.arange(1.0, time + 1.0)[:, None],
    left=lambda gamma, time: gamma ** np.arange(time - 1.0, -1.0, -1.0)[:, None],
    whole=lambda gamma, time: gamma**time,
):
    """`parallel_retention` with other scores or weights: xi for the state, zeta for the tokens, gamma^T."""

    def function(q, k, v, gamma, state):
        out, end = scores(q, k, gamma) @ v, k.T @ (v * left(gamma, len(q)))
        if state is None:
            return out, end
        return out + (q @ state) * faded(gamma, len(q)), end + whole(gamma, len(q)) * state

    return function


RETENTION_MISTAKES = {
    **mapped(_parallel_with, SCORE_MISTAKES),
    "ignores the state": (
        lambda q, k, v, gamma, state: parallel_retention(q, k, v, gamma, None),
        "you ignored the state passed in: it adds to every output and to the state you return; only None adds nothing",
    ),
    "leaves the state out of the outputs": (
        lambda *arguments: (parallel_retention(*arguments[:-1], None)[0], parallel_retention(*arguments)[1]),
        "your outputs leave out the state passed in: query n reads what is left of it, q_n S_0 times a power of gamma",
    ),
    "reads the state unfaded": (
        _parallel_with(faded=lambda gamma, time: 1.0),
        "you read S_0 at full strength at every token: by token n it has faded by gamma^n (xi)",
    ),
    "fades the state one step too few": (
        _parallel_with(faded=lambda gamma, time: gamma ** np.arange(float(time))[:, None]),
        "xi is off by one: the first token already fades S_0 once, so its weight in the first output is gamma^1",
    ),
    "fades columns": (
        _parallel_with(faded=lambda gamma, time: gamma ** np.arange(1.0, time + 1.0)),
        "you gave the powers of gamma to the columns: xi has one for each token, make it a column of shape (T, 1)",
    ),
    "adds all tokens to the state at full strength": (
        _parallel_with(left=lambda gamma, time: 1.0),
        "your state is K^T V without decay: token m has faded by gamma^(T-m) when the last token is done (zeta)",
    ),
    "fades the newest token most": (
        _parallel_with(left=lambda gamma, time: gamma ** np.arange(float(time))[:, None]),
        "zeta runs backwards: the newest token enters the state in full, the oldest has faded most",
    ),
    "fades tokens one step too many": (
        _parallel_with(left=lambda gamma, time: gamma ** np.arange(float(time), 0.0, -1.0)[:, None]),
        "zeta is off by one: the last token enters the state in full, its weight is gamma^0 = 1",
    ),
    "drops the state before": (
        _parallel_with(whole=lambda gamma, time: 0.0 if time else 1.0),
        "the state you return leaves out the one passed in: gamma^T of it is left",
    ),
    "keeps the state before unfaded": (
        _parallel_with(whole=lambda gamma, time: 1.0),
        "you added S_0 to the new state at full strength: after T tokens gamma^T of it is left",
    ),
    "fades the state before by one token": (
        _parallel_with(whole=lambda gamma, time: gamma),
        "you faded S_0 by gamma in the new state, as for one token: after T tokens gamma^T of it is left",
    ),
    "returns the state transposed": (
        lambda *arguments: (parallel_retention(*arguments)[0], parallel_retention(*arguments)[1].T),
        "you returned V^T K: the state has a row for each entry of k, shape (K, V), so it is K^T V",
    ),
    **writes_in_place(parallel_retention),
    **swaps(parallel_retention, "out", "state"),
}


# Checks.


def _scores(key_dim, time, gamma, *, dtype=np.float64):
    head = one_head(key_dim, 1, time, gamma, dtype=dtype)
    return {name: head[name] for name in ("q", "k", "gamma")}


SCORES = problem(
    decayed_scores,
    ("scores",),
    visible={
        "three tokens, K = 1, at gamma = 1/2": (
            {"q": np.array([[1.0], [2.0], [3.0]]), "k": np.array([[1.0], [10.0], [100.0]]), "gamma": 0.5},
            "by hand: (1, 0, 0), (2/2, 20, 0), (3/4, 30/2, 300); no softmax follows, so the future is 0, not -inf",
        ),
        "four tokens, two channels": (
            _scores(2, 4, 0.5),
            "row n, column m: the dot product of q_n and k_m, times gamma once for each token after m",
        ),
        **keeps_arguments(_scores(3, 5, 0.75), "build new arrays"),
    },
    hidden={
        "no token at all (T = 0)": (_scores(3, 0, 0.5), "with T = 0 scores has shape (0, 0)"),
        "a sequence of a single token": (_scores(2, 1, 0.5), "with T = 1 there is one score, q . k, not faded"),
        "a head that never fades": (_scores(2, 6, 1.0), "gamma = 1 is allowed: every past token keeps its full score"),
        "more channels than tokens": (_scores(7, 3, 0.9), "scores has shape (T, T), whatever K is"),
        **float32_arrays(_scores(4, 20, 0.9, dtype=np.float32)),
    },
    wrong_answers=SCORE_MISTAKES,
)

RETENTION = problem(
    parallel_retention,
    ("out", "state"),
    visible={
        "q and k all ones, gamma = 1/2, from None": (
            {
                "q": np.ones((3, 1)),
                "k": np.ones((3, 1)),
                "v": np.array([[1.0], [10.0], [100.0]]),
                "gamma": 0.5,
                "state": None,
            },
            "by hand: 1, then 1/2 + 10, then 1/4 + 10/2 + 100 = 105.25, and the state after it is 105.25 too",
        ),
        "four tokens, going on from a state": (
            one_head(2, 3, 4, 0.5),
            "after token n, counted from 1, gamma^n of S_0 is left, in the outputs and in the new state",
        ),
        "as many tokens as values (T = V = 3)": (
            one_head(2, 3, 3, 0.75),
            "the weights of tokens go down the rows: make them columns of shape (T, 1)",
        ),
        **keeps_arguments(one_head(3, 3, 5, 0.9)),
    },
    hidden={
        "no token at all, from a state": (
            one_head(3, 2, 0, 0.5),
            "without a token, return the state unchanged and out of shape (0, V)",
        ),
        "no token at all, from None": (
            one_head(3, 2, 0, 0.5, state=False),
            "the state is zeros of shape (K, V), out has shape (0, V)",
        ),
        "a sequence of a single token, from None": (
            one_head(3, 2, 1, 0.5, state=False),
            "T = 1 must give one step of the recurrence (Eq. 6)",
        ),
        "a head that never fades": (one_head(2, 4, 6, 1.0), "gamma = 1 is allowed: nothing may divide by 1 - gamma"),
        "keys wider than values, a long sequence": (one_head(5, 2, 40, 0.9), "try K = 5, V = 2, T = 40"),
        **float32_arrays(one_head(4, 3, 20, 0.9, state=False, dtype=np.float32), "float32 arrays, from None"),
    },
    wrong_answers=RETENTION_MISTAKES,
)

EXERCISE = Exercise("ex04", "The parallel form of one head", (SCORES, RETENTION))

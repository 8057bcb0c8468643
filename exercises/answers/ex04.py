"""Exercise 4: the parallel form of one head, from any state (Eq. 5 and 7, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Check, Exercise, Problem, WrongAnswer
from .inputs import small_numbers

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


def _scales(q, k, gamma):
    return decayed_scores(q, k, gamma) / np.sqrt(q.shape[1])


def _takes_a_softmax(q, k, gamma):
    weights = np.where(_lag(q) >= 0, np.exp(decayed_scores(q, k, gamma)), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _normalises(q, gamma):
    mask = _mask(q, gamma)
    return mask / mask.sum(axis=1, keepdims=True)


SCORE_MISTAKES = (
    WrongAnswer(
        "leaves out the diagonal",
        _times(lambda q, gamma: np.tril(_mask(q, gamma), -1)),
        "your mask is strict: a token sees itself, D_nn = 1",
    ),
    WrongAnswer(
        "sees the future",
        _times(lambda q, gamma: gamma ** np.abs(_lag(q))),
        "your tokens see the future: above the diagonal, where m > n, D is 0",
    ),
    WrongAnswer(
        "transposes the mask",
        _times(lambda q, gamma: _mask(q, gamma).T),
        "you transposed D: rows are queries n, columns keys m, so what is kept lies below the diagonal",
    ),
    WrongAnswer(
        "forgets the decay",
        _times(lambda q, gamma: np.tril(np.ones((len(q), len(q))))),
        "you forgot the decay: the mask holds gamma^(n-m), not 1",
    ),
    WrongAnswer(
        "counts one step too many",
        _times(lambda q, gamma: gamma * _mask(q, gamma)),
        "your power is one too high: a token has not faded at its own position, gamma^0 = 1 on the diagonal",
    ),
    WrongAnswer(
        "grows with age",
        _times(lambda q, gamma: np.tril(gamma ** -np.abs(_lag(q)).astype(float))),
        "your exponent has the wrong sign: older tokens count less, gamma^(n-m) with n - m >= 0",
    ),
    WrongAnswer(
        "swaps q and k",
        lambda q, k, gamma: (k @ q.T) * _mask(q, gamma),
        "you swapped q and k: row n belongs to query n, so it is Q K^T, not K Q^T",
    ),
    WrongAnswer(
        "multiplies the matrices",
        lambda q, k, gamma: (q @ k.T) @ _mask(q, gamma),
        "you took the matrix product with D (@): each score is multiplied by its own entry of D (*)",
    ),
    WrongAnswer(
        "scales the scores",
        _scales,
        "you divided by sqrt(K): Eq. 5 has no scaling; where it is wanted, it is done to k beforehand",
    ),
    WrongAnswer(
        "takes a softmax",
        _takes_a_softmax,
        "you took a softmax: retention has none, its scores may be negative and a row need not add up to 1",
    ),
    WrongAnswer(
        "normalises the mask",
        _times(_normalises),
        "you divided each row of D by its sum: Eq. 5 does not, and a recurrence would not give the same",
    ),
)


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


def _ignores_the_state(q, k, v, gamma, state):
    return parallel_retention(q, k, v, gamma, None)


def _leaves_the_state_out_of_the_outputs(q, k, v, gamma, state):
    return parallel_retention(q, k, v, gamma, None)[0], parallel_retention(q, k, v, gamma, state)[1]


def _transposes_the_state(q, k, v, gamma, state):
    out, end = parallel_retention(q, k, v, gamma, state)
    return out, end.T


def _writes_in_place(q, k, v, gamma, state):
    out, end = parallel_retention(q, k, v, gamma, state)
    if state is not None:
        state[...] = end
    return out, end


RETENTION_MISTAKES = (
    *(WrongAnswer(mistake.name, _parallel_with(mistake.function), mistake.message) for mistake in SCORE_MISTAKES),
    WrongAnswer(
        "ignores the state",
        _ignores_the_state,
        "you ignored the state passed in: it adds to every output and to the state you return; only None adds nothing",
    ),
    WrongAnswer(
        "leaves the state out of the outputs",
        _leaves_the_state_out_of_the_outputs,
        "your outputs leave out the state passed in: query n reads what is left of it, q_n S_0 times a power of gamma",
    ),
    WrongAnswer(
        "reads the state unfaded",
        _parallel_with(faded=lambda gamma, time: 1.0),
        "you read S_0 at full strength at every token: by token n it has faded by gamma^n (xi)",
    ),
    WrongAnswer(
        "fades the state one step too few",
        _parallel_with(faded=lambda gamma, time: gamma ** np.arange(float(time))[:, None]),
        "xi is off by one: the first token already fades S_0 once, so its weight in the first output is gamma^1",
    ),
    WrongAnswer(
        "fades columns",
        _parallel_with(faded=lambda gamma, time: gamma ** np.arange(1.0, time + 1.0)),
        "you gave the powers of gamma to the columns: xi has one for each token, make it a column of shape (T, 1)",
    ),
    WrongAnswer(
        "adds all tokens to the state at full strength",
        _parallel_with(left=lambda gamma, time: 1.0),
        "your state is K^T V without decay: token m has faded by gamma^(T-m) when the last token is done (zeta)",
    ),
    WrongAnswer(
        "fades the newest token most",
        _parallel_with(left=lambda gamma, time: gamma ** np.arange(float(time))[:, None]),
        "zeta runs backwards: the newest token enters the state in full, the oldest has faded most",
    ),
    WrongAnswer(
        "fades tokens one step too many",
        _parallel_with(left=lambda gamma, time: gamma ** np.arange(float(time), 0.0, -1.0)[:, None]),
        "zeta is off by one: the last token enters the state in full, its weight is gamma^0 = 1",
    ),
    WrongAnswer(
        "drops the state before",
        _parallel_with(whole=lambda gamma, time: 0.0 if time else 1.0),
        "the state you return leaves out the one passed in: gamma^T of it is left",
    ),
    WrongAnswer(
        "keeps the state before unfaded",
        _parallel_with(whole=lambda gamma, time: 1.0),
        "you added S_0 to the new state at full strength: after T tokens gamma^T of it is left",
    ),
    WrongAnswer(
        "fades the state before by one token",
        _parallel_with(whole=lambda gamma, time: gamma),
        "you faded S_0 by gamma in the new state, as for one token: after T tokens gamma^T of it is left",
    ),
    WrongAnswer(
        "returns the state transposed",
        _transposes_the_state,
        "you returned V^T K: the state has a row for each entry of k, shape (K, V), so it is K^T V",
    ),
    WrongAnswer(
        "writes in place",
        _writes_in_place,
        "you changed the caller's state in place (as *= and += do): make a new array, the caller may still need the old",
    ),
    WrongAnswer(
        "swaps what it returns",
        lambda *arguments: parallel_retention(*arguments)[::-1],
        "you returned (state, out): the order is (out, state)",
    ),
)


# Checks.


def _scores(key_dim, time, gamma, *, dtype=np.float64):
    random = np.random.default_rng([key_dim, time])
    q, k = (small_numbers(random, time, key_dim, dtype=dtype) for _ in range(2))
    return {"q": q, "k": k, "gamma": gamma}


def _head(key_dim, value_dim, time, gamma, *, start="state", dtype=np.float64):
    random = np.random.default_rng([key_dim, value_dim, time])
    v = small_numbers(random, time, value_dim, dtype=dtype)
    state = small_numbers(random, key_dim, value_dim, dtype=dtype)
    q, k, _ = _scores(key_dim, time, gamma, dtype=dtype).values()
    return {"q": q, "k": k, "v": v, "gamma": gamma, "state": state if start == "state" else None}


SCORES = Problem(
    "decayed_scores",
    ("scores",),
    decayed_scores,
    checks=(
        Check(
            "three tokens, K = 1, at gamma = 1/2",
            {"q": np.array([[1.0], [2.0], [3.0]]), "k": np.array([[1.0], [10.0], [100.0]]), "gamma": 0.5},
            "by hand: (1, 0, 0), (2/2, 20, 0), (3/4, 30/2, 300); no softmax follows, so the future is 0, not -inf",
        ),
        Check(
            "four tokens, two channels",
            _scores(2, 4, 0.5),
            "row n, column m: the dot product of q_n and k_m, times gamma once for each token after m",
        ),
        Check(
            "the arguments stay as they were",
            _scores(3, 5, 0.75),
            "build new arrays",
            keeps_inputs=True,
        ),
        Check(
            "no token at all (T = 0)",
            _scores(3, 0, 0.5),
            "with T = 0 scores has shape (0, 0)",
            hidden=True,
        ),
        Check(
            "a sequence of a single token",
            _scores(2, 1, 0.5),
            "with T = 1 there is one score, q . k, not faded",
            hidden=True,
        ),
        Check(
            "a head that never fades",
            _scores(2, 6, 1.0),
            "gamma = 1 is allowed: every past token keeps its full score",
            hidden=True,
        ),
        Check(
            "more channels than tokens",
            _scores(7, 3, 0.9),
            "scores has shape (T, T), whatever K is",
            hidden=True,
        ),
        Check(
            "float32 arrays",
            _scores(4, 20, 0.9, dtype=np.float32),
            "try arrays made with dtype=np.float32: the answer must be right to float32",
            tolerance=1e-5,
            hidden=True,
        ),
    ),
    wrong_answers=SCORE_MISTAKES,
)

RETENTION = Problem(
    "parallel_retention",
    ("out", "state"),
    parallel_retention,
    checks=(
        Check(
            "q and k all ones, gamma = 1/2, from None",
            {
                "q": np.ones((3, 1)),
                "k": np.ones((3, 1)),
                "v": np.array([[1.0], [10.0], [100.0]]),
                "gamma": 0.5,
                "state": None,
            },
            "by hand: 1, then 1/2 + 10, then 1/4 + 10/2 + 100 = 105.25, and the state after it is 105.25 too",
        ),
        Check(
            "four tokens, going on from a state",
            _head(2, 3, 4, 0.5),
            "after token n, counted from 1, gamma^n of S_0 is left: the outputs see that, and so does the new state",
        ),
        Check(
            "as many tokens as values (T = V = 3)",
            _head(2, 3, 3, 0.75),
            "the weights of tokens go down the rows: make them columns of shape (T, 1)",
        ),
        Check(
            "the arguments stay as they were",
            _head(3, 3, 5, 0.9),
            "build new arrays; *=, += and [...] = write into the caller's",
            keeps_inputs=True,
        ),
        Check(
            "no token at all, from a state",
            _head(3, 2, 0, 0.5),
            "without a token the state comes back as it went in, and out has shape (0, V)",
            hidden=True,
        ),
        Check(
            "no token at all, from None",
            _head(3, 2, 0, 0.5, start="none"),
            "the state is zeros of shape (K, V), out has shape (0, V)",
            hidden=True,
        ),
        Check(
            "a sequence of a single token, from None",
            _head(3, 2, 1, 0.5, start="none"),
            "T = 1 must give one step of the recurrence (Eq. 6)",
            hidden=True,
        ),
        Check(
            "a head that never fades",
            _head(2, 4, 6, 1.0),
            "gamma = 1 is allowed: nothing may divide by 1 - gamma",
            hidden=True,
        ),
        Check(
            "keys wider than values, a long sequence",
            _head(5, 2, 40, 0.9),
            "try K = 5, V = 2, T = 40",
            hidden=True,
        ),
        Check(
            "float32 arrays, from None",
            _head(4, 3, 20, 0.9, start="none", dtype=np.float32),
            "try arrays made with dtype=np.float32: the answer must be right to float32",
            tolerance=1e-5,
            hidden=True,
        ),
    ),
    wrong_answers=RETENTION_MISTAKES,
)

EXERCISE = Exercise("ex04", "The parallel form of one head", (SCORES, RETENTION))

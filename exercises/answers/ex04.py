"""Exercise 4: the parallel form of one head, from any state (Eq. 5 and 7, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import one_head, small_numbers
from .recurring import asks_whether_true, collects_rows, float32_arrays, keeps_arguments, mapped, swaps, writes_in_place

# Solutions.


def retention_weights(q, k, gamma):
    """Q K^T * D with D_nm = gamma^(n-m) for n >= m, else 0: q, k (T, K) -> weights (T, T)."""
    lag = np.subtract.outer(np.arange(len(q)), np.arange(len(k)))
    return (q @ k.T) * np.where(lag >= 0, gamma ** np.maximum(lag, 0), 0.0)


def parallel_retention(q, k, v, gamma, state):
    """(Q K^T * D) V and the state after the last token: q, k (T, K), v (T, V), state (K, V) or None."""
    left = gamma ** np.arange(len(q) - 1.0, -1.0, -1.0)[:, None]  # of token m, after the last one
    out, end = retention_weights(q, k, gamma) @ v, k.T @ (v * left)
    if state is None:
        return out, end
    faded = gamma ** np.arange(1.0, len(q) + 1.0)[:, None]
    return out + (q @ state) * faded, end + gamma ** len(q) * state


def rising_retention(q, k, v, gamma, state):
    """D_nm = (n - m + 1) gamma^(n-m) as a loop: q, k (T, K), v (T, V), state (2, K, V) or None -> (out, state)."""
    plain, rising = np.zeros((2, q.shape[1], v.shape[1])) if state is None else state
    out = np.zeros(v.shape)
    for n in range(len(q)):
        plain = gamma * plain + k[n][:, None] * v[n]
        rising = gamma * rising + plain  # (j + 1) gamma^j is gamma times j gamma^(j-1), and one gamma^j more
        out[n] = q[n] @ rising
    return out, np.stack([plain, rising])


# Wrong answers, each one change away from the solution.


def _lag(q):
    return np.subtract.outer(np.arange(len(q)), np.arange(len(q)))


def _mask(q, gamma):
    return np.tril(gamma ** np.abs(_lag(q)))


def _times(mask):
    """`retention_weights` with another mask, made of q and gamma."""
    return lambda q, k, gamma: (q @ k.T) * mask(q, gamma)


def _takes_a_softmax(q, k, gamma):
    weights = np.where(_lag(q) >= 0, np.exp(retention_weights(q, k, gamma)), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _normalises(q, gamma):
    mask = _mask(q, gamma)
    return mask / mask.sum(axis=1, keepdims=True)


WEIGHT_MISTAKES = {
    "leaves out the diagonal": (
        _times(lambda q, gamma: np.tril(_mask(q, gamma), -1)),
        "your mask is strict: a token sees itself, D_nn = 1",
    ),
    "does not mask": (
        _times(lambda q, gamma: gamma ** _lag(q).astype(float)),
        "you did not mask: above the diagonal, where m > n, D is 0",
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
    "fades with the position": (
        _times(lambda q, gamma: np.tril(gamma ** np.arange(float(len(q)))[:, None] * np.ones(len(q)))),
        "your decay depends only on n: it is gamma to the number of tokens since, n - m",
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
        lambda q, k, gamma: retention_weights(q, k, gamma) / np.sqrt(q.shape[1]),
        "you divided by sqrt(K): Eq. 5 has no scaling; where it is wanted, k is scaled beforehand",
    ),
    "takes a softmax": (
        _takes_a_softmax,
        "you took a softmax: retention has none, its weights may be negative and a row need not sum to 1",
    ),
    "clips the lag and does not mask": (
        _times(lambda q, gamma: gamma ** np.maximum(_lag(q), 0)),
        "you set negative lags to 0 and stopped there: gamma^0 is 1, and above the diagonal D is 0",
    ),
    "multiplies by the lag": (
        _times(lambda q, gamma: np.tril(gamma * _lag(q))),
        "you multiplied gamma by n - m: the decay is a power, gamma ** (n - m)",
    ),
    "puts minus infinity into D": (
        _times(lambda q, gamma: np.where(_lag(q) >= 0, _mask(q, gamma), -np.inf)),
        "you put -inf into D: no softmax follows here, above the diagonal D is 0",
    ),
    "masks with minus infinity": (
        lambda q, k, gamma: np.where(_lag(q) >= 0, retention_weights(q, k, gamma), -np.inf),
        "you masked with -inf, as before a softmax: no softmax follows here, the weight of a later token is 0",
    ),
    "normalises the mask": (
        _times(_normalises),
        "you divided each row of D by its sum: Eq. 5 does not, and a recurrence would not give the same",
    ),
}


def _parallel_with(
    weights=retention_weights,
    faded=lambda gamma, time: gamma ** np.arange(1.0, time + 1.0)[:, None],
    left=lambda gamma, time: gamma ** np.arange(time - 1.0, -1.0, -1.0)[:, None],
    whole=lambda gamma, time: gamma**time,
):
    """`parallel_retention` with other weights, or another xi for the state, zeta for the tokens, or gamma^T."""

    def function(q, k, v, gamma, state):
        out, end = weights(q, k, gamma) @ v, k.T @ (v * left(gamma, len(q)))
        if state is None:
            return out, end
        return out + (q @ state) * faded(gamma, len(q)), end + whole(gamma, len(q)) * state

    return function


RETENTION_MISTAKES = {
    **mapped(_parallel_with, WEIGHT_MISTAKES),
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
    "never fades the state": (
        _parallel_with(faded=lambda gamma, time: 1.0, whole=lambda gamma, time: 1.0),
        "you never fade S_0: query n, counted from 1, reads gamma^n of it, and gamma^T is left in the new state",
    ),
    "fades the state by gamma^T in all outputs": (
        _parallel_with(faded=lambda gamma, time: gamma**time),
        "you faded S_0 by gamma^T for all queries: query n, counted from 1, reads gamma^n of it",
    ),
    "fades the state one step too few": (
        _parallel_with(faded=lambda gamma, time: gamma ** np.arange(float(time))[:, None]),
        "xi is off by one: the first token already fades S_0 once, so its weight in the first output is gamma^1",
    ),
    "counts tokens from 0": (
        _parallel_with(
            faded=lambda gamma, time: gamma ** np.arange(float(time))[:, None],
            whole=lambda gamma, time: gamma ** (time - 1.0),
        ),
        "you fade S_0 one step too few: the first token fades it already, so xi is gamma^1 ... gamma^T, and gamma^T is left",
    ),
    "fades the state once": (
        _parallel_with(faded=lambda gamma, time: gamma, whole=lambda gamma, time: gamma),
        "you faded S_0 by gamma once: each token fades it, so query n reads gamma^n of it, and gamma^T is left at the end",
    ),
    "fades columns": (
        _parallel_with(faded=lambda gamma, time: gamma ** np.arange(1.0, time + 1.0)),
        "you gave the powers of gamma to the columns: xi has one for each token, make it a column of shape (T, 1)",
    ),
    "takes xi for zeta": (
        _parallel_with(left=lambda gamma, time: gamma ** np.arange(1.0, time + 1.0)[:, None]),
        "you used xi for the new state: token m has faded by gamma^(T-m) at the end (zeta), the last one not at all",
    ),
    "keeps only the last token": (
        _parallel_with(left=lambda gamma, time: (np.arange(time) == time - 1.0)[:, None]),
        "your state holds the last token only: all T tokens are in it, token m with weight gamma^(T-m)",
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
        _parallel_with(whole=lambda gamma, time: 0.0),
        "the state you return leaves out the one passed in: gamma^T of it is left",
    ),
    "fades the state before one token too few": (
        _parallel_with(whole=lambda gamma, time: gamma ** (time - 1.0)),
        "you faded S_0 by gamma^(T-1) in the new state: each of the T tokens has faded it, gamma^T is left",
    ),
    **asks_whether_true(parallel_retention),
    "computes with None": (
        lambda q, k, v, gamma, state: parallel_retention(q, k, v, gamma, np.array(None) if state is None else state),
        "you computed with state = None: None means a state of zeros, which adds nothing",
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


def _rising_with(
    step=lambda gamma, rising, before, after, new: gamma * rising + after,
    read=lambda plain, rising: rising,
    give=lambda plain, rising: np.stack([plain, rising]),
):
    """`rising_retention` with another rule for S' (from S before and after the token), another read, or another result."""

    def function(q, k, v, gamma, state):
        plain, rising = np.zeros((2, q.shape[1], v.shape[1])) if state is None else state
        out = np.zeros(v.shape)
        for n in range(len(q)):
            new = k[n][:, None] * v[n]
            before, plain = plain, gamma * plain + new
            rising = step(gamma, rising, before, plain, new)
            out[n] = q[n] @ read(plain, rising)
        return out, give(plain, rising)

    return function


def _rising_from(plain_left, rising_left=lambda gamma, n: gamma**n, at_end=True):
    """`rising_retention` in the parallel form: S'_n holds these shares of S_0 and of S'_0, at the end too or not."""

    def function(q, k, v, gamma, state):
        out, end = rising_retention(q, k, v, gamma, None)
        if state is None:
            return out, end
        n, time = np.arange(1.0, len(q) + 1.0)[:, None], float(len(q))
        out = out + plain_left(gamma, n) * (q @ state[0]) + rising_left(gamma, n) * (q @ state[1])
        if not at_end:
            return out, rising_retention(q, k, v, gamma, state)[1]
        left = plain_left(gamma, time) * state[0] + rising_left(gamma, time) * state[1]
        return out, end + np.stack([gamma**time * state[0], left])

    return function


def _grows_with_the_position(q, k, v, gamma, state):
    plain, rising = np.zeros((2, q.shape[1], v.shape[1])) if state is None else state
    out = np.zeros(v.shape)
    for n in range(len(q)):
        plain = gamma * plain + k[n][:, None] * v[n]
        rising = (n + 1) * plain
        out[n] = q[n] @ rising
    return out, np.stack([plain, rising])


def _takes_the_states_the_other_way_round(q, k, v, gamma, state):
    out, end = rising_retention(q, k, v, gamma, None if state is None else state[::-1])
    return out, end[::-1]


RISING_MISTAKES = {
    "adds the state before the token": (
        _rising_with(step=lambda gamma, rising, before, after, new: gamma * rising + before),
        "you add S_(n-1) to gamma S'_(n-1): a token counts 1 at once, D_nn = 1, so add S_n, which holds it already",
    ),
    "adds the old state unfaded and the token": (
        _rising_with(step=lambda gamma, rising, before, after, new: gamma * rising + before + new),
        "you add S_(n-1) + k_n^T v_n to gamma S'_(n-1): what is old must fade there too, as it has in S_n",
    ),
    "leaves out the 1": (
        _rising_with(step=lambda gamma, rising, before, after, new: gamma * (rising + before)),
        "your D is (n - m) gamma^(n-m), 0 on the diagonal: the factor is n - m + 1, so a token counts 1 at once",
    ),
    "fades the new token": (
        _rising_with(step=lambda gamma, rising, before, after, new: gamma * (rising + after)),
        "your D is (n - m + 1) gamma^(n-m+1): gamma multiplies S'_(n-1) alone, S_n is added as it is",
    ),
    "never fades S'": (
        _rising_with(step=lambda gamma, rising, before, after, new: rising + after),
        "your S' never fades: D would be 1 + gamma + ... + gamma^(n-m), so multiply S'_(n-1) by gamma first",
    ),
    "adds a faded state": (
        _rising_with(step=lambda gamma, rising, before, after, new: rising + gamma * after),
        "you gave gamma to the wrong term: it fades S'_(n-1), and S_n is added as it is",
    ),
    "writes the token twice": (
        _rising_with(step=lambda gamma, rising, before, after, new: gamma * rising + after + new),
        "you add k_n^T v_n to S' beside S_n, which holds it already: D_nn would be 2",
    ),
    "writes the token alone": (
        _rising_with(step=lambda gamma, rising, before, after, new: gamma * rising + new),
        "your S' is a second S, fading by gamma alone: to rise, D needs one more gamma^(n-m) at each token",
    ),
    "doubles": (
        _rising_with(step=lambda gamma, rising, before, after, new: 2 * gamma * rising + new),
        "your D is (2 gamma)^(n-m): the factor n - m + 1 goes 1, 2, 3, not 1, 2, 4, and needs the other state",
    ),
    "reads both states": (
        _rising_with(
            step=lambda gamma, rising, before, after, new: gamma * (rising + before),
            read=lambda plain, rising: plain + rising,
        ),
        "your query reads the sum of your two states: state[1] alone is what it reads, so put S into it",
    ),
    "grows with the position": (
        _grows_with_the_position,
        "you took n S_n for S'_n: the factor is n - m + 1, another one for each token m in the memory",
    ),
    "does not feed the old state": (
        _rising_from(lambda gamma, n: 0.0 * n),
        "your S' holds nothing of S_0: S_0 goes on feeding S' at each token, as what tokens wrote into S does",
    ),
    "reads both old states alike": (
        _rising_from(lambda gamma, n: gamma**n),
        "you give S_0 the share gamma^n in S'_n, as S'_0: S feeds S' at each token, so there is more of S_0 in it",
    ),
    "takes the old state for a token": (
        _rising_from(lambda gamma, n: (n + 1) * gamma**n),
        "you give S_0 the share (n + 1) gamma^n in S'_n: n tokens have fed it, what was in S' before is S'_0",
    ),
    "counts tokens from 0": (
        _rising_from(lambda gamma, n: (n - 1) * gamma ** (n - 1), lambda gamma, n: gamma ** (n - 1), at_end=False),
        "your outputs count tokens from 0: S_0 and S'_0 have faded once, and S has fed S' once, when token 1 reads",
    ),
    "ignores the states": (
        lambda q, k, v, gamma, state: rising_retention(q, k, v, gamma, None),
        "you ignored the states passed in: they add to every output and to the states you return",
    ),
    "leaves the states out of the outputs": (
        lambda *arguments: (rising_retention(*arguments[:-1], None)[0], rising_retention(*arguments)[1]),
        "your outputs leave out the states passed in: query n reads what S'_n holds of S_0 and of S'_0",
    ),
    "returns S' alone": (
        _rising_with(give=lambda plain, rising: rising),
        "you returned S' alone: without S the next call cannot go on, return both, shape (2, K, V)",
    ),
    "returns S' first": (
        _rising_with(give=lambda plain, rising: np.stack([rising, plain])),
        "you returned (S', S): state[0] is S, that of Eq. 6, and state[1] is S'",
    ),
    "takes the states the other way round": (
        _takes_the_states_the_other_way_round,
        "you took state[0] for S' and state[1] for S: state[0] is S, that of Eq. 6, and state[1] is S'",
    ),
    "takes an entry of None": (
        lambda q, k, v, gamma, state: rising_retention(q, k, v, gamma, np.stack([state[0], state[1]])),
        "you took state[0] of None: None means two states of zeros",
    ),
    "unpacks None": (
        lambda q, k, v, gamma, state: rising_retention(q, k, v, gamma, np.stack([*state])),
        "you unpacked state = None: None means two states of zeros",
    ),
    **asks_whether_true(rising_retention),
    **collects_rows(rising_retention),
    **writes_in_place(rising_retention),
    **swaps(rising_retention, "out", "state"),
}


# Checks.


def _two(key_dim, time, gamma, *, dtype=np.float64):
    head = one_head(key_dim, 1, time, gamma, dtype=dtype)
    return {name: head[name] for name in ("q", "k", "gamma")}


WEIGHTS = problem(
    retention_weights,
    ("weights",),
    visible={
        "three tokens, K = 1, at gamma = 1/2": (
            {"q": np.array([[1.0], [2.0], [3.0]]), "k": np.array([[1.0], [10.0], [100.0]]), "gamma": 0.5},
            "by hand: (1, 0, 0), (2/2, 20, 0), (3/4, 30/2, 300); no softmax follows, so the future is 0, not -inf",
        ),
        "four tokens, two channels": (
            _two(2, 4, 0.5),
            "row n, column m: the dot product of q_n and k_m, times gamma once for each token after m",
        ),
        "no token at all (T = 0)": (_two(3, 0, 0.5), "with T = 0 weights has shape (0, 0)"),
        "a head that never fades (gamma = 1)": (
            _two(2, 6, 1.0),
            "gamma = 1 is allowed: the weight of every past token is its score",
        ),
        **keeps_arguments(_two(3, 5, 0.75), "build new arrays"),
    },
    hidden={
        "a sequence of a single token": (_two(2, 1, 0.5), "with T = 1 there is one weight, q . k, not faded"),
        "more channels than tokens": (_two(7, 3, 0.9), "weights has shape (T, T), whatever K is"),
        **float32_arrays(_two(4, 20, 0.9, dtype=np.float32)),
    },
    wrong_answers=WEIGHT_MISTAKES,
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
        "no token at all, from a state (T = 0)": (
            one_head(3, 2, 0, 0.5),
            "without a token, return the state unchanged and out of shape (0, V)",
        ),
        **keeps_arguments(one_head(3, 3, 5, 0.9)),
    },
    hidden={
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


def _rising(key_dim, value_dim, time, gamma, *, state=True, dtype=np.float64):
    before = small_numbers(np.random.default_rng(time), 2, key_dim, value_dim, dtype=dtype)
    return one_head(key_dim, value_dim, time, gamma, dtype=dtype) | {"state": before if state else None}


RISING = problem(
    rising_retention,
    ("out", "state"),
    visible={
        "q and k all ones, gamma = 1/2, from None": (
            {"q": np.ones((3, 1)), "k": np.ones((3, 1)), "v": np.array([[1.0], [10.0], [100.0]])}
            | {"gamma": 0.5, "state": None},
            "by hand: D is 1 at lag 0, 2/2 = 1 at lag 1, 3/4 at lag 2, so out is 1, 11 and 110.75; S_3 is 105.25",
        ),
        "four tokens, going on from two states": (
            _rising(2, 3, 4, 0.5),
            "on paper, with v = 0: what do S'_1 and S'_2 hold of S_0, and what of S'_0?",
        ),
        "no token at all, from two states (T = 0)": (
            _rising(3, 2, 0, 0.5),
            "without a token, return the states unchanged and out of shape (0, V)",
        ),
        **keeps_arguments(_rising(3, 3, 5, 0.75)),
    },
    hidden={
        "no token at all, from None": (
            _rising(3, 2, 0, 0.5, state=False),
            "the states are zeros of shape (2, K, V), out has shape (0, V)",
        ),
        "a sequence of a single token, from two states": (
            _rising(4, 2, 1, 0.75),
            "with T = 1 out is q (gamma S'_0 + gamma S_0 + k^T v)",
        ),
        "a head that never fades": (_rising(2, 4, 6, 1.0), "gamma = 1 is allowed: D is n - m + 1, and never falls"),
        **float32_arrays(_rising(4, 3, 12, 0.9, dtype=np.float32)),
    },
    wrong_answers=RISING_MISTAKES,
)

EXERCISE = Exercise("ex04", "The parallel form of one head", (WEIGHTS, RETENTION, RISING))

"""Exercise 4: the parallel form of one head, from any state (Eq. 5 and 7, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import one_head, small_numbers
from .recurring import asks_whether_true, float32_arrays, keeps_arguments, mapped, swaps, writes_in_place

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


def mixed_retention(q, k, v, gamma, state, share):
    """D_nm = sum over r of share_r gamma_r^(n-m): gamma, share (R,), state (R, K, V) -> (out (T, V), state (R, K, V))."""
    befores = [None] * len(gamma) if state is None else state
    outs, states = zip(*(parallel_retention(q, k, v, *one) for one in zip(gamma, befores, strict=True)), strict=True)
    return sum(one * out for one, out in zip(share, outs, strict=True)), np.stack(states)


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


def _mixed_with(
    token=lambda share: share,
    read=lambda share: share,
    before=lambda share, state: state,
    after=lambda share, states: states,
):
    """`mixed_retention` with other factors: of a new token in the outputs, of S_0 in them, of S_0, of the new states."""

    def function(q, k, v, gamma, state, share):
        zeros = np.zeros((len(gamma), q.shape[1], v.shape[1]))
        state = zeros if state is None else before(share, state)
        new, _ = mixed_retention(q, k, v, gamma, None, token(share))
        old, _ = mixed_retention(q, 0.0 * k, v, gamma, state, read(share))
        return new + old, after(share, mixed_retention(q, k, v, gamma, state, share)[1])

    return function


def _writes_with_the_share(q, k, v, gamma, state, share):
    pairs = zip(gamma, share, [None] * len(gamma) if state is None else state, strict=True)
    outs, states = zip(*(parallel_retention(q, k, c * v, g, before) for g, c, before in pairs), strict=True)
    return sum(outs), np.stack(states)


def _mixes_the_decays(q, k, v, gamma, state, share):
    whole = share.sum()
    one = np.full(gamma.shape, (share * gamma).sum() / whole)
    return mixed_retention(q, k, v, one, state, share)


def _mixed_by(parallel):
    """`mixed_retention` on another `parallel_retention`."""

    def function(q, k, v, gamma, state, share):
        befores = [None] * len(gamma) if state is None else state
        pairs = [parallel(q, k, v, one, before) for one, before in zip(gamma, befores, strict=True)]
        return sum(c * out for c, (out, _) in zip(share, pairs, strict=True)), np.stack([end for _, end in pairs])

    return function


def _hands_on_between_decays(q, k, v, gamma, state, share):
    out, states, before = np.zeros(v.shape), [], None if state is None else state[0]
    for decay, c in zip(gamma, share, strict=True):
        one, before = parallel_retention(q, k, v, decay, before)
        out += c * one
        states.append(before)
    return out, np.stack(states)


def _mixed_in_place(q, k, v, gamma, state, share):
    out, states = mixed_retention(q, k, v, gamma, state, share)
    if state is None:
        return out, states
    state[...] = states
    return out, state


# Mistakes of problem 2 that problem 3 has its own words for.
_ANEW = ("ignores the state", "leaves the state out of the outputs", "writes in place", "swaps what it returns")

MIXED_MISTAKES = {
    **mapped(_mixed_by, {name: one for name, one in RETENTION_MISTAKES.items() if name not in _ANEW}),
    "takes an entry of None": (
        lambda q, k, v, gamma, state, share: mixed_retention(q, k, v, gamma, np.stack([state[0], *state[1:]]), share),
        "you took state[r] of None: None means R states of zeros",
    ),
    "hands the state on from decay to decay": (
        _hands_on_between_decays,
        "you started each decay from the new state of the one before: state r starts from state[r]",
    ),
    "takes the mean over the decays": (
        lambda q, k, v, gamma, state, share: mixed_retention(q, k, v, gamma, state, share / len(gamma)),
        "you divided by the number of decays: D is a sum, and the shares weigh it already",
    ),
    "mixes the decays": (
        _mixes_the_decays,
        "you took powers of the mean decay: take the powers first, then their sum, c_1 gamma_1^j + c_2 gamma_2^j + ...",
    ),
    "takes the first decay for all": (
        lambda q, k, v, gamma, state, share: mixed_retention(q, k, v, np.full_like(gamma, gamma[0]), state, share),
        "you used gamma[0] for all states: state r fades by gamma[r]",
    ),
    "forgets the shares": (
        _mixed_with(token=np.ones_like, read=np.ones_like),
        "you forgot the shares: D_nm is the sum of c_r gamma_r^(n-m)",
    ),
    "makes the shares sum to 1": (
        _mixed_with(token=lambda share: share / share.sum(), read=lambda share: share / share.sum()),
        "you divided the shares by their sum: take them as they are, D_nn is their sum",
    ),
    "reads the old states without shares": (
        _mixed_with(read=np.ones_like),
        "you added what is left of the old states without the shares: a query reads c_r of each state, old or new",
    ),
    "leaves the states out of the outputs": (
        _mixed_with(read=np.zeros_like),
        "your outputs leave out the states passed in: query n reads c_r gamma_r^n q_n S_0 of each",
    ),
    "ignores the states": (
        lambda q, k, v, gamma, state, share: mixed_retention(q, k, v, gamma, None, share),
        "you ignored the states passed in: they add to every output and to the states you return",
    ),
    "takes the first state for all": (
        _mixed_with(before=lambda share, state: np.broadcast_to(state[0], state.shape)),
        "you used state[0] for all decays: state r goes with gamma_r",
    ),
    "writes with the share": (
        _writes_with_the_share,
        "you gave the share to the write: k_n^T v_n goes into each state in full, and the query reads c_r of it",
    ),
    "returns the states with the shares": (
        _mixed_with(after=lambda share, states: share[:, None, None] * states),
        "you multiplied the states you return by the shares: these belong to the read, the states are plain ones",
    ),
    "adds the states": (
        _mixed_with(after=lambda share, states: states.sum(axis=0)),
        "you added the states: they go on to fade at different rates, so return each, shape (R, K, V)",
    ),
    "reads the sum of the states": (
        _mixed_with(after=lambda share, states: (share[:, None, None] * states).sum(axis=0)),
        "you returned the sum that the last query reads: no later token can fade its parts, return all R states",
    ),
    "writes in place": (_mixed_in_place, "you changed the caller's states in place: make a new array"),
    **swaps(mixed_retention, "out", "state"),
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


def _mixed(key_dim, value_dim, time, gamma, share, *, state=True, dtype=np.float64):
    gamma, share = np.array(gamma, dtype=dtype), np.array(share, dtype=dtype)
    before = small_numbers(np.random.default_rng(time), len(gamma), key_dim, value_dim, dtype=dtype)
    head = one_head(key_dim, value_dim, time, gamma, dtype=dtype)
    return head | {"state": before if state else None, "share": share}


MIXED = problem(
    mixed_retention,
    ("out", "state"),
    visible={
        "decays 1/2 and 1/4 with shares 1 and 2, from None": (
            {"q": np.ones((3, 1)), "k": np.ones((3, 1)), "v": np.array([[1.0], [10.0], [100.0]])}
            | {"gamma": np.array([0.5, 0.25]), "state": None, "share": np.array([1.0, 2.0])},
            "by hand: D is 3 at lag 0, 1/2 + 2/4 = 1 at lag 1, 1/4 + 2/16 = 3/8 at lag 2, so out is 3, 31 and 310.375",
        ),
        "four tokens, going on from two states": (
            _mixed(2, 3, 4, [0.75, 0.5], [0.5, 2.0]),
            "each state fades by its own gamma_r; the shares come in when a query reads",
        ),
        "no token at all, from three states (T = 0)": (
            _mixed(3, 2, 0, [0.5, 0.75, 0.9], [1.0, 0.5, 0.25]),
            "without a token, return the states unchanged and out of shape (0, V)",
        ),
        **keeps_arguments(_mixed(3, 3, 5, [0.9, 0.5, 0.75], [0.5, 1.0, 2.0])),
    },
    hidden={
        "no token at all, from None": (
            _mixed(3, 2, 0, [0.5, 0.75], [1.0, 0.5], state=False),
            "the states are zeros of shape (R, K, V), out has shape (0, V)",
        ),
        "a single decay": (_mixed(2, 4, 6, [0.8], [1.0]), "with R = 1 and share 1 it is problem 2"),
        "a state that never fades beside a fast one": (
            _mixed(4, 2, 8, [1.0, 1e-12], [0.25, 0.75]),
            "gamma = 1 is allowed, and so is a gamma near 0",
        ),
        **float32_arrays(_mixed(4, 3, 12, [0.9, 0.5], [0.25, 0.75], dtype=np.float32)),
    },
    wrong_answers=MIXED_MISTAKES,
)

EXERCISE = Exercise("ex04", "The parallel form of one head", (WEIGHTS, RETENTION, MIXED))

"""Exercise 4: the parallel form of one head whose tokens bring their decays, from any state (Eq. 5, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import one_head, small_numbers
from .recurring import asks_whether_true, collects_rows, float32_arrays, keeps_arguments, mapped, swaps, writes_in_place

# Solutions.


def retention_weights(q, k, gamma):
    """Q K^T * D with D_nm = gamma_(m+1) ... gamma_n for n >= m, else 0: q, k (T, K), gamma (T,) -> weights (T, T)."""
    mask = np.eye(len(q))
    for n in range(1, len(q)):
        mask[n, :n] = gamma[n] * mask[n - 1, :n]  # no quotient: a decay may be 0
    return (q @ k.T) * mask


def parallel_retention(q, k, v, gamma, state):
    """(Q K^T * D) V and the state after the last token: q, k (T, K), v (T, V), gamma (T,), state (K, V) or None."""
    left = np.cumprod(np.append(1.0, gamma[:0:-1]))[::-1][: len(q), None]  # of token m, after the last one
    out, end = retention_weights(q, k, gamma) @ v, k.T @ (v * left)
    if state is None:
        return out, end
    return out + (q @ state) * np.cumprod(gamma)[:, None], end + np.prod(gamma) * state


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


def _mask(gamma):
    ones = np.ones((len(gamma), 1))
    return retention_weights(ones, ones, gamma)


def _quotients(gamma):
    faded = np.cumprod(gamma)
    return faded[:, None] / faded


def _lags(gamma):
    return np.tril(np.subtract.outer(np.arange(len(gamma)), np.arange(len(gamma))))


def _times(mask):
    """`retention_weights` with another mask, made of gamma."""
    return lambda q, k, gamma: (q @ k.T) * mask(gamma)


def _takes_a_softmax(q, k, gamma):
    weights = np.tril(np.exp(retention_weights(q, k, gamma)))
    return weights / weights.sum(axis=1, keepdims=True)


def _normalises(gamma):
    mask = _mask(gamma)
    return mask / mask.sum(axis=1, keepdims=True)


WEIGHT_MISTAKES = {
    "leaves out the diagonal": (
        _times(lambda gamma: np.tril(_mask(gamma), -1)),
        "your mask is strict: a token sees itself, D_nn = 1, the product of no decays",
    ),
    "divides and does not mask": (
        _times(_quotients),
        "you did not mask: above the diagonal, where m > n, D is 0; and decays of 0 cannot be divided by",
    ),
    "sees the future": (
        _times(lambda gamma: np.maximum(_mask(gamma), _mask(gamma).T)),
        "your tokens see the future: above the diagonal, where m > n, D is 0",
    ),
    "transposes the mask": (
        _times(lambda gamma: _mask(gamma).T),
        "you transposed D: rows are queries n, columns keys m, so what is kept lies below the diagonal",
    ),
    "forgets the decay": (
        _times(lambda gamma: np.tril(np.ones((len(gamma), len(gamma))))),
        "you forgot the decay: below its diagonal the mask holds products of decays, not 1",
    ),
    "fades with the position": (
        _times(lambda gamma: np.tril(np.cumprod(gamma)[:, None] * np.ones(len(gamma)))),
        "your decay depends only on n: token m is faded by the tokens after it, m + 1 to n, not by those before",
    ),
    "counts one step too many": (
        _times(lambda gamma: gamma * _mask(gamma)),
        "you fade token m by its own decay too: gamma_m multiplies S_(m-1), which does not hold it yet; D_nn = 1",
    ),
    "shifts the decays": (
        _times(lambda gamma: _mask(np.roll(gamma, 1))),
        "you fade token m by gamma_m to gamma_(n-1): the tokens after it fade it, gamma_(m+1) to gamma_n",
    ),
    "takes powers of the query's decay": (
        _times(lambda gamma: np.tril(gamma[:, None] ** _lags(gamma))),
        "you took gamma_n to the power n - m: each token on the way from m to n brings its own decay, so D is a product of them",
    ),
    "takes powers of the key's decay": (
        _times(lambda gamma: np.tril(gamma ** _lags(gamma))),
        "you took gamma_m to the power n - m: token m is faded by the tokens after it, each by its own decay",
    ),
    "takes the last decay alone": (
        _times(lambda gamma: np.tril(gamma[:, None] * np.ones(len(gamma)), -1) + np.eye(len(gamma))),
        "you faded older tokens by gamma_n alone: all the tokens since have faded them, gamma_(m+1) to gamma_n",
    ),
    "adds the decays": (
        _times(lambda gamma: np.tril(np.cumsum(gamma)[:, None] - np.cumsum(gamma), -1) + np.eye(len(gamma))),
        "you added the decays from m + 1 to n: each of them multiplies, so D holds their product",
    ),
    "divides running products": (
        _times(lambda gamma: np.tril(_quotients(gamma))),
        "you divided running products (or split the decay between q and k): where one is 0 that is 0/0; multiply step by step",
    ),
    "subtracts logarithms": (
        _times(lambda gamma: np.tril(np.exp(np.cumsum(np.log(gamma))[:, None] - np.cumsum(np.log(gamma))))),
        "you subtracted sums of logarithms: that of a decay of 0 is minus infinity, and the difference of two is NaN",
    ),
    "masks by a product with 0": (
        _times(lambda gamma: np.tril(np.ones((len(gamma), len(gamma)))) * _quotients(gamma)),
        "your quotients are infinite above the diagonal, and infinity times 0 is NaN: form no quotients, and choose by np.where",
    ),
    "leaves ones above the diagonal": (
        _times(lambda gamma: np.where(np.tri(len(gamma)) > 0, _mask(gamma), 1.0)),
        "you left ones above the diagonal: there m > n, a later token, and D is 0; begin from np.zeros or np.eye",
    ),
    "puts a small decay in place of 0": (
        _times(lambda gamma: _mask(np.maximum(gamma, 1e-12))),
        "you put 1e-12 in place of smaller decays, or added it: a decay of 0 forgets all, also a long key",
    ),
    "grows with age": (
        _times(lambda gamma: np.tril(_quotients(gamma).T)),
        "you turned the quotient round: older tokens count less; and decays of 0 cannot be divided by",
    ),
    "swaps q and k": (
        lambda q, k, gamma: (k @ q.T) * _mask(gamma),
        "you swapped q and k: row n belongs to query n, so it is Q K^T, not K Q^T",
    ),
    "multiplies the matrices": (
        lambda q, k, gamma: (q @ k.T) @ _mask(gamma),
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
    "puts minus infinity into D": (
        _times(lambda gamma: np.where(np.tri(len(gamma)) > 0, _mask(gamma), -np.inf)),
        "you put -inf into D: no softmax follows here, above the diagonal D is 0",
    ),
    "masks with minus infinity": (
        lambda q, k, gamma: np.where(np.tri(len(q)) > 0, retention_weights(q, k, gamma), -np.inf),
        "you masked with -inf, as before a softmax: no softmax follows here, the weight of a later token is 0",
    ),
    "normalises the mask": (
        _times(_normalises),
        "you divided each row of D by its sum: Eq. 5 does not, and a recurrence would not give the same",
    ),
}


def _column(numbers):
    return numbers[:, None]


def _later(gamma):
    """The products of the decays after each token, zeta (T,)."""
    return np.cumprod(np.append(1.0, gamma[:0:-1]))[::-1][: len(gamma)]


def _parallel_with(
    weights=retention_weights,
    faded=lambda gamma: _column(np.cumprod(gamma)),
    left=lambda gamma: _column(_later(gamma)),
    whole=np.prod,
):
    """`parallel_retention` with other weights, another xi for the state, zeta for the tokens, or share of S_0 at the end."""

    def function(q, k, v, gamma, state):
        out, end = weights(q, k, gamma) @ v, k.T @ (v * left(gamma))
        if state is None:
            return out, end
        return out + (q @ state) * faded(gamma), end + whole(gamma) * state

    return function


def _end_with(end):
    """`parallel_retention` with another state at the end, made of k, v, gamma and S_0 or zeros."""

    def function(q, k, v, gamma, state):
        before = np.zeros((q.shape[1], v.shape[1])) if state is None else state
        return parallel_retention(q, k, v, gamma, state)[0], end(k, v, gamma, before)

    return function


def _reads_with_the_keys(q, k, v, gamma, state):
    out, end = parallel_retention(q, k, v, gamma, state)
    if state is None:
        return out, end
    return out + ((k - q) @ state) * np.cumprod(gamma)[:, None], end


def _logarithms_of_later(gamma):
    logs = np.cumsum(np.log(gamma))
    return np.exp(np.log(gamma).sum() - logs)


def _before(gamma):
    """The products of the decays before each token, its own left out (T,)."""
    return np.cumprod(np.append(1.0, gamma[:-1]))[: len(gamma)]


def _xi_as_a_row(q, k, v, gamma, state):
    if state is None:
        return parallel_retention(q, k, v, gamma, None)
    return _parallel_with(faded=np.cumprod)(q, k, v, gamma, state)


RETENTION_MISTAKES = {
    **mapped(_parallel_with, WEIGHT_MISTAKES),
    "ignores the state": (
        lambda q, k, v, gamma, state: parallel_retention(q, k, v, gamma, None),
        "you ignored the state passed in: it adds to every output and to the state you return; only None adds nothing",
    ),
    "leaves the state out of the outputs": (
        lambda *arguments: (parallel_retention(*arguments[:-1], None)[0], parallel_retention(*arguments)[1]),
        "your outputs leave out the state passed in: query n reads what is left of it, q_n S_0 times gamma_1 to gamma_n",
    ),
    "puts a small decay in place of 0 everywhere": (
        lambda q, k, v, gamma, state: parallel_retention(q, k, v, np.maximum(gamma, 1e-12), state),
        "you put 1e-12 in place of smaller decays, or added it, in outputs and state: a decay of 0 leaves nothing of them",
    ),
    "reads the state with the keys": (
        _reads_with_the_keys,
        "you read S_0 with the keys: queries read, so it is Q S_0, each row times its xi",
    ),
    "reads the state unfaded": (
        _parallel_with(faded=lambda gamma: 1.0),
        "you read S_0 at full strength at every token: by token n it has faded by gamma_1 to gamma_n (xi)",
    ),
    "never fades the state": (
        _parallel_with(faded=lambda gamma: 1.0, whole=lambda gamma: 1.0),
        "you never fade S_0: query n reads gamma_1 ... gamma_n of it, and the product of all decays is left at the end",
    ),
    "lets the weights alone decay": (
        _parallel_with(faded=lambda gamma: 1.0, left=lambda gamma: 1.0, whole=lambda gamma: 1.0),
        "your weights decay and nothing else does: S_0 fades in the outputs (xi) and at the end, and so do tokens in S_T (zeta)",
    ),
    "fades the state by all decays in all outputs": (
        _parallel_with(faded=np.prod),
        "you faded S_0 by all T decays for all queries: query n reads what the first n of them have left",
    ),
    "fades the state by the token's decay alone": (
        _parallel_with(faded=_column),
        "you faded S_0 by gamma_n alone in output n: each token up to n has faded it, gamma_1 to gamma_n",
    ),
    "fades the state one step too few": (
        _parallel_with(faded=lambda gamma: _column(_before(gamma))),
        "xi is off by one: the first token already fades S_0, so its weight in the first output is gamma_1",
    ),
    "counts tokens from 0": (
        _parallel_with(
            faded=lambda gamma: _column(_before(gamma)),
            left=lambda gamma: _column(_later(gamma) * gamma),
            whole=lambda gamma: np.prod(gamma[:-1]),
        ),
        "xi, zeta and the share of S_0 at the end are all off by one: token 1 fades S_0, and no token fades itself",
    ),
    "fades columns": (
        _xi_as_a_row,
        "you gave xi to the columns: it has a number for each token, make it a column of shape (T, 1)",
    ),
    "fades columns of values": (
        _parallel_with(left=_later),
        "you gave zeta to the columns: it has a number for each token, make it a column of shape (T, 1)",
    ),
    "fades columns with both": (
        _parallel_with(faded=np.cumprod, left=_later),
        "you gave xi and zeta to the columns: both have a number for each token, make them columns of shape (T, 1)",
    ),
    "takes xi for zeta": (
        _parallel_with(left=lambda gamma: _column(np.cumprod(gamma))),
        "you used xi for the new state: token m has faded by the decays after it, the last token not at all (zeta)",
    ),
    "turns xi round for zeta": (
        _parallel_with(left=lambda gamma: _column(np.cumprod(gamma)[::-1])),
        "your zeta is xi turned round: token m is faded by gamma_(m+1) to gamma_T, so multiply from the end, without its own",
    ),
    "fades the products of k and v, with zeta a column": (
        _end_with(lambda k, v, gamma, before: k.T @ v * _column(_later(gamma)) + np.prod(gamma) * before),
        "k.T @ v has summed the tokens already, so zeta (T, 1) comes too late: scale the rows of v by it first",
    ),
    "fades the products of k and v, with zeta a row": (
        _end_with(lambda k, v, gamma, before: k.T @ v * _later(gamma) + np.prod(gamma) * before),
        "k.T @ v has summed the tokens already, so zeta (T,) comes too late: scale the rows of v by it first, as (T, 1)",
    ),
    "subtracts logarithms for zeta": (
        _parallel_with(left=lambda gamma: _column(_logarithms_of_later(gamma))),
        "your zeta subtracts sums of logarithms: that of a decay of 0 is minus infinity, and the difference of two is NaN",
    ),
    "divides all decays by those so far": (
        _parallel_with(left=lambda gamma: _column(np.prod(gamma) / np.cumprod(gamma))),
        "you divided the product of all decays by xi: where a decay is 0 that is 0/0; multiply from the end, step by step",
    ),
    "keeps only the last token": (
        _parallel_with(left=lambda gamma: _column(np.arange(len(gamma)) == len(gamma) - 1.0)),
        "your state holds the last token only: all T tokens are in it, each faded by the decays after it",
    ),
    "adds all tokens to the state at full strength": (
        _parallel_with(left=lambda gamma: 1.0),
        "your state is K^T V without decay: token m has faded by the decays after it when the last token is done (zeta)",
    ),
    "fades the newest token most": (
        _parallel_with(left=lambda gamma: _column(_before(gamma))),
        "zeta runs backwards: the newest token enters the state in full, the oldest has faded most",
    ),
    "fades tokens one step too many": (
        _parallel_with(left=lambda gamma: _column(_later(gamma) * gamma)),
        "zeta is off by one: no token is faded by its own decay, the last enters the state in full",
    ),
    "drops the state before": (
        _parallel_with(whole=lambda gamma: 0.0),
        "the state you return leaves out the one passed in: the product of all decays is left of it",
    ),
    "fades the state before one token too few": (
        _parallel_with(whole=lambda gamma: np.prod(gamma[:-1])),
        "you left gamma_T out of the share of S_0 in the new state: each of the T tokens has faded it",
    ),
    "leaves the first decay out of the share at the end": (
        _parallel_with(whole=lambda gamma: np.prod(gamma[1:])),
        "you left gamma_1 out of the share of S_0 in the new state: token 1 fades S_0 before it is added",
    ),
    "takes a power of the last decay": (
        _parallel_with(whole=lambda gamma: gamma[-1] ** len(gamma)),
        "you took gamma_T to the power T: each token brings its own decay, the product of all is left of S_0",
    ),
    **asks_whether_true(parallel_retention),
    "computes with None": (
        lambda q, k, v, gamma, state: parallel_retention(q, k, v, gamma, np.array(None) if state is None else state),
        "you computed with state = None: None means a state of zeros, which adds nothing",
    ),
    "keeps the state before unfaded": (
        _parallel_with(whole=lambda gamma: 1.0),
        "you added S_0 to the new state at full strength: after T tokens the product of all decays is left of it",
    ),
    "fades the state before by the last decay": (
        _parallel_with(whole=lambda gamma: gamma[-1:].prod()),
        "you faded S_0 by gamma_T alone in the new state: after T tokens the product of all decays is left of it",
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
    "fades both": (
        _rising_with(step=lambda gamma, rising, before, after, new: gamma * (rising + after) + new),
        "you fade S_n beside S'_(n-1) and add the token again: S_n is added as it is, and holds the token already",
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
    "reads S": (
        _rising_with(read=lambda plain, rising: plain),
        "your query reads S, that of Eq. 6: it reads S', your second state",
    ),
    "begins both states from S_0": (
        lambda q, k, v, gamma, state: rising_retention(q, k, v, gamma, None if state is None else state[[0, 0]]),
        "you begin S' from S_0: it begins from S'_0, which is state[1]",
    ),
    "begins both states from S'_0": (
        lambda q, k, v, gamma, state: rising_retention(q, k, v, gamma, None if state is None else state[[1, 1]]),
        "you begin S from S'_0: it begins from S_0, which is state[0]",
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
    "adds the old state once more": (
        _rising_from(lambda gamma, n: np.where(n > 0, n + 1, 0.0) * gamma**n),
        "you count S_0 once too often in S'_n: token 1 adds S_1, which holds gamma S_0, and nothing is added before it",
    ),
    "adds the old state once more in the outputs": (
        _rising_from(lambda gamma, n: (n + 1) * gamma**n, at_end=False),
        "your outputs count S_0 once too often: S'_n holds n gamma^n of it, beside gamma^n of S'_0",
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


LONG = 1e300  # a key so long that 1e-300 of it is 1, for a decay that only looks like 0
TINY = [0.5, 1e-100, 1e-150, 0.5, 1e-200, 0.5]  # products of a few are 0 as floats


def _two(key_dim, gamma, *, dtype=np.float64):
    head = one_head(key_dim, 1, len(gamma), dtype=dtype)
    return {"q": head["q"], "k": head["k"], "gamma": np.array(gamma, dtype=dtype)}


def _head(key_dim, value_dim, gamma, *, state=True, dtype=np.float64):
    head = one_head(key_dim, value_dim, len(gamma), state=state, dtype=dtype)
    return head | {"gamma": np.array(gamma, dtype=dtype)}


def _long_before_a_decay_of_0():
    """Three tokens from a state; the second forgets a key and a state that any other decay would leave visible."""
    q, k, v = np.array([[1 / LONG], [1.0], [2.0]]), np.array([[LONG], [3.0], [1.0]]), np.array([[1.0], [2.0], [0.5]])
    return {"q": q, "k": k, "v": v, "gamma": np.array([0.5, 0.0, 0.5]), "state": np.array([[LONG]])}


WEIGHTS = problem(
    retention_weights,
    ("weights",),
    visible={
        "three tokens, K = 1": (
            {"q": np.array([[1.0], [2.0], [3.0]]), "k": np.array([[1.0], [10.0], [100.0]])}
            | {"gamma": np.array([0.25, 0.5, 0.1])},
            "by hand: (1, 0, 0), (2 * 0.5, 20, 0), (3 * 0.5 * 0.1, 30 * 0.1, 300); the first decay has nothing to fade",
        ),
        "four tokens, two channels": (
            _two(2, [0.9, 0.5, 0.75, 0.25]),
            "row n, column m: the dot product of q_n and k_m, times the decay of each token after m, up to n",
        ),
        "two tokens that forget all before them (gamma = 0)": (
            _two(2, [0.5, 0.75, 0.0, 0.5, 0.0, 0.5]),
            "if only this fails: a product with a 0 in it is 0, the others stay, and nothing may be divided by a decay",
        ),
        "a decay of 0 after a key of 1e300": (
            {name: one for name, one in _long_before_a_decay_of_0().items() if name in ("q", "k", "gamma")},
            "if you put a small number in place of 0: it leaves something of the long key, and 0 leaves nothing",
        ),
        "decays down to 1e-200": (
            _two(3, TINY),
            "if only this fails: a running product is soon 0 as a float, so multiply along each column",
        ),
        **keeps_arguments(_two(3, [0.75, 0.5, 0.25, 1.0, 0.5]), "build new arrays"),
    },
    hidden={
        "no token at all (T = 0)": (_two(3, []), "with T = 0 weights has shape (0, 0)"),
        "equal decays, more channels than tokens": (_two(7, [0.9] * 3), "with equal decays D is that of Eq. 5"),
        **float32_arrays(_two(4, [0.9, 0.8, 1.0, 0.7] * 5, dtype=np.float32)),
    },
    wrong_answers=WEIGHT_MISTAKES,
)

RETENTION = problem(
    parallel_retention,
    ("out", "state"),
    visible={
        "q and k all ones, from None": (
            {"q": np.ones((3, 1)), "k": np.ones((3, 1)), "v": np.array([[1.0], [10.0], [100.0]])}
            | {"gamma": np.array([0.25, 0.5, 0.1]), "state": None},
            "by hand: 1, then 0.5 + 10 = 10.5, then 1.05 + 100 = 101.05, and the state after it is 101.05 too",
        ),
        "four tokens, going on from a state": (
            _head(2, 3, [0.9, 0.5, 0.75, 0.25]),
            "after token n, counted from 1, gamma_1 ... gamma_n of S_0 is left, in the outputs and in the new state",
        ),
        "as many tokens as values (T = V = 3)": (
            _head(2, 3, [0.75, 0.5, 0.25]),
            "if only this fails: you may have given xi or zeta to columns; they go down the rows, shape (T, 1)",
        ),
        "no token at all, from a state (T = 0)": (
            _head(3, 2, []),
            "without a token, return the state unchanged and out of shape (0, V)",
        ),
        "two tokens that forget all before them (gamma = 0)": (
            _head(2, 4, [0.5, 0.75, 0.0, 0.5, 0.0, 0.5]),
            "if only this fails: S_0 and tokens before a decay of 0 are gone at the end, and nothing is divided by it",
        ),
        "a decay of 0 after a key and a state of 1e300": (
            _long_before_a_decay_of_0(),
            "if you put a small number in place of 0: it leaves something of what was before, and 0 leaves nothing",
        ),
        "decays down to 1e-200": (
            _head(3, 2, TINY),
            "if only this fails: running products are soon 0 as floats, so no quotient of them is right",
        ),
        **keeps_arguments(_head(3, 3, [0.9, 0.5, 0.8, 0.7, 0.6])),
    },
    hidden={
        "a single token, from None": (
            _head(3, 2, [0.5], state=False),
            "T = 1 must give one step of the loop",
        ),
        "a head that never fades": (
            _head(2, 4, [1.0] * 6),
            "all decays may be 1: out is causal, the state K^T V + S_0",
        ),
        **float32_arrays(
            _head(4, 3, [0.9, 0.8, 1.0, 0.7] * 5, state=False, dtype=np.float32), "float32 arrays, from None"
        ),
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

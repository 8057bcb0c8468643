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


def mask_rows(gamma, begins, start, stop):
    """Rows start to stop - 1 of the mask of one head, each within its document: begins (N,) -> rows (stop - start, stop)."""
    n, m = np.arange(start, stop)[:, None], np.arange(stop)
    lag = n - m
    first = begins[np.searchsorted(begins, n, side="right") - 1]  # token of the document of n
    visible = (lag >= 0) & (m >= first)
    return np.where(visible, gamma ** np.where(visible, lag, 0), 0.0)


def lifetime(forgotten, eps, time):
    """How many newest of T tokens carry 1 - eps of their weight: forgotten, 1 - gamma, (H,) -> tokens (H,)."""
    return _lifetime_of(np.log1p(-forgotten), eps, time)


def _lifetime_of(log_gamma, eps, time):
    left = eps + (1 - eps) * np.exp(time * log_gamma)  # gamma^j
    log_left = np.log1p(
        (1 - eps) * np.expm1(time * log_gamma)
    )  # has digits where gamma^j is near 1, the other where near 0
    return np.where(left < 0.5, np.log(left), log_left) / log_gamma


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


def _rows_by(make, later=0, lag_from=None, document_from=None):
    """Rows of the mask, made of gamma, their table of n - m and the table of what each token sees.

    later: how many tokens later documents begin. lag_from, document_from: the number of the first row in n - m, and for its
    document; by default start.
    """

    def rows(gamma, begins, start, stop):
        n, m = np.arange(stop - start)[:, None], np.arange(stop)
        lag = n + (start if lag_from is None else lag_from) - m
        same = _same_document(begins + later, n + (start if document_from is None else document_from), m)
        return make(gamma, lag, (lag >= 0) & same)

    return rows


def _same_document(begins, n, m):
    """The table of whether n (rows, 1) and m (tokens,) lie in one document; of n alone, for there may be very many m."""
    edges = np.concatenate(([-np.inf], begins, [np.inf]))
    document = np.searchsorted(begins, n, side="right")
    return (m >= edges[document]) & (m < edges[document + 1])


def _masked(gamma, lag, visible):
    """The right rows, made as `_rows_by` asks for."""
    return np.where(visible, gamma ** np.where(visible, lag, 0), 0.0)


def _split_rows(split):
    """Rows that take gamma^n and gamma^m apart, put together by `split`."""

    def rows(gamma, begins, start, stop):
        n, m = np.arange(float(start), stop)[:, None], np.arange(float(stop))
        table = split(gamma, *np.broadcast_arrays(n, m))
        return np.where(mask_rows(1.0, begins, start, stop) > 0, table, 0.0)

    return rows


def _begins_with(change):
    """Rows right but for where the documents after the first begin; change: a function of begins, start and stop."""
    return lambda gamma, begins, start, stop: mask_rows(gamma, np.append(0, change(begins, start, stop)), start, stop)


def _document_of_the_first_row(begins, start, stop):
    return begins[begins <= start][-1:]


def _hides_the_first_token(gamma, begins, start, stop):
    rows = mask_rows(gamma, begins, start, stop)
    first = np.isin(np.arange(stop), begins)
    return np.where(first & (np.arange(start, stop)[:, None] != np.arange(stop)), 0.0, rows)


ROW_MISTAKES = {
    "a power with a negative exponent": (
        _split_rows(lambda gamma, n, m: gamma**n * gamma**-m),
        "your power overflows, because an exponent is negative: set n - m to 0 where it is negative, then take one power",
    ),
    "takes the power before it masks": (
        _rows_by(lambda gamma, lag, visible: np.where(visible, gamma ** lag.astype(float), 0.0)),
        "your power overflows where m > n: set n - m to 0 there, then take the power, then mask",
    ),
    "divides two powers": (
        _strict(_split_rows(lambda gamma, n, m: gamma**n / gamma**m)),
        "you divided gamma^n by gamma^m, which falls to 0 in a long text: take one power, of n - m",
    ),
    "minus infinity for what is hidden": (
        _rows_by(lambda gamma, lag, visible: np.where(visible, gamma ** np.abs(lag), -np.inf)),
        "you filled what is hidden with -inf, as before a softmax: D is multiplied, so it gets 0",
    ),
    "a large negative number for what is hidden": (
        _rows_by(lambda gamma, lag, visible: np.where(visible, gamma ** np.abs(lag), -1e9)),
        "you filled what is hidden with a large negative number, as before a softmax: D is multiplied, so it gets 0",
    ),
    "sees other documents": (
        _begins_with(lambda begins, start, stop: begins[:1]),
        "your rows see tokens of other documents: where n and m lie in two documents, the mask is 0",
    ),
    "the document of the first row": (
        _begins_with(_document_of_the_first_row),
        "you took the document of token start for all rows: a document that begins inside the block hides what came before it",
    ),
    "the last document for all rows": (
        _begins_with(lambda begins, start, stop: begins[begins < max(stop, 1)][-1:]),
        "you hid what comes before the last document of the block from all rows: each row has a document of its own",
    ),
    "the first token in the document before": (
        _rows_by(lambda gamma, lag, visible: np.where(visible, gamma ** np.abs(lag), 0.0), later=1),
        "the first token of your documents belongs to the document before: begins[i] is in document i (side='right')",
    ),
    "a document begins one token early": (
        _begins_with(lambda begins, start, stop: begins - (begins > 0)),
        "your documents begin one token early: begins[i] is the first token of document i, counted from 0",
    ),
    "hides the first token of a document": (
        _hides_the_first_token,
        "later tokens do not see the first token of their document: it is one of theirs, so m >= begins[i], not m > begins[i]",
    ),
    "a seen document but not the fading in it": (
        _rows_by(lambda gamma, lag, visible: np.where(visible, 1.0, 0.0)),
        "your rows say what is seen, but nothing fades: the weight is gamma^(n - m)",
    ),
    "numbers the rows from 1": (
        lambda gamma, begins, start, stop: mask_rows(gamma, begins, start + 1, stop + 1)[:, :stop],
        "your rows are those of tokens start + 1 to stop: like the columns, they are counted from 0",
    ),
    "numbers the rows from 0 in the lag": (
        _rows_by(_masked, lag_from=0),
        "in n - m you numbered the rows from 0: the first row of the block is that of token n = start, in the lag too",
    ),
    "numbers the rows from 0 for their documents": (
        _rows_by(_masked, document_from=0),
        "you took the documents of rows numbered from 0: the first row of the block is that of token n = start",
    ),
    "sees the future of its document": (
        lambda gamma, begins, start, stop: (
            gamma ** np.abs(np.subtract.outer(np.arange(start, stop), np.arange(stop)))
            * _same_document(begins, np.arange(start, stop)[:, None], np.arange(stop))
        ),
        "inside a document your mask fades towards the future as towards the past: where m > n it is 0",
    ),
    "makes the whole mask": (
        lambda gamma, begins, start, stop: mask_rows(gamma, begins, 0, stop)[start:],
        "you made more than your rows, such as the whole (stop, stop) mask: make n of the rows alone, start ... stop - 1",
    ),
    "numbers the rows from 0": (
        lambda gamma, begins, start, stop: mask_rows(gamma, begins, 0, stop)[: stop - start],
        "you numbered the rows from 0: the first row of the block is that of token n = start",
    ),
    "leaves out what came before": (
        lambda gamma, begins, start, stop: mask_rows(gamma, begins, start, stop)[:, start:],
        "your columns begin at start: the tokens of the block also see those before it, the columns are m = 0 ... stop - 1",
    ),
    "includes stop": (
        lambda gamma, begins, start, stop: mask_rows(gamma, begins, start, stop + 1),
        "you included token stop: like a slice, the rows end at stop - 1, and the columns too",
    ),
    "cuts the block along its own diagonal": (
        lambda *arguments: np.tril(mask_rows(*arguments)),
        "you masked the block as if it were a whole mask (np.tril): its first row is token start, which sees columns up to start",
    ),
    "does not mask the future": (
        lambda gamma, begins, start, stop: np.where(
            _same_document(begins, np.arange(start, stop)[:, None], np.arange(stop)),
            gamma ** np.subtract.outer(np.arange(float(start), stop), np.arange(stop)),
            0.0,
        ),
        "you did not mask the future: inside a document, too, a column m > n must be 0",
    ),
    "clips the lag and does not mask": (
        lambda gamma, begins, start, stop: np.where(
            _same_document(begins, np.arange(start, stop)[:, None], np.arange(stop)),
            gamma ** np.maximum(np.subtract.outer(np.arange(start, stop), np.arange(stop)), 0),
            0.0,
        ),
        "you set negative lags to 0 and stopped there: gamma^0 is 1, and where m > n the mask is 0",
    ),
    "sets what is hidden to a lag of 0": (
        _rows_by(lambda gamma, lag, visible: gamma ** np.where(visible, lag, 0)),
        "you set the lag to 0 where nothing may be seen, and stopped there: gamma^0 is 1, so set the mask to 0 there afterwards",
    ),
    "leaves out the diagonal": (
        _rows_by(lambda gamma, lag, visible: np.where(visible & (lag > 0), gamma ** np.abs(lag), 0.0)),
        "your rows are strict: a token sees itself, with weight gamma^0 = 1",
    ),
    "counts one step too many": (
        _rows_by(lambda gamma, lag, visible: np.where(visible, gamma ** (np.abs(lag) + 1), 0.0)),
        "your power is one too high: the newest token of a row has not faded yet, gamma^0 = 1",
    ),
    "takes gamma for an array": (
        lambda gamma, begins, start, stop: decay_mask(gamma, stop)[0, start:stop],
        "gamma is a float here and has no [...]: leave the index out, or make it np.array([gamma]) for decay_mask",
    ),
    "returns columns": (
        lambda *arguments: mask_rows(*arguments).T,
        "you returned the block transposed: queries n go down the rows, keys m along the columns",
    ),
}


def _life_by(log_gamma=lambda forgotten: np.log1p(-forgotten), **changed):
    """The lifetime by another logarithm of gamma, or with eps or time changed, each by a function of itself."""

    def life(forgotten, eps, time):
        eps, time = changed.get("eps", float)(eps), changed.get("time", int)(time)
        return _lifetime_of(log_gamma(forgotten), eps, time)

    return life


def _life_of_left(left):
    """The lifetime at which gamma^j is `left`, a function of eps and gamma^T."""

    def life(forgotten, eps, time):
        log_gamma = np.log1p(-forgotten)
        return np.log(left(eps, np.exp(time * log_gamma))) / log_gamma

    return life


def _life_by_log1p(forgotten, eps, time):
    log_gamma = np.log1p(-forgotten)
    return np.log1p((1 - eps) * np.expm1(time * log_gamma)) / log_gamma


def _life_of_the_newest(forgotten, eps, time):
    log_gamma = np.log1p(-forgotten)
    left = (1 - eps) + eps * np.exp(time * log_gamma)
    return np.where(left < 0.5, np.log(left), np.log1p(eps * np.expm1(time * log_gamma))) / log_gamma


LIFETIME_MISTAKES = {
    "one logarithm of a number near 1": (
        _life_of_left(lambda eps, last: eps + (1 - eps) * last),
        "where gamma^j is near 1 its logarithm has lost digits: take np.log1p of gamma^j - 1, with np.expm1 for gamma^T - 1",
    ),
    "log1p of a number near -1": (
        _life_by_log1p,
        "where gamma^j is near 0, 1 less that number has lost its digits: there take np.log of gamma^j, a sum of two terms",
    ),
    "a power of a rounded gamma": (
        lambda forgotten, eps, time: np.log(eps + (1 - eps) * (1 - forgotten) ** time) / np.log1p(-forgotten),
        "you took a power of 1 - forgotten, which has lost digits: gamma^T is np.exp(T np.log1p(-forgotten))",
    ),
    "an endless past": (
        lambda forgotten, eps, time: np.log(eps) / np.log1p(-forgotten),
        "you solved gamma^j = eps, as for an endless past: here only T tokens were read, so gamma^T is left at their end",
    ),
    "the share of the newest": (
        _life_of_the_newest,
        "your j newest tokens carry the share eps: they carry all but that, 1 - eps",
    ),
    "the share of the newest, in one logarithm": (
        _life_of_left(lambda eps, last: 1 - eps * (1 - last)),
        "two mistakes: your j newest carry the share eps, not 1 - eps; and a logarithm of a number near 1 has lost digits",
    ),
    "the share of the oldest": (
        lambda forgotten, eps, time: time - lifetime(forgotten, eps, time),
        "you counted the oldest tokens, T - j: return the number j of the newest",
    ),
    "a share of gamma^T": (
        _life_of_left(lambda eps, last: eps * last),
        "your gamma^j is eps gamma^T, beyond the T tokens: 1 - gamma^j is the share 1 - eps of 1 - gamma^T",
    ),
    "adds gamma^T in full": (
        _life_of_left(lambda eps, last: eps + last),
        "your gamma^j is eps + gamma^T: multiply (1 - eps)(1 - gamma^T) out, gamma^T has the factor 1 - eps",
    ),
    "one token too many": (
        _life_by(time=lambda time: time + 1),
        "you summed over T + 1 tokens: the lags run from 0 to T - 1, and their sum is (1 - gamma^T) / (1 - gamma)",
    ),
    "one token too few": (
        _life_by(time=lambda time: time - 1),
        "you summed over T - 1 tokens: the lags run from 0 to T - 1, and their sum is (1 - gamma^T) / (1 - gamma)",
    ),
    "the last lag": (
        lambda forgotten, eps, time: lifetime(forgotten, eps, time) - 1,
        "you returned the lag of the last token counted: j tokens have the lags 0 to j - 1",
    ),
    "a negative lifetime": (
        lambda forgotten, eps, time: -lifetime(forgotten, eps, time),
        "your j is negative: log(gamma^j) and log(gamma) are both negative, so their quotient is positive",
    ),
    "forgotten with the wrong sign": (
        _life_by(np.log1p),
        "you took the logarithm of 1 + forgotten: gamma is 1 - forgotten, so give np.log1p the argument -forgotten",
    ),
    "mixes in base 10": (
        lambda forgotten, eps, time: lifetime(forgotten, eps, time) / np.log(10),
        "you mixed base 10 with the natural logarithm (log1p is natural): take one base in both places",
    ),
    "mixes in base 2": (
        lambda forgotten, eps, time: lifetime(forgotten, eps, time) / np.log(2),
        "you mixed base 2 with the natural logarithm (log1p is natural): take one base in both places",
    ),
    "rounds 1 - forgotten": (
        _life_by(lambda forgotten: np.log(1 - forgotten)),
        "you formed 1 - forgotten, which loses most digits of a small number: np.log1p(x) is log(1 + x) without that loss",
    ),
    "takes forgotten for -log gamma": (
        _life_by(np.negative),
        "you used log(1 - x) = -x: close for slow heads, wrong for fast ones",
    ),
    "takes the window for the lifetime": (
        lambda forgotten, eps, time: 1 / forgotten,
        "1 / (1 - gamma) is the effective window, whatever eps and T are: return the j that carries 1 - eps of T tokens",
    ),
    "takes forgotten for gamma": (
        _life_by(np.log),
        "you took the power of what is forgotten: what is left of a token at each step is gamma = 1 - forgotten",
    ),
    "divides the wrong way round": (
        lambda forgotten, eps, time: 1 / lifetime(forgotten, eps, time),
        "your quotient is upside down: j is log(gamma^j) / log(gamma)",
    ),
    "all weights alike": (
        lambda forgotten, eps, time: (1 - eps) * time + 0 * forgotten,
        "you gave all T tokens the same weight: the token at lag i has the weight gamma^i",
    ),
    "rounds up to whole tokens": (
        lambda *arguments: np.ceil(lifetime(*arguments)),
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


def _masked_exponentials(gamma):
    logs = np.cumsum(np.log(gamma))
    return np.tril(np.exp(np.tril(np.subtract.outer(logs, logs))))


def _exponentials_of_a_floor(gamma, least=1e-300):
    return _masked_exponentials(np.maximum(gamma, least))


def _quotients(gamma, least=0.0):
    products = np.cumprod(gamma)
    return np.tril(np.divide.outer(products, np.maximum(products, least)))


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
    "a floor under the quotient": (
        lambda gamma: _quotients(gamma, 1e-300),
        "you put a floor under the quotient, but the product above is 0 as well: multiply the decays between, do not divide",
    ),
    "a floor under the quotient, and ones": (
        lambda gamma: np.tril(_quotients(gamma, 1e-300), -1) + np.eye(len(gamma)),
        "you mended the diagonal; left of it a product of 0 is still divided by a floor: multiply the decays between",
    ),
    "takes the logarithm of 0": (
        _strict(_masked_exponentials),
        "a decay may be 0, which has no logarithm: multiply the decays, row by row",
    ),
    "an infinity less an infinity": (
        _masked_exponentials,
        "the logarithm of a decay of 0 is -inf, and -inf less -inf is NaN: multiply the decays, row by row",
    ),
    "a floor under the logarithm": (
        _exponentials_of_a_floor,
        "your sum of logarithms grows with each decay near 0, and a difference of two sums loses digits: multiply the decays",
    ),
    "logarithms, and exponentials before the mask": (
        _strict(_exponentials),
        "a decay may be 0, which has no logarithm, and np.exp overflows above the diagonal: multiply the decays, row by row",
    ),
    "takes the exponential before it masks": (
        _exponentials,
        "your np.exp overflows above the diagonal, and log(0) is -inf: multiply the decays, row by row",
    ),
}


# Checks.


def _heads(*gamma, time, dtype=np.float64):
    return {"gamma": np.array(gamma, dtype=dtype), "time": time}


def _block(gamma, begins, start, stop):
    return {"gamma": gamma, "begins": np.array(begins, dtype=float), "start": start, "stop": stop}


def _life(*forgotten, eps, time, dtype=np.float64):
    return {"forgotten": np.array(forgotten, dtype=dtype), "eps": eps, "time": time}


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
        "tokens 2 and 3 of documents from 0, 1 and 3": (
            _block(0.5, [0, 1, 3], 2, 4),
            "by hand, gamma = 1/2: (0, 1/2, 1, 0) and (0, 0, 0, 1); token 3 begins a document, and sees itself alone",
        ),
        "documents of 2, 0, 3 and 1 tokens": (
            _block(0.625, [0, 2, 2, 5], 0, 6),
            "three blocks on the diagonal, of 2, 3 and 1 tokens; an empty document has no row and no column",
        ),
        "the last two of 1,200 tokens at gamma = 1/2": (
            _block(0.5, [0, 700, 1300], 1198, 1200),
            "0.5 ** 1198 is 0 and 0.5 ** -1198 overflows: take one power, of n - m, not a product of two",
        ),
        "30 rows of a fast head, gamma = 1e-12": (
            _block(1e-12, [0, 20], 3, 33),
            "1e-12 ** -29 overflows: set n - m to 0 where n < m, then take the power",
        ),
        "no rows (start = stop)": (_block(0.5, [0, 2], 3, 3), "with start = stop = 3 the shape is (0, 3)"),
        "no rows of 12,000,000 tokens": (
            _block(1.0, [0, 7], 12_000_000, 12_000_000),
            "an array of shape (stop, stop) fits into no memory here, and your rows hold nothing: never make the rest",
        ),
    },
    hidden={
        "an empty sequence": (_block(0.5, [0], 0, 0), "try start = stop = 0: the shape is (0, 0)"),
        "a block of four": (
            _block(0.9, [0, 2, 8, 9], 6, 10),
            "try start = 6, stop = 10 and three documents in the block",
        ),
        "a pair of rows": (
            _block(0.75, [0, 4, 20], 6, 8),
            "try start = 6, stop = 8: the document began before the block",
        ),
        "a slow head, far along": (
            _block(0.999, [0, 900, 1502, 1503], 1500, 1503),
            "try start = 1500, with documents that begin before, inside and behind the block",
        ),
    },
    wrong_answers=ROW_MISTAKES,
)

LIFETIME = problem(
    lifetime,
    ("tokens",),
    visible={
        "three tokens, half is forgotten at each": (
            _life(0.5, eps=1 / 7, time=3),
            "by hand: the weights are 1, 1/2 and 1/4, together 7/4; the two newest carry 6/7 of that",
            {"tolerance": 1e-12},
        ),
        "fast heads, all but 1e-12": (
            _life(0.99, 0.5, eps=1e-12, time=100),
            "1 - 1e-12 keeps only four digits of 1e-12: where gamma^j is near 0, write it as a sum of positive terms",
            {"tolerance": 1e-12},
        ),
        "1,024 tokens in a head that forgets 2^-40": (
            _life(2.0**-40, eps=0.25, time=1024),
            "all weights are nearly equal, so j is near 768; where gamma^j is near 1, never form it",
            {"tolerance": 1e-12},
        ),
        "5,000,000 tokens in a head that forgets 1e-6": (
            _life(1e-6, eps=0.4, time=5_000_000),
            "1 - 1e-6 keeps only ten digits of 1e-6: np.log1p takes the forgotten share itself",
            {"tolerance": 1e-12},
        ),
        **keeps_arguments(_life(0.1, 0.25, 0.75, eps=0.01, time=20), "build a new array"),
    },
    hidden={
        "no heads": (_life(eps=0.5, time=4), "with H = 0 tokens has shape (0,)"),
        "a text of 20 windows": (
            _life(1 / 64, eps=1e-9, time=1280),
            "try T = 1280 and eps = 1e-9 with forgotten = 1/64: eps and gamma^T are both small, and both count",
            {"tolerance": 1e-12},
        ),
        "a head of a very wide model": (
            _life(3e-12, eps=1e-3, time=5000),
            "try forgotten = 3e-12 with 5,000 tokens: never form 1 - forgotten, nor its powers",
            {"tolerance": 1e-12},
        ),
        "float32 heads": (
            _life(3e-4, 1e-3, eps=0.25, time=2000, dtype=np.float32),
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
        "six decays, one of them 0": (
            {"gamma": np.array([0.9, 0.5, 0.8, 0.0, 1.0, 0.3])},
            "a token with the decay 0 forgets all that came before it, and adds itself in full",
        ),
        "24 tokens with small decays": (
            {"gamma": np.tile([0.5, 5e-324, 0.25], 8)},
            "the product of all gammas is 0 in float64, and 0 / 0 is NaN: multiply only the gammas between m and n",
        ),
        "60 tokens, 20 of them with the decay 0": (
            {"gamma": np.tile([0.0, 0.93, 0.81], 20)},
            "errors may not grow with the text, as those of a running sum of logarithms do: multiply the decays",
            {"tolerance": 1e-14},
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

"""Exercise 14: a referee's report: what measurements say of five claims (about Eq. 6 and 7, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .recurring import keeps_arguments

# Solutions.


def gap_verdict(ours, theirs, chance, level):
    """Is our loss lower? ours (N,), theirs (M,), chance (R, N + M), level -> gap, low, high and verdict (4,)."""
    n, m = len(ours), len(theirs)
    first = ours[np.floor(chance[:, :n] * n).astype(int)].mean(axis=1)
    second = theirs[np.floor(chance[:, n:] * m).astype(int)].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(first - second, [tail, 1 - tail])
    return np.array([ours.mean() - theirs.mean(), low, high, _side(-high, -low)])


def overtaking(x, ours, theirs, far):
    """Do we overtake? x (N,), ours, theirs (R, N) -> share and sizes (4,), missed (2,)."""
    log_x, log_far = np.log(x), np.log(far)
    slopes, starts = _lines(log_x, ours, theirs)
    at_end, at_far = (starts[0] - starts[1] + (slopes[0] - slopes[1]) * at for at in (log_x[-1], log_far))
    does = (at_end > 0) & (at_far < 0)
    where = np.exp((starts[1] - starts[0])[does] / (slopes[0] - slopes[1])[does])
    sizes = np.quantile(where / x[-1], [0.05, 0.5, 0.95]) if does.any() else np.zeros(3)
    slopes, starts = _lines(log_x[:-1], ours[:, :-1], theirs[:, :-1])
    told = np.exp(starts + slopes * log_x[-1])
    last = np.array([ours[:, -1], theirs[:, -1]])
    return np.append(does.mean(), sizes), last.mean(axis=1) - told.mean(axis=1)


def exact_recall(keys, weights):
    """How many pairs can be read exactly? keys (N, K), weights (N,) -> right (N,), kept and verdict (2,)."""
    written = weights[:, None] * keys
    read = written @ np.linalg.pinv(written)
    right = 1 - np.sum((read - np.eye(len(keys))) ** 2, axis=0)
    kept = np.sum(right > 1 - 1e-9)
    return right, np.array([kept, _of_all(kept, len(keys))])


def ablation(losses, parameters, slope):
    """What is each part worth? losses (S, P), parameters (P,) -> harm (P - 1,), error (P - 1,), verdict (P - 1,)."""
    over = losses[:, 1:] - losses[:, :1]
    harm = over.mean(axis=0) - slope * np.log2(parameters[1:] / parameters[0])
    error = over.std(axis=0, ddof=1) / np.sqrt(len(losses))
    return harm, error, _side(harm - 2 * error, harm + 2 * error)


def late_gain(losses, documents, start, middle):
    """Is a long past used? losses (W, T), documents (W,), start, middle -> gain, error and verdict (3,)."""
    gains = losses[:, start:middle].mean(axis=1) - losses[:, middle:].mean(axis=1)
    each = np.array([gains[documents == document].mean() for document in np.unique(documents)])
    gain, error = each.mean(), each.std(ddof=1) / np.sqrt(len(each))
    return np.array([gain, error, _side(gain - 2 * error, gain + 2 * error)])


def _side(low, high):
    """1 where an interval lies above zero, -1 where below, 0 where it holds zero."""
    return (np.asarray(low) > 0).astype(float) - (np.asarray(high) < 0)


def _lines(log_x, *rows):
    """Slopes and starts (2, R) of the lines through log losses."""
    fits = [np.polyfit(log_x, np.log(losses).T, 1) for losses in rows]
    return np.array([fit[0] for fit in fits]), np.array([fit[1] for fit in fits])


def _of_all(kept, count):
    return 1.0 if kept == count else 0.0 if kept else -1.0


# Wrong answers, each one change away from the solution.


def _gap_with(
    *,
    both=lambda ours, theirs, chance: (chance[:, : len(ours)], chance[:, len(ours) :]),
    index=lambda chance, count: np.floor(chance * count),
    mean=np.mean,
    tails=lambda level: ((1 - level) / 2, (1 + level) / 2),
    sign=1,
    verdict=lambda gap, low, high: _side(-high, -low),
):
    """The verdict on a gap with other draws, quantiles or signs."""

    def gap_of(ours, theirs, chance, level):
        drawn = [
            mean(losses[index(part, len(losses)).astype(int)], axis=1)
            for losses, part in zip((ours, theirs), both(ours, theirs, chance), strict=True)
        ]
        low, high = np.sort(sign * np.quantile(drawn[0] - drawn[1], tails(level)))
        gap = sign * (mean(ours) - mean(theirs))
        return np.array([gap, low, high, verdict(gap, low, high)])

    return gap_of


def _theirs_as_measured(ours, theirs, chance, level):
    drawn = ours[np.floor(chance[:, : len(ours)] * len(ours)).astype(int)].mean(axis=1) - theirs.mean()
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return np.array([ours.mean() - theirs.mean(), low, high, _side(-high, -low)])


def _by_deviations(ours, theirs, chance, level):
    gap = ours.mean() - theirs.mean()
    spread = np.hypot(ours.std(), theirs.std())
    return np.array([gap, gap - spread, gap + spread, _side(-gap - spread, spread - gap)])


def _crossing_with(
    *,
    counts=lambda end, far, where, reach: (end > 0) & (far < 0),
    scale=np.log,
    back=np.exp,
    shown=lambda where, last: np.exp(where) / last,
    left_out=1,
    missed=lambda last, told: last - told,
):
    """The crossing with other conditions, scales or misses. left_out: sizes that the second fit does not see."""

    def of(x, ours, theirs, far):
        log_x = np.log(x)

        def lines(end):
            fits = [np.polyfit(log_x[:end], scale(losses[:, :end]).T, 1) for losses in (ours, theirs)]
            return np.array([fit[0] for fit in fits]), np.array([fit[1] for fit in fits])

        slopes, starts = lines(len(x))
        at_end, at_far = (starts[0] - starts[1] + (slopes[0] - slopes[1]) * at for at in (log_x[-1], np.log(far)))
        where = (starts[1] - starts[0]) / (slopes[0] - slopes[1])
        does = counts(at_end, at_far, where, (log_x[-1], np.log(far)))
        sizes = np.quantile(shown(where[does], x[-1]), [0.05, 0.5, 0.95]) if does.any() else np.zeros(3)
        slopes, starts = lines(len(x) - left_out)
        told = back(starts + slopes * log_x[-1])
        last = np.array([ours[:, -1], theirs[:, -1]])
        return np.append(does.mean(), sizes), missed(last.mean(axis=1), told.mean(axis=1))

    return of


def _of_means(x, ours, theirs, far):
    return overtaking(x, ours.mean(axis=0, keepdims=True), theirs.mean(axis=0, keepdims=True), far)


def _nothing_as_zero(x, ours, theirs, far):
    (share, *_), missed = overtaking(x, ours, theirs, far)
    rows = [overtaking(x, one[None], two[None], far)[0][2] for one, two in zip(ours, theirs, strict=True)]
    return np.append(share, np.quantile(rows, [0.05, 0.5, 0.95])), missed


def _recall_with(
    *,
    written=lambda keys, weights: weights[:, None] * keys,
    queries=lambda written, keys, weights: np.linalg.pinv(written),
    right=lambda read: 1 - np.sum((read - np.eye(len(read))) ** 2, axis=0),
    kept=lambda right, written: np.sum(right > 1 - 1e-9),
    verdict=_of_all,
):
    """Recall with other writes, queries or counts. queries: (K, N), a column for each pair."""

    def recall(keys, weights):
        table = written(keys, weights)
        shares = right(table @ queries(table, keys, weights))
        count = kept(shares, table)
        return shares, np.array([count, verdict(count, len(keys))])

    return recall


def _own_keys(written, keys, weights):
    return (keys / (weights * np.sum(keys**2, axis=1))[:, None]).T


def _ablation_with(
    *,
    over=lambda losses: losses[:, 1:] - losses[:, :1],
    correction=lambda parameters, slope: slope * np.log2(parameters[1:] / parameters[0]),
    error=lambda losses, over: over.std(axis=0, ddof=1) / np.sqrt(len(over)),
    errors=2,
    verdict=lambda harm, error: _side(harm - error, harm + error),
):
    """An ablation with another correction, error or verdict."""

    def ablated(losses, parameters, slope):
        differences = over(losses)
        harm = differences.mean(axis=0) - correction(parameters, slope)
        one = error(losses, differences)
        return harm, one, verdict(harm, errors * one)

    return ablated


def _unpaired(losses, over):
    variance = losses.var(axis=0, ddof=1)
    return np.sqrt((variance[1:] + variance[0]) / len(losses))


def _gain_with(
    *,
    gains=lambda losses, start, middle: losses[:, start:middle].mean(axis=1) - losses[:, middle:].mean(axis=1),
    groups=lambda gains, documents: np.array([gains[documents == one].mean() for one in np.unique(documents)]),
    gain=lambda gains, each: each.mean(),
    error=lambda each: each.std(ddof=1) / np.sqrt(len(each)),
    verdict=lambda gain, error: _side(gain - 2 * error, gain + 2 * error),
):
    """The gain with other positions, groups or errors."""

    def late(losses, documents, start, middle):
        windows = gains(losses, start, middle)
        each = groups(windows, documents)
        found, one = gain(windows, each), error(each)
        return np.array([found, one, verdict(found, one)])

    return late


def _errors_of_windows(losses, documents, start, middle):
    gain, _, _ = late_gain(losses, documents, start, middle)
    _, error, _ = late_gain(losses, np.arange(len(losses)), start, middle)
    return np.array([gain, error, _side(gain - 2 * error, gain + 2 * error)])


# Checks.


def _gap(ours, theirs, draws=40, level=0.9, seed=0):
    random = np.random.default_rng([14, seed])
    chance = random.random((draws, len(ours) + len(theirs)))
    return {"ours": np.array(ours), "theirs": np.array(theirs), "chance": chance, "level": level}


BY_HAND = {
    "ours": np.array([1.0, 3.0]),
    "theirs": np.array([2.0, 2.0, 5.0]),
    "chance": np.array([[0.0, 0.4, 0.0, 0.4, 0.9], [0.6, 0.9, 0.7, 0.8, 0.99], [0.2, 0.5, 0.1, 0.5, 0.2]]),
    "level": 0.5,
}


def _sizes(ours, theirs, draws=30, spread=0.01, far=1e9, count=4, seed=0):
    """Losses of two laws scale x^-exponent at sizes from a million on, drawn `draws` times."""
    random = np.random.default_rng([14, seed])
    x = 1e6 * 2.5 ** np.arange(count)
    drawn = [
        (scale * (x / 1e6) ** -exponent) * np.exp(spread * random.standard_normal((draws, count)))
        for scale, exponent in (ours, theirs)
    ]
    return {"x": x, "ours": drawn[0], "theirs": drawn[1], "far": far}


ONE_DRAW = {
    "x": np.array([1.0, 2.0, 4.0]),
    "ours": np.array([[8.0, 4.0, 2.0]]),
    "theirs": np.array([[2.0, 1.75, 1.5]]),
    "far": 100.0,
}


def _pairs(count, key_dim, weights=None, seed=0):
    random = np.random.default_rng([14, seed])
    given = np.ones(count) if weights is None else np.array(weights)
    return {
        "keys": random.integers(1, 20, (count, key_dim)) / 10 * random.choice([-1.0, 1.0], (count, key_dim)),
        "weights": given,
    }


THREE_KEYS = {"keys": np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), "weights": np.array([1.0, 1.0, 2.0])}


def _parts(
    seeds=3, parts=4, slope=-0.1, seed=0, harm=(0.0, 0.2, 0.02, -0.15, 0.1), sizes=(16.0, 8.0, 16.0, 32.0, 12.0)
):
    """Losses that share what a seed does to all variants, so that pairing matters."""
    random = np.random.default_rng([14, seed])
    common, own = random.normal(0, 0.1, (seeds, 1)), random.normal(0, 0.02, (seeds, parts))
    losses = (1.5 + np.array(harm)[:parts] + common + own).round(3)
    return {"losses": losses, "parameters": np.array(sizes)[:parts], "slope": slope}


TWO_SEEDS = {
    "losses": np.array([[1.0, 1.5, 1.25], [2.0, 2.75, 1.75]]),
    "parameters": np.array([8.0, 4.0, 8.0]),
    "slope": -0.5,
}


def _windows(counts=(4, 1, 2), time=8, gain=0.3, spread=0.5, start=2, middle=5, seed=0):
    """Windows of several documents, as many of each as counts say; windows of a document are alike."""
    random = np.random.default_rng([14, seed])
    documents = np.repeat(np.arange(float(len(counts))), counts)
    shift = np.repeat(random.normal(0, spread, len(counts)), counts)
    losses = 2 + random.normal(0, 0.05, (len(documents), time))
    losses[:, middle:] -= (gain + shift)[:, None]
    return {"losses": losses.round(3), "documents": documents, "start": start, "middle": middle}


TWO_DOCUMENTS = {
    "losses": np.array([[9.0, 3.0, 1.0], [9.0, 5.0, 1.0], [9.0, 2.0, 1.0]]),
    "documents": np.array([7.0, 7.0, 3.0]),
    "start": 1,
    "middle": 2,
}

GAP = problem(
    gap_verdict,
    ("found",),
    visible={
        "three draws by hand": (
            BY_HAND,
            "the redrawn gaps are 1 - 3 = -2, 3 - 4 = -1 and 2 - 2 = 0: quartiles -1.5 and -0.5, the gap itself is -1",
        ),
        "three seeds against four": (
            _gap([1.31, 1.34, 1.30], [1.40, 1.37, 1.42, 1.41]),
            "ours are lower in all draws: the whole interval lies below zero, so the verdict is 1",
        ),
        "seeds that overlap": (
            _gap([1.2, 1.5, 1.31], [1.3, 1.36, 1.33], level=0.8, seed=1),
            "zero lies in the interval: the verdict is 0, whatever the sign of the gap",
        ),
        "ours are higher": (
            _gap([1.5, 1.56], [1.3, 1.33, 1.38], seed=2),
            "the whole interval lies above zero: the claim that our loss is lower is refuted, -1",
        ),
        **keeps_arguments(_gap([1.0, 1.2], [1.3, 1.1], draws=6, seed=3)),
    },
    hidden={
        "one seed of ours": (
            _gap([1.2], [1.3, 1.36, 1.33], level=0.95, seed=4),
            "try a single seed: drawn again it is always the same, and the formula still holds",
        ),
        "many draws at 95 %": (
            _gap([1.2, 1.31, 1.26, 1.4, 1.22], [1.33, 1.25, 1.3, 1.41], draws=300, level=0.95, seed=5),
            "try 300 draws and level = 0.95",
        ),
        "half of the draws": (_gap([1.0, 2.0, 4.0], [1.5, 1.0], level=0.5, seed=6), "try level = 0.5"),
    },
    wrong_answers={
        "less the other way": (_gap_with(sign=-1), "you took theirs less ours: the gap is ours less theirs"),
        "the same draws for both": (
            _gap_with(both=lambda ours, theirs, chance: (chance[:, : len(ours)], chance[:, : len(theirs)])),
            "you drew both models with the same columns of chance: theirs have the columns after the first N",
        ),
        "theirs as measured": (
            _theirs_as_measured,
            "you drew ours alone: theirs are as uncertain, so draw them again too",
        ),
        "a whole tail on each side": (
            _gap_with(tails=lambda level: (1 - level, level)),
            "your interval leaves 1 - level out on each side: it is half of that, (1 - level) / 2",
        ),
        "medians": (_gap_with(mean=np.median), "you compared medians: a gap is a difference of means"),
        "rounded places": (
            _gap_with(index=lambda chance, count: np.round(chance * (count - 1))),
            "you rounded to the nearest place, so the first and last seed come half as often: take floor(chance * N)",
        ),
        "never the last seed": (
            _gap_with(index=lambda chance, count: np.floor(chance * (count - 1))),
            "your places leave out the last seed: take floor(chance * N), not of chance * (N - 1)",
        ),
        "deviations of seeds": (
            _by_deviations,
            "your interval is one deviation of seeds wide: it is that of redrawn means, between two quantiles",
        ),
        "verdict by the sign": (
            _gap_with(verdict=lambda gap, low, high: -np.sign(gap)),
            "your verdict is the sign of the gap: where the interval holds zero, it is 0",
        ),
        "verdict the wrong way": (
            _gap_with(verdict=lambda gap, low, high: _side(low, high)),
            "your verdict has the wrong sign: a lower loss is better, so an interval below zero accepts, 1",
        ),
    },
)

CROSSING = problem(
    overtaking,
    ("crossing", "missed"),
    visible={
        "one draw by hand": (
            ONE_DRAW,
            "ours halves with each doubling, 8 / x, and is foretold exactly: missed[0] is 0",
        ),
        "some draws overtake": (
            _sizes((2.0, 0.3), (1.6, 0.22), spread=0.06, far=1e8),
            "the share is of all draws; sizes are quantiles of those that overtake alone",
        ),
        "no draw overtakes": (
            _sizes((2.0, 0.2), (1.6, 0.25), seed=1),
            "the lines meet below the smallest size, the wrong way round: share 0, sizes three zeros",
        ),
        "ahead already": (
            _sizes((1.6, 0.2), (1.62, 0.2), spread=0.03, seed=2),
            "a draw in which ours is already lower at the largest size does not overtake",
        ),
        **keeps_arguments(_sizes((2.0, 0.3), (1.7, 0.25), draws=3, seed=3)),
    },
    hidden={
        "five sizes": (_sizes((2.0, 0.3), (1.7, 0.26), spread=0.03, count=5, seed=4), "try five sizes"),
        "far is near": (
            _sizes((2.0, 0.3), (1.7, 0.24), spread=0.05, far=3e7, seed=5),
            "try a far of twice the largest size: later crossings do not count",
        ),
        "all overtake": (_sizes((2.0, 0.3), (1.6, 0.24), spread=0.001, far=1e12, seed=6), "try a far of 1e12"),
    },
    wrong_answers={
        "any crossing": (
            _crossing_with(counts=lambda end, far, where, reach: np.isfinite(where)),
            "you counted every crossing of two lines: it must lie between the largest size and far",
        ),
        "either way": (
            _crossing_with(counts=lambda end, far, where, reach: end * far < 0),
            "you counted crossings in both directions: ours must be higher at the largest size and lower at far",
        ),
        "no end": (
            _crossing_with(counts=lambda end, far, where, reach: (end > 0) & (where > reach[0])),
            "you counted crossings beyond far: there ours is still higher at far",
        ),
        "lower at far": (
            _crossing_with(counts=lambda end, far, where, reach: far < 0),
            "you counted draws in which ours is lower at far: it must also be higher at the largest size",
        ),
        "losses without logarithm": (
            _crossing_with(scale=lambda losses: losses, back=lambda losses: losses),
            "you fitted losses: a power law is a line in the logarithms of both, of x and of the loss",
        ),
        "sizes as logarithms": (
            _crossing_with(shown=lambda where, last: where),
            "your sizes are logarithms: take exp before the quantiles",
        ),
        "sizes in parameters": (
            _crossing_with(shown=lambda where, last: np.exp(where)),
            "your sizes are those of x: divide them by the largest measured size",
        ),
        "the means first": (
            _of_means,
            "you fitted the mean of all draws: fit each draw, and look at how the crossings spread",
        ),
        "zeros among the sizes": (
            _nothing_as_zero,
            "draws that do not overtake are among your sizes: take the quantiles of the others alone",
        ),
        "all sizes fitted": (
            _crossing_with(left_out=0),
            "missed must be a prediction: fit all sizes but the largest, then compare at the largest",
        ),
        "told less measured": (
            _crossing_with(missed=lambda last, told: told - last),
            "your missed has the wrong sign: it is the measured loss less what the law told",
        ),
        "missed in logarithms": (
            _crossing_with(missed=lambda last, told: np.log(last) - np.log(told)),
            "your missed is a difference of logarithms: compare the losses themselves",
        ),
    },
)

RECALL = problem(
    exact_recall,
    ("right", "kept"),
    visible={
        "three keys by hand": (
            THREE_KEYS,
            "key 1 stands alone, right 1; the other two share a channel with weights 1 and 2: right 0.2 and 0.8",
        ),
        "fewer pairs than channels": (
            _pairs(3, 5, [0.25, 0.5, 1.0]),
            "independent keys can all be told apart, however they fade: right is 1 for all, kept 3, verdict 1",
        ),
        "more pairs than channels": (
            _pairs(6, 4, [0.1, 0.2, 0.4, 0.6, 0.8, 1.0], seed=1),
            "no pair is exact, so kept is 0 although the rank is 4, to which right sums",
        ),
        "keys twice": (
            {
                "keys": np.array([[1.0, 2.0, 0.0]] * 2 + [[0.0, 0.0, 1.0]] * 2 + [[2.0, -1.0, 0.0]] * 2),
                "weights": np.array([0.5, 0.5, 1.0, 1e-5, 1.0, 1e-4]),
            },
            "equal twins are half right; a twin of weight 1e-5 takes 1e-10, within the bound, one of 1e-4 too much: kept 1",
        ),
        **keeps_arguments(_pairs(2, 3, [0.5, 1.0], seed=2)),
    },
    hidden={
        "one channel": ({"keys": np.array([[2.0], [-1.0]]), "weights": np.array([1.0, 3.0])}, "try a single channel"),
        "as many as channels": (_pairs(4, 4, [0.3, 0.6, 0.8, 1.0], seed=3), "try as many pairs as channels"),
        "twenty pairs in six channels": (
            _pairs(20, 6, np.linspace(0.1, 1.0, 20), seed=4),
            "try 20 pairs in 6 channels, with weights",
        ),
    },
    wrong_answers={
        "its own key as the query": (
            _recall_with(queries=_own_keys),
            "you asked with the pair's own key: ask with the best query there is, the column of a pseudo-inverse",
        ),
        "queries without weights": (
            _recall_with(queries=lambda written, keys, weights: np.linalg.pinv(keys)),
            "your queries are the best for the keys alone: take the pseudo-inverse of what is written, weights included",
        ),
        "no weights": (
            _recall_with(
                written=lambda keys, weights: keys, queries=lambda written, keys, weights: np.linalg.pinv(keys)
            ),
            "you left out the weights: a pair stands in the state with its weight times its key",
        ),
        "weights squared": (
            _recall_with(written=lambda keys, weights: weights[:, None] ** 2 * keys),
            "you weighted twice: row m of what is written is weights[m] times key m",
        ),
        "not squared": (
            _recall_with(right=lambda read: 1 - np.sqrt(np.sum((read - np.eye(len(read))) ** 2, axis=0))),
            "you took the root: right is 1 less the sum of the squares",
        ),
        "itself alone": (
            _recall_with(right=lambda read: 1 - (1 - np.diag(read)) ** 2),
            "you looked at the pair's own share alone: what leaks from the other pairs counts too",
        ),
        "the rank": (
            _recall_with(kept=lambda right, written: np.linalg.matrix_rank(written)),
            "you counted the rank: with more pairs than channels the errors are shared, so count the pairs with right = 1",
        ),
        "exactly one": (
            _recall_with(kept=lambda right, written: np.sum(right == 1)),
            "you counted right == 1: a pair counts as soon as its right is above 1 - 1e-9",
        ),
        "close to one": (
            _recall_with(kept=lambda right, written: np.sum(np.isclose(right, 1))),
            "your bound is that of np.isclose, which is wider: a pair counts if its right is above 1 - 1e-9",
        ),
        "no narrowing": (
            _recall_with(verdict=lambda kept, count: 1.0 if kept == count else -1.0),
            "your verdict knows no middle: where some pairs are exact and others not, the claim is narrowed, 0",
        ),
        "some is enough": (
            _recall_with(verdict=lambda kept, count: 1.0 if kept else -1.0),
            "your verdict accepts as soon as one pair is exact: the claim is about all of them",
        ),
    },
)

ABLATION = problem(
    ablation,
    ("harm", "error", "verdict"),
    visible={
        "two seeds by hand": (
            TWO_SEEDS,
            "differences 0.5 and 0.75, mean 0.625; half the size explains 0.5 of it, so harm is 0.125, error 0.125",
        ),
        "three seeds, four variants": (
            _parts(),
            "a smaller model is expected to be worse: slope is negative, log2 of the ratio too, so take the product off",
        ),
        "a larger variant": (
            _parts(parts=5, slope=-0.3, seed=1),
            "a larger variant should be better by its size alone: what is not explained by that is harm",
        ),
        "no correction": (_parts(slope=0.0, seed=2), "with slope 0 the harm is the mean difference"),
        **keeps_arguments(_parts(seed=3)),
    },
    hidden={
        "many seeds": (_parts(seeds=8, parts=5, seed=4), "try eight seeds"),
        "one variant": (_parts(parts=2, slope=-0.05, seed=5), "try a single variant: results have shape (1,)"),
        "a part that harms": (
            _parts(parts=3, slope=-0.2, harm=(0.0, -0.4, -0.01), sizes=(16.0, 4.0, 16.0), seed=6),
            "try a part whose removal helps: verdict -1",
        ),
    },
    wrong_answers={
        "not corrected": (
            _ablation_with(correction=lambda parameters, slope: 0.0),
            "you did not correct for the size: take off slope times log2 of the ratio of parameters",
        ),
        "corrected the wrong way": (
            _ablation_with(correction=lambda parameters, slope: slope * np.log2(parameters[0] / parameters[1:])),
            "you corrected the wrong way round: a variant with fewer parameters is expected to be worse",
        ),
        "natural logarithm": (
            _ablation_with(correction=lambda parameters, slope: slope * np.log(parameters[1:] / parameters[0])),
            "slope is bits a doubling: take log2 of the ratio, not the natural logarithm",
        ),
        "ratio without logarithm": (
            _ablation_with(correction=lambda parameters, slope: slope * (parameters[1:] / parameters[0] - 1)),
            "slope is bits a doubling: take log2 of the ratio of parameters",
        ),
        "not paired": (
            _ablation_with(error=_unpaired),
            "your error adds two spreads: take differences seed by seed first, what seeds share then cancels",
        ),
        "deviation": (
            _ablation_with(error=lambda losses, over: over.std(axis=0, ddof=1)),
            "your error is the deviation of one seed: that of the mean is smaller by the root of their number",
        ),
        "divided by S": (
            _ablation_with(error=lambda losses, over: over.std(axis=0) / np.sqrt(len(over))),
            "your deviation divides by S: from S seeds it divides by S - 1, ddof=1",
        ),
        "one error": (_ablation_with(errors=1), "your verdict asks for one error: it asks for more than two"),
        "verdict by the sign": (
            _ablation_with(verdict=lambda harm, error: np.sign(harm)),
            "your verdict is the sign of the harm: within two errors of zero it is 0",
        ),
        "the other sign": (
            _ablation_with(
                over=lambda losses: losses[:, :1] - losses[:, 1:], correction=lambda p, s: -s * np.log2(p[1:] / p[0])
            ),
            "your harm has the wrong sign: it is the variant's loss less that of the whole model",
        ),
    },
)

PAST = problem(
    late_gain,
    ("found",),
    visible={
        "two documents by hand": (
            TWO_DOCUMENTS,
            "gains 2 and 4 of document 7, 1 of document 3: means 3 and 1, so gain 2, error 1",
        ),
        "three documents": (
            _windows(),
            "windows of a document are no independent evidence: average them first",
        ),
        "many documents": (
            _windows((1, 3, 2, 1, 4, 2, 1, 1), gain=0.4, spread=0.1, seed=1),
            "the gain lies more than two errors above zero: accepted, 1",
        ),
        "it gets worse": (
            _windows((2, 1, 1, 3), gain=-0.6, spread=0.05, start=0, middle=3, seed=2),
            "the loss rises along the window: refuted, -1",
        ),
        **keeps_arguments(_windows(seed=3)),
    },
    hidden={
        "a window a document": (_windows((1, 1, 1, 1, 1), spread=0.2, seed=4), "try one window a document"),
        "one large document": (
            _windows((30, 1, 1, 1), gain=0.2, spread=0.3, seed=5),
            "try 30 windows of one document: it counts as much as any other",
        ),
        "documents in any order": (
            {**_windows((2, 2, 2), seed=6), "documents": np.array([5.0, 1.0, 3.0, 5.0, 3.0, 1.0])},
            "try documents whose windows do not stand together",
        ),
    },
    wrong_answers={
        "windows as if independent": (
            _gain_with(groups=lambda gains, documents: gains),
            "you took each window as evidence of its own: windows of a document are alike, so average them first",
        ),
        "the mean of all windows": (
            _gain_with(gain=lambda gains, each: gains.mean()),
            "your gain is that of all windows: it is the mean over documents, each counts once",
        ),
        "the error of windows": (
            _errors_of_windows,
            "your gain is that of documents, your error that of windows: it must come from the documents too",
        ),
        "from the first token": (
            _gain_with(
                gains=lambda losses, start, middle: losses[:, :middle].mean(axis=1) - losses[:, middle:].mean(axis=1)
            ),
            "you counted the tokens before start: every model is bad there, so they say nothing of a long past",
        ),
        "late less early": (
            _gain_with(
                gains=lambda losses, start, middle: (
                    losses[:, middle:].mean(axis=1) - losses[:, start:middle].mean(axis=1)
                )
            ),
            "your gain has the wrong sign: it is the early loss less the late one, so that a falling loss is a gain",
        ),
        "divided by the number": (
            _gain_with(error=lambda each: each.std() / np.sqrt(len(each))),
            "your deviation divides by the number of documents: it divides by one less, ddof=1",
        ),
        "deviation": (
            _gain_with(error=lambda each: each.std(ddof=1)),
            "your error is the deviation of one document: that of the mean is smaller by the root of their number",
        ),
        "verdict by the sign": (
            _gain_with(verdict=lambda gain, error: np.sign(gain)),
            "your verdict is the sign of the gain: within two errors of zero it is 0",
        ),
    },
)

EXERCISE = Exercise("ex14", "A referee's report", (GAP, CROSSING, RECALL, ABLATION, PAST))

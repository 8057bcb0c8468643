"""Power laws through a few losses, L(x) = floor + scale x^-exponent, and what so few points can say of them.

x is a number of parameters, tokens or FLOPs. Losses are means over seeds, and what is known of their error is how seeds differ.
So intervals come from drawing the means again, by that spread, and fitting each draw.
"""

from typing import NamedTuple

import numpy as np

EXPONENTS = np.geomspace(0.005, 2.0, 300)  # tried, 2 % apart; published laws of losses lie near 0.05 to 0.5
LEVELS = (0.05, 0.5, 0.95)  # of every interval: its ends and its middle
DRAWS = 2000


class PowerLaw(NamedTuple):
    """floor, scale and exponent of a law, or of many: arrays of one shape."""

    floor: np.ndarray
    scale: np.ndarray
    exponent: np.ndarray

    def __call__(self, x):
        """The loss at x: the law's shape, with the shape of x at its end."""
        floor, scale, exponent = (np.asarray(part, dtype=np.float64)[..., None] for part in self)
        x = np.asarray(x, dtype=np.float64)
        losses = floor + scale * np.atleast_1d(x) ** -exponent
        return losses if x.ndim else losses[..., 0]


def fit(x, losses, *, weights=None, floor=True):
    """The `PowerLaw` with the least squared error; it never rises with x, and its floor is never negative.

    Args:
        x: (N,) positive, at least two different numbers, three with a floor.
        losses: (..., N), of which each row gets a law of its own.
        weights: (N,) of the squared errors, positive; by default all are alike.
        floor: whether there is one; without, the law is a line in logarithms of x and of the loss, but fitted to losses.

    Raises:
        ValueError: there are too few numbers, or they are not positive; or losses have another length.

    >>> law = fit([1.0, 4.0, 16.0], [3.0, 2.0, 1.5])
    >>> [round(float(part), 2) for part in law]
    [1.0, 2.0, 0.5]
    """
    x, losses = np.asarray(x, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    needed = 3 if floor else 2
    if x.ndim != 1 or len(set(x.tolist())) < needed or not (x > 0).all():
        raise ValueError(f"x must hold at least {needed} different positive numbers, got {x}")
    if losses.shape[-1:] != x.shape:
        raise ValueError(f"losses must have {len(x)} numbers in the last axis, as x has, got shape {losses.shape}")
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != x.shape or not (weights > 0).all():
        raise ValueError(f"weights must hold {len(x)} positive numbers, one for each x, got {weights}")
    weights = weights / weights.sum()
    shape = losses.shape[:-1]
    rows = losses.reshape(-1, len(x))
    unit = np.exp(np.log(x).mean())  # x^-exponent then stays near 1
    errors, floors, scales = (np.empty((len(EXPONENTS), len(rows))) for _ in range(3))
    for i, exponent in enumerate(EXPONENTS):
        floors[i], scales[i] = _linear((x / unit) ** -exponent, rows, weights, floor)
        errors[i] = ((floors[i, :, None] + scales[i, :, None] * (x / unit) ** -exponent - rows) ** 2) @ weights
    best = errors.argmin(axis=0), np.arange(len(rows))
    exponent = EXPONENTS[best[0]]
    parts = floors[best], scales[best] * unit**exponent, exponent
    return PowerLaw(*(part.reshape(shape) for part in parts))


def _linear(powers, rows, weights, floor):
    """The floor and the scale, neither negative, with which floor + scale * powers is nearest to each row."""
    without = np.maximum(rows @ (weights * powers) / (weights @ powers**2), 0.0)
    if not floor:
        return np.zeros(len(rows)), without
    centred = powers - weights @ powers
    scale = np.maximum(rows @ (weights * centred) / max(weights @ centred**2, 1e-300), 0.0)
    base = rows @ weights - scale * (weights @ powers)
    return np.maximum(base, 0.0), np.where(base < 0, without, scale)


def seed_deviation(losses):
    """The standard deviation of a seed's loss and its degrees of freedom, pooled over groups of seeds.

    losses: a list of lists, a list for each x. A group of one seed says nothing of it.

    Raises:
        ValueError: no group has two seeds.

    >>> seed_deviation([[1.0, 3.0], [5.0], [2.0, 2.0]])
    (1.0, 2)
    """
    groups = [np.asarray(group, dtype=np.float64) for group in losses]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        raise ValueError("losses must have two seeds or more at one size at least, or nothing is known of their spread")
    squares = sum(((group - group.mean()) ** 2).sum() for group in groups)
    return float(np.sqrt(squares / freedom)), freedom


def drawn_deviations(groups, count=DRAWS, seed=0):
    """The deviation of a seed's loss at each x, drawn as often as laws are: (count, N).

    A deviation of a few seeds is itself uncertain, so it is drawn by its degrees of freedom, and a mean that is drawn with it
    follows Student's t. Each x has its own: near a jump of the loss, seeds differ far more than elsewhere.

    Args:
        groups: for each x the lists of losses, one a model, whose spread is pooled.

    Raises:
        ValueError: at some x no model has two seeds.
    """
    rng = np.random.default_rng(seed)
    known = np.array([seed_deviation(each) for each in groups])
    return known[:, 0] * np.sqrt(known[:, 1] / rng.chisquare(known[:, 1], (count, len(known))))


def draws(losses, deviations, seed=0):
    """Means over seeds, drawn again by the spread of seeds: (count, N) for lists of N groups.

    deviations: (count, N) or (count, 1), as of `drawn_deviations`.
    """
    means = np.array([np.mean(group) for group in losses])
    sizes = np.array([len(group) for group in losses])
    noise = np.random.default_rng(seed).standard_normal((len(deviations), len(means)))
    return means + deviations * noise / np.sqrt(sizes)


def crossing(one, two, low, high, points=400):
    """Where the losses of two laws are equal: for each pair, the largest x in [low, high] at which their order changes.

    NaN where it does not change. one, two: `PowerLaw` of arrays (N,); low, high: positive, low < high.

    >>> one, two = PowerLaw(0.0, 4.0, 0.5), PowerLaw(0.0, 2.0, 0.25)
    >>> crossing(one, two, 1.0, 100.0).round(2)
    array([16.])
    """
    if not 0 < low < high:
        raise ValueError(f"low and high must be positive and in this order, got {low!r} and {high!r}")
    x = np.geomspace(low, high, points)
    gap = np.atleast_2d(one(x) - two(x))
    before, after = gap[:, :-1], gap[:, 1:]
    rows, places = np.nonzero((before * after <= 0) & (before != after))
    found = np.full(len(gap), np.nan)
    for row, i in zip(rows, places, strict=True):  # the last one of a row stays
        share = before[row, i] / (before[row, i] - after[row, i])
        found[row] = x[i] * (x[i + 1] / x[i]) ** share
    return found


def quantiles(values, levels=LEVELS):
    """Quantiles of numbers without the NaN among them, as a list; None for each if all are NaN."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return [float(q) for q in np.quantile(values, levels)] if values.size else [None] * len(levels)

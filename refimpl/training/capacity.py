"""How many pairs a state can recall: closed forms, so that where recall breaks is predicted before a run.

A head writes pairs of keys and values into its state S = sum_m w_m k_m^T v_m, with w_m = gamma^(age of pair m), and reads
q S with the key of pair j: its value times w_j, and of every other pair m a share of k_j . k_m. The answer is the value,
of all that the vocabulary has, whose product with what was read is largest. Three things limit it:

- rank: N pairs can be read without any interference only if their keys are orthogonal, N <= H K (`exact_pairs`);
- interference: of unit keys drawn at random (k_j . k_m)^2 is 1 / K on average, so signal to noise is sqrt(H K / (N - 1))
  (`signal_to_noise`), and the largest product is not always that of the answer (`recall_accuracy`);
- rotation: a channel pair that turns by more than a quarter between writing and reading cannot tell a key at any distance
  from another one, so only the slow ones count (`usable_width`). Decay weighs old pairs less than young ones, which add
  the noise; what all pairs lose in common goes with the group norm.

And before anything is stored, a value must be bound to its key, the token before it, which a layer of retention has to
read alone out of all keys so far, by rotation and decay (`shift_share`).

A trained model may do better: keys and values as far apart as they can be (`overlap` with tokens), a gate that depends on
the question, several layers. It may do worse: it has to find all this.
"""

import math

import numpy as np

from ..checks import check_integer
from ..decay import head_decays
from ..rotation import rotation_frequencies

TINY = 1e-24  # in place of a variance or chance of 0
_erfc = np.frompyfunc(math.erfc, 1, 1)


def exact_pairs(key_dim, num_heads=1):
    """How many pairs can be read without any interference: H K, the rank of the states of H heads, one above another.

    >>> exact_pairs(8, 4)
    32
    """
    return check_integer("num_heads", num_heads, minimum=1) * check_integer("key_dim", key_dim, minimum=1)


def signal_to_noise(pairs, key_dim, num_heads=1):
    """What is read of the answer over the root mean square of the rest, for random keys: sqrt(H K / (N - 1)).

    >>> signal_to_noise(9, 8), signal_to_noise(9, 8, 4)
    (1.0, 2.0)
    """
    return math.sqrt(exact_pairs(key_dim, num_heads) / max(check_integer("pairs", pairs, minimum=1) - 1, 1e-300))


def usable_width(key_dim, lag, rotation="released"):
    """How many of K channels turn by less than a quarter within `lag` tokens; rotation: as in `RetNetConfig`.

    >>> usable_width(8, 32), usable_width(2, 32), usable_width(8, 32, None)
    (6, 0, 8)
    """
    if rotation is None:
        return key_dim
    return 2 * int((rotation_frequencies(key_dim, rotation) * lag < math.pi / 2).sum())


def overlap(width, tokens=None):
    """The mean square of the product of two unit vectors of a width: 1 / width if they are drawn at random.

    tokens: how many there are, which are as far apart as can be (the bound of Welch, 1974): 0 if they fit.

    >>> overlap(4), overlap(4, 5), overlap(4, 4)
    (0.25, 0.0625, 0.0)
    """
    if tokens is None:
        return 1 / width
    return max(tokens - width, 0) / (width * (tokens - 1))


def shift_share(key_dim, gamma, pairs, rotation="released"):
    """How much of the token before a layer of retention can read alone, of N keys so far, one in two tokens: 0 to 1.

    What it reads of lag l is a sum of gamma_h^l cos(l theta_i) and gamma_h^l sin(l theta_i) over heads and channel pairs. The
    sum that is nearest to 1 at lag 1 and 0 at 3, 5, ... 2 N - 1 has this share of its square at lag 1. Sums in which large
    parts cancel, by more than 100 to 1, do not count. gamma: (H,); rotation None: no angles, decays alone.

    >>> shift_share(2, np.array([0.5]), 1)
    1.0
    """
    lags = np.arange(1.0, 2 * check_integer("pairs", pairs, minimum=1), 2)
    angles = np.zeros(1) if rotation is None else rotation_frequencies(key_dim, rotation)
    waves = [wave(lags * angle) for angle in angles for wave in (np.cos, np.sin)]
    read = np.stack([g**lags * wave for g in gamma for wave in waves], axis=1)  # (N, H K)
    basis, sizes, _ = np.linalg.svd(read, full_matrices=False)
    return float((basis[0, sizes > 0.01 * sizes[0]] ** 2).sum())


def pair_weights(gamma, pairs, distance=2):
    """The weights gamma^(age) of pairs that were written `distance` tokens apart, the last one's 1: (H, N).

    >>> pair_weights(np.array([0.5]), 3)
    array([[0.0625, 0.25  , 1.    ]])
    """
    return np.asarray(gamma)[:, None] ** (distance * np.arange(pairs - 1, -1, -1.0))


def recall_accuracy(weights, keys, values, candidates):
    """The share of right answers for each of N pairs, by an expansion about the normal distribution.

    Each head has keys and values of its own, and what it reads is divided by its norm, as the group norm does. In one head
    the answer's product is ahead of that of pair m by (1 - x) (w_j - w_m y) plus noise, where x = v_j . v_m and
    y = k_j . k_m, so that its distribution is skewed; the noise of the answer's own product is common to all comparisons.

    Args:
        weights: (H, N) of each pair in each head's state, such as `pair_weights`.
        keys, values: mean squares of y and x in a head; see `overlap`. For widths of 4 and one head the result is up to
            0.1 too low, for 16 within 0.04 of a simulation.
        candidates: how many values the vocabulary has, at least N.

    Returns:
        (N,) float64.

    >>> recall_accuracy(np.ones((1, 2)), 0.0, 0.0, 10)
    array([1., 1.])
    """
    pairs = weights.shape[1]
    squares = weights**2
    others = squares.sum(axis=1, keepdims=True) - squares  # (H, N), of all pairs but pair j
    norms = np.sqrt(squares + keys * others)  # root mean square of what head h reads for pair j
    signal = (weights / norms).sum(axis=0)
    spread = np.sqrt((keys * values * others / norms**2).sum(axis=0))
    nodes, masses = np.polynomial.hermite_e.hermegauss(48)
    scores = signal[:, None] + spread[:, None] * nodes  # (N, nodes)

    def beaten(rival):
        """(N, R, nodes): the chance that a value of squared weight `rival` (H, N or 1, R) has a larger product."""
        own, rest, norm = squares[..., None], np.maximum(others[..., None] - rival, 0.0), norms[..., None]
        alone = ((keys * rival + values * own + keys * values * rest) / norm**2).sum(axis=0)
        ahead = alone + (keys * values * (rest + rival) / norm**2).sum(axis=0)
        third = (6 * keys * values * weights[..., None] * (rival + values * rest) / norm**3).sum(axis=0)
        ratio = signal[:, None] / np.sqrt(np.maximum(ahead, TINY))
        skewed = third / np.maximum(ahead, TINY) ** 1.5 * (ratio**2 - 1) / 6
        plain = np.maximum(_above(ratio), TINY)
        share = np.clip(1 - np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi) * skewed / plain, 0, 2)
        return share[..., None] * _above(scores[:, None] / np.sqrt(np.maximum(alone, TINY))[..., None])

    stored = np.log1p(-np.minimum(beaten(squares[:, None, :]), 1 - 1e-12)) * (1 - np.eye(pairs))[..., None]
    strange = np.log1p(-np.minimum(beaten(np.zeros((1, 1, 1))), 1 - 1e-12))[:, 0] * (candidates - pairs)
    return np.exp(stored.sum(axis=1) + strange) @ (masses / masses.sum())


def _above(score):
    """P(x > score) for a standard normal x."""
    return 0.5 * _erfc(score / math.sqrt(2)).astype(float)


def predicted(config, pairs, learnt=True):
    """The predicted accuracy of a `TrainConfig`'s RetNet on recall of so many pairs: a float, the mean over the pairs.

    learnt: keys and values are as far apart as can be, else they are drawn at random; what a trained model does is expected
    between the two. Lags are taken as long as the window; values are not wider than their share of the model.
    """
    shape = config.retnet
    width = usable_width(shape.key_dim, config.window, shape.rotation)
    if not width:
        return 1 / (config.vocab_size - config.vocab_size // 2)
    value_width = min(shape.value_dim, max(1, shape.dim // shape.num_heads))
    tokens = config.vocab_size // 2
    # Heads share the work of keeping tokens apart, so widths are those of all heads together, and so is each head's share.
    keys, values = (
        overlap(each * shape.num_heads, tokens) * shape.num_heads if learnt else overlap(each)
        for each in (width, value_width)
    )
    weights = pair_weights(head_decays(shape.num_heads, shape.gamma_schedule), pairs)
    return float(recall_accuracy(weights, keys, values, config.vocab_size - tokens).mean())

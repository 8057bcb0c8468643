"""Lesson 3: hands that turn with the position, the dot product against the lag, ladders of angles."""

import numpy as np

from refimpl import rotate

from .explorer import Explorer, slider
from .style import BLUE, INK, LINES, ORANGE, PALE, heat, name_lines, new_picture, panels, styled


def _dial(ax, reach):
    """An empty dial: a circle with its two axes, the pair's first number to the right and its second upwards."""
    ring = np.linspace(0, 2 * np.pi, 121)
    ax.plot(reach * np.cos(ring), reach * np.sin(ring), color=PALE, linewidth=1.2, zorder=0)
    ax.axhline(0, color=PALE, zorder=0)
    ax.axvline(0, color=PALE, zorder=0)
    limit = 1.5 * reach
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set(xlabel="first channel of the pair", ylabel="second channel")


def _hand(ax, pair, text, color=BLUE, linestyle="-"):
    """One pair of channels as a hand from the centre; `text` with _ before it is the label of the line."""
    (hand,) = ax.plot([0, pair[0]], [0, pair[1]], color=color, linestyle=linestyle, marker="o", markevery=[1])
    hand.set_label(f"_{text}")
    across, up = np.asarray(pair) / (np.hypot(*pair) or 1)
    side = "left" if across > 0.3 else "right" if across < -0.3 else "center"
    place = {"xytext": (7 * across, 11 * up), "textcoords": "offset points"}
    ax.annotate(text, pair, **place, ha=side, va="center", fontsize=8.5)


@styled
def dial(pairs, names):
    """Pairs of channels as hands from the centre of one dial. pairs (N, 2), N names."""
    pairs = np.asarray(pairs)
    ends = ", ".join(f"{name} at {np.round(pair, 2).tolist()}" for name, pair in zip(names, pairs, strict=True))
    picture = new_picture(3.6, 3.4, f"Hands of one dial: {ends}.", layout="constrained")
    ax = picture.subplots()
    _dial(ax, np.hypot(*pairs.T).max())
    for name, pair in zip(names, pairs, strict=True):
        _hand(ax, pair, name)
    return picture


@styled
def scores_by_lag(scores, curve):
    """Dot products q_n k_m as a matrix and, the same numbers, against the lag n - m.

    scores (T, T): row n, column m; curve (2T - 1,): what is expected at the lags 1 - T ... T - 1. The axes are
    labelled scores and lag.
    """
    scores = np.asarray(scores)
    time = len(scores)
    n, m = np.indices(scores.shape)
    lags = np.arange(1 - time, time)
    spread = max(np.ptp(scores[n - m == lag]) for lag in lags)
    said = (
        f"Left, {time} by {time} dot products, equal along each diagonal. Right, the same numbers against the lag: "
        f"they lie on one curve, {'with no visible spread' if spread < 1e-9 else f'spread {spread:.2g}'}."
    )
    picture = new_picture(8.4, 3.5, said)
    widths = {"width_ratios": (1, 1.3), "left": 0.07, "right": 0.98, "bottom": 0.15, "top": 0.9}
    left, right = panels(picture, ("scores", "lag"), **widths)
    labels = {"title": "$q_n \\cdot k_m$", "xlabel": "key's token m", "ylabel": "query's token n"}
    heat(left, np.round(scores, 2), np.abs(scores).max() or 1, **labels)
    right.plot(lags, curve, color=BLUE)
    right.plot((n - m).ravel(), scores.ravel(), "o", color=ORANGE, markersize=5, markerfacecolor="none")
    right.set(xlabel="lag n − m (tokens)", ylabel="$q_n \\cdot k_m$", title="line: expected; circles: every (n, m)")
    right.grid(color=PALE)
    return picture


@styled
def hands(q, k, degrees, lag, m, lags=12):
    """A query at position m + lag and a key at m, each one rotated pair, and their dot product against the lag.

    q, k (2,) before rotation; degrees per token; lag, m: integers. The axes are labelled dial and product.
    """
    theta = np.asarray([np.deg2rad(float(degrees))])

    def turned(x, position):
        return rotate(np.asarray(x, dtype=np.float64)[None], position, theta)[0]

    key, query = turned(k, m), turned(q, m + lag)
    all_lags = np.arange(lags + 1)
    products = np.array([turned(q, m + j) @ key for j in all_lags])
    read = query @ key
    where, product = f"query at token {m + lag}, key at token {m}", f"{read + 0.0:.3f}"
    said = f"{degrees:g} degrees a token; {where}: lag {lag}, dot product {product}."
    picture = new_picture(8.4, 3.5, said)
    widths = {"width_ratios": (1, 1.35), "left": 0.07, "right": 0.98, "bottom": 0.16, "top": 0.9}
    left, right = panels(picture, ("dial", "product"), **widths)
    _dial(left, max(np.hypot(*query), np.hypot(*key)))
    _hand(left, key, f"$k_{{{m}}}$", ORANGE, "--")
    _hand(left, query, f"$q_{{{m + lag}}}$")
    left.set_title(where)
    right.plot(all_lags, products, color=BLUE, marker="o", markersize=3.5, linewidth=0.8)
    right.plot([lag], [read], "D", color=ORANGE, markersize=9, markerfacecolor="none", markeredgewidth=2)
    right.axhline(0, color=INK, linewidth=0.8)
    limit = 1.15 * np.hypot(*query) * np.hypot(*key)
    right.set(xlabel="lag n − m (tokens)", ylabel="$q_n \\cdot k_m$", ylim=(-limit, limit))
    right.set_title(f"lag {lag}: {product}")
    right.grid(color=PALE)
    return picture


def hands_explorer(q, k, degrees, lag, m):
    """A widget that moves the angle per token, the lag and the position of the key in `hands`."""
    return Explorer(
        lambda degrees, lag, m: hands(q, k, degrees, lag, m),
        degrees=slider("angle θ (degrees)", degrees, 0, 180, 5),
        lag=slider("lag n − m", lag, 0, 12),
        m=slider("key's token m", m, 0, 30),
    )


@styled
def ladders(angles):
    """Ladders of angles over the index of the channel pair. angles: {name: (K/2,) radians per token}, two or more.

    The axes are labelled angle (radians per token) and turn (tokens for a full turn).
    """
    ends = "; ".join(f"{name} from {theta[0]:.3g} to {theta[-1]:.3g}" for name, theta in angles.items())
    picture = new_picture(9.0, 3.2, f"Angles of the channel pairs, radians a token: {ends}.", layout="constrained")
    left, right = panels(picture, ("angle", "turn"))
    for (name, theta), look, marker in zip(angles.items(), LINES, "os^v", strict=False):
        pair = np.arange(len(theta))
        for ax, line in ((left, theta), (right, 2 * np.pi / np.asarray(theta))):
            ax.plot(pair, line, label=name, marker=marker, markersize=5, **look)
    for ax, ylabel in ((left, "angle θ (radians a token)"), (right, "tokens for a full turn, 2π / θ")):
        ax.set(xlabel="channel pair i", ylabel=ylabel, yscale="log")
        ax.set_xticks(pair)
        ax.grid(color=PALE)
    for ax in (left, right):
        name_lines(ax)
    return picture

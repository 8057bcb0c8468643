"""Lesson 3: dot products against the lag."""

import numpy as np

from .style import BLUE, ORANGE, PALE, heat, new_picture, panels, styled


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

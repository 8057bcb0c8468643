"""The picture of lesson 3, read back: dot products against the lag."""

import numpy as np
from figures import phase
from plotted import axes, check_line


def test_scores_by_lag_draws_every_pair_at_its_lag():
    scores, curve = np.arange(9.0).reshape(3, 3), np.array([5.0, 4, 3, 2, 1])
    drawn = axes(phase.scores_by_lag(scores, curve))
    np.testing.assert_array_equal(drawn["scores"].images[0].get_array(), scores)
    line, circles = drawn["lag"].lines
    check_line(line, [-2, -1, 0, 1, 2], curve)
    points = {tuple(point) for point in circles.get_xydata()}
    assert points == {(n - m, 3.0 * n + m) for n in range(3) for m in range(3)}


def test_scores_by_lag_says_whether_only_the_lag_matters():
    lags = np.subtract.outer(np.arange(4), np.arange(4))
    assert "no visible spread" in phase.scores_by_lag(np.cos(lags), np.cos(np.arange(-3, 4))).description
    assert "spread 3" in phase.scores_by_lag(np.arange(16).reshape(4, 4) % 4, np.zeros(7)).description

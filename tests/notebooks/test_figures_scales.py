"""The pictures of lesson 7, read back: what heads hear, and the best head for each lag."""

import numpy as np
from figures import scales
from plotted import check_line, numbers, texts


def test_recall_draws_lines_and_points_in_pairs():
    lags = np.array([1, 2, 4])
    derived = {name: np.arange(3.0) + i for i, name in enumerate("abcde")}
    measured = {name: line + 0.1 for name, line in derived.items()}
    (ax,) = scales.recall(lags, derived, measured, ylabel="y", description="d").axes
    for index, name in enumerate("abcde"):
        line, points = ax.lines[2 * index : 2 * index + 2]
        check_line(line, lags, derived[name])
        check_line(points, lags, measured[name])
        assert (points.get_linestyle(), line.get_color()) == ("None", points.get_color())
    assert texts(ax.texts) == list("abcde")
    assert len({line.get_color() for line in ax.lines[0::2]}) == 5
    assert len({points.get_marker() for points in ax.lines[1::2]}) == 5  # told apart without colour
    assert (ax.get_xscale(), ax.get_ylabel()) == ("log", "y")


def test_table_frames_the_best_of_each_column():
    shares = np.array([[0.9, 0.6, 0.5], [0.8, 0.7, 0.5], [0.7, 0.65, 0.55]])
    picture = scales.table(shares, ["x", "y", "z"], [1, 2, 1024])
    (ax,) = picture.axes
    np.testing.assert_array_equal(ax.images[0].get_array(), 100 * shares)
    assert ax.images[0].get_clim() == (50, 100)
    assert numbers(ax) == {(h, i): f"{100 * share:.0f}" for (h, i), share in np.ndenumerate(shares)}
    frames = [(round(p.get_x() + p.get_width() / 2), round(p.get_y() + p.get_height() / 2)) for p in ax.patches]
    assert frames == [(0, 0), (1, 1), (2, 2)]
    assert texts(ax.get_xticklabels()) == ["1", "2", "1,024"]
    assert "lag 1,024: head 2, 55 %" in picture.description

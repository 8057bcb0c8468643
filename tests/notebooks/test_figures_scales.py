"""The pictures of lesson 7, read back: weights and recall of the heads, the best head for each lag."""

import numpy as np
import pytest
from figures import scales
from plotted import axes, check_line, numbers, texts

GAMMAS = np.array([0.5, 0.9, 0.99])


def snr_by_hand(gamma, lag, key_dim):
    """The squared weight of one lag over those of all others of an endless past, each of which overlaps by 1/K."""
    others = sum(gamma ** (2 * j) for j in range(20_000) if j != lag)
    return np.sqrt(gamma ** (2 * lag) / (others / key_dim))


@pytest.mark.parametrize("lag", [0, 3, 40])
def test_recall_snr_is_signal_over_all_the_others(lag):
    want = [snr_by_hand(gamma, lag, 16) for gamma in GAMMAS]
    np.testing.assert_allclose(scales.recall_snr(GAMMAS, lag, 16), want, rtol=1e-9)
    assert scales.recall_snr(GAMMAS, np.array([1, lag]), 16).shape == (3, 2)
    np.testing.assert_allclose(scales.recall_snr(GAMMAS, np.array([1, lag]), 16)[:, 1], want, rtol=1e-9)
    np.testing.assert_allclose(scales.recall_snr(0.9, np.array([lag]), 16), want[1:2], rtol=1e-9)


def test_heads_draws_weights_and_recall_of_every_head():
    picture = scales.heads(GAMMAS, 8, 16)
    drawn = axes(picture)
    lines = [line for line in drawn["weights"].lines if len(line.get_xdata()) > 2]
    for gamma, line in zip(GAMMAS, lines, strict=True):
        check_line(line, scales.LAGS, gamma**scales.LAGS)
    assert drawn["weights"].lines[-1].get_xdata() == [8, 8]  # the line at the lag
    bars = [bar.get_width() for bar in drawn["recall"].patches]
    np.testing.assert_allclose(bars, [snr_by_hand(gamma, 8, 16) for gamma in GAMMAS], rtol=1e-9)
    assert texts(drawn["recall"].get_yticklabels()) == ["0: 2", "1: 10", "2: 100"]
    assert drawn["weights"].get_xlabel() == "lag L (tokens since the write)"
    assert (drawn["weights"].get_xscale(), drawn["recall"].get_xlabel()) == ("log", "signal to noise")


def test_equal_heads_are_all_the_best():
    picture = scales.heads(np.full(14, 1 - 1 / 32), 2048, 256)
    drawn = axes(picture)
    assert len({bar.get_facecolor() for bar in drawn["recall"].patches}) == 1
    assert drawn["recall"].get_xlim() == (0, 1)  # no axis of 1e-28
    assert "all 14 heads read alike" in picture.description


def test_heads_names_and_marks_the_best():
    for lag, best in ((0, 0), (8, 1), (60, 2)):
        picture = scales.heads(GAMMAS, lag, 16)
        drawn = axes(picture)
        widths = [line.get_linewidth() for line in drawn["weights"].lines[:3]]
        assert np.argmax(widths) == best
        faces = [bar.get_facecolor() for bar in drawn["recall"].patches]
        assert sum(face == faces[best] for face in faces) == 1
        assert f"head {best}, window {1 / (1 - GAMMAS[best]):,.0f}, reads best" in picture.description
        assert f"{snr_by_hand(GAMMAS[best], lag, 16):.2f}" in picture.description


def test_labels_of_heads_stand_on_their_curves():
    ax = axes(scales.heads(GAMMAS, 8, 16))["weights"]
    assert texts(ax.texts) == ["1", "2"]  # head 0 has fallen below its level before lag 1
    for text in ax.texts:
        lag, weight = text.get_position()
        assert GAMMAS[int(text.get_text())] ** lag == pytest.approx(weight)


def test_the_explorer_moves_schedule_number_and_lag():
    explorer = scales.explorer(5, 64, 256)

    def windows(**move):
        return [text.split(": ")[1] for text in texts(axes(explorer.move(**move))["recall"].get_yticklabels())]

    assert windows() == ["32", "64", "128", "256", "512"]
    assert windows(number=3) == ["32", "64", "128"]
    assert windows(schedule="paper") == ["32", "128", "512"]
    assert windows(schedule=1 - 1 / 32) == ["32"] * 3
    assert axes(explorer.move(lag=4096))["weights"].lines[-1].get_xdata() == [4096, 4096]


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

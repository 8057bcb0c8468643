"""The pictures of lesson 3, read back: hands, dot products against the lag, ladders of angles."""

import numpy as np
import pytest
from figures import phase

from refimpl.oracle import rotation_oracle

Q, K = [1.0, 0.0], [0.8, 0.6]


def panels(picture):
    return {ax.get_label(): ax for ax in picture.axes}


def ends(ax):
    """The tip of every hand on a dial, by its label; all of them start in the centre."""
    hands = {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}
    assert all(np.array_equal(points[0], [0, 0]) for points in hands.values())
    return {name: points[1] for name, points in hands.items()}


def turned(x, position, degrees):
    return rotation_oracle(np.array([x]), [np.deg2rad(degrees)], offset=position)[0]


def test_dial_draws_each_hand_under_its_name():
    pairs = [[1.0, 0.0], [0.0, -2.0]]
    picture = phase.dial(pairs, ["east", "south"])
    (ax,) = picture.axes
    hands = ends(ax)
    np.testing.assert_array_equal(hands["east"], pairs[0])
    np.testing.assert_array_equal(hands["south"], pairs[1])
    assert [text.get_text() for text in ax.texts] == ["east", "south"]
    assert min(ax.get_xlim()[1], ax.get_ylim()[1]) > 2
    assert "south at [0.0, -2.0]" in picture.description


def test_scores_by_lag_draws_every_pair_at_its_lag():
    scores, curve = np.arange(9.0).reshape(3, 3), np.array([5.0, 4, 3, 2, 1])
    axes = panels(phase.scores_by_lag(scores, curve))
    np.testing.assert_array_equal(axes["scores"].images[0].get_array(), scores)
    line, circles = axes["lag"].lines
    np.testing.assert_array_equal(line.get_xydata(), np.column_stack([[-2, -1, 0, 1, 2], curve]))
    points = {tuple(point) for point in circles.get_xydata()}
    assert points == {(n - m, 3.0 * n + m) for n in range(3) for m in range(3)}


def test_scores_by_lag_says_whether_only_the_lag_matters():
    lags = np.subtract.outer(np.arange(4), np.arange(4))
    assert "no visible spread" in phase.scores_by_lag(np.cos(lags), np.cos(np.arange(-3, 4))).description
    assert "spread 3" in phase.scores_by_lag(np.arange(16).reshape(4, 4) % 4, np.zeros(7)).description


@pytest.mark.parametrize(("degrees", "lag", "m"), [(30, 3, 2), (90, 1, 0), (5, 12, 30), (0, 4, 7)])
def test_hands_are_turned_by_the_oracles_angle(degrees, lag, m):
    picture = phase.hands(Q, K, degrees, lag, m)
    axes = panels(picture)
    query, key = turned(Q, m + lag, degrees), turned(K, m, degrees)
    hands = ends(axes["dial"])
    np.testing.assert_allclose(hands[f"$q_{{{m + lag}}}$"], query, atol=1e-12)
    np.testing.assert_allclose(hands[f"$k_{{{m}}}$"], key, atol=1e-12)

    line, diamond = axes["product"].lines[:2]
    want = np.cos(np.arange(13) * np.deg2rad(degrees) - np.arctan2(0.6, 0.8))  # |q| = |k| = 1
    np.testing.assert_allclose(line.get_xydata(), np.column_stack([range(13), want]), atol=1e-12)
    np.testing.assert_allclose(diamond.get_xydata(), [[lag, want[lag]]], atol=1e-12)
    assert f"lag {lag}, dot product {want[lag]:.3f}" in picture.description


def test_moving_the_key_turns_the_hands_and_keeps_the_product():
    explorer = phase.hands_explorer(Q, K, 30, 3, 2)
    names = [control.description for control in explorer.controls.values()]
    assert names == ["angle \N{GREEK SMALL LETTER THETA} (degrees)", "lag n \N{MINUS SIGN} m", "key's token m"]
    before, words = explorer.screen.value, explorer.words.value
    axes = panels(explorer.move(m=5))
    np.testing.assert_allclose(ends(axes["dial"])["$k_{5}$"], turned(K, 5, 30), atol=1e-12)
    assert axes["product"].lines[1].get_ydata()[0] == pytest.approx(0.6)
    assert explorer.screen.value != before
    assert explorer.words.value != words
    assert "query at token 8" in explorer.words.value
    axes = panels(explorer.move(degrees=0))
    assert axes["product"].lines[1].get_ydata()[0] == pytest.approx(0.8)  # nothing turns: the plain dot product


def test_ladders_draw_angles_and_full_turns():
    angles = {"a": np.array([1.0, 0.1]), "b": np.array([1.0, 0.5])}
    picture = phase.ladders(angles)
    axes = panels(picture)
    for line, turn, (name, theta) in zip(axes["angle"].lines, axes["turn"].lines, angles.items(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([[0, 1], theta]))
        np.testing.assert_allclose(turn.get_ydata(), 2 * np.pi / theta)
        assert line.get_label() == turn.get_label() == name
    looks = {(line.get_linestyle(), line.get_marker()) for line in axes["angle"].lines}
    assert len(looks) == 2  # apart without colour
    assert axes["angle"].get_yscale() == axes["turn"].get_yscale() == "log"
    assert "a from 1 to 0.1; b from 1 to 0.5" in picture.description
